//! A free machine: erase, register, then offer it.

use std::thread;

use proto::api::{MachineAllocation, MachineProvisioningEventType as Event};

use super::{Context, Failure, discover, register};
use crate::console::shout;
use crate::{hardware, wipe};

/// Erases all disks while the machine registers, then offers it and returns who took it.
///
/// # Errors
/// When a disk may still hold data: the machine is not offered.
pub fn prepare(context: &Context) -> Result<MachineAllocation, Failure> {
    thread::scope(|scope| {
        let wiping = scope.spawn(|| wipe(context));
        register::register(context);
        wiping.join().unwrap_or_else(|_| {
            Err(Failure { phase: "wipe", reason: "it ended in a panic".into() })
        })
    })?;
    context.reporter.event(Event::Waiting, "");
    shout(&[&format!("{} is ready and waits to be allocated", context.uuid)]);
    Ok(context.api.wait())
}

fn wipe(context: &Context) -> Result<(), Failure> {
    discover::wait_for_disks(&context.roots);
    let disks = hardware::disks(&context.roots);
    let erased = context.reporter.phase("wipe", || match disks.as_slice() {
        [] => Ok(((), "no disks".to_owned())),
        disks => wipe::all(disks).map(|text| ((), text)),
    });
    erased.map_err(|error| Failure {
        phase: "wipe",
        reason: format!("a disk may still hold the data of its last user, so the machine is not offered: {error:#}"),
    })
}
