//! A leaf whose tenants have a routing table each: one VRF per tenant network, carried through the fabric as EVPN routes
//! of type 5 under the network's VXLAN id. Firewalls speak EVPN themselves and get the networks that are theirs.
//!
//! What the text needs from the kernel: a VRF `vrfN` per tenant with its ports in it, and a VXLAN interface with id N
//! whose bridge is in that VRF. The boot network is a bridge with a VXLAN interface of its own; its routes of
//! type 2 and 3 need no line here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{FABRIC, Instance, Leaf, Port, Role, head, interfaces, lists, profile, route_maps};

/// What the configuration is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evpn {
    /// The leaf; its ports are those of firewalls, in the underlay.
    pub leaf: Leaf,
    /// Tenant networks that have a port here.
    pub tenants: Vec<Tenant>,
    /// VXLAN ids whose routes a firewall gets, by port; a firewall that is not here gets none.
    pub firewalls: BTreeMap<String, BTreeSet<u32>>,
    /// What a VRF is on this leaf.
    pub vrfs: Vrfs,
}

/// What a VRF is on a leaf; FRR names the interfaces in them differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vrfs {
    /// A device of the kernel: names of interfaces are unique.
    #[default]
    Kernel,
    /// A network namespace: names are unique in each.
    Namespaces,
}

/// A tenant network on this leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// VXLAN id, which is the number of the VRF, too.
    pub vni: u32,
    /// Ports of its machines.
    pub ports: Vec<Port>,
}

impl Tenant {
    /// Name of the VRF, on a leaf whose VRFs begin so.
    fn vrf(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.vni)
    }
}

impl Evpn {
    /// The same leaf for a device without VRFs: all ports share one routing table.
    #[must_use]
    pub fn flat(&self) -> Leaf {
        let mut leaf = self.leaf.clone();
        leaf.ports.extend(self.tenants.iter().flat_map(|tenant| tenant.ports.iter().cloned()));
        leaf
    }
}

/// The complete configuration. Equal leaves give equal text, whatever the order of their ports and tenants.
#[must_use]
pub fn frr(evpn: &Evpn) -> String {
    frr_named(evpn, "vrf")
}

/// The same for a leaf whose VRFs are called otherwise: `prefix` and the VXLAN id.
#[must_use]
pub fn frr_named(evpn: &Evpn, prefix: &str) -> String {
    let leaf = &evpn.leaf;
    let mut tenants: Vec<_> = evpn.tenants.iter().collect();
    tenants.sort_by_key(|tenant| tenant.vni);
    let firewalls = sorted(&leaf.ports);
    let all = sorted(leaf.ports.iter().chain(tenants.iter().flat_map(|tenant| &tenant.ports)));

    let mut text = head(leaf);
    for tenant in &tenants {
        let _ = write!(text, "!\nvrf {}\n vni {}\nexit-vrf\n", tenant.vrf(prefix), tenant.vni);
    }
    let vrfs: BTreeMap<&str, String> = match evpn.vrfs {
        Vrfs::Kernel => BTreeMap::new(),
        Vrfs::Namespaces => tenants
            .iter()
            .flat_map(|tenant| tenant.ports.iter().map(|port| (&port.name[..], tenant.vrf(prefix))))
            .collect(),
    };
    interfaces(&mut text, leaf, &all, &vrfs);
    lists(&mut text, leaf, &all);
    route_maps(&mut text, leaf, &all);
    // In a VRF there is nothing but what belongs to its tenant, and a firewall is part of the underlay.
    text.push_str("!\nroute-map metal-all permit 10\nexit\n");
    for port in &firewalls {
        networks(&mut text, port, evpn.firewalls.get(&port.name));
    }
    text.push_str("!\nbgp route-map delay-timer 1\n");
    underlay(&mut text, leaf, &firewalls);
    for tenant in tenants {
        overlay(&mut text, leaf, tenant, &tenant.vrf(prefix));
    }
    profile(&mut text, leaf);
    text
}

fn sorted<'a>(ports: impl IntoIterator<Item = &'a Port>) -> Vec<&'a Port> {
    let mut ports: Vec<_> = ports.into_iter().collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    ports
}

/// Routes of type 5 have no prefix that a list could match on this way, so networks are told apart by their id.
fn networks(text: &mut String, port: &Port, vnis: Option<&BTreeSet<u32>>) {
    let name = format!("metal-{}-vni", port.name);
    for (index, vni) in vnis.into_iter().flatten().enumerate() {
        let sequence = 100 + index;
        let _ =
            write!(text, "!\nroute-map {name} permit {sequence}\n match evpn vni {vni}\nexit\n");
    }
    let _ = write!(text, "!\nroute-map {name} deny 65535\nexit\n");
}

fn underlay(text: &mut String, leaf: &Leaf, firewalls: &[&Port]) {
    let groups = [FABRIC, Role::Firewall.peer_group()];
    let instance = Instance {
        vrf: None,
        groups: &groups,
        uplinks: &leaf.uplinks,
        ports: firewalls,
        out: "metal-all",
    };
    instance.open(text, leaf);
    instance.unicast(text, leaf);
    text.push_str(" !\n address-family l2vpn evpn\n");
    for group in groups {
        let _ = writeln!(text, "  neighbor {group} activate");
    }
    for port in firewalls {
        // What it tells counts only for its own networks: its tenant can tell it to say anything.
        for direction in ["in", "out"] {
            let _ = writeln!(text, "  neighbor {0} route-map metal-{0}-vni {direction}", port.name);
        }
    }
    text.push_str("  advertise-all-vni\n exit-address-family\nexit\n");
}

fn overlay(text: &mut String, leaf: &Leaf, tenant: &Tenant, vrf: &str) {
    let ports = sorted(&tenant.ports);
    let groups = [Role::Machine.peer_group()];
    let instance =
        Instance { vrf: Some(vrf), groups: &groups, uplinks: &[], ports: &ports, out: "metal-all" };
    instance.open(text, leaf);
    instance.unicast(text, leaf);
    text.push_str(" !\n address-family l2vpn evpn\n  advertise ipv4 unicast\n  advertise ipv6 unicast\n exit-address-family\nexit\n");
}
