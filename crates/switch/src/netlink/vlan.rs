//! VLANs of bridges that tell them apart, to bytes and back.

use super::message::{self, ACK, DUMP, HEAD, Kind, Link, REQUEST};

/// A VLAN as a member of a bridge has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Its number.
    pub id: u16,
    /// Alone on this wire: what comes in without a number belongs to it, and what goes out has none.
    pub access: bool,
}

/// AF_BRIDGE.
pub(super) const FAMILY: u8 = 7;

const SETLINK: u16 = 19;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_BRVLAN: u32 = 2;
const IFLA_BRIDGE_FLAGS: u16 = 0;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const BRIDGE_FLAGS_SELF: u16 = 2;
/// PVID and untagged.
const ACCESS: u16 = 0x2 | 0x4;

/// Asks for VLANs of everything that has some.
pub(super) fn dump() -> Vec<u8> {
    let mut attributes = Vec::new();
    message::attribute(&mut attributes, IFLA_EXT_MASK, &RTEXT_FILTER_BRVLAN.to_ne_bytes());
    message::packet(GETLINK, REQUEST | DUMP, &body(0, &attributes))
}

/// Asks for one more or one less.
pub(super) fn change(link: &Link, vlan: Vlan, add: bool) -> Vec<u8> {
    let mut info = Vec::new();
    if link.kind == Some(Kind::VlanBridge) {
        message::attribute(&mut info, IFLA_BRIDGE_FLAGS, &BRIDGE_FLAGS_SELF.to_ne_bytes());
    }
    let flags = if vlan.access { ACCESS } else { 0 };
    let value = [flags.to_ne_bytes(), vlan.id.to_ne_bytes()].concat();
    message::attribute(&mut info, IFLA_BRIDGE_VLAN_INFO, &value);
    let mut attributes = Vec::new();
    message::attribute(&mut attributes, IFLA_AF_SPEC, &info);
    let kind = if add { SETLINK } else { DELLINK };
    message::packet(kind, REQUEST | ACK, &body(link.index, &attributes))
}

fn body(index: u32, attributes: &[u8]) -> Vec<u8> {
    let mut body = vec![0; HEAD];
    body[0] = FAMILY;
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body.extend(attributes);
    body
}

/// The interface and its VLANs; none of them without any.
pub(super) fn read(body: &[u8]) -> Option<(u32, Vec<Vlan>)> {
    let index = message::u32_at(body.get(4..8)?, 0);
    let attributes = message::attributes(body.get(HEAD..)?);
    let vlan = |value: &[u8]| {
        let value = value.get(..4)?;
        let access = message::u16_at(value, 0) & ACCESS == ACCESS;
        Some(Vlan { id: message::u16_at(value, 2), access })
    };
    let vlans = message::each(attributes.get(&IFLA_AF_SPEC).copied().unwrap_or_default())
        .filter(|(kind, _)| *kind == IFLA_BRIDGE_VLAN_INFO)
        .filter_map(|(_, value)| vlan(value))
        .collect();
    Some((index, vlans))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_for_is_read_back() {
        for (kind, access) in [(Some(Kind::VlanBridge), false), (None, true)] {
            let vlan = Vlan { id: 1001, access };
            let bytes = change(&Link { index: 5, kind, ..Link::default() }, vlan, true);
            assert_eq!(bytes.len() % 4, 0);
            assert_eq!(read(&bytes[HEAD..]), Some((5, vec![vlan])));
        }
    }

    proptest! {
        #[test]
        fn anything_is_survived(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            read(&body);
        }
    }
}
