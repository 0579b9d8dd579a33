//! A frame to bytes.

use crate::id::address_bytes;
use crate::{DESTINATION, ETHERTYPE, Frame, element};

/// Identifiers and texts: one length byte less than they could have, so that old parsers agree.
const TEXT_MAX: usize = 255;
/// Nine bits of length.
const VALUE_MAX: usize = 511;
/// Shortest Ethernet frame without its check sum.
const ETHERNET_MIN: usize = 60;

impl Frame {
    /// The whole Ethernet frame, ready to be sent from the port with address `source`. What is too long is cut.
    pub fn encode(&self, source: [u8; 6]) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend(DESTINATION);
        out.extend(source);
        out.extend(ETHERTYPE.to_be_bytes());

        identifier(&mut out, element::CHASSIS_ID, self.chassis_id.to_parts());
        identifier(&mut out, element::PORT_ID, self.port_id.to_parts());
        put(&mut out, element::TTL, &self.ttl.to_be_bytes());
        text(&mut out, element::PORT_DESCRIPTION, self.port_description.as_deref());
        text(&mut out, element::SYSTEM_NAME, self.system_name.as_deref());
        text(&mut out, element::SYSTEM_DESCRIPTION, self.system_description.as_deref());
        if let Some(capabilities) = self.capabilities {
            let bits = [capabilities.supported.to_be_bytes(), capabilities.enabled.to_be_bytes()];
            put(&mut out, element::CAPABILITIES, bits.as_flattened());
        }
        for address in &self.management {
            let address = address_bytes(*address);
            let mut value = vec![address.len() as u8];
            value.extend(address);
            // Interface numbering 1 is "unknown", then its number and an object identifier of no length.
            value.extend([1, 0, 0, 0, 0, 0]);
            put(&mut out, element::MANAGEMENT, &value);
        }
        for organization in &self.organizations {
            let mut value = organization.oui.to_vec();
            value.push(organization.subtype);
            value.extend(&organization.value);
            put(&mut out, element::ORGANIZATION, &value);
        }
        put(&mut out, element::END, &[]);

        out.resize(out.len().max(ETHERNET_MIN), 0);
        out
    }
}

fn identifier(out: &mut Vec<u8>, kind: u8, (subtype, value): (u8, Vec<u8>)) {
    let mut bytes = vec![subtype];
    bytes.extend(&value[..value.len().min(TEXT_MAX)]);
    put(out, kind, &bytes);
}

fn text(out: &mut Vec<u8>, kind: u8, text: Option<&str>) {
    if let Some(text) = text {
        put(out, kind, &text.as_bytes()[..text.floor_char_boundary(TEXT_MAX)]);
    }
}

fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let value = &value[..value.len().min(VALUE_MAX)];
    let head = u16::from(kind) << 9 | value.len() as u16;
    out.extend(head.to_be_bytes());
    out.extend(value);
}
