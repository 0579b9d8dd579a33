//! Sockets that Tokio does not know, made ready to wait on.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Must be called inside a Tokio runtime.
#[expect(unsafe_code, reason = "Tokio cannot see that an OwnedFd stays open while it owns it")]
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and the same as long as it lives, and it is moved into the AsyncFd.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
