//! IEEE 802.1AB frames, to bytes and back; no sockets.
//!
//! A leaf says on every machine port who and where it is, the installer and the installed system say who they
//! are. What a frame does not need to mean to us is skipped, what it says wrongly is an [`Error`].

mod decode;
mod encode;
mod id;

use std::net::IpAddr;

pub use decode::Error;
pub use id::{ChassisId, PortId};

/// Where every frame goes: the nearest bridge, which never forwards it.
pub const DESTINATION: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];

/// EtherType of the protocol.
pub const ETHERTYPE: u16 = 0x88cc;

/// What one port says about itself and its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which device speaks.
    pub chassis_id: ChassisId,
    /// Which of its ports.
    pub port_id: PortId,
    /// Seconds for which this is true; 0 means "forget me now".
    pub ttl: u16,
    /// For people, like `swp1`. At most 255 bytes travel.
    pub port_description: Option<String>,
    /// Name of the device: a switch's host name, a machine's UUID. At most 255 bytes travel.
    pub system_name: Option<String>,
    /// For people and, sadly, for programs: a machine's life cycle is read from it. At most 255 bytes travel.
    pub system_description: Option<String>,
    /// What the device can do and does.
    pub capabilities: Option<Capabilities>,
    /// Where the device is managed.
    pub management: Vec<IpAddr>,
    /// What vendors and other standards say, uninterpreted.
    pub organizations: Vec<Organization>,
}

impl Frame {
    /// A frame with nothing but what the standard demands.
    pub fn new(chassis_id: ChassisId, port_id: PortId, ttl: u16) -> Self {
        Self {
            chassis_id,
            port_id,
            ttl,
            port_description: None,
            system_name: None,
            system_description: None,
            capabilities: None,
            management: Vec::new(),
            organizations: Vec::new(),
        }
    }
}

/// Bits of the capabilities element: [`Capabilities::BRIDGE`], [`Capabilities::ROUTER`], [`Capabilities::STATION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// What the device could do.
    pub supported: u16,
    /// What it does now.
    pub enabled: u16,
}

impl Capabilities {
    /// Forwards Ethernet frames.
    pub const BRIDGE: u16 = 1 << 2;
    /// Forwards IP packets.
    pub const ROUTER: u16 = 1 << 4;
    /// Forwards nothing.
    pub const STATION: u16 = 1 << 7;
}

/// An organizationally specific element, at most 507 bytes of value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Who defines it.
    pub oui: [u8; 3],
    /// Which of theirs.
    pub subtype: u8,
    /// In their format.
    pub value: Vec<u8>,
}

impl Organization {
    /// LLDP-MED capabilities of an endpoint (ANSI/TIA-1057, 10.2.2.1). Older `lldpd` answers a new neighbour at once
    /// only when it is heard to speak MED, which saves the installer up to one transmit interval of the leaf.
    pub fn med_endpoint() -> Self {
        // 0x0001: of all MED elements only this one; 0x01: a generic endpoint.
        Self { oui: [0x00, 0x12, 0xbb], subtype: 1, value: vec![0x00, 0x01, 0x01] }
    }
}

/// Types of the elements, in the order in which they travel.
mod element {
    pub(crate) const END: u8 = 0;
    pub(crate) const CHASSIS_ID: u8 = 1;
    pub(crate) const PORT_ID: u8 = 2;
    pub(crate) const TTL: u8 = 3;
    pub(crate) const PORT_DESCRIPTION: u8 = 4;
    pub(crate) const SYSTEM_NAME: u8 = 5;
    pub(crate) const SYSTEM_DESCRIPTION: u8 = 6;
    pub(crate) const CAPABILITIES: u8 = 7;
    pub(crate) const MANAGEMENT: u8 = 8;
    pub(crate) const ORGANIZATION: u8 = 127;
}
