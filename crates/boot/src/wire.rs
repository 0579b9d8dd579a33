//! What the kernel has seen on the wire: which hardware address speaks from an IP address (neighbour table), and which bridge port
//! a hardware address is at (forwarding table). Both are read by netlink, so that they belong to the right network namespace.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::mac::Mac;

const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_MASTER: u16 = 9;
/// States in which an entry says nothing: INCOMPLETE, FAILED.
const NUD_USELESS: u16 = 0x01 | 0x20;
const NUD_PERMANENT: u16 = 0x80;

/// An entry of a neighbour or forwarding table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    interface: u32,
    state: u16,
    address: Option<Ipv4Addr>,
    mac: Option<Mac>,
    bridge: Option<u32>,
}

/// Looks at one interface.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    interface: u32,
}

impl Wire {
    /// Looks at the interface with this index.
    #[must_use]
    pub fn new(interface: u32) -> Self {
        Self { interface }
    }

    /// The hardware address that the kernel sends to for an IP address, when it knows one.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn neighbour(&self, address: Ipv4Addr) -> io::Result<Option<Mac>> {
        let known = |e: &Entry| {
            e.interface == self.interface
                && e.state & NUD_USELESS == 0
                && e.address == Some(address)
        };
        Ok(dump(AF_INET)?.into_iter().find(known).and_then(|entry| entry.mac))
    }

    /// The name of the bridge port that a hardware address was last seen at; none when the interface is no bridge.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn port(&self, mac: Mac) -> io::Result<Option<String>> {
        let learned = |e: &Entry| {
            e.bridge == Some(self.interface) && e.state & NUD_PERMANENT == 0 && e.mac == Some(mac)
        };
        let Some(entry) = dump(AF_BRIDGE)?.into_iter().find(learned) else { return Ok(None) };
        let name = nix::net::if_::if_indextoname(entry.interface)?;
        Ok(name.into_string().ok())
    }
}

/// Asks the kernel for a whole table.
fn dump(family: u8) -> io::Result<Vec<Entry>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    sendto(socket.as_raw_fd(), &request(family), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut entries = Vec::new();
    while receive(&socket, &mut entries)? {}
    Ok(entries)
}

/// Reads one datagram; false at the end of the table.
fn receive(socket: &OwnedFd, entries: &mut Vec<Entry>) -> io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    match parse(&buffer[..length], entries) {
        Part::More => Ok(length > 0),
        Part::Done => Ok(false),
        Part::Error(code) => Err(io::Error::from_raw_os_error(code)),
    }
}

/// A request for a whole table: a netlink header of 16 bytes and an `ndmsg` of 12.
fn request(family: u8) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[0..4].copy_from_slice(&28u32.to_ne_bytes());
    bytes[4..6].copy_from_slice(&RTM_GETNEIGH.to_ne_bytes());
    bytes[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes[16] = family;
    bytes
}

/// What a datagram of an answer means for those that follow.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    More,
    Done,
    Error(i32),
}

/// Reads the messages of a datagram, and stops at the first that does not fit into it.
fn parse(mut datagram: &[u8], entries: &mut Vec<Entry>) -> Part {
    while let Some((length, kind)) = u32_at(datagram, 0).zip(u16_at(datagram, 4)) {
        let length = length as usize;
        let Some(body) = datagram.get(16..length) else { break };
        match kind {
            NLMSG_DONE => return Part::Done,
            NLMSG_ERROR => {
                return Part::Error(
                    u32_at(body, 0).map_or(0, |code| code.cast_signed().wrapping_neg()),
                );
            }
            RTM_NEWNEIGH => entries.extend(entry(body)),
            _ => {}
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Part::More
}

fn entry(body: &[u8]) -> Option<Entry> {
    let mut entry =
        Entry { interface: u32_at(body, 4)?, state: u16_at(body, 8)?, ..Entry::default() };
    let mut attributes = body.get(12..)?;
    while let Some((length, kind)) = u16_at(attributes, 0).zip(u16_at(attributes, 2)) {
        let length = usize::from(length);
        let Some(data) = attributes.get(4..length) else { break };
        match kind {
            NDA_DST => entry.address = <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from),
            NDA_LLADDR => entry.mac = data.try_into().ok().map(Mac),
            NDA_MASTER => entry.bridge = u32_at(data, 0),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(entry)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn attribute(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + data.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn entries_and_the_end() {
        let mut body = vec![AF_BRIDGE, 0, 0, 0];
        body.extend(7u32.to_ne_bytes());
        body.extend(2u16.to_ne_bytes());
        body.extend([0, 0]);
        body.extend(attribute(NDA_LLADDR, &[2, 0, 0, 0, 0, 1]));
        body.extend(attribute(NDA_MASTER, &3u32.to_ne_bytes()));
        body.extend(attribute(NDA_DST, &[10, 0, 1, 9]));
        let mut datagram = message(RTM_NEWNEIGH, &body);
        datagram.extend(message(RTM_NEWNEIGH, &body));
        let mut entries = Vec::new();
        assert_eq!(parse(&datagram, &mut entries), Part::More);
        let want = Entry {
            interface: 7,
            state: 2,
            address: Some(Ipv4Addr::new(10, 0, 1, 9)),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            bridge: Some(3),
        };
        assert_eq!(entries, [want.clone(), want]);
        assert_eq!(parse(&message(NLMSG_DONE, &[0; 4]), &mut entries), Part::Done);
        assert_eq!(
            parse(&message(NLMSG_ERROR, &(-1i32).to_ne_bytes()), &mut entries),
            Part::Error(1)
        );
    }

    #[test]
    fn the_kernel_answers() {
        dump(AF_INET).unwrap();
        dump(AF_BRIDGE).unwrap();
        assert_eq!(Wire::new(1).neighbour(Ipv4Addr::new(192, 0, 2, 1)).unwrap(), None);
        assert_eq!(Wire::new(1).port(Mac([2; 6])).unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes, &mut Vec::new());
        }

        #[test]
        fn any_body(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            parse(&message(RTM_NEWNEIGH, &body), &mut Vec::new());
        }
    }
}
