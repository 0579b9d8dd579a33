//! Lays a system on the disk: partitions, file systems, the image's content, and its kernel in memory.
//!
//! The download starts first and fills memory while disks are prepared.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use proto::api::FilesystemLayout;
use uuid::Uuid;

use super::{TARGET, disks, system_files::Identity};
use crate::console::size;
use crate::image::{Cancel, Download, Image, Progress};
use crate::kernel::{self, Kernel};
use crate::layout::{self, Plan};
use crate::report::Reporter;
use crate::step::{Context, Failure, discover};
use crate::{boot_loader, system};

/// A system that lies on the disk, is mounted, and belongs to nobody yet. Its kernel is loaded.
pub struct Laid {
    /// How the disks are divided.
    pub plan: Plan,
    /// Layout from which that was made.
    pub layout: FilesystemLayout,
    /// What was unpacked.
    pub image: Image,
    /// What will be started.
    pub kernel: Kernel,
    /// What it will be told.
    pub command_line: String,
    pub(super) identity: Identity,
}

impl std::fmt::Debug for Laid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Laid")
            .field("image", &self.image)
            .field("kernel", &self.kernel)
            .finish_non_exhaustive()
    }
}

/// A failed attempt.
#[derive(Debug)]
pub struct Attempt {
    /// What happened.
    pub failure: Failure,
    /// Whether another attempt may end differently.
    pub transient: bool,
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self { failure, transient: false }
    }
}

/// Lays the image on the disks. Each phase is told to the reporter, if there is one. After an error something may still be
/// mounted.
///
/// # Errors
/// What happened, and whether another attempt makes sense.
pub fn lay(
    context: &Context,
    layout: &FilesystemLayout,
    image: &Image,
    cancel: &Cancel,
    reporter: Option<&Reporter>,
) -> Result<Laid, Attempt> {
    let target = Path::new(TARGET);
    discover::wait_for_disks(&context.roots);
    let plan = layout::plan(layout, &disks::facts(&context.roots), Uuid::new_v4)
        .map_err(Failure::of("partition"))?;
    let (began, clock) = (SystemTime::now(), Instant::now());
    let download = Download::start(image.clone(), cancel.clone());
    // needs no disk: done while the first pieces of the image are on their way
    let identity = thread::spawn(Identity::new);
    phase(reporter, "partition", || disks::partition(&plan)).map_err(Failure::of("partition"))?;
    phase(reporter, "format", || disks::format(&plan)).map_err(Failure::of("format"))?;
    disks::mount(&plan, target).map_err(Failure::of("format"))?;
    let text = unpack(download, target, image, reporter.is_some())?;
    if let Some(reporter) = reporter {
        reporter.finished("image", began, clock.elapsed(), &text);
    }
    let identity = identity
        .join()
        .unwrap_or_else(|_| Err("making the machine's keys ended in a panic".into()));
    let identity = identity.map_err(Failure::of("configure"))?;
    let kernel = kernel::find(target).map_err(Failure::of("kernel"))?;
    let command_line = kernel::command_line(&system::command_line(), &plan.root);
    let load = || {
        let uefi = Path::new("/sys/firmware/efi").exists();
        let bootable = uefi && boot_loader::prepare(target, &plan, &kernel, &command_line)?;
        kernel::load(&kernel, &command_line)?;
        let from = if bootable { "startable from the disk too" } else { "started by the network" };
        Ok::<_, anyhow::Error>(((), format!("{}, {from}", kernel.version)))
    };
    phase(reporter, "kernel", load).map_err(Failure::of("kernel"))?;
    Ok(Laid { plan, layout: layout.clone(), image: image.clone(), kernel, command_line, identity })
}

fn phase<E>(
    reporter: Option<&Reporter>,
    name: &str,
    step: impl FnOnce() -> Result<((), String), E>,
) -> Result<(), E> {
    match reporter {
        Some(reporter) => reporter.phase(name, step),
        None => step().map(|_| ()),
    }
}

fn unpack(
    download: Download,
    target: &Path,
    image: &Image,
    aloud: bool,
) -> Result<String, Attempt> {
    let counter = download.counter();
    let progress = aloud.then(|| Progress::start(counter.clone()));
    let unpacked = download.unpack(target);
    if let Some(progress) = progress {
        progress.stop();
    }
    match unpacked {
        Ok(unpacked) => Ok(format!(
            "{} {}, {} in {} entries",
            image.id,
            size(counter.load(Ordering::Relaxed)),
            size(unpacked.bytes),
            unpacked.entries
        )),
        Err(failed) => {
            let failure = Failure { phase: "image", reason: format!("{:#}", failed.error) };
            Err(Attempt { failure, transient: failed.transient })
        }
    }
}

impl Laid {
    /// Whether this is what an allocation wants. Only an image with a digest in the catalogue counts: without one, what is
    /// behind the URL may have changed since.
    #[must_use]
    pub fn is(&self, layout: &FilesystemLayout, image: &Image) -> bool {
        same((&self.layout, &self.image), (layout, image))
    }
}

/// Whether laying one gives the same as laying the other.
#[must_use]
pub fn same(a: (&FilesystemLayout, &Image), b: (&FilesystemLayout, &Image)) -> bool {
    a.1 == b.1 && a.1.digest.is_some() && same_disks(a.0, b.0)
}

/// Whether two layouts divide and format the disks in the same way.
fn same_disks(a: &FilesystemLayout, b: &FilesystemLayout) -> bool {
    a.disks == b.disks
        && a.filesystems == b.filesystems
        && a.raid == b.raid
        && a.volume_groups == b.volume_groups
        && a.logical_volumes == b.logical_volumes
}

/// How often something that is laid ahead is compared with the catalogue.
pub const RECHECK: Duration = Duration::from_secs(600);
