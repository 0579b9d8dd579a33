//! Raw Ethernet frames of one protocol on one network card.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// Sends and receives whole frames, header included.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket for one EtherType on the interface with this index.
    ///
    /// # Errors
    /// `EPERM` without the right to raw sockets, `ENODEV` for an interface that is gone.
    pub fn open(interface: u32, ethertype: u16) -> io::Result<Self> {
        // No protocol until it is bound: otherwise frames of every interface arrive in between.
        let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&fd, &LinkAddress::new(interface, ethertype))?;
        Ok(Self(fd))
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// `ENETDOWN` while the interface is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.0, frame, SendFlags::empty())?;
        Ok(())
    }

    /// Waits for a frame at most this long; `None` when none came.
    ///
    /// # Errors
    /// `ENETDOWN` when the interface went down.
    pub fn receive<'a>(
        &self,
        buffer: &'a mut [u8],
        timeout: Duration,
    ) -> io::Result<Option<&'a [u8]>> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let (received, length) = recv(&self.0, &mut *buffer, RecvFlags::empty())?;
        Ok(Some(&buffer[..received.min(length)]))
    }
}

/// `struct sockaddr_ll`.
#[repr(C)]
struct LinkAddress {
    family: u16,
    protocol: u16,
    interface: i32,
    hardware_type: u16,
    packet_type: u8,
    address_length: u8,
    address: [u8; 8],
}

impl LinkAddress {
    fn new(interface: u32, ethertype: u16) -> Self {
        Self {
            family: AddressFamily::PACKET.as_raw(),
            protocol: ethertype.to_be(),
            interface: i32::try_from(interface).unwrap_or(i32::MAX),
            hardware_type: 0,
            packet_type: 0,
            address_length: 0,
            address: [0; 8],
        }
    }
}

#[expect(unsafe_code, reason = "the kernel's layout of sockaddr_ll, which rustix does not have")]
// SAFETY: the pointer is to a whole, initialised `sockaddr_ll` that outlives the call.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f((&raw const *self).cast(), 20)
    }
}
