//! Sockets that hear and speak on one interface only.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::mac::Mac;

/// An interface as the kernel describes it now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub mac: Option<Mac>,
    pub addresses: Vec<Ipv4Addr>,
    /// The link-local IPv6 address, which exists while the link is up.
    pub link_local: Option<Ipv6Addr>,
}

impl Interface {
    /// Looks an interface up.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn find(name: &str) -> io::Result<Self> {
        let mut interface = Self { index: nix::net::if_::if_nametoindex(name)?, ..Self::default() };
        for entry in nix::ifaddrs::getifaddrs()?.filter(|entry| entry.interface_name == name) {
            let Some(address) = entry.address else { continue };
            if let Some(v4) = address.as_sockaddr_in() {
                interface.addresses.push(v4.ip());
            } else if let Some(v6) = address.as_sockaddr_in6() {
                interface.link_local =
                    interface.link_local.or(Some(v6.ip()).filter(Ipv6Addr::is_unicast_link_local));
            } else if let Some(link) = address.as_link_addr() {
                interface.mac = link.addr().map(Mac);
            }
        }
        Ok(interface)
    }
}

/// A UDP socket that hears one port on one interface, broadcasts included.
///
/// # Errors
/// When the port is taken or the process lacks `CAP_NET_BIND_SERVICE` or `CAP_NET_RAW`.
pub fn udp(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    // a foreign DHCP server on this host may have the port on another interface
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    UdpSocket::from_std(socket.into())
}

/// Sends from an address of ours: the interface may have several, and firmware compares the sender with what it was told.
///
/// # Errors
/// As the kernel says.
pub async fn send_from(
    socket: &UdpSocket,
    from: Ipv4Addr,
    to: SocketAddrV4,
    bytes: &[u8],
) -> io::Result<()> {
    let info = packet_info(from);
    let to = SockaddrIn::from(to);
    let send = || {
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        sendmsg(
            socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &control,
            MsgFlags::empty(),
            Some(&to),
        )?;
        Ok(())
    };
    socket.async_io(Interest::WRITABLE, send).await
}

fn packet_info(from: Ipv4Addr) -> nix::libc::in_pktinfo {
    let address =
        |address: Ipv4Addr| nix::libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
    nix::libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: address(from),
        ipi_addr: address(Ipv4Addr::UNSPECIFIED),
    }
}
