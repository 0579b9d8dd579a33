//! Router solicitations (RFC 4861, section 4.1). BGP without addresses finds a neighbour by its router advertisements. One that has been
//! there for long sends them seldom, so a leaf that starts again would wait for seconds; who is asked answers at once.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, sendto};
use socket2::{Domain, Socket, Type};

use super::addresses;
use crate::space::inside;

/// FRR hears answers once it sends advertisements itself, which it begins moments after it is configured.
const AFTER: [Duration; 4] = [
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(1000),
];
/// All routers on a link, `ff02::2`, and their hardware address.
const ROUTERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const ROUTERS_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 2];
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 133;

/// Asks routers at the other ends of these interfaces, here and in other namespaces, a few times in the next second and a half. Must be called
/// inside a Tokio runtime.
pub(crate) fn solicit(interfaces: BTreeSet<String>, spaces: Vec<PathBuf>) {
    if interfaces.is_empty() {
        return;
    }
    tokio::spawn(async move {
        for pause in AFTER {
            tokio::time::sleep(pause).await;
            if let Err(error) = ask(&interfaces, &spaces) {
                tracing::debug!(%error, "routers are not asked; they tell in time");
            }
        }
    });
}

fn ask(interfaces: &BTreeSet<String>, spaces: &[PathBuf]) -> io::Result<()> {
    ask_here(interfaces)?;
    for space in spaces {
        // It may be gone by now.
        if let Err(error) = inside(space, || ask_here(interfaces)) {
            tracing::debug!(space = %space.display(), %error, "routers are not asked");
        }
    }
    Ok(())
}

fn ask_here(interfaces: &BTreeSet<String>) -> io::Result<()> {
    // Without a protocol nothing is received.
    let socket: OwnedFd = Socket::new(Domain::PACKET, Type::RAW, None)?.into();
    for (name, address) in addresses()? {
        if !interfaces.contains(&name) {
            continue;
        }
        let bytes = frame(address.mac);
        if let Err(error) =
            sendto(socket.as_raw_fd(), &bytes, &address.link, MsgFlags::MSG_DONTWAIT)
        {
            tracing::trace!(port = name, %error, "a router solicitation was not sent");
        }
    }
    Ok(())
}

/// From nobody in particular: the answer goes to all.
fn frame(mac: [u8; 6]) -> Vec<u8> {
    let from = [0; 16];
    let mut message = [SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    let length = message.len() as u8;
    let pseudo = [&from[..], &ROUTERS, &[0, 0, 0, length, 0, 0, 0, ICMPV6], &message].concat();
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let ethernet = [&ROUTERS_MAC[..], &mac, &[0x86, 0xdd]].concat();
    let header = [0x60, 0, 0, 0, 0, length, ICMPV6, 255];
    [&ethernet[..], &header, &from, &ROUTERS, &message].concat()
}

/// RFC 1071; the number of bytes is even.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame() {
        let frame = frame([2, 0, 0, 0, 0, 1]);
        let hex: Vec<_> = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex[..14].concat(), "33330000000202000000000186dd");
        assert_eq!(hex[14..22].concat(), "6000000000083aff", "the last hop");
        assert_eq!(
            hex[22..54].concat(),
            "00000000000000000000000000000000ff020000000000000000000000000002"
        );
        assert_eq!(hex[54..].concat(), "85007bb800000000");
    }

    #[test]
    fn a_sum_that_is_right_makes_zero() {
        let frame = frame([2, 0, 0, 0, 0, 1]);
        let pseudo = [&frame[22..54], &[0, 0, 0, 8, 0, 0, 0, 58], &frame[54..]].concat();
        assert_eq!(checksum(&pseudo), 0);
    }
}
