//! Power of machines, the way a BMC has it. The supervisor keeps the process, QMP has the buttons.

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::control::{self, Request};
use crate::paths::Paths;
use crate::qmp::Qmp;
use crate::shape::{BootDevice, Shape};
use crate::topology::Machine;
use crate::{ledger, qemu};

/// Whether the machine is on.
pub fn is_on(paths: &Paths, machine: Machine) -> bool {
    ledger::find(&paths.run(), &machine.to_string()).is_some()
}

/// Switches it on; one that is on stays as it is.
///
/// # Errors
/// No lab runs, or there is no such machine.
pub fn on(paths: &Paths, machine: Machine) -> Result<()> {
    let shape = Shape::load(paths, machine)?;
    shape.prepare(paths)?;
    control::ask(&paths.control(), &Request::Start(qemu::part(&shape))).map(drop)
}

/// Takes the power away at once.
///
/// # Errors
/// No lab runs.
pub fn off(paths: &Paths, machine: Machine) -> Result<()> {
    // a power cut is not a request
    if let Some(entry) = ledger::find(&paths.run(), &machine.to_string()) {
        entry.signal(Signal::SIGKILL);
    }
    control::ask(&paths.control(), &Request::Stop(machine.to_string())).map(drop)
}

/// Off and on again; one that is off goes on.
///
/// # Errors
/// As [`on`].
pub fn cycle(paths: &Paths, machine: Machine) -> Result<()> {
    off(paths, machine)?;
    on(paths, machine)
}

/// Presses the reset button.
///
/// # Errors
/// The machine is off.
pub fn reset(paths: &Paths, machine: Machine) -> Result<()> {
    Qmp::connect(&qemu::qmp_socket(&Shape::load(paths, machine)?))?.reset()
}

/// Changes where it boots from next, and after that until it is changed again.
///
/// # Errors
/// There is no such machine, or it does not answer.
pub fn boot_from(paths: &Paths, machine: Machine, boot: BootDevice) -> Result<()> {
    let mut shape = Shape::load(paths, machine)?;
    shape.boot = boot;
    shape.save(paths)?;
    if !is_on(paths, machine) {
        return Ok(());
    }
    let mut qmp = Qmp::connect(&qemu::qmp_socket(&shape))?;
    let (cards, disk) = qemu::boot_order(boot);
    let cards = cards.into_iter().take(usize::from(shape.cards)).enumerate();
    let mut places: Vec<_> = cards.map(|(index, place)| (qemu::card(index), place)).collect();
    if shape.disk > 0 {
        places.push((qemu::DISK.to_owned(), disk));
    }
    // two devices never share a place: all give theirs up first
    for (device, _) in &places {
        qmp.boot_index(device, -1)?;
    }
    for (device, place) in &places {
        qmp.boot_index(device, i32::from(*place))?;
    }
    Ok(())
}
