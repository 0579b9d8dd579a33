//! Arithmetic of address space: families, aligned blocks, how a block is split and how its parts merge again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// 32 bits.
    V4,
    /// 128 bits.
    V6,
}

impl Family {
    /// Of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Bits of an address.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address with this number.
    #[must_use]
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address has 32 bits")]
            Self::V4 => Ipv4Addr::from_bits(number as u32).into(),
            Self::V6 => Ipv6Addr::from_bits(number).into(),
        }
    }
}

/// An address as a number; [`Family::address`] is the way back.
#[must_use]
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// An address as text that sorts like the addresses, IPv4 first.
#[must_use]
pub fn key(address: IpAddr) -> String {
    let digit = if address.is_ipv4() { 4 } else { 6 };
    format!("{digit}{:032x}", number(address))
}

/// The address that [`key`] made this text of.
#[must_use]
pub fn from_key(key: &str) -> Option<IpAddr> {
    let number = u128::from_str_radix(key.get(1..)?, 16).ok()?;
    match key.get(..1)? {
        "4" => Some(Family::V4.address(number)),
        "6" => Some(Family::V6.address(number)),
        _ => None,
    }
}

/// Reads a prefix that has no bit set beyond its length.
///
/// # Errors
/// A sentence that names the canonical form.
pub fn canonical(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| format!("\"{text}\" is not a prefix"))?;
    if net == net.trunc() && net.to_string() == text {
        Ok(net)
    } else {
        Err(format!("expecting canonical form of prefix {text}, specify it as {}", net.trunc()))
    }
}

/// Reads prefixes, all problems in one sentence each.
///
/// # Errors
/// The sentences of [`canonical`], one a line.
pub fn canonicals(texts: &[String]) -> Result<Vec<IpNet>, String> {
    let (mut nets, mut problems) = (Vec::new(), Vec::new());
    for text in texts {
        match canonical(text) {
            Ok(net) => nets.push(net),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(nets) } else { Err(problems.join("\n")) }
}

/// The first two prefixes that have an address in common.
#[must_use]
pub fn overlapping(nets: &[IpNet]) -> Option<(IpNet, IpNet)> {
    let mut sorted = nets.to_vec();
    // a prefix sorts directly before what it contains, and one that overlaps another contains it or is contained
    sorted.sort_by_key(|net| (family(net), number(net.network()), net.prefix_len()));
    sorted.windows(2).map(|pair| (pair[0], pair[1])).find(|(a, b)| overlap(a, b))
}

/// Whether two prefixes have an address in common.
#[must_use]
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Of a prefix.
#[must_use]
pub fn family(net: &IpNet) -> Family {
    Family::of(net.network())
}

/// The families of some prefixes, each once.
#[must_use]
pub fn families(nets: &[IpNet]) -> Vec<Family> {
    let mut families: Vec<_> = nets.iter().map(family).collect();
    families.sort();
    families.dedup();
    families
}

/// An aligned piece of address space: a prefix, but cheap to compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// IP version.
    pub family: Family,
    /// Number of its first address.
    pub first: u128,
    /// Prefix length.
    pub length: u8,
}

impl From<IpNet> for Block {
    fn from(net: IpNet) -> Self {
        Self { family: family(&net), first: number(net.network()), length: net.prefix_len() }
    }
}

impl Block {
    /// The block that begins at an address; nothing when the length is not one of the family's.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        Some(IpNet::new(address, length).ok()?.trunc().into())
    }

    /// As a prefix. The length is always one that the family has.
    #[must_use]
    pub fn net(&self) -> IpNet {
        IpNet::new_assert(self.family.address(self.first), self.length)
    }

    /// Number of its last address.
    #[must_use]
    pub fn last(&self) -> u128 {
        self.first + span(self.family, self.length)
            - u128::from(self.length != 0 || self.family == Family::V4)
    }

    /// How many addresses it holds; 2^64 − 1 stands for all above it, too.
    #[must_use]
    pub fn addresses(&self) -> u64 {
        1_u64.checked_shl(u32::from(self.family.bits() - self.length)).unwrap_or(u64::MAX)
    }

    /// Its two halves.
    #[must_use]
    pub fn halves(&self) -> Option<(Self, Self)> {
        let length = self.length + 1;
        if length > self.family.bits() {
            return None;
        }
        let lower = Self { length, ..*self };
        Some((lower, Self { first: lower.first + span(self.family, length), ..lower }))
    }

    /// The other half of the block that contains this one as a half.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self { first: self.first ^ span(self.family, self.length), ..*self }
    }

    /// The block of which this one is a half.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self {
            first: self.first & !span(self.family, self.length),
            length: self.length.saturating_sub(1),
            ..*self
        }
    }

    /// Takes the lowest piece of a length out; what remains are blocks, the biggest first.
    #[must_use]
    pub fn carve(self, length: u8) -> Option<(Self, Vec<Self>)> {
        if length < self.length {
            return None;
        }
        let (mut piece, mut rest) = (self, Vec::new());
        while piece.length < length {
            let (lower, upper) = piece.halves()?;
            piece = lower;
            rest.push(upper);
        }
        Some((piece, rest))
    }

    /// The addresses that can be given out: not network and broadcast in IPv4, not the first in IPv6, where it is the anycast
    /// address of routers. Blocks of one or two addresses have none of these (RFC 3021, RFC 6164).
    #[must_use]
    pub fn hosts(&self) -> (u128, u128) {
        let (first, last) = (self.first, self.last());
        match self.family {
            _ if self.length + 1 >= self.family.bits() => (first, last),
            Family::V4 => (first + 1, last - 1),
            Family::V6 => (first + 1, last),
        }
    }

    /// How many addresses can never be given out.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        match self.family {
            _ if self.length + 1 >= self.family.bits() => 0,
            Family::V4 => 2,
            Family::V6 => 1,
        }
    }
}

/// Addresses of a block of this length; of the whole of IPv6 the number of its last address.
fn span(family: Family, length: u8) -> u128 {
    1_u128.checked_shl(u32::from(family.bits() - length)).unwrap_or(u128::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(text: &str) -> Block {
        text.parse::<IpNet>().expect("prefix").into()
    }

    #[test]
    fn keys_sort_like_addresses_and_are_reversible() {
        let sorted = ["9.255.255.255", "10.0.0.0", "10.0.0.10", "::1", "fd00::", "fd00::a"];
        let keys: Vec<_> = sorted.iter().map(|a| key(a.parse().expect("address"))).collect();
        assert!(keys.is_sorted());
        for (text, key) in sorted.iter().zip(&keys) {
            assert_eq!(from_key(key).expect("address").to_string(), *text);
        }
        assert_eq!(from_key("5aa"), None);
        assert_eq!(from_key("4x"), None);
    }

    #[test]
    fn a_prefix_off_its_boundary_is_refused_with_the_canonical_form() {
        let problem = canonical("10.0.0.1/8").expect_err("refused");
        assert!(problem.contains("10.0.0.0/8"), "{problem}");
        assert!(canonical("10.0.0.0/8").is_ok());
        assert!(canonical("2001:DB8::/32").is_err(), "capital letters");
        assert!(canonical("nonsense").is_err());
    }

    #[test]
    fn hosts_leave_out_what_nobody_can_get() {
        let hosts = |text: &str| {
            let b = block(text);
            let (first, last) = b.hosts();
            (b.family.address(first).to_string(), b.family.address(last).to_string(), b.reserved())
        };
        assert_eq!(hosts("10.0.0.0/24"), ("10.0.0.1".into(), "10.0.0.254".into(), 2));
        assert_eq!(hosts("10.0.0.0/31"), ("10.0.0.0".into(), "10.0.0.1".into(), 0));
        assert_eq!(hosts("10.0.0.7/32"), ("10.0.0.7".into(), "10.0.0.7".into(), 0));
        assert_eq!(hosts("fd00::/126"), ("fd00::1".into(), "fd00::3".into(), 1));
    }

    #[test]
    fn the_whole_of_a_family_is_a_block() {
        assert_eq!(block("0.0.0.0/0").last(), u128::from(u32::MAX));
        assert_eq!(block("::/0").last(), u128::MAX);
        assert_eq!(block("::/0").halves().expect("halves").1, block("8000::/1"));
        assert_eq!(block("fd00::/48").addresses(), u64::MAX);
        assert_eq!(block("10.0.0.0/22").addresses(), 1024);
    }

    #[test]
    fn overlap_is_found_among_many() {
        let nets: Vec<IpNet> = ["10.2.0.0/16", "fd00::/48", "10.0.0.0/15", "10.1.4.0/24"]
            .iter()
            .map(|t| t.parse().expect("prefix"))
            .collect();
        let (a, b) = overlapping(&nets).expect("overlap");
        assert_eq!((a.to_string(), b.to_string()), ("10.0.0.0/15".into(), "10.1.4.0/24".into()));
        assert_eq!(overlapping(&nets[..3]), None);
    }

    proptest! {
        #[test]
        fn carving_loses_no_address(v6: bool, bits: u128, length in 0_u8..=128, more in 0_u8..=128) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let length = length.min(family.bits());
            let wanted = length.saturating_add(more).min(family.bits());
            let net = IpNet::new_assert(family.address(bits), length).trunc();
            let whole = Block::from(net);
            let (piece, rest) = whole.carve(wanted).expect("fits");
            prop_assert_eq!(piece.length, wanted);
            prop_assert_eq!(rest.len(), usize::from(wanted - length));
            // put together again from the smallest, each step a sibling
            let mut merged = piece;
            for block in rest.iter().rev() {
                prop_assert_eq!(merged.sibling(), *block);
                prop_assert_eq!(merged.last() + 1, block.first);
                merged = merged.parent();
            }
            prop_assert_eq!(merged, whole);
            prop_assert_eq!(Block::from(whole.net()), whole);
            prop_assert_eq!(whole.carve(length.wrapping_sub(1).min(length)).is_some(), length == 0);
        }

        #[test]
        fn canonical_never_panics(text: String) {
            let _ = canonical(&text);
        }
    }
}
