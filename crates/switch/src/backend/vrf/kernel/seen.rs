//! What the kernel has of tenants' VRFs. Pure but for the question itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

use super::super::{Table, name};
use crate::backend::linux::read_switch;
use crate::netlink::rule::{Action, Family, Rule};
use crate::netlink::{self, Kind, Link, Vlan};

/// The one bridge of all tenants.
pub(in super::super) const BRIDGE: &str = "tenants";
/// As on machines and their ports; the underlay must carry 50 bytes more.
pub(in super::super) const MTU: u32 = 9000;
/// VLANs inside the bridge, and routing tables of the same numbers. Nobody sees them outside, so that every leaf may
/// choose. Tools of switches take tables from 1001 on for VRFs.
const VLANS: std::ops::RangeInclusive<u16> = 1001..=2000;
/// Addresses of this host, in the kernel's numbers.
const LOCAL: u32 = 255;

/// Switches of the whole leaf.
pub(in super::super) const SWITCHES: [(&str, &str); 4] = [
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/fib_multipath_hash_policy", "1"),
    ("ipv6/fib_multipath_hash_policy", "1"),
    // Sessions of machines come in by a VRF, and bgpd listens for all of them.
    ("ipv4/tcp_l3mdev_accept", "1"),
];

/// Packets of a VRF have the routes and addresses of that VRF and no others. The kernel alone asks for addresses of the
/// host before anything else, and goes on to the main table when a VRF has no route.
pub(in super::super) const RULES: [Rule; 3] = [
    rule(1000, true, Action::Lookup(0)),
    rule(2000, true, Action::Unreachable),
    rule(32765, false, Action::Lookup(LOCAL)),
];

const fn rule(priority: u32, vrf: bool, action: Action) -> Rule {
    Rule { priority, vrf, action, limited: false }
}

/// The kernel's own rule by which machines reach addresses of the underlay.
pub(in super::super) fn is_local_first(rule: &Rule) -> bool {
    !rule.vrf && rule.action == Action::Lookup(LOCAL) && rule.priority < RULES[1].priority
}

/// Devices of a tenant.
pub(in super::super) struct Names {
    /// Its VRF.
    pub(in super::super) vrf: String,
    /// The end of its VXLAN network.
    pub(in super::super) vxlan: String,
    /// The bridge's interface in the VRF.
    pub(in super::super) svi: String,
}

impl Names {
    pub(in super::super) fn of(vni: u32) -> Self {
        Self { vrf: name(vni), vxlan: format!("vni{vni}"), svi: format!("svi{vni}") }
    }
}

/// What they are.
pub(in super::super) fn kinds(vni: u32, local: Ipv4Addr, vlan: u16) -> [(String, Kind); 3] {
    let Names { vrf, vxlan, svi } = Names::of(vni);
    [(vrf, Kind::Vrf(vlan.into())), (vxlan, Kind::Vxlan(vni, local)), (svi, Kind::Vlan(vlan))]
}

/// Hardware address of the bridge. Other leaves send to it, so it must not change with the members of the bridge.
pub(in super::super) fn address(local: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = local.octets();
    // locally administered
    [0x02, b'm', a, b, c, d]
}

/// The kernel's answers.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Seen {
    pub(in super::super) links: Vec<Link>,
    pub(in super::super) vlans: BTreeMap<u32, Vec<Vlan>>,
    /// Of IPv4 and IPv6.
    pub(in super::super) rules: [Vec<Rule>; 2],
    /// Whether all switches are as they should be.
    pub(in super::super) tuned: bool,
}

impl Seen {
    pub(in super::super) fn now() -> Result<Self> {
        let [v4, v6] = Family::ALL;
        let rules = |family| netlink::rules(family).context("rules of routing cannot be read");
        Ok(Self {
            links: netlink::links().context("interfaces cannot be read")?,
            vlans: netlink::vlans().context("VLANs of bridges cannot be read")?,
            rules: [rules(v4)?, rules(v6)?],
            tuned: SWITCHES
                .iter()
                .all(|(switch, value)| read_switch(switch).is_ok_and(|now| now == *value)),
        })
    }

    /// Tenants of which the VRF or its side of the bridge is there. A VXLAN interface alone may be somebody else's.
    pub(in super::super) fn tables(&self, local: Ipv4Addr) -> BTreeMap<u32, Table> {
        let known: BTreeSet<_> =
            self.links.iter().filter_map(|link| read_name(&link.name)).collect();
        let table = |vni| {
            let vrf = self.find(&name(vni)).map(|vrf| vrf.index);
            let members = self.links.iter().filter(|link| vrf.is_some() && link.master == vrf);
            // Seen from inside, nothing is between the VRF and them.
            let links = members.map(|link| Link { master: None, ..link.clone() }).collect();
            (vni, Table { whole: self.is_whole(vni, local), links })
        };
        known.into_iter().map(table).collect()
    }

    pub(in super::super) fn is_whole(&self, vni: u32, local: Ipv4Addr) -> bool {
        let (Ok(bridge), Some(vlan)) = (self.bridge(), self.vlan(vni)) else { return false };
        let [vrf, vxlan, svi] = kinds(vni, local, vlan)
            .map(|(name, kind)| self.find(&name).filter(|link| link.up && link.kind == Some(kind)));
        let (Some(vrf), Some(vxlan), Some(svi)) = (vrf, vxlan, svi) else { return false };
        bridge.up
            && self.tuned
            && self.keeps_apart()
            && svi.master == Some(vrf.index)
            && svi.lower == Some(bridge.index)
            && vxlan.master == Some(bridge.index)
            && !vxlan.learning
            && self.vlans(vxlan.index) == [Vlan { id: vlan, access: true }]
            && self.vlans(bridge.index).iter().any(|there| there.id == vlan)
    }

    /// Whether packets of a VRF stay in it.
    fn keeps_apart(&self) -> bool {
        self.rules.iter().all(|there| {
            RULES.iter().all(|rule| there.contains(rule)) && !there.iter().any(is_local_first)
        })
    }

    pub(in super::super) fn bridge(&self) -> Result<&Link> {
        let bridge = self.find(BRIDGE).with_context(|| format!("{BRIDGE} is not there"))?;
        ensure!(
            bridge.kind == Some(Kind::VlanBridge),
            "{BRIDGE} is there and is no bridge that tells VLANs apart"
        );
        Ok(bridge)
    }

    pub(in super::super) fn vlans(&self, index: u32) -> &[Vlan] {
        self.vlans.get(&index).map(Vec::as_slice).unwrap_or_default()
    }

    /// The VLAN that a tenant has here, from whatever is left of it.
    pub(in super::super) fn vlan(&self, vni: u32) -> Option<u16> {
        let Names { vrf, vxlan, svi } = Names::of(vni);
        let by_kind = |name: &str| number(self.find(name)?);
        let by_vxlan = || {
            let vlans = self.vlans(self.find(&vxlan)?.index);
            vlans.iter().find(|vlan| vlan.access).map(|vlan| vlan.id)
        };
        by_kind(&vrf)
            .or_else(|| by_kind(&svi))
            .or_else(by_vxlan)
            .filter(|vlan| VLANS.contains(vlan))
    }

    /// One that nobody has, for whatever purpose, as VLAN or as table.
    pub(in super::super) fn free_vlan(&self) -> Result<u16> {
        let in_bridges = self.vlans.values().flatten().map(|vlan| vlan.id);
        let taken: BTreeSet<_> = in_bridges.chain(self.links.iter().filter_map(number)).collect();
        VLANS
            .clone()
            .find(|vlan| !taken.contains(vlan))
            .context("this leaf has a thousand tenants; there is no VLAN for one more")
    }

    fn find(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// Of a VLAN, or of the table of a VRF.
fn number(link: &Link) -> Option<u16> {
    match link.kind? {
        Kind::Vlan(vlan) => Some(vlan),
        Kind::Vrf(table) => table.try_into().ok(),
        _ => None,
    }
}

/// The tenant in a name that this agent gives, and in no other.
fn read_name(text: &str) -> Option<u32> {
    let number = text.strip_prefix("vrf").or_else(|| text.strip_prefix("svi"))?;
    let vni = number.parse().ok()?;
    let names = Names::of(vni);
    (text == names.vrf || text == names.svi).then_some(vni)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);

    fn link(index: u32, name: &str, kind: Kind, master: u32) -> Link {
        let lower = matches!(kind, Kind::Vlan(_)).then_some(1);
        Link {
            index,
            name: name.to_owned(),
            up: true,
            master: Some(master).filter(|master| *master != 0),
            lower,
            kind: Some(kind),
            ..Link::default()
        }
    }

    fn good() -> Seen {
        let access = |id| vec![Vlan { id, access: true }];
        Seen {
            links: vec![
                link(1, BRIDGE, Kind::VlanBridge, 0),
                link(2, "vrf7", Kind::Vrf(1001), 0),
                link(3, "vni7", Kind::Vxlan(7, LEAF), 1),
                link(4, "svi7", Kind::Vlan(1001), 2),
                Link { index: 5, name: "swp1".into(), master: Some(2), ..Link::default() },
            ],
            vlans: [(1, vec![Vlan { id: 1001, access: false }]), (3, access(1001))].into(),
            rules: [RULES.to_vec(), RULES.to_vec()],
            tuned: true,
        }
    }

    #[test]
    fn whole_is_when_nothing_is_missing() {
        assert!(good().is_whole(7, LEAF));
        assert!(!good().is_whole(8, LEAF) && !good().is_whole(7, [10, 0, 0, 12].into()));
        let breaks: [fn(&mut Seen); 12] = [
            |seen| seen.links[0].up = false,
            |seen| seen.links[0].kind = Some(Kind::Bridge),
            |seen| seen.links[1].up = false,
            |seen| seen.links[1].kind = Some(Kind::Vrf(7)),
            |seen| seen.links[2].master = None,
            |seen| seen.links[2].learning = true,
            |seen| seen.links[3].master = None,
            |seen| seen.links[3].lower = Some(9),
            |seen| drop(seen.vlans.remove(&1)),
            |seen| seen.vlans.get_mut(&3).unwrap()[0].access = false,
            |seen| seen.rules[1].insert(0, rule(0, false, Action::Lookup(LOCAL))),
            |seen| seen.rules[0].truncate(1),
        ];
        for (number, break_it) in breaks.into_iter().enumerate() {
            let mut seen = good();
            break_it(&mut seen);
            assert!(!seen.is_whole(7, LEAF), "{number}");
        }
    }

    #[test]
    fn ports_are_in_their_table() {
        let tables = good().tables(LEAF);
        assert_eq!(tables.len(), 1);
        let names: Vec<_> =
            tables[&7].links.iter().map(|link| (&link.name[..], link.master)).collect();
        assert_eq!(names, [("svi7", None), ("swp1", None)]);
        // What is left of a tenant is found, too.
        let mut rest = good();
        rest.links.retain(|link| link.name != "vrf7");
        assert_eq!(rest.tables(LEAF)[&7], Table::default());
        rest.links.retain(|link| link.name != "svi7");
        assert!(rest.tables(LEAF).is_empty());
    }

    #[test]
    fn a_tenant_keeps_its_vlan_as_long_as_something_tells() {
        let mut seen = good();
        assert_eq!((seen.vlan(7), seen.vlan(8)), (Some(1001), None));
        assert_eq!(seen.free_vlan().unwrap(), 1002);
        for gone in ["vrf7", "svi7"] {
            seen.links.retain(|link| link.name != gone);
            assert_eq!(seen.vlan(7), Some(1001));
        }
        seen.vlans.get_mut(&3).unwrap()[0].id = 4000;
        assert_eq!(seen.vlan(7), None, "somebody else's");
        seen.vlans.insert(9, VLANS.map(|id| Vlan { id, access: false }).collect());
        assert!(seen.free_vlan().is_err());
    }

    #[test]
    fn only_names_that_this_agent_gives() {
        assert_eq!((read_name("vrf7"), read_name("svi104000")), (Some(7), Some(104_000)));
        for other in ["vrf", "vrf07", "svi+7", "vni7", "Vrf7", "mgmt", "vrf99999999999"] {
            assert_eq!(read_name(other), None, "{other}");
        }
    }

    #[test]
    fn names_fit() {
        let Names { vrf, vxlan, svi } = Names::of((1 << 24) - 1);
        assert!([vrf, vxlan, svi].iter().all(|name| name.len() <= 15));
    }
}
