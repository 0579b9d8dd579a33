//! Links, addresses and the default route, by netlink: bytes as pure functions and one blocking exchange.

use std::io;
use std::net::Ipv4Addr;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;

/// What to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes the link into service and listens to every multicast address, as LLDP needs it.
    LinkUp {
        /// Number of the interface.
        interface: u32,
    },
    /// Gives the interface an address.
    AddAddress {
        /// Number of the interface.
        interface: u32,
        /// The address.
        address: Ipv4Addr,
        /// Of the network that is on the link.
        prefix_length: u8,
    },
    /// Takes an address away.
    RemoveAddress {
        /// Number of the interface.
        interface: u32,
        /// The address.
        address: Ipv4Addr,
        /// Of the network that is on the link.
        prefix_length: u8,
    },
    /// Makes this the one default route.
    DefaultRoute {
        /// Number of the interface.
        interface: u32,
        /// Next router.
        gateway: Ipv4Addr,
        /// Our address in what is sent.
        source: Ipv4Addr,
    },
}

/// Applies a change and waits for the kernel's answer.
///
/// # Errors
/// What the kernel says.
pub fn apply(change: Change) -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &encode(change), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = [0_u8; 4096];
    let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    acknowledged(&buffer[..length])
}

/// The message for a change.
#[must_use]
pub fn encode(change: Change) -> Vec<u8> {
    const NEW_LINK: u16 = 16;
    const NEW_ADDRESS: u16 = 20;
    const DELETE_ADDRESS: u16 = 21;
    const NEW_ROUTE: u16 = 24;
    match change {
        Change::LinkUp { interface } => {
            let flags = 0x1_u32 | 0x200; // up, all multicast
            let mut body = vec![0; 4];
            body.extend(interface.to_ne_bytes());
            body.extend(flags.to_ne_bytes());
            body.extend(flags.to_ne_bytes());
            message(NEW_LINK, 0, &body)
        }
        Change::AddAddress { interface, address, prefix_length } => {
            message(NEW_ADDRESS, CREATE | REPLACE, &address_body(interface, address, prefix_length))
        }
        Change::RemoveAddress { interface, address, prefix_length } => {
            message(DELETE_ADDRESS, 0, &address_body(interface, address, prefix_length))
        }
        Change::DefaultRoute { interface, gateway, source } => {
            // family, destination /0, source /0, service, table main, protocol DHCP, scope universe, type unicast, flags
            let mut body = vec![libc::AF_INET as u8, 0, 0, 0, 254, 16, 0, 1, 0, 0, 0, 0];
            attribute(&mut body, 4, &interface.to_ne_bytes());
            attribute(&mut body, 5, &gateway.octets());
            attribute(&mut body, 7, &source.octets());
            message(NEW_ROUTE, CREATE | REPLACE, &body)
        }
    }
}

fn address_body(interface: u32, address: Ipv4Addr, prefix_length: u8) -> Vec<u8> {
    let mut body = vec![libc::AF_INET as u8, prefix_length, 0, 0];
    body.extend(interface.to_ne_bytes());
    attribute(&mut body, 2, &address.octets());
    attribute(&mut body, 1, &address.octets());
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((value.len() as u16 + 4).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + body.len());
    bytes.extend((16 + body.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | ACK | flags).to_ne_bytes());
    bytes.extend([0; 8]); // sequence, port
    bytes.extend(body);
    bytes
}

/// Reads the kernel's answer to one message.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    const ERROR: u16 = 2;
    let short =
        || io::Error::new(io::ErrorKind::InvalidData, "the kernel's netlink answer is too short");
    let kind = answer.get(4..6).ok_or_else(short)?;
    let code = answer.get(16..20).ok_or_else(short)?;
    if u16::from_ne_bytes([kind[0], kind[1]]) != ERROR {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel sent no acknowledgement",
        ));
    }
    match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_says_its_length() {
        let address = Ipv4Addr::new(10, 0, 1, 100);
        for change in [
            Change::LinkUp { interface: 2 },
            Change::AddAddress { interface: 2, address, prefix_length: 24 },
            Change::RemoveAddress { interface: 2, address, prefix_length: 24 },
            Change::DefaultRoute {
                interface: 2,
                gateway: Ipv4Addr::new(10, 0, 1, 1),
                source: address,
            },
        ] {
            let bytes = encode(change);
            assert_eq!(
                u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize,
                bytes.len(),
                "{change:?}"
            );
            assert_eq!(bytes.len() % 4, 0, "{change:?}");
        }
    }

    #[test]
    fn the_kernel_s_answers() {
        let mut answer = message(2, 0, &0_i32.to_ne_bytes());
        assert!(acknowledged(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        assert_eq!(acknowledged(&answer).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(acknowledged(&answer[..10]).is_err());
        assert!(acknowledged(&message(3, 0, &[0; 4])).is_err());
    }
}
