//! Work inside a network namespace.
//!
//! A namespace belongs to a thread: the work runs on a thread of its own that ends with it, and what that
//! thread starts or opens stays in the namespace.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

/// Where `ip netns` keeps namespaces.
pub const FOLDER: &str = "/run/netns";

/// The file that stands for a namespace.
pub fn file(namespace: &str) -> PathBuf {
    Path::new(FOLDER).join(namespace)
}

/// Moves the calling thread. Threads that serve others must not be moved.
///
/// # Errors
/// There is no such namespace, or the caller is not root.
pub fn enter(namespace: &str) -> Result<()> {
    let file = File::open(file(namespace))
        .with_context(|| format!("there is no namespace {namespace}; is the lab up?"))?;
    setns(file, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter namespace {namespace}; root is needed"))
}

/// Does `work` in the namespace and waits for it.
///
/// # Errors
/// What [`enter`] or the work says.
pub fn within<T: Send>(namespace: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                enter(namespace)?;
                work()
            })
            .join()
            .map_err(|_| anyhow!("the work in namespace {namespace} panicked"))?
    })
}
