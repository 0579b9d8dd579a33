//! Routing configuration of a firewall.
//!
//! In the underlay it is a machine with one address. Over that it speaks EVPN, and has a BGP instance for each network. What
//! one network takes from another carries the path of where it came from; a leaf would find itself in there and refuse. So
//! everything that is told over EVPN is told as the firewall's own.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Firewall, Import, Network, imports};
use crate::leaf::{Bfd, COALESCE, NEXT_HOPS};

/// So much longer is the path for each step of distance: a leaf without an uplink, whose routes take the way round, must not make the
/// farther firewall look nearer.
const STEP: usize = 4;

/// The complete configuration.
#[must_use]
pub fn frr(firewall: &Firewall) -> String {
    let mut text = format!(
        "frr defaults datacenter\nhostname {}\nlog syslog informational\nservice integrated-vtysh-config\n{NEXT_HOPS}\n!\n{}!\n",
        firewall.hostname,
        // as on machines: in front and without `exit`
        Bfd::default().profile()
    );
    for network in &firewall.networks {
        let _ = write!(text, "vrf {}\n vni {}\nexit-vrf\n!\n", network.vrf(), network.vni);
    }
    for index in 0..firewall.links.len() {
        // as on machines: nobody should wait for the advertisement by which neighbours find one another
        let _ = write!(
            text,
            "interface lan{index}\n ipv6 nd ra-interval 1\n ipv6 nd ra-lifetime 0\n no ipv6 nd suppress-ra\nexit\n!\n"
        );
    }
    let id = firewall.tunnel().unwrap_or(IpAddr::from([169, 254, 255, 255]));
    underlay(&mut text, firewall, id);
    let imports = imports(&firewall.networks);
    for (network, imports) in firewall.networks.iter().zip(&imports) {
        overlay(&mut text, firewall, id, network, imports);
    }
    maps(&mut text, firewall);
    for (network, imports) in firewall.networks.iter().zip(&imports) {
        import_map(&mut text, firewall, network, imports);
    }
    text
}

fn underlay(text: &mut String, firewall: &Firewall, id: IpAddr) {
    let _ = write!(
        text,
        "router bgp {}\n bgp router-id {id}\n coalesce-time {COALESCE}\n no bgp default ipv4-unicast\n bgp bestpath as-path multipath-relax\n \
         no bgp ebgp-requires-policy\n neighbor FABRIC peer-group\n neighbor FABRIC remote-as external\n \
         neighbor FABRIC advertisement-interval 0\n neighbor FABRIC timers 2 8\n neighbor FABRIC timers connect 1\n \
         neighbor FABRIC capability extended-nexthop\n{}",
        firewall.asn,
        Bfd::neighbour("FABRIC")
    );
    for index in 0..firewall.links.len() {
        let _ = writeln!(text, " neighbor lan{index} interface peer-group FABRIC");
    }
    for family in ["ipv4", "ipv6"] {
        let _ = write!(
            text,
            " !\n address-family {family} unicast\n  redistribute connected route-map loopback\n  neighbor FABRIC activate\n  \
             neighbor FABRIC route-map only-self-out out\n exit-address-family\n"
        );
    }
    text.push_str(
        " !\n address-family l2vpn evpn\n  neighbor FABRIC activate\n  neighbor FABRIC route-map evpn-in in\n  \
         neighbor FABRIC route-map evpn-out out\n  advertise-all-vni\n exit-address-family\nexit\n!\n",
    );
}

fn overlay(
    text: &mut String,
    firewall: &Firewall,
    id: IpAddr,
    network: &Network,
    imports: &[Import],
) {
    let vrf = network.vrf();
    let _ = write!(
        text,
        "router bgp {} vrf {vrf}\n bgp router-id {id}\n coalesce-time {COALESCE}\n no bgp ebgp-requires-policy\n bgp bestpath as-path multipath-relax\n",
        firewall.asn
    );
    for family in ["ipv4", "ipv6"] {
        let _ = write!(text, " !\n address-family {family} unicast\n  redistribute connected\n");
        for import in imports {
            let _ = writeln!(text, "  import vrf {}", firewall.networks[import.from].vrf());
        }
        if !imports.is_empty() {
            let _ = writeln!(text, "  import vrf route-map {vrf}-import");
        }
        text.push_str(" exit-address-family\n");
    }
    text.push_str(
        " !\n address-family l2vpn evpn\n  advertise ipv4 unicast\n  advertise ipv6 unicast\n exit-address-family\nexit\n!\n",
    );
}

/// What a leaf tells over EVPN is marked and never told to another leaf: packets between leaves have no business here.
fn maps(text: &mut String, firewall: &Firewall) {
    let asn = firewall.asn;
    let farther = match firewall.distance {
        0 => String::new(),
        distance => {
            let path = vec![asn.to_string(); STEP * usize::from(distance)].join(" ");
            format!(" set as-path prepend {path}\n")
        }
    };
    let _ = write!(
        text,
        "bgp as-path access-list self permit ^$\n!\n\
         bgp large-community-list standard fabric seq 5 permit {asn}:1:1\n!\n\
         route-map only-self-out permit 10\n match as-path self\nexit\n!\n\
         route-map loopback permit 10\n match interface lo\nexit\n!\n\
         route-map evpn-in permit 10\n set large-community {asn}:1:1 additive\nexit\n!\n\
         route-map evpn-out deny 10\n match large-community fabric\nexit\n!\n\
         route-map evpn-out permit 20\n set as-path replace any\n{farther}exit\n!\n"
    );
}

/// Names in the lists tell where from; sequences are places in them.
fn import_map(text: &mut String, firewall: &Firewall, network: &Network, imports: &[Import]) {
    if imports.is_empty() {
        return;
    }
    let map = format!("{}-import", network.vrf());
    let mut entries = String::new();
    let mut sequence = 10;
    for import in imports {
        let source = firewall.networks[import.from].vrf();
        for (suffix, prefixes, hidden) in
            [("", &import.open, false), ("-hidden", &import.hidden, true)]
        {
            for (v6, family) in [(false, "ip"), (true, "ipv6")] {
                let of_family = |prefix: &&IpNet| prefix.addr().is_ipv6() == v6;
                let refused = import.refused.iter().filter(of_family);
                let permitted: Vec<_> = prefixes.iter().filter(of_family).collect();
                if permitted.is_empty() {
                    continue;
                }
                let list = format!("{map}-{source}{suffix}");
                let mut place = 0;
                let mut line = |text: &mut String, action: &str, what: String| {
                    place += 5;
                    let _ =
                        writeln!(text, "{family} prefix-list {list} seq {place} {action} {what}");
                };
                refused.for_each(|prefix| line(text, "deny", prefix.to_string()));
                permitted.iter().for_each(|prefix| line(text, "permit", inside(prefix)));
                text.push_str("!\n");
                let mark = if hidden { " set community no-export additive\n" } else { "" };
                let _ = write!(
                    entries,
                    "route-map {map} permit {sequence}\n match {family} address prefix-list {list}\n match source-vrf {source}\n{mark} \
                     set large-community none\nexit\n!\n"
                );
                sequence += 10;
            }
        }
    }
    text.push_str(&entries);
    let _ = write!(text, "route-map {map} deny 65535\nexit\n!\n");
}

/// The prefix and everything inside it; a default route is only itself.
fn inside(prefix: &IpNet) -> String {
    match prefix.max_prefix_len() {
        _ if prefix.prefix_len() == 0 => prefix.to_string(),
        host if host == prefix.prefix_len() => prefix.to_string(),
        host => format!("{prefix} le {host}"),
    }
}
