//! ICMPv6 router advertisements (RFC 4861 section 4.2).
//!
//! iPXE runs IPv6 autoconfiguration beside DHCPv4 and waits about 15 seconds for a router;
//! an advertisement with a lifetime of zero ends that wait without offering a default route.

pub mod server;

use std::net::Ipv6Addr;

/// The all-nodes multicast address (RFC 4291 section 2.7.1), the usual destination.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What to advertise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Link-local address it is sent from; part of the checksum.
    pub source: Ipv6Addr,
    /// Where it is sent to; part of the checksum.
    pub destination: Ipv6Addr,
    /// Link-layer address of the sending interface (RFC 4861 section 4.6.1).
    pub mac: [u8; 6],
    /// A /64 to configure addresses from (RFC 4861 section 4.6.2), host bits are cleared.
    pub prefix: Option<Ipv6Addr>,
    /// Seconds for which addresses of the prefix are valid and preferred.
    pub prefix_lifetime: u32,
}

impl Advertisement {
    /// The ICMPv6 message with its checksum (RFC 4443 section 2.3); send it with hop limit 255.
    pub fn to_bytes(&self) -> Vec<u8> {
        // type 134, code 0, checksum, hop limit 64, no flags, lifetimes and timers 0
        let mut out = vec![134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        out.extend([1, 1]);
        out.extend(self.mac);
        if let Some(prefix) = self.prefix {
            out.extend([3, 4, 64, 0xc0]); // on-link and autonomous
            out.extend(self.prefix_lifetime.to_be_bytes());
            out.extend(self.prefix_lifetime.to_be_bytes());
            out.extend([0; 4]);
            out.extend(&prefix.octets()[..8]);
            out.extend([0; 8]);
        }
        let sum = checksum(self.source, self.destination, &out);
        out[2..4].copy_from_slice(&sum.to_be_bytes());
        out
    }
}

/// Whether an ICMPv6 message is a router solicitation (RFC 4861 section 4.1).
pub fn is_solicitation(message: &[u8]) -> bool {
    message.len() >= 8 && message[..2] == [133, 0]
}

/// The checksum over pseudo header and message (RFC 8200 section 8.1).
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let mut all = Vec::with_capacity(40 + message.len());
    all.extend(source.octets());
    all.extend(destination.octets());
    all.extend((message.len() as u32).to_be_bytes());
    all.extend([0, 0, 0, 58]);
    all.extend(message);
    let mut sum: u32 = all
        .chunks(2)
        .map(|c| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_and_checksum() {
        let mut ra = Advertisement {
            source: "fe80::1".parse().unwrap(),
            destination: ALL_NODES,
            mac: [2, 0, 0, 0, 0, 1],
            prefix: Some("fd99::5".parse().unwrap()),
            prefix_lifetime: 3600,
        };
        let bytes = ra.to_bytes();
        assert_eq!(bytes.len(), 56);
        assert_eq!(bytes[16..24], [1, 1, 2, 0, 0, 0, 0, 1]);
        assert_eq!(bytes[24..32], [3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10]);
        assert_eq!(bytes[40..], "fd99::".parse::<Ipv6Addr>().unwrap().octets());
        // a message with its right checksum sums up to nothing
        assert_eq!(checksum(ra.source, ra.destination, &bytes), 0);
        ra.prefix = None;
        assert_eq!(ra.to_bytes().len(), 24);
    }

    #[test]
    fn solicitations() {
        assert!(is_solicitation(&[133, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!is_solicitation(&[133, 0, 0]));
        assert!(!is_solicitation(&[134, 0, 0, 0, 0, 0, 0, 0]));
    }
}
