//! LLDP on the wire of every machine port: one socket for each network namespace, bound to no port, so that ports that
//! come later are heard, too.

mod all;
mod group;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use lldp::{Capabilities, ChassisId, ETHERTYPE, Frame, PortId};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, sendto};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

pub use all::{Heard, Speakers};

use crate::space::inside;

/// Longer frames are no LLDP.
const FRAME_MAX: usize = 1600;

/// The socket.
pub struct Speaker {
    fd: AsyncFd<OwnedFd>,
    /// The namespace that it is in; `None` is the agent's own.
    space: Option<PathBuf>,
}

impl Speaker {
    /// Opens it in this namespace. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// Without the right to raw sockets.
    pub fn open() -> io::Result<Self> {
        Ok(Self { fd: crate::fd::register(socket()?)?, space: None })
    }

    /// Opens it in another namespace. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// There is no such namespace, or the right to raw sockets is missing.
    pub fn open_in(space: &Path) -> io::Result<Self> {
        let fd = inside(space, socket)?;
        Ok(Self { fd: crate::fd::register(fd)?, space: Some(space.to_owned()) })
    }

    /// Every interface of its namespace by name.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn addresses(&self) -> io::Result<Vec<(String, Address)>> {
        match &self.space {
            None => addresses(),
            Some(space) => inside(space, addresses),
        }
    }

    /// Name of an interface by its number.
    fn name(&self, index: u32) -> Option<String> {
        let name = || io::Result::Ok(if_indextoname(index)?);
        let name = match &self.space {
            None => name(),
            Some(space) => inside(space, name),
        };
        name.ok().map(|name| name.to_string_lossy().into_owned())
    }

    /// Lets `port` hear LLDP as long as this socket is there. A port that came back has to be told again.
    ///
    /// # Errors
    /// There is no such port any more.
    pub fn listen(&self, port: &Address) -> io::Result<()> {
        group::join(self.fd.get_ref().as_fd(), port.link.ifindex())
    }

    /// Sends `frame` from `port`.
    ///
    /// # Errors
    /// `ENETDOWN` while the port is down.
    pub fn send(&self, port: &Address, frame: &Frame) -> io::Result<()> {
        let bytes = frame.encode(port.mac);
        sendto(self.fd.as_raw_fd(), &bytes, &port.link, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// Waits for a frame and tells at which port it came in. What is no LLDP frame is an error of the sender and skipped.
    ///
    /// # Errors
    /// When the socket is broken.
    pub async fn receive(&self) -> io::Result<(String, Frame)> {
        let mut buffer = [0; FRAME_MAX];
        loop {
            let mut guard = self.fd.readable().await?;
            let result = guard.try_io(|fd| Ok(recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer)?));
            let (length, Some(from)) = (match result {
                Ok(Ok(received)) => received,
                // One port went down; the others are still there.
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::ENETDOWN) => continue,
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => continue,
            }) else {
                continue;
            };
            let Some(name) = self.name(from.ifindex() as u32) else { continue };
            match Frame::decode(&buffer[..length]) {
                Ok(frame) => return Ok((name, frame)),
                Err(error) => tracing::debug!(port = name, %error, "a bad LLDP frame"),
            }
        }
    }
}

fn socket() -> io::Result<OwnedFd> {
    let protocol = Protocol::from(i32::from(ETHERTYPE.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Where a frame goes out.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    link: LinkAddr,
    /// Hardware address.
    pub mac: [u8; 6],
}

/// Every interface by name.
///
/// # Errors
/// When the kernel does not tell.
pub fn addresses() -> io::Result<Vec<(String, Address)>> {
    let all = getifaddrs()?.filter_map(|interface| {
        let link = *interface.address?.as_link_addr()?;
        Some((interface.interface_name, Address { mac: link.addr()?, link }))
    });
    Ok(all.collect())
}

/// What a leaf says on one of its ports. The name of the system and the id of the port are what the control plane knows
/// them by; `chassis` is one address for the whole switch.
pub fn frame(id: &str, chassis: [u8; 6], port: &str, loopback: Ipv4Addr, ttl: u16) -> Frame {
    let mut frame = Frame::new(ChassisId::Mac(chassis), PortId::Local(port.to_owned()), ttl);
    frame.port_description = Some(port.to_owned());
    frame.system_name = Some(id.to_owned());
    frame.system_description = Some(concat!("metal-switch ", env!("CARGO_PKG_VERSION")).to_owned());
    let both = Capabilities::BRIDGE | Capabilities::ROUTER;
    frame.capabilities = Some(Capabilities { supported: both, enabled: both });
    frame.management = vec![loopback.into()];
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_reports_as_its_neighbour() {
        let said = frame("leaf01", [2, 0, 0, 0, 0, 0x11], "swp1", [10, 0, 0, 11].into(), 10);
        let heard = Frame::decode(&said.encode([2, 0, 0, 0, 1, 1])).unwrap();
        assert_eq!(heard, said);
        assert_eq!(heard.system_name.as_deref(), Some("leaf01"));
        assert_eq!(heard.port_id.to_string(), "swp1");
    }
}
