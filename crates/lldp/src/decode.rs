//! Bytes to a frame. Bytes come from whoever is plugged in: nothing here may panic.

use std::net::IpAddr;

use crate::id::address_from;
use crate::{Capabilities, ChassisId, ETHERTYPE, Frame, Organization, PortId, element};

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shorter than an Ethernet header.
    #[error("{0} bytes are no Ethernet frame")]
    TooShort(usize),
    /// Another protocol.
    #[error("EtherType {0:#06x} is not LLDP")]
    OtherProtocol(u16),
    /// An element announces more bytes than there are.
    #[error("element {kind} says it has {announced} bytes, {present} are there")]
    Truncated {
        /// Type of the element.
        kind: u8,
        /// Length in its head.
        announced: usize,
        /// Bytes behind its head.
        present: usize,
    },
    /// The first three elements must be chassis, port and time to live.
    #[error("element {found} where element {expected} must be")]
    Order {
        /// Type of the element that is there.
        found: u8,
        /// Type of the element that must be there.
        expected: u8,
    },
    /// The frame ends before the third element.
    #[error("the frame ends where element {expected} must be")]
    Missing {
        /// Type of the element that must be there.
        expected: u8,
    },
    /// An element that may come once comes again.
    #[error("element {0} comes twice")]
    Repeated(u8),
    /// An element is shorter than its meaning.
    #[error("element {kind} has {length} bytes, too few")]
    Malformed {
        /// Type of the element.
        kind: u8,
        /// Its length.
        length: usize,
    },
}

impl Frame {
    /// Reads a whole Ethernet frame. Elements it does not know and bytes behind the end are skipped; texts that are
    /// not UTF-8 are read as well as they can be.
    ///
    /// # Errors
    /// When it is not an LLDP frame, or one that the standard says to discard.
    pub fn decode(ethernet: &[u8]) -> Result<Self, Error> {
        let (Some(protocol), Some(body)) = (ethernet.get(12..14), ethernet.get(14..)) else {
            return Err(Error::TooShort(ethernet.len()));
        };
        let protocol = u16::from_be_bytes([protocol[0], protocol[1]]);
        if protocol != ETHERTYPE {
            return Err(Error::OtherProtocol(protocol));
        }

        let mut elements = Elements { rest: body };
        let chassis = elements.mandatory(element::CHASSIS_ID, 2)?;
        let port = elements.mandatory(element::PORT_ID, 2)?;
        let ttl = elements.mandatory(element::TTL, 2)?;
        let mut frame = Self::new(
            ChassisId::from_parts(chassis[0], &chassis[1..]),
            PortId::from_parts(port[0], &port[1..]),
            u16::from_be_bytes([ttl[0], ttl[1]]),
        );
        while let Some((kind, value)) = elements.next()? {
            frame.take(kind, value)?;
        }
        Ok(frame)
    }

    fn take(&mut self, kind: u8, value: &[u8]) -> Result<(), Error> {
        let malformed = || Error::Malformed { kind, length: value.len() };
        match kind {
            element::CHASSIS_ID | element::PORT_ID | element::TTL => {
                return Err(Error::Repeated(kind));
            }
            element::PORT_DESCRIPTION => once(&mut self.port_description, kind, text(value))?,
            element::SYSTEM_NAME => once(&mut self.system_name, kind, text(value))?,
            element::SYSTEM_DESCRIPTION => once(&mut self.system_description, kind, text(value))?,
            element::CAPABILITIES => {
                let [s0, s1, e0, e1, ..] = *value else { return Err(malformed()) };
                let bits = Capabilities {
                    supported: u16::from_be_bytes([s0, s1]),
                    enabled: u16::from_be_bytes([e0, e1]),
                };
                once(&mut self.capabilities, kind, bits)?;
            }
            element::MANAGEMENT => self.management.extend(management(value)),
            element::ORGANIZATION => {
                let [a, b, c, subtype, ref value @ ..] = *value else { return Err(malformed()) };
                self.organizations.push(Organization {
                    oui: [a, b, c],
                    subtype,
                    value: value.to_vec(),
                });
            }
            _ => {}
        }
        Ok(())
    }
}

/// Of all address families only IP means something to us; a management element is no reason to refuse a frame.
fn management(value: &[u8]) -> Option<IpAddr> {
    let (length, rest) = value.split_first()?;
    address_from(rest.get(..usize::from(*length))?)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn once<T>(slot: &mut Option<T>, kind: u8, value: T) -> Result<(), Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::Repeated(kind)),
    }
}

struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The next element; `None` at the end element or where the bytes end, since some senders leave it out.
    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, Error> {
        let [high, low, rest @ ..] = self.rest else { return Ok(None) };
        let kind = high >> 1;
        let announced = usize::from(high & 1) << 8 | usize::from(*low);
        if kind == element::END {
            self.rest = &[];
            return Ok(None);
        }
        if announced > rest.len() {
            return Err(Error::Truncated { kind, announced, present: rest.len() });
        }
        let (value, rest) = rest.split_at(announced);
        self.rest = rest;
        Ok(Some((kind, value)))
    }

    fn mandatory(&mut self, expected: u8, length: usize) -> Result<&'a [u8], Error> {
        let (kind, value) = self.next()?.ok_or(Error::Missing { expected })?;
        if kind != expected {
            return Err(Error::Order { found: kind, expected });
        }
        if value.len() < length {
            return Err(Error::Malformed { kind, length: value.len() });
        }
        Ok(value)
    }
}
