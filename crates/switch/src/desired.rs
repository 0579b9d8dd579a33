//! How the switch should be: what the control plane says, read port by port so that one bad port stops no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;
use proto::api;
use uuid::Uuid;

/// VXLAN ids have 24 bits.
const VNI_MAX: u32 = 0xff_ffff;

/// How the switch should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Grows with every change.
    pub generation: u64,
    /// By name of the port.
    pub ports: BTreeMap<String, Port>,
    /// What could not be understood, for a human.
    pub faults: Vec<String>,
}

/// How one port should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Where it belongs.
    pub place: Place,
    /// Prefixes that its machine may announce.
    pub accept: Vec<IpNet>,
    /// Networks whose routes its firewall gets.
    pub vnis: BTreeSet<u32>,
    /// An operator's wish.
    pub admin: Option<Admin>,
    /// Machine that hangs on it.
    pub machine: Option<Uuid>,
}

/// Where a port belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the boot network of unallocated machines.
    Boot,
    /// In the fabric itself: a firewall.
    Fabric,
    /// In the private network of a machine.
    Tenant(u32),
    /// The control plane said something else: the port stays as it is.
    Unclear(String),
}

impl Place {
    fn read(vrf: Option<&str>) -> Self {
        let Some(vrf) = vrf.filter(|vrf| !vrf.is_empty()) else { return Self::Boot };
        if vrf == "default" {
            return Self::Fabric;
        }
        let number = vrf.strip_prefix("vrf").or_else(|| vrf.strip_prefix("Vrf"));
        match number.and_then(|number| number.parse().ok()) {
            Some(number @ 1..=VNI_MAX) => Self::Tenant(number),
            _ => Self::Unclear(vrf.to_owned()),
        }
    }
}

/// As in the contract: nothing, `default` or `vrf42`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot => f.write_str("boot"),
            Self::Fabric => f.write_str("default"),
            Self::Tenant(number) => write!(f, "vrf{number}"),
            Self::Unclear(text) => write!(f, "{text:?}"),
        }
    }
}

/// What an operator wants of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Administratively up.
    Up,
    /// Shut down.
    Down,
}

impl Desired {
    /// Reads what the control plane says.
    pub fn read(switch: &api::Switch, generation: u64) -> Self {
        let mut desired = Self { generation, ..Self::default() };
        for nic in &switch.nics {
            if !crate::config::is_interface_name(&nic.name) {
                desired.faults.push(format!("{:?} is no name of a port", nic.name));
                continue;
            }
            let port = desired.read_port(nic, switch);
            desired.ports.insert(nic.name.clone(), port);
        }
        desired
    }

    fn read_port(&mut self, nic: &api::SwitchNic, switch: &api::Switch) -> Port {
        let place = Place::read(nic.vrf.as_deref());
        if let Place::Unclear(vrf) = &place {
            self.faults.push(format!(
                "port {}: the VRF {vrf:?} is neither empty nor `default` nor `vrf` and a number; the port stays as it is",
                nic.name
            ));
        }
        let mut accept = Vec::new();
        for cidr in nic.bgp_filter.as_option().map(|filter| &filter.cidrs[..]).unwrap_or_default() {
            match read_prefix(cidr) {
                Some(prefix) => accept.push(prefix),
                None => self.faults.push(format!(
                    "port {}: {cidr:?} is no prefix; the machine may not announce it",
                    nic.name
                )),
            }
        }
        accept.sort();
        accept.dedup();
        let mut vnis = BTreeSet::new();
        for vni in nic.bgp_filter.as_option().map(|filter| &filter.vnis[..]).unwrap_or_default() {
            match vni.parse() {
                Ok(vni @ 1..=VNI_MAX) => drop(vnis.insert(vni)),
                _ => self.faults.push(format!(
                    "port {}: {vni:?} is no VXLAN id; the firewall does not get that network",
                    nic.name
                )),
            }
        }
        Port { place, accept, vnis, admin: admin(nic), machine: machine(&nic.name, switch) }
    }
}

/// A prefix; an address stands for itself.
fn read_prefix(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

fn admin(nic: &api::SwitchNic) -> Option<Admin> {
    match nic.state.as_option()?.desired?.as_known()? {
        api::SwitchPortStatus::SWITCH_PORT_STATUS_UP => Some(Admin::Up),
        api::SwitchPortStatus::SWITCH_PORT_STATUS_DOWN => Some(Admin::Down),
        _ => None,
    }
}

fn machine(port: &str, switch: &api::Switch) -> Option<Uuid> {
    let here = |c: &&api::MachineConnection| c.nic.as_option().is_some_and(|n| n.name == port);
    Uuid::parse_str(&switch.machine_connections.iter().find(here)?.machine_id).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn nic(name: &str, vrf: Option<&str>, cidrs: &[&str]) -> api::SwitchNic {
        api::SwitchNic {
            name: name.into(),
            identifier: name.into(),
            vrf: vrf.map(Into::into),
            bgp_filter: api::BGPFilter {
                cidrs: cidrs.iter().map(|&cidr| cidr.into()).collect(),
                ..Default::default()
            }
            .into(),
            ..Default::default()
        }
    }

    pub(crate) fn switch(nics: Vec<api::SwitchNic>) -> api::Switch {
        api::Switch { id: "leaf01".into(), nics, ..Default::default() }
    }

    #[test]
    fn ports_and_their_places() {
        let mut switch = switch(vec![
            nic("swp1", None, &[]),
            nic("swp2", Some("vrf42"), &["10.0.0.0/24", "10.1.0.1", "10.0.0.0/24"]),
            nic("swp3", Some("default"), &[]),
        ]);
        let machine = Uuid::from_u128(7);
        switch.machine_connections = vec![api::MachineConnection {
            machine_id: machine.to_string(),
            nic: nic("swp2", None, &[]).into(),
            ..Default::default()
        }];
        let desired = Desired::read(&switch, 3);
        assert_eq!(desired.generation, 3);
        assert_eq!(desired.ports["swp1"].place, Place::Boot);
        assert_eq!(desired.ports["swp2"].place, Place::Tenant(42));
        assert_eq!(desired.ports["swp2"].machine, Some(machine));
        let accept: Vec<_> = desired.ports["swp2"].accept.iter().map(ToString::to_string).collect();
        assert_eq!(accept, ["10.0.0.0/24", "10.1.0.1/32"]);
        assert_eq!(desired.ports["swp3"].place, Place::Fabric);
        assert!(desired.faults.is_empty());
    }

    #[test]
    fn one_bad_port_stops_no_other() {
        let desired = Desired::read(
            &switch(vec![
                nic("swp1\nrouter bgp 1", Some("vrf1"), &[]),
                nic("swp2", Some("VrfMpls"), &[]),
                nic("swp3", Some("vrf3"), &["10.0.0.0/33", "2001:db8::/64"]),
            ]),
            1,
        );
        assert_eq!(desired.ports.len(), 2);
        assert_eq!(desired.ports["swp2"].place, Place::Unclear("VrfMpls".into()));
        assert_eq!(desired.ports["swp3"].accept.len(), 1);
        assert_eq!(desired.faults.len(), 3, "{:?}", desired.faults);
    }

    #[test]
    fn wishes_of_operators() {
        let mut with = nic("swp1", None, &[]);
        with.state = api::NicState {
            desired: Some(api::SwitchPortStatus::SWITCH_PORT_STATUS_DOWN.into()),
            ..Default::default()
        }
        .into();
        let desired = Desired::read(&switch(vec![with, nic("swp2", None, &[])]), 1);
        assert_eq!(desired.ports["swp1"].admin, Some(Admin::Down));
        assert_eq!(desired.ports["swp2"].admin, None);
    }
}
