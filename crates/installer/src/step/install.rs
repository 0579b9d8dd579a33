//! From an allocation to a running kernel.
//!
//! First a system is laid on the disk (see `lay`), which may have happened already while the machine waited. Then it becomes
//! this machine's. Nothing is believed before it is on the disk: the API hears of success after the data is written, and
//! the marker that makes the disk startable comes after that.

mod disks;
pub mod lay;
mod system_files;

use std::convert::Infallible;
use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use proto::api::{FilesystemLayout, MachineAllocation, MachineProvisioningEventType as Event};

use super::{Context, Failure};
use crate::console::{phase, say};
use crate::image::{Cancel, Digest, Image};
use crate::{boot_loader, marker, system};
use lay::Laid;

/// Where the new system is mounted.
const TARGET: &str = "/target";
/// Attempts at an installation whose failure may pass.
const ATTEMPTS: u32 = 3;
/// How long the API may be away when the installed system waits to be started.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Says that an allocation arrived.
pub fn announce(context: &Context, allocation: &MachineAllocation) {
    let image = allocation.image.as_option().map(|image| image.id.as_str()).unwrap_or_default();
    context.reporter.event(Event::Installing, image);
    say(&format!("install   {image} as {}", allocation.hostname));
}

/// Installs and starts what the allocation wants. `ready` is what was laid ahead, if that is what is wanted now.
///
/// # Errors
/// When it cannot be installed, after as many attempts as make sense.
pub fn install(
    context: &Context,
    allocation: &MachineAllocation,
    ready: Option<Laid>,
) -> Result<Infallible, Failure> {
    let (layout, image) = wanted(allocation)?;
    if let Some(laid) = ready {
        return finish(context, allocation, &laid);
    }
    let mut attempt = 0;
    let laid = loop {
        let failed =
            match lay::lay(context, layout, &image, &Cancel::default(), Some(&context.reporter)) {
                Ok(laid) => break laid,
                Err(failed) => failed,
            };
        release();
        attempt += 1;
        if !failed.transient || attempt >= ATTEMPTS {
            return Err(failed.failure);
        }
        let pause = Duration::from_secs(5 << attempt);
        say(&format!(
            "install   attempt {attempt} of {ATTEMPTS} failed: {}; the next one in {} s",
            failed.failure.reason,
            pause.as_secs()
        ));
        thread::sleep(pause);
    };
    finish(context, allocation, &laid)
}

/// Unmounts whatever is laid.
pub fn release() {
    disks::release(Path::new(TARGET));
}

/// Makes what lies on the disk the machine's system and starts it.
fn finish(
    context: &Context,
    allocation: &MachineAllocation,
    laid: &Laid,
) -> Result<Infallible, Failure> {
    let target = Path::new(TARGET);
    let reporter = &context.reporter;
    let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    reporter
        .phase("configure", || system_files::write(context, allocation, laid, &since, target))
        .map_err(Failure::of("configure"))?;
    reporter
        .phase("sync", || {
            File::open(target).and_then(|root| Ok((rustix::fs::syncfs(&root)?, String::new())))
        })
        .map_err(Failure::of("sync"))?;

    // as soon as the API knows, the leaves take the machine out of the boot network: everything else is told before
    reporter.event(Event::BootingNewKernel, laid.kernel.version.clone());
    let clock = Instant::now();
    let _ = reporter.flush(Duration::from_secs(5));
    context.api.installed(&laid.identity.password, PATIENCE).map_err(Failure::of("report"))?;
    say(&phase("report", "the control plane knows", clock.elapsed()));
    let marker = marker::Marker {
        allocation: allocation.uuid.clone(),
        image: laid.image.id.clone(),
        installed: since,
        command_line: laid.command_line.clone(),
    };
    marker::write(target, &marker).map_err(Failure::of("marker"))?;
    boot_loader::activate(target, &laid.plan).map_err(Failure::of("marker"))?;
    release();
    start(context);
    Err(Failure { phase: "kexec", reason: "the loaded kernel could not be started".into() })
}

/// Leaves for the loaded kernel. Returns only when that fails.
pub fn start(context: &Context) {
    say("kexec     leaving for the installed system");
    context.neighbours.goodbye(&context.nics, &context.uuid);
    let error = system::start_loaded_kernel();
    say(&format!("kexec     failed: {error}"));
}

/// What is to be laid on the disk.
///
/// # Errors
/// When the allocation does not say.
pub fn wanted(allocation: &MachineAllocation) -> Result<(&FilesystemLayout, Image), Failure> {
    let missing =
        |phase, what: &str| Failure { phase, reason: format!("the allocation has no {what}") };
    let layout = allocation
        .filesystem_layout
        .as_option()
        .ok_or_else(|| missing("partition", "file system layout"))?;
    let image = allocation.image.as_option().ok_or_else(|| missing("image", "image"))?;
    Ok((layout, image_of(image).map_err(|reason| Failure { phase: "image", reason })?))
}

/// The parts of the catalogue's image that count here.
///
/// # Errors
/// A sentence about what is wrong with it.
pub fn image_of(image: &proto::api::Image) -> Result<Image, String> {
    if image.url.is_empty() {
        return Err(format!("the image {} has no URL", image.id));
    }
    let label = image
        .meta
        .as_option()
        .and_then(|meta| meta.labels.as_option())
        .and_then(|labels| labels.labels.get("metal-stack.io/sha256"));
    let digest = match label {
        Some(text) => Some(Digest::from_hex(text).ok_or_else(|| {
            format!(
                "the label metal-stack.io/sha256 of the image {} holds no digest: {text:?}",
                image.id
            )
        })?),
        None => None,
    };
    Ok(Image { id: image.id.clone(), url: image.url.clone(), digest })
}
