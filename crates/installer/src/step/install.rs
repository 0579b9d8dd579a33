//! From an allocation to a running kernel.
//!
//! The download starts first and fills memory while disks are prepared. Nothing is believed before it is on the disk: the
//! API hears of success after the data is written, and the marker that makes the disk startable comes after that.

mod disks;
mod system_files;

use std::convert::Infallible;
use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use proto::api::{MachineAllocation, MachineProvisioningEventType as Event};
use uuid::Uuid;

use super::{Context, Failure};
use crate::console::{say, size};
use crate::image::{self, Digest, Download, Image};
use crate::layout::{self, Plan};
use crate::os::account;
use crate::{boot_loader, kernel, marker, system};

/// Where the new system is mounted.
const TARGET: &str = "/target";
/// Attempts at an installation whose failure may pass.
const ATTEMPTS: u32 = 3;
/// How long the API may be away when the installed system waits to be started.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A failed attempt.
#[derive(Debug)]
struct Attempt {
    failure: Failure,
    transient: bool,
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self { failure, transient: false }
    }
}

/// Installs and starts what the allocation wants.
///
/// # Errors
/// When it cannot be installed, after as many attempts as make sense.
pub fn install(context: &Context, allocation: &MachineAllocation) -> Result<Infallible, Failure> {
    let image = wanted_image(allocation)?;
    context.reporter.event(Event::Installing, image.id.clone());
    say(&format!("install   {} as {}", image.id, allocation.hostname));
    let mut attempt = 0;
    loop {
        let failed = match once(context, allocation, &image) {
            Ok(started) => match started {},
            Err(failed) => failed,
        };
        disks::release(Path::new(TARGET));
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
    }
}

fn once(
    context: &Context,
    allocation: &MachineAllocation,
    image: &Image,
) -> Result<Infallible, Attempt> {
    let target = Path::new(TARGET);
    let reporter = &context.reporter;
    let plan = plan(context, allocation)?;
    let (began, clock) = (SystemTime::now(), Instant::now());
    let download = Download::start(image.clone());
    // needs no disk: done while the first pieces of the image are on their way
    let identity = thread::spawn(system_files::Identity::new);
    reporter.phase("partition", || disks::partition(&plan)).map_err(Failure::of("partition"))?;
    reporter.phase("format", || disks::format(&plan)).map_err(Failure::of("format"))?;
    disks::mount(&plan, target).map_err(Failure::of("format"))?;
    unpack(download, target, image)
        .map(|text| reporter.finished("image", began, clock.elapsed(), &text))?;

    let identity = identity
        .join()
        .unwrap_or_else(|_| Err("making the machine's keys ended in a panic".into()));
    let identity = identity.map_err(Failure::of("configure"))?;
    reporter
        .phase("configure", || system_files::write(context, allocation, &plan, &identity, target))
        .map_err(Failure::of("configure"))?;
    let kernel = kernel::find(target).map_err(Failure::of("kernel"))?;
    let command_line = kernel::command_line(&system::command_line(), &plan.root);
    reporter
        .phase("kernel", || {
            let bootable = boot_loader::install(target, &plan, &kernel, &command_line)?;
            kernel::load(&kernel, &command_line)?;
            let from =
                if bootable { "startable from the disk too" } else { "started by the network" };
            Ok::<_, anyhow::Error>(((), format!("{}, {from}", kernel.version)))
        })
        .map_err(Failure::of("kernel"))?;
    reporter
        .phase("sync", || {
            File::open(target).and_then(|root| Ok((rustix::fs::syncfs(&root)?, String::new())))
        })
        .map_err(Failure::of("sync"))?;

    // as soon as the API knows, the leaves take the machine out of the boot network: everything else is told before
    reporter.event(Event::BootingNewKernel, kernel.version.clone());
    let _ = reporter.flush(Duration::from_secs(5));
    context.api.installed(&identity.password, PATIENCE).map_err(Failure::of("report"))?;
    let marker = marker::Marker {
        allocation: allocation.uuid.clone(),
        image: image.id.clone(),
        installed: identity.since.clone(),
        command_line,
    };
    marker::write(target, &marker).map_err(Failure::of("marker"))?;
    disks::release(target);
    start(context);
    Err(Failure { phase: "kexec", reason: "the loaded kernel could not be started".into() }.into())
}

/// Leaves for the loaded kernel. Returns only when that fails.
pub fn start(context: &Context) {
    let _ = context.reporter.flush(Duration::from_secs(5));
    say("kexec     leaving for the installed system");
    context.neighbours.goodbye(&context.nics, &context.uuid);
    let error = system::start_loaded_kernel();
    say(&format!("kexec     failed: {error}"));
}

fn wanted_image(allocation: &MachineAllocation) -> Result<Image, Failure> {
    let missing =
        || Failure { phase: "image", reason: "the allocation names no image with a URL".into() };
    let image =
        allocation.image.as_option().filter(|image| !image.url.is_empty()).ok_or_else(missing)?;
    let label = image
        .meta
        .as_option()
        .and_then(|meta| meta.labels.as_option())
        .and_then(|labels| labels.labels.get("metal-stack.io/sha256"));
    let digest = match label {
        Some(text) => Some(Digest::from_hex(text).ok_or_else(|| Failure {
            phase: "image",
            reason: format!(
                "the label metal-stack.io/sha256 of the image {} holds no digest: {text:?}",
                image.id
            ),
        })?),
        None => None,
    };
    Ok(Image { id: image.id.clone(), url: image.url.clone(), digest })
}

fn plan(context: &Context, allocation: &MachineAllocation) -> Result<Plan, Failure> {
    let missing = || Failure {
        phase: "partition",
        reason: "the allocation has no file system layout".into(),
    };
    let layout = allocation.filesystem_layout.as_option().ok_or_else(missing)?;
    super::discover::wait_for_disks(&context.roots);
    layout::plan(layout, &disks::facts(&context.roots), Uuid::new_v4)
        .map_err(Failure::of("partition"))
}

fn unpack(download: Download, target: &Path, image: &Image) -> Result<String, Attempt> {
    let counter = download.counter();
    let progress = image::Progress::start(counter.clone());
    let unpacked = download.unpack(target);
    progress.stop();
    match unpacked {
        Ok(unpacked) => Ok(format!(
            "{} {}, {} in {} entries",
            image.id,
            size(counter.load(std::sync::atomic::Ordering::Relaxed)),
            size(unpacked.bytes),
            unpacked.entries
        )),
        Err(failed) => {
            let failure = Failure { phase: "image", reason: format!("{:#}", failed.error) };
            Err(Attempt { failure, transient: failed.transient })
        }
    }
}

/// Seconds since 1970 as days, for the table of passwords.
fn today() -> i64 {
    jiff::Timestamp::now().as_second() / 86_400
}

/// A fresh password for the console.
fn password() -> String {
    account::random_text(16)
}
