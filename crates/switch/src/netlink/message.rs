//! Messages of the link family, to bytes and back.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;

use super::rule::{self, Rule};
use super::vlan::{self, Vlan};

/// An interface as the kernel tells about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Number of the interface.
    pub index: u32,
    /// Name of the interface.
    pub name: String,
    /// Hardware address; zeros when it has none of six bytes.
    pub mac: [u8; 6],
    /// Administratively up.
    pub up: bool,
    /// Up and somebody is at the other end.
    pub running: bool,
    /// Number of the bridge or the like of which it is a member.
    pub master: Option<u32>,
    /// As a member of a bridge: talks to the bridge and to members that are not isolated, not to other isolated ones.
    pub isolated: bool,
    /// As a member of a bridge: the bridge learns addresses from what comes in here.
    pub learning: bool,
    /// Number of the interface that it is made on, like the bridge of a VLAN.
    pub lower: Option<u32>,
    /// What it is, if it is something that this agent makes.
    pub kind: Option<Kind>,
}

/// What this agent makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bridge.
    Bridge,
    /// A bridge that tells VLANs apart. No port gets one unasked.
    VlanBridge,
    /// A VRF with the number of its routing table.
    Vrf(u32),
    /// A VLAN of the interface that it is made on.
    Vlan(u16),
    /// The end of a VXLAN network: its id and the address that it sends from.
    Vxlan(u32, Ipv4Addr),
}

/// An interface to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct New<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub kind: Kind,
    /// Longest packet.
    pub mtu: Option<u32>,
    /// Hardware address; one by chance when absent.
    pub mac: Option<[u8; 6]>,
    /// Number of the interface that it is made on.
    pub lower: Option<u32>,
    /// An open network namespace that it appears in; its packets still travel through the one it was made in.
    pub space: Option<RawFd>,
}

impl<'a> New<'a> {
    /// With nothing special about it.
    pub fn of(name: &'a str, kind: Kind) -> Self {
        Self { name, kind, mtu: None, mac: None, lower: None, space: None }
    }
}

/// A change of one interface; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Administratively up or down.
    pub up: Option<bool>,
    /// Longest packet. A bridge to which it was told keeps it, whatever its members have.
    pub mtu: Option<u32>,
    /// Number of the master; 0 leaves it.
    pub master: Option<u32>,
    /// See [`Link::isolated`]. Only for members of a bridge.
    pub isolated: Option<bool>,
    /// See [`Link::learning`]. Only for members of a bridge.
    pub learning: Option<bool>,
    /// An open network namespace that it moves to; it is down there.
    pub space: Option<RawFd>,
}

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const ERROR: u16 = 2;
const DONE: u16 = 3;

pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const CREATE: u16 = 0x600;

const IFF_UP: u32 = 0x1;
const IFF_RUNNING: u32 = 0x40;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_VLAN_DEFAULT_PVID: u16 = 39;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VRF_TABLE: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const NESTED: u16 = 0x8000;
/// As assigned for VXLAN.
const VXLAN_PORT: u16 = 4789;

/// Length of `nlmsghdr` and of `ifinfomsg`.
pub(super) const HEAD: usize = 16;

/// Asks for all interfaces.
pub(super) fn dump() -> Vec<u8> {
    message(GETLINK, REQUEST | DUMP, 0, 0, 0, &[])
}

/// Asks for a change of the interface with this number.
pub(super) fn change(index: u32, change: &Change) -> Vec<u8> {
    let mut attributes = Vec::new();
    if let Some(mtu) = change.mtu {
        attribute(&mut attributes, IFLA_MTU, &mtu.to_ne_bytes());
    }
    if let Some(master) = change.master {
        attribute(&mut attributes, IFLA_MASTER, &master.to_ne_bytes());
    }
    let mut port = Vec::new();
    for (what, wish) in
        [(IFLA_BRPORT_LEARNING, change.learning), (IFLA_BRPORT_ISOLATED, change.isolated)]
    {
        if let Some(wish) = wish {
            attribute(&mut port, what, &[u8::from(wish)]);
        }
    }
    if !port.is_empty() {
        let mut info = Vec::new();
        attribute(&mut info, IFLA_INFO_SLAVE_KIND, b"bridge\0");
        attribute(&mut info, IFLA_INFO_SLAVE_DATA | NESTED, &port);
        attribute(&mut attributes, IFLA_LINKINFO | NESTED, &info);
    }
    if let Some(space) = change.space {
        attribute(&mut attributes, IFLA_NET_NS_FD, &space.to_ne_bytes());
    }
    let (flags, mask) = match change.up {
        None => (0, 0),
        Some(up) => (u32::from(up) * IFF_UP, IFF_UP),
    };
    message(NEWLINK, REQUEST | ACK, index, flags, mask, &attributes)
}

/// Asks for a new interface, up at once.
pub(super) fn make(new: &New) -> Vec<u8> {
    let (mut attributes, mut data, mut info) = (Vec::new(), Vec::new(), Vec::new());
    attribute(&mut attributes, IFLA_IFNAME, format!("{}\0", new.name).as_bytes());
    if let Some(mtu) = new.mtu {
        attribute(&mut attributes, IFLA_MTU, &mtu.to_ne_bytes());
    }
    if let Some(mac) = new.mac {
        attribute(&mut attributes, IFLA_ADDRESS, &mac);
    }
    if let Some(lower) = new.lower {
        attribute(&mut attributes, IFLA_LINK, &lower.to_ne_bytes());
    }
    if let Some(space) = new.space {
        attribute(&mut attributes, IFLA_NET_NS_FD, &space.to_ne_bytes());
    }
    match new.kind {
        Kind::Bridge => attribute(&mut info, IFLA_INFO_KIND, b"bridge\0"),
        Kind::VlanBridge => {
            attribute(&mut data, IFLA_BR_VLAN_FILTERING, &[1]);
            attribute(&mut data, IFLA_BR_VLAN_DEFAULT_PVID, &0_u16.to_ne_bytes());
            attribute(&mut info, IFLA_INFO_KIND, b"bridge\0");
        }
        Kind::Vrf(table) => {
            attribute(&mut data, IFLA_VRF_TABLE, &table.to_ne_bytes());
            attribute(&mut info, IFLA_INFO_KIND, b"vrf\0");
        }
        Kind::Vlan(id) => {
            attribute(&mut data, IFLA_VLAN_ID, &id.to_ne_bytes());
            attribute(&mut info, IFLA_INFO_KIND, b"vlan\0");
        }
        Kind::Vxlan(id, local) => {
            attribute(&mut data, IFLA_VXLAN_ID, &id.to_ne_bytes());
            attribute(&mut data, IFLA_VXLAN_LOCAL, &local.octets());
            attribute(&mut data, IFLA_VXLAN_LEARNING, &[0]);
            attribute(&mut data, IFLA_VXLAN_PORT, &VXLAN_PORT.to_be_bytes());
            attribute(&mut info, IFLA_INFO_KIND, b"vxlan\0");
        }
    }
    attribute(&mut info, IFLA_INFO_DATA | NESTED, &data);
    attribute(&mut attributes, IFLA_LINKINFO | NESTED, &info);
    message(NEWLINK, REQUEST | ACK | CREATE, 0, IFF_UP, IFF_UP, &attributes)
}

/// Asks for the end of the interface with this number.
pub(super) fn delete(index: u32) -> Vec<u8> {
    message(DELLINK, REQUEST | ACK, index, 0, 0, &[])
}

fn message(kind: u16, how: u16, index: u32, flags: u32, mask: u32, attributes: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEAD + attributes.len());
    // AF_UNSPEC, padding, any hardware type.
    body.extend([0; 4]);
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(mask.to_ne_bytes());
    body.extend(attributes);
    packet(kind, how, &body)
}

/// A message of any family.
pub(super) fn packet(kind: u16, how: u16, body: &[u8]) -> Vec<u8> {
    let length = (HEAD + body.len()) as u32;
    let mut out = Vec::with_capacity(length as usize);
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(how.to_ne_bytes());
    // Sequence 1 and port 0: one question at a time per socket.
    out.extend(1_u32.to_ne_bytes());
    out.extend(0_u32.to_ne_bytes());
    out.extend(body);
    out
}

pub(super) fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(((4 + value.len()) as u16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// What one datagram of the kernel says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Interfaces in it.
    pub(super) links: Vec<Link>,
    /// VLANs of members of bridges, and of bridges themselves, by number of the interface.
    pub(super) vlans: Vec<(u32, Vec<Vlan>)>,
    /// Rules of routing.
    pub(super) rules: Vec<Rule>,
    /// `Some(0)` for "done", else an error number.
    pub(super) end: Option<i32>,
}

/// Reads one datagram. What is cut off is left out.
pub(super) fn read(mut bytes: &[u8]) -> Answer {
    let mut answer = Answer::default();
    while let Some(head) = bytes.get(..HEAD) {
        let length = u32_at(head, 0) as usize;
        let Some(body) = bytes.get(HEAD..length) else { break };
        match u16_at(head, 4) {
            ERROR => answer.end = body.get(..4).map(|b| (u32_at(b, 0) as i32).wrapping_neg()),
            DONE => answer.end = Some(0),
            NEWLINK if body.first() == Some(&vlan::FAMILY) => answer.vlans.extend(vlan::read(body)),
            NEWLINK => answer.links.extend(link(body)),
            rule::NEW => answer.rules.extend(rule::read(body)),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    answer
}

fn link(body: &[u8]) -> Option<Link> {
    let flags = u32_at(body.get(8..12)?, 0);
    let attributes = attributes(body.get(HEAD..)?);
    let info =
        attributes.get(&IFLA_LINKINFO).map(|info| self::attributes(info)).unwrap_or_default();
    let port =
        info.get(&IFLA_INFO_SLAVE_DATA).map(|data| self::attributes(data)).unwrap_or_default();
    let member = |what: u16| {
        info.get(&IFLA_INFO_SLAVE_KIND).is_some_and(|kind| kind.starts_with(b"bridge"))
            && port.get(&what).is_some_and(|value| value.first() == Some(&1))
    };
    let number = |what: u16| {
        let bytes = attributes.get(&what)?.get(..4)?;
        Some(u32_at(bytes, 0)).filter(|number| *number != 0)
    };
    let name = attributes.get(&IFLA_IFNAME)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Link {
        index: u32_at(body.get(4..8)?, 0),
        name: String::from_utf8_lossy(name).into_owned(),
        mac: attributes.get(&IFLA_ADDRESS).and_then(|a| (*a).try_into().ok()).unwrap_or_default(),
        up: flags & IFF_UP != 0,
        running: flags & IFF_RUNNING != 0,
        master: number(IFLA_MASTER),
        isolated: member(IFLA_BRPORT_ISOLATED),
        learning: member(IFLA_BRPORT_LEARNING),
        lower: number(IFLA_LINK),
        kind: kind(&info),
    })
}

fn kind(info: &BTreeMap<u16, &[u8]>) -> Option<Kind> {
    let name = info.get(&IFLA_INFO_KIND)?;
    let data = info.get(&IFLA_INFO_DATA).map(|data| attributes(data)).unwrap_or_default();
    let number = |what: u16| Some(u32_at(data.get(&what)?.get(..4)?, 0));
    match name.split(|byte| *byte == 0).next()? {
        b"bridge" => {
            let aware = data.get(&IFLA_BR_VLAN_FILTERING).is_some_and(|v| v.first() == Some(&1));
            Some(if aware { Kind::VlanBridge } else { Kind::Bridge })
        }
        b"vrf" => Some(Kind::Vrf(number(IFLA_VRF_TABLE)?)),
        b"vlan" => Some(Kind::Vlan(u16_at(data.get(&IFLA_VLAN_ID)?.get(..2)?, 0))),
        b"vxlan" => {
            let local: [u8; 4] = data.get(&IFLA_VXLAN_LOCAL)?.get(..4)?.try_into().ok()?;
            Some(Kind::Vxlan(number(IFLA_VXLAN_ID)?, local.into()))
        }
        _ => None,
    }
}

pub(super) fn attributes(bytes: &[u8]) -> BTreeMap<u16, &[u8]> {
    each(bytes).collect()
}

/// Attributes in their order; some occur more than once.
pub(super) fn each(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..4)?;
        let length = usize::from(u16_at(head, 0));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16_at(head, 2) & !(NESTED | 0x4000), value))
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_for_is_read_back() {
        let mut bytes = change(
            7,
            &Change {
                up: Some(true),
                mtu: None,
                master: Some(3),
                isolated: Some(true),
                learning: Some(true),
                space: None,
            },
        );
        assert_eq!(bytes.len() % 4, 0);
        // The kernel names the interface, we name its number.
        attribute(&mut bytes, IFLA_IFNAME, b"swp1\0");
        attribute(&mut bytes, IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let link = Link {
            index: 7,
            name: "swp1".into(),
            mac: [2, 0, 0, 0, 0, 1],
            up: true,
            running: false,
            master: Some(3),
            isolated: true,
            learning: true,
            lower: None,
            kind: None,
        };
        assert_eq!(read(&bytes), Answer { links: vec![link], ..Answer::default() });
    }

    #[test]
    fn what_is_made_is_read_back() {
        let kind = Kind::Vxlan(0x12_3456, [10, 0, 0, 11].into());
        let bytes = make(&New { mtu: Some(9000), space: Some(3), ..New::of("vni1193046", kind) });
        assert_eq!(bytes.len() % 4, 0);
        let [link] = &read(&bytes).links[..] else { panic!("one link") };
        assert_eq!((&link.name[..], link.kind, link.up), ("vni1193046", Some(kind), true));
        for kind in [Kind::Bridge, Kind::VlanBridge, Kind::Vrf(1_000_000_007), Kind::Vlan(1001)] {
            let mac = [2, 77, 10, 0, 0, 11];
            let new = New { mac: Some(mac), lower: Some(4), ..New::of("x7", kind) };
            let link = &read(&make(&new)).links[0];
            assert_eq!((link.kind, link.mac, link.lower), (Some(kind), mac, Some(4)));
        }
    }

    #[test]
    fn errors_have_their_number() {
        let mut bytes = message(ERROR, 0, 0, 0, 0, &[]);
        bytes[16..20].copy_from_slice(&(-19_i32).to_ne_bytes());
        assert_eq!(read(&bytes).end, Some(19));
        // no number of any error, and none to fall over
        bytes[16..20].copy_from_slice(&i32::MIN.to_ne_bytes());
        assert_eq!(read(&bytes).end, Some(i32::MIN));
        assert_eq!(read(&message(DONE, 0, 0, 0, 0, &[])).end, Some(0));
    }

    proptest! {
        #[test]
        fn anything_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }

        #[test]
        fn anything_behind_a_head_is_survived(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = message(NEWLINK, 0, 1, 1, 1, &body);
            read(&bytes);
            bytes.truncate(bytes.len() / 2);
            read(&bytes);
        }
    }
}
