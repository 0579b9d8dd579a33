//! An allocated machine that comes by the network again: after a reset by its user it must start its own system.

use std::path::Path;
use std::time::Duration;

use proto::api::{MachineAllocation, MachineProvisioningEventType as Event};
use rustix::mount::{MountFlags, UnmountFlags, unmount};

use super::install::start;
use super::{Context, discover};
use crate::console::say;
use crate::{kernel, layout, marker, system};

const TARGET: &str = "/installed";

/// Starts the installed system if this allocation is installed completely. Returns when it is not.
pub fn resume(context: &Context, allocation: &MachineAllocation) {
    discover::wait_for_disks(&context.roots);
    let Some(layout) = allocation.filesystem_layout.as_option() else { return };
    let Ok(root) = layout::root_device(layout) else { return };
    let target = Path::new(TARGET);
    if !Path::new(&root.device).exists() {
        say(&format!("resume    there is no {} yet: installing", root.device));
        return;
    }
    let _ = std::fs::create_dir_all(target);
    if let Err(error) =
        system::mount_device(&root.device, target, root.kind, MountFlags::RDONLY, "")
    {
        say(&format!("resume    {} holds no system ({error}): installing", root.device));
        return;
    }
    let ready = marker::read(target)
        .filter(|marker| marker.allocation == allocation.uuid)
        .and_then(|marker| {
            let loaded =
                kernel::find(target).and_then(|kernel| kernel::load(&kernel, &marker.command_line));
            loaded.inspect_err(|error| say(&format!("resume    {error:#}"))).ok().map(|()| marker)
        });
    let unmounted = unmount(target, UnmountFlags::empty());
    match (ready, unmounted) {
        (Some(marker), Ok(())) => {
            let message = format!("starting what was installed {}", marker.installed);
            context.reporter.event(Event::BootingNewKernel, message);
            let _ = context.reporter.flush(Duration::from_secs(5));
            start(context);
        }
        (Some(_), Err(error)) => {
            say(&format!("resume    {} cannot be released: {error}", root.device));
        }
        (None, _) => say("resume    this allocation was never installed completely: installing"),
    }
}
