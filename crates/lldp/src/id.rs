//! Who speaks: the identifiers of a device and of its port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Writes one kind of identifier: the standard numbers the same subtypes differently for devices and for ports.
macro_rules! identifier {
    (
        $(#[$doc:meta])*
        $name:ident { alias: $alias:literal, mac: $mac:literal, address: $address:literal, interface: $interface:literal, local: $local:literal }
    ) => {
        $(#[$doc])*
        /// Text and bytes are 1 to 255 long; more does not travel.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            /// Alias of the interface.
            InterfaceAlias(String),
            /// Hardware address.
            Mac([u8; 6]),
            /// Network address.
            Address(IpAddr),
            /// Name of the interface, like `swp1`.
            InterfaceName(String),
            /// A name that its owner made up, like SONiC's aliases.
            Local(String),
            /// Any other kind, or one of the above whose value does not fit its kind.
            Other {
                /// Number of the kind in the table of the standard.
                subtype: u8,
                /// Uninterpreted.
                value: Vec<u8>,
            },
        }

        impl $name {
            pub(crate) fn from_parts(subtype: u8, value: &[u8]) -> Self {
                match (subtype, Value::of(value)) {
                    ($alias, Value { text: Some(text), .. }) => Self::InterfaceAlias(text),
                    ($mac, Value { mac: Some(mac), .. }) => Self::Mac(mac),
                    ($address, Value { address: Some(address), .. }) => Self::Address(address),
                    ($interface, Value { text: Some(text), .. }) => Self::InterfaceName(text),
                    ($local, Value { text: Some(text), .. }) => Self::Local(text),
                    _ => Self::Other { subtype, value: value.to_vec() },
                }
            }

            pub(crate) fn to_parts(&self) -> (u8, Vec<u8>) {
                match self {
                    Self::InterfaceAlias(text) => ($alias, text.as_bytes().to_vec()),
                    Self::Mac(mac) => ($mac, mac.to_vec()),
                    Self::Address(address) => ($address, address_bytes(*address)),
                    Self::InterfaceName(text) => ($interface, text.as_bytes().to_vec()),
                    Self::Local(text) => ($local, text.as_bytes().to_vec()),
                    Self::Other { subtype, value } => (*subtype, value.clone()),
                }
            }
        }

        /// The value alone: `52:54:00:00:00:01`, `10.0.0.11`, `swp1`.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::InterfaceAlias(text) | Self::InterfaceName(text) | Self::Local(text) => {
                        f.write_str(text)
                    }
                    Self::Mac(mac) => hex(f, mac),
                    Self::Address(address) => address.fmt(f),
                    Self::Other { value, .. } => hex(f, value),
                }
            }
        }
    };
}

identifier! {
    /// Identifies a device; subtypes of table 8-2 of IEEE 802.1AB.
    ChassisId { alias: 1, mac: 4, address: 5, interface: 6, local: 7 }
}

identifier! {
    /// Identifies a port of a device; subtypes of table 8-3 of IEEE 802.1AB.
    PortId { alias: 1, mac: 3, address: 4, interface: 5, local: 7 }
}

/// What the bytes of an identifier could be.
struct Value {
    text: Option<String>,
    mac: Option<[u8; 6]>,
    address: Option<IpAddr>,
}

impl Value {
    fn of(bytes: &[u8]) -> Self {
        Self {
            text: String::from_utf8(bytes.to_vec()).ok(),
            mac: bytes.try_into().ok(),
            address: address_from(bytes),
        }
    }
}

/// An address behind its family number of IANA: 1 is IPv4, 2 is IPv6.
pub(crate) fn address_from(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.split_first()? {
        (1, rest) => <[u8; 4]>::try_from(rest).ok().map(|octets| Ipv4Addr::from(octets).into()),
        (2, rest) => <[u8; 16]>::try_from(rest).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => [&[1][..], &v4.octets()].concat(),
        IpAddr::V6(v6) => [&[2][..], &v6.octets()].concat(),
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        let colon = if index == 0 { "" } else { ":" };
        write!(f, "{colon}{byte:02x}")?;
    }
    Ok(())
}
