//! What ifupdown2 is told, as a value and as text. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use anyhow::{Result, bail, ensure};

use super::super::kernel::seen::{BRIDGE, MTU, Names, Seen, address};
use super::super::{Table, name};
use crate::backend::{Place, Port, Step};
use crate::config::Config as Settings;

/// All interfaces that the agent is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Source of VXLAN packets.
    pub(super) local: Ipv4Addr,
    /// Made by somebody else, who lets us have our ports in it.
    pub(super) boot_bridge: String,
    /// VLAN and table by network.
    pub(super) tenants: BTreeMap<u32, u16>,
    /// Where ports are, and whether they are up.
    pub(super) ports: BTreeMap<String, (Wire, bool)>,
}

/// Where a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// In the boot network, shielded.
    Boot,
    /// Nowhere, or routed in the underlay.
    Alone,
    /// In the VRF of a tenant.
    Tenant(u32),
}

impl Layout {
    /// What is there. Ports that somebody else uses are left out.
    pub(super) fn of(
        settings: &Settings,
        seen: &Seen,
        tables: &BTreeMap<u32, Table>,
        ports: &BTreeMap<String, Port>,
    ) -> Self {
        let port = |(name, port): (&String, &Port)| {
            let wire = match port.place {
                Place::Boot | Place::OpenBoot => Wire::Boot,
                Place::Routed(None) => Wire::Alone,
                Place::Routed(Some(vni)) => Wire::Tenant(vni),
                Place::Foreign(_) => return None,
            };
            Some((name.clone(), (wire, port.up)))
        };
        Self {
            local: settings.loopback,
            boot_bridge: settings.boot_bridge.clone(),
            tenants: tables.keys().filter_map(|vni| Some((*vni, seen.vlan(*vni)?))).collect(),
            ports: ports.iter().filter_map(port).collect(),
        }
    }

    /// What should be there after a step.
    pub(super) fn after(&self, step: &Step, seen: &Seen) -> Result<Self> {
        let mut next = self.clone();
        let port = |name: &str| {
            let exists = seen.links.iter().any(|link| link.name == name);
            ensure!(exists, "{name} is not there");
            // Somebody else's becomes ours.
            let up = seen.links.iter().any(|link| link.name == name && link.up);
            Ok(self.ports.get(name).copied().unwrap_or((Wire::Alone, up)))
        };
        match step {
            Step::Leave(name) => match port(name)? {
                (Wire::Tenant(_), _) => {
                    next.ports.insert(name.clone(), (Wire::Alone, false));
                }
                stays => {
                    next.ports.insert(name.clone(), stays);
                }
            },
            Step::Route(name, None) => {
                next.ports.insert(name.clone(), (Wire::Alone, port(name)?.1));
            }
            Step::Route(name, Some(vni)) => {
                ensure!(
                    self.tenants.contains_key(vni),
                    "{} is not there",
                    super::super::name(*vni)
                );
                next.ports.insert(name.clone(), (Wire::Tenant(*vni), port(name)?.1));
            }
            Step::Boot(name) => {
                next.ports.insert(name.clone(), (Wire::Boot, port(name)?.1));
            }
            Step::Admin(name, up) => {
                next.ports.insert(name.clone(), (port(name)?.0, *up));
            }
            Step::Prepare(vni) => {
                if !self.tenants.contains_key(vni) {
                    next.tenants.insert(
                        *vni,
                        match seen.vlan(*vni) {
                            Some(vlan) => vlan,
                            None => seen.free_vlan()?,
                        },
                    );
                }
            }
            Step::CleanUp(vni) => {
                next.tenants.remove(vni);
            }
            Step::Forward | Step::Unpeer(_) | Step::Routing(_) => {
                bail!("{step} is nothing for ifupdown2")
            }
        }
        Ok(next)
    }
}

/// The file.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("# Made by metal-switch, which writes it anew with every change.\n")?;
        if !self.tenants.is_empty() {
            let vxlans: Vec<_> = self.tenants.keys().map(|vni| Names::of(*vni).vxlan).collect();
            let vlans: Vec<_> = self.tenants.values().map(u16::to_string).collect();
            let mac: Vec<_> =
                address(self.local).iter().map(|byte| format!("{byte:02x}")).collect();
            write!(
                f,
                "\nauto {BRIDGE}\niface {BRIDGE}\n    bridge-vlan-aware yes\n    bridge-ports {}\n    bridge-vids {}\n    \
                 bridge-stp off\n    hwaddress {}\n    mtu {MTU}\n",
                vxlans.join(" "),
                vlans.join(" "),
                mac.join(":")
            )?;
        }
        for (vni, vlan) in &self.tenants {
            let Names { vrf, vxlan, svi } = Names::of(*vni);
            write!(f, "\nauto {vrf}\niface {vrf}\n    vrf-table {vlan}\n")?;
            write!(
                f,
                "\nauto {vxlan}\niface {vxlan}\n    vxlan-id {vni}\n    vxlan-local-tunnelip {}\n    vxlan-learning no\n    \
                 bridge-learning off\n    bridge-access {vlan}\n    mtu {MTU}\n",
                self.local
            )?;
            write!(
                f,
                "\nauto {svi}\niface {svi}\n    vlan-id {vlan}\n    vlan-raw-device {BRIDGE}\n    vrf {vrf}\n    mtu {MTU}\n"
            )?;
        }
        for (port, (wire, up)) in &self.ports {
            write!(f, "\nauto {port}\niface {port}\n    mtu {MTU}\n")?;
            if !up {
                f.write_str("    link-down yes\n")?;
            }
            match wire {
                Wire::Alone => {}
                Wire::Tenant(vni) => writeln!(f, "    vrf {}", name(*vni))?,
                // ifupdown2 knows members only from the bridge's side, and shields none.
                Wire::Boot => write!(
                    f,
                    "    post-up ip link set dev {port} master {}\n    post-up bridge link set dev {port} isolated on\n",
                    self.boot_bridge
                )?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::netlink::{Kind, Link, Vlan};

    fn seen() -> Seen {
        let link = |index, name: &str, kind| Link {
            index,
            name: name.to_owned(),
            up: true,
            kind,
            ..Link::default()
        };
        Seen {
            links: vec![
                link(1, "vrf7", Some(Kind::Vrf(1001))),
                link(2, "swp1", None),
                link(3, "swp2", None),
                link(4, "swp3", None),
            ],
            vlans: [(9, vec![Vlan { id: 1002, access: false }])].into(),
            ..Seen::default()
        }
    }

    fn layout() -> Layout {
        Layout {
            local: [10, 0, 0, 11].into(),
            boot_bridge: "boot".into(),
            tenants: [(7, 1001)].into(),
            ports: [
                ("swp1".to_owned(), (Wire::Tenant(7), true)),
                ("swp2".to_owned(), (Wire::Boot, true)),
                ("swp3".to_owned(), (Wire::Alone, false)),
            ]
            .into(),
        }
    }

    #[test]
    fn the_file() {
        expect![[r#"
            # Made by metal-switch, which writes it anew with every change.

            auto tenants
            iface tenants
                bridge-vlan-aware yes
                bridge-ports vni7
                bridge-vids 1001
                bridge-stp off
                hwaddress 02:6d:0a:00:00:0b
                mtu 9000

            auto vrf7
            iface vrf7
                vrf-table 1001

            auto vni7
            iface vni7
                vxlan-id 7
                vxlan-local-tunnelip 10.0.0.11
                vxlan-learning no
                bridge-learning off
                bridge-access 1001
                mtu 9000

            auto svi7
            iface svi7
                vlan-id 1001
                vlan-raw-device tenants
                vrf vrf7
                mtu 9000

            auto swp1
            iface swp1
                mtu 9000
                vrf vrf7

            auto swp2
            iface swp2
                mtu 9000
                post-up ip link set dev swp2 master boot
                post-up bridge link set dev swp2 isolated on

            auto swp3
            iface swp3
                mtu 9000
                link-down yes
        "#]]
        .assert_eq(&layout().to_string());
    }

    /// What changes in the file.
    fn check(step: &Step, expected: &expect_test::Expect) {
        let (before, after) = (layout().to_string(), layout().after(step, &seen()));
        let after = match after {
            Ok(after) => after.to_string(),
            Err(error) => return expected.assert_eq(&error.to_string()),
        };
        let mut text = String::new();
        for (sign, these, others) in [("-", &before, &after), ("+", &after, &before)] {
            let stanzas = |text: &str| text.split("\n\n").map(str::to_owned).collect::<Vec<_>>();
            let others = stanzas(others);
            for stanza in stanzas(these).iter().filter(|stanza| !others.contains(stanza)) {
                for line in stanza.lines() {
                    text.push_str(&format!("{sign}{line}\n"));
                }
            }
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn each_step_changes_what_it_is_about() {
        check(
            &Step::Boot("swp3".into()),
            &expect![[r#"
            -auto swp3
            -iface swp3
            -    mtu 9000
            -    link-down yes
            +auto swp3
            +iface swp3
            +    mtu 9000
            +    link-down yes
            +    post-up ip link set dev swp3 master boot
            +    post-up bridge link set dev swp3 isolated on
        "#]],
        );
        check(
            &Step::Leave("swp1".into()),
            &expect![[r#"
            -auto swp1
            -iface swp1
            -    mtu 9000
            -    vrf vrf7
            +auto swp1
            +iface swp1
            +    mtu 9000
            +    link-down yes
        "#]],
        );
        check(&Step::Leave("swp2".into()), &expect![[r#""#]]);
        check(
            &Step::Route("swp2".into(), Some(7)),
            &expect![[r#"
            -auto swp2
            -iface swp2
            -    mtu 9000
            -    post-up ip link set dev swp2 master boot
            -    post-up bridge link set dev swp2 isolated on
            +auto swp2
            +iface swp2
            +    mtu 9000
            +    vrf vrf7
        "#]],
        );
        check(&Step::Route("swp2".into(), Some(8)), &expect!["vrf8 is not there"]);
        check(&Step::Route("swp9".into(), None), &expect!["swp9 is not there"]);
        check(
            &Step::Admin("swp3".into(), true),
            &expect![[r#"
            -auto swp3
            -iface swp3
            -    mtu 9000
            -    link-down yes
            +auto swp3
            +iface swp3
            +    mtu 9000
        "#]],
        );
        check(
            &Step::Prepare(8),
            &expect![[r#"
            -auto tenants
            -iface tenants
            -    bridge-vlan-aware yes
            -    bridge-ports vni7
            -    bridge-vids 1001
            -    bridge-stp off
            -    hwaddress 02:6d:0a:00:00:0b
            -    mtu 9000
            +auto tenants
            +iface tenants
            +    bridge-vlan-aware yes
            +    bridge-ports vni7 vni8
            +    bridge-vids 1001 1003
            +    bridge-stp off
            +    hwaddress 02:6d:0a:00:00:0b
            +    mtu 9000
            +auto vrf8
            +iface vrf8
            +    vrf-table 1003
            +auto vni8
            +iface vni8
            +    vxlan-id 8
            +    vxlan-local-tunnelip 10.0.0.11
            +    vxlan-learning no
            +    bridge-learning off
            +    bridge-access 1003
            +    mtu 9000
            +auto svi8
            +iface svi8
            +    vlan-id 1003
            +    vlan-raw-device tenants
            +    vrf vrf8
            +    mtu 9000
        "#]],
        );
        check(
            &Step::CleanUp(7),
            &expect![[r#"
            -auto tenants
            -iface tenants
            -    bridge-vlan-aware yes
            -    bridge-ports vni7
            -    bridge-vids 1001
            -    bridge-stp off
            -    hwaddress 02:6d:0a:00:00:0b
            -    mtu 9000
            -auto vrf7
            -iface vrf7
            -    vrf-table 1001
            -auto vni7
            -iface vni7
            -    vxlan-id 7
            -    vxlan-local-tunnelip 10.0.0.11
            -    vxlan-learning no
            -    bridge-learning off
            -    bridge-access 1001
            -    mtu 9000
            -auto svi7
            -iface svi7
            -    vlan-id 1001
            -    vlan-raw-device tenants
            -    vrf vrf7
            -    mtu 9000
        "#]],
        );
    }
}
