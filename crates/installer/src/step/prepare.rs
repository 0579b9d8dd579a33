//! A free machine: erase, register, then offer it.

use std::thread;

use proto::api::{MachineAllocation, MachineProvisioningEventType as Event};

use super::install::lay::Laid;
use super::standby::Standby;
use super::{Context, Failure, discover, install, register};
use crate::console::shout;
use crate::{hardware, wipe};

/// Erases all disks while the machine registers, then offers it. Returns who took it, and what was laid ahead if that is
/// what they want.
///
/// # Errors
/// When a disk may still hold data: the machine is not offered.
pub fn prepare(context: &Context) -> Result<(MachineAllocation, Option<Laid>), Failure> {
    let size = thread::scope(|scope| {
        let wiping = scope.spawn(|| wipe(context));
        let size = register::register(context);
        let wiped = wiping.join();
        let failure = |_| Err(Failure { phase: "wipe", reason: "it ended in a panic".into() });
        wiped.unwrap_or_else(failure).map(|()| size)
    })?;
    context.reporter.event(Event::Waiting, "");
    shout(&[&format!("{} is ready and waits to be allocated", context.uuid)]);
    Ok(thread::scope(|scope| {
        let standby = Standby::start(scope, context, &size);
        let allocation = context.api.wait();
        install::announce(context, &allocation);
        let laid = standby.take(&allocation);
        (allocation, laid)
    }))
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
