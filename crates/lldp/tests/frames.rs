//! Frames against bytes written by hand, and against chance.

use std::net::IpAddr;

use lldp::{Capabilities, ChassisId, Error, Frame, Organization, PortId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const LEAF: [u8; 6] = [0x52, 0x54, 0x00, 0x00, 0x00, 0x0b];

/// What `lldpd` 1.0.16 would say in this place, byte by byte from the standard's tables.
const BY_HAND: &[u8] = &[
    0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e, 0x52, 0x54, 0x00, 0x00, 0x00, 0x0b, 0x88,
    0xcc, // Ethernet
    0x02, 0x07, 0x04, 0x52, 0x54, 0x00, 0x00, 0x00, 0x0b, // chassis: MAC
    0x04, 0x05, 0x05, b's', b'w', b'p', b'1', // port: interface name
    0x06, 0x02, 0x00, 0x78, // 120 s
    0x0a, 0x06, b'l', b'e', b'a', b'f', b'0', b'1', // system name
    0x0e, 0x04, 0x00, 0x14, 0x00, 0x10, // bridge and router, a router now
    0x10, 0x0c, 0x05, 0x01, 10, 0, 0, 11, 0x01, 0, 0, 0, 0, 0x00, // 10.0.0.11
    0xfe, 0x07, 0x00, 0x12, 0xbb, 0x01, 0x00, 0x01, 0x01, // MED
    0x00, 0x00, // end
];

fn leaf() -> Frame {
    let mut frame = Frame::new(ChassisId::Mac(LEAF), PortId::InterfaceName("swp1".into()), 120);
    frame.system_name = Some("leaf01".into());
    frame.capabilities = Some(Capabilities {
        supported: Capabilities::BRIDGE | Capabilities::ROUTER,
        enabled: Capabilities::ROUTER,
    });
    frame.management = vec![[10, 0, 0, 11].into()];
    frame.organizations = vec![Organization::med_endpoint()];
    frame
}

#[test]
fn bytes_are_those_of_the_standard() {
    assert_eq!(leaf().encode(LEAF), BY_HAND);
    assert_eq!(Frame::decode(BY_HAND), Ok(leaf()));
}

#[test]
fn a_short_frame_is_padded_and_padding_is_skipped() {
    let frame = Frame::new(ChassisId::Local("a".into()), PortId::Local("b".into()), 0);
    let bytes = frame.encode(LEAF);
    assert_eq!(bytes.len(), 60);
    assert_eq!(Frame::decode(&bytes), Ok(frame));
}

#[test]
fn unknown_elements_are_skipped() {
    let end = BY_HAND.len() - 2;
    let mut bytes = BY_HAND[..end].to_vec();
    bytes.extend([0x12, 0x03, 1, 2, 3]); // type 9 is reserved
    bytes.extend([0x10, 0x02, 0x63, 0x06]); // a management address of nobody's family, cut short
    assert_eq!(Frame::decode(&bytes), Ok(leaf()), "and no end element is no harm");
}

#[test]
fn wrong_frames_say_what_is_wrong() {
    let check = |bytes: &[u8], error: Error, text: &str| {
        assert_eq!(Frame::decode(bytes), Err(error.clone()));
        assert_eq!(error.to_string(), text);
    };
    check(&BY_HAND[..13], Error::TooShort(13), "13 bytes are no Ethernet frame");
    let mut arp = BY_HAND.to_vec();
    arp[13] = 0x06;
    check(&arp, Error::OtherProtocol(0x8806), "EtherType 0x8806 is not LLDP");
    check(&BY_HAND[..14], Error::Missing { expected: 1 }, "the frame ends where element 1 must be");
    let mut unordered = BY_HAND.to_vec();
    unordered[14] = 0x04;
    check(&unordered, Error::Order { found: 2, expected: 1 }, "element 2 where element 1 must be");
    check(
        &BY_HAND[..20],
        Error::Truncated { kind: 1, announced: 7, present: 4 },
        "element 1 says it has 7 bytes, 4 are there",
    );
    let twice = [BY_HAND[..34].to_vec(), BY_HAND[30..34].to_vec()].concat();
    check(&twice, Error::Repeated(3), "element 3 comes twice");
    let empty = [&BY_HAND[..14], &[0x02, 0x01, 0x04]].concat();
    check(&empty, Error::Malformed { kind: 1, length: 1 }, "element 1 has 1 bytes, too few");
}

#[test]
fn long_texts_are_cut_at_a_letter() {
    let mut frame = leaf();
    frame.system_description = Some("ä".repeat(200));
    let decoded = Frame::decode(&frame.encode(LEAF)).unwrap();
    assert_eq!(decoded.system_description, Some("ä".repeat(127)));
}

fn text() -> impl Strategy<Value = String> {
    "[a-zäß0-9 :./-]{1,60}"
}

fn chassis() -> impl Strategy<Value = ChassisId> {
    prop_oneof![
        any::<[u8; 6]>().prop_map(ChassisId::Mac),
        any::<IpAddr>().prop_map(ChassisId::Address),
        text().prop_map(ChassisId::Local),
        text().prop_map(ChassisId::InterfaceName),
        text().prop_map(ChassisId::InterfaceAlias),
        vec(any::<u8>(), 1..255).prop_map(|value| ChassisId::Other { subtype: 2, value }),
    ]
}

fn port() -> impl Strategy<Value = PortId> {
    prop_oneof![
        any::<[u8; 6]>().prop_map(PortId::Mac),
        any::<IpAddr>().prop_map(PortId::Address),
        text().prop_map(PortId::Local),
        text().prop_map(PortId::InterfaceName),
        text().prop_map(PortId::InterfaceAlias),
        vec(any::<u8>(), 1..255).prop_map(|value| PortId::Other { subtype: 6, value }),
    ]
}

fn organization() -> impl Strategy<Value = Organization> {
    (any::<[u8; 3]>(), any::<u8>(), vec(any::<u8>(), 0..507))
        .prop_map(|(oui, subtype, value)| Organization { oui, subtype, value })
}

prop_compose! {
    fn frame()(
        chassis_id in chassis(),
        port_id in port(),
        ttl: u16,
        port_description in option::of(text()),
        system_name in option::of(text()),
        system_description in option::of(text()),
        capabilities in option::of((any::<u16>(), any::<u16>())),
        management in vec(any::<IpAddr>(), 0..4),
        organizations in vec(organization(), 0..3),
    ) -> Frame {
        Frame {
            chassis_id, port_id, ttl, port_description, system_name, system_description,
            capabilities: capabilities.map(|(supported, enabled)| Capabilities { supported, enabled }),
            management, organizations,
        }
    }
}

proptest! {
    #[test]
    fn what_is_said_is_heard(frame in frame()) {
        prop_assert_eq!(Frame::decode(&frame.encode(LEAF)), Ok(frame));
    }

    #[test]
    fn no_bytes_are_a_panic(body in vec(any::<u8>(), 0..600)) {
        let _ = Frame::decode(&body);
        let _ = Frame::decode(&[&BY_HAND[..14], &body].concat());
    }

    #[test]
    fn no_damage_is_a_panic(frame in frame(), hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index) {
        let mut bytes = frame.encode(LEAF);
        for (index, byte) in hits {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = Frame::decode(&bytes);
    }
}
