//! Tables and rows of SONiC as values. A row is a hash in Redis whose key is `TABLE|name`, where a name may have parts:
//! `VLAN_MEMBER|Vlan4000|Ethernet0`. APPL_DB, ASIC_DB and COUNTERS_DB have `:` instead.
//!
//! What a table means is in SONiC's YANG models (`sonic-vlan.yang`, `sonic-vrf.yang`, `sonic-vxlan.yang`,
//! `sonic-interface.yang`, `sonic-port.yang`), what the managers answer in `schema.h` of sonic-swss-common.

use std::collections::BTreeMap;
use std::fmt;

/// Fields of a row.
pub type Fields = BTreeMap<String, String>;
/// Rows by key.
pub type Rows = BTreeMap<String, Fields>;

/// Tables of CONFIG_DB that are looked at.
pub const CONFIG_TABLES: [&str; 15] = [
    "DEVICE_METADATA",
    "INTERFACE",
    "LOOPBACK_INTERFACE",
    "PORT",
    "PORTCHANNEL",
    "PORTCHANNEL_INTERFACE",
    "SUPPRESS_VLAN_NEIGH",
    "VERSIONS",
    "VLAN",
    "VLAN_INTERFACE",
    "VLAN_MEMBER",
    "VRF",
    "VXLAN_EVPN_NVO",
    "VXLAN_TUNNEL",
    "VXLAN_TUNNEL_MAP",
];

/// Tables of STATE_DB that are looked at: what the managers have done.
pub const STATE_TABLES: [&str; 6] = [
    "INTERFACE_TABLE",
    "PORT_TABLE",
    "VLAN_MEMBER_TABLE",
    "VLAN_TABLE",
    "VRF_OBJECT_TABLE",
    "VRF_TABLE",
];

/// SONiC wants a row to have a field; one without any has this one, with itself as value.
pub const NOTHING: &str = "NULL";

/// What SONiC is like at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What somebody wants.
    pub config: Rows,
    /// What the managers have done.
    pub state: Rows,
    /// Ports in APPL_DB, by name.
    pub ports: Rows,
}

/// Key of a row.
pub fn key(table: &str, name: &str) -> String {
    format!("{table}|{name}")
}

/// Rows of one table by name.
pub fn table<'a>(rows: &'a Rows, table: &str) -> impl Iterator<Item = (&'a str, &'a Fields)> {
    let start = format!("{table}|");
    let from = start.clone();
    rows.range(from..)
        .take_while(move |(key, _)| key.starts_with(&start))
        .filter_map(|(key, fields)| Some((key.split_once('|')?.1, fields)))
}

/// Keys of the rows that say in which VLANs a port is; also in STATE_DB, by the table there.
pub fn memberships(rows: &Rows, of: &str, port: &str) -> Vec<String> {
    let is_port = |(name, _): &(&str, &Fields)| name.split('|').nth(1) == Some(port);
    table(rows, of).filter(is_port).map(|(name, _)| key(of, name)).collect()
}

/// Keys of the rows that give an interface addresses.
pub fn addresses(rows: &Rows, of: &str, interface: &str) -> Vec<String> {
    let start = format!("{of}|{interface}|");
    rows.range(start.clone()..)
        .take_while(|(key, _)| key.starts_with(&start))
        .map(|(key, _)| key.clone())
        .collect()
}

/// A field that says something.
pub fn field<'a>(rows: &'a Rows, key: &str, field: &str) -> Option<&'a str> {
    rows.get(key)?.get(field).map(String::as_str).filter(|value| !value.is_empty())
}

/// Name of the VRF of a tenant: SONiC wants a capital letter.
pub fn vrf(vni: u32) -> String {
    format!("Vrf{vni}")
}

/// The tenant whose VRF is called so.
pub fn vrf_vni(name: &str) -> Option<u32> {
    let vni = name.strip_prefix("Vrf")?.parse().ok()?;
    (vrf(vni) == name).then_some(vni)
}

/// Name of a VLAN.
pub fn vlan(id: u16) -> String {
    format!("Vlan{id}")
}

/// The VLAN that is called so.
pub fn vlan_id(name: &str) -> Option<u16> {
    let id = name.strip_prefix("Vlan")?.parse().ok()?;
    (vlan(id) == name && (1..=4094).contains(&id)).then_some(id)
}

/// A command of a transaction. Its text is what `redis-cli` would be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets fields of a row and leaves its other fields alone.
    Set(String, Vec<(String, String)>),
    /// Removes a field.
    Unset(String, String),
    /// Removes a row.
    Remove(String),
}

impl Write {
    /// Sets fields.
    pub fn set<const N: usize>(key: impl Into<String>, fields: [(&str, &str); N]) -> Self {
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self::Set(key.into(), fields.into())
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(key, fields) => {
                write!(f, "HSET {key}")?;
                fields.iter().try_for_each(|(name, value)| write!(f, " {name} {value}"))
            }
            Self::Unset(key, field) => write!(f, "HDEL {key} {field}"),
            Self::Remove(key) => write!(f, "DEL {key}"),
        }
    }
}

/// What must be so before the next write, as SONiC tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// STATE_DB has the row, and this in it.
    Is(String, &'static str, String),
    /// STATE_DB has no such row.
    Gone(String),
    /// The port is up or down, in APPL_DB.
    Admin(String, bool),
    /// The ASIC routes nothing over the interface.
    NoRouter(String),
    /// The ASIC bridges nothing over the port.
    NoBridge(String),
}

impl Condition {
    /// Whether it is so, as far as the managers know; the ASIC is not asked.
    pub fn seen(&self, now: &Snapshot) -> bool {
        match self {
            Self::Is(key, field, value) => now
                .state
                .get(key)
                .is_some_and(|row| row.get(*field).map_or("", String::as_str) == value),
            Self::Gone(key) => !now.state.contains_key(key),
            Self::Admin(port, up) => {
                let status = now.ports.get(port).and_then(|row| row.get("admin_status"));
                status.is_some_and(|status| (status == "up") == *up)
            }
            Self::NoRouter(_) | Self::NoBridge(_) => true,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(key, field, value) => {
                write!(f, "STATE_DB has no {key} with {field} {value:?}")
            }
            Self::Gone(key) => write!(f, "STATE_DB still has {key}"),
            Self::Admin(port, up) => {
                write!(f, "APPL_DB does not say that {port} is {}", if *up { "up" } else { "down" })
            }
            Self::NoRouter(name) => write!(f, "the ASIC still routes over {name}"),
            Self::NoBridge(port) => write!(f, "the ASIC still bridges over {port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_this_agent_gives() {
        assert_eq!(vrf_vni("Vrf104009"), Some(104_009));
        for other in ["Vrf", "Vrf07", "Vrf+7", "vrf7", "VrfMpls", "mgmt", "Vrf99999999999"] {
            assert_eq!(vrf_vni(other), None, "{other}");
        }
        assert_eq!(vlan_id("Vlan4000"), Some(4000));
        for other in ["Vlan0", "Vlan4095", "Vlan04", "vlan4", "Vlan"] {
            assert_eq!(vlan_id(other), None, "{other}");
        }
    }

    #[test]
    fn rows_of_one_table() {
        let rows: Rows = [
            "VLAN|Vlan1",
            "VLAN_MEMBER|Vlan1|Ethernet0",
            "VLAN_MEMBER|Vlan2|Ethernet0",
            "VLAN_MEMBER|Vlan2|Ethernet01",
            "INTERFACE|Ethernet0",
            "INTERFACE|Ethernet0|10.0.0.1/31",
        ]
        .map(|key| (key.to_owned(), Fields::new()))
        .into();
        let names: Vec<_> = table(&rows, "VLAN").map(|(name, _)| name).collect();
        assert_eq!(names, ["Vlan1"]);
        assert_eq!(
            memberships(&rows, "VLAN_MEMBER", "Ethernet0"),
            ["VLAN_MEMBER|Vlan1|Ethernet0", "VLAN_MEMBER|Vlan2|Ethernet0"]
        );
        assert_eq!(addresses(&rows, "INTERFACE", "Ethernet0"), ["INTERFACE|Ethernet0|10.0.0.1/31"]);
    }
}
