//! Work in other network namespaces. A namespace belongs to a thread, so the work gets one of its own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Where namespaces have names.
pub const FOLDER: &str = "/run/netns";

/// Does `work` in the namespace and waits for it. What is opened there stays there.
///
/// # Errors
/// There is no such namespace, the right to enter it is missing, or what the work says.
pub fn inside<T: Send, E: From<io::Error> + Send>(
    space: &Path,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    let file = File::open(space)?;
    alone(move || {
        setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
        work()
    })
}

/// Makes a namespace with this name.
///
/// # Errors
/// The name is taken, or a right is missing.
pub fn make(space: &Path) -> io::Result<()> {
    fs::create_dir_all(FOLDER)?;
    File::create_new(space)?;
    let made = alone(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(
            Some("/proc/thread-self/ns/net"),
            space,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
        Ok(())
    });
    if made.is_err() {
        // An empty file would look like a namespace.
        fs::remove_file(space).ok();
    }
    made
}

/// Takes the name away. The namespace goes with the last who is in it.
///
/// # Errors
/// A right is missing.
pub fn remove(space: &Path) -> io::Result<()> {
    match umount2(space, MntFlags::MNT_DETACH) {
        // A name without a namespace behind it.
        Ok(()) | Err(nix::Error::EINVAL) => fs::remove_file(space),
        Err(error) => Err(error.into()),
    }
}

/// Tells one namespace from another of the same name that came later.
///
/// # Errors
/// There is none.
pub fn identity(space: &Path) -> io::Result<u64> {
    Ok(fs::metadata(space)?.ino())
}

fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(work);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
