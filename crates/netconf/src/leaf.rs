//! Routing configuration of a leaf: BGP unnumbered to the fabric above and to the machines below.
//!
//! Every peer has a filter in both directions. From a machine come its own prefixes and nothing else, to a machine goes
//! the default route and nothing else, to the fabric go the leaf's own prefixes and those that came from machines: a leaf
//! never carries traffic between two uplinks.
//!
//! The text is written the way FRR prints it and uses nothing whose default depends on FRR's profile, so that
//! what runs can be compared with what should run line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipnet::IpNet;

pub mod evpn;

/// All route maps and lists of ours start with it; what is called otherwise belongs to somebody else.
pub const NAME_PREFIX: &str = "metal-";

/// What the configuration is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Name that the routing daemon shows to its neighbours.
    pub hostname: String,
    /// Autonomous system of this leaf, its own.
    pub asn: u32,
    /// Router id; announced as a host route.
    pub loopback: Ipv4Addr,
    /// Prefixes of the boot network on this leaf, announced while an interface has them.
    pub boot: Vec<IpNet>,
    /// Never accepted from a machine, whatever its filter says; loopback and boot prefixes are protected anyway.
    pub protected: Vec<IpNet>,
    /// Interfaces to spines or exits.
    pub uplinks: Vec<String>,
    /// Routed machine ports; a port that is not here has no peer.
    pub ports: Vec<Port>,
    /// More prefixes than this from one machine and address family take its session down for a minute.
    pub maximum_prefix: u32,
    /// When a neighbour is given up that says nothing, though its link is up.
    pub liveness: Liveness,
}

/// When a silent neighbour is given up. One whose link goes down is given up at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// BGP's hold time in seconds, 3 at least; a third of it passes between two signs of life. Of two neighbours the
    /// shorter one counts for both.
    pub hold: u16,
    /// Watches links many times a second, if both ends do it.
    pub bfd: Option<Bfd>,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { hold: 3, bfd: None }
    }
}

/// Bidirectional forwarding detection (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// Milliseconds between two packets, in both directions. Of two neighbours the longer one counts.
    pub interval_ms: u16,
    /// So many of them are missed until the neighbour is given up.
    pub multiplier: u8,
}

impl Default for Bfd {
    fn default() -> Self {
        Self { interval_ms: 100, multiplier: 3 }
    }
}

/// Milliseconds for which a new neighbour waits for routes, in case there are more of them. FRR would take a second.
pub const COALESCE: u16 = 50;

/// Routes carry their next hops themselves. With groups of next hops in the kernel, zebra 8.4 takes a group for complete from which the
/// kernel removed a link that was down for a moment, and the way over that link never comes back.
pub const NEXT_HOPS: &str = "no zebra nexthop kernel enable";

/// Name of the profile that all neighbours share.
const PROFILE: &str = "metal";

impl Bfd {
    /// The profile, for the daemon of its own. FRR prints no value that it would have anyway.
    pub(crate) fn profile(self) -> String {
        let mut text = format!("bfd\n profile {PROFILE}\n");
        if self.multiplier != 3 {
            let _ = writeln!(text, "  detect-multiplier {}", self.multiplier);
        }
        if self.interval_ms != 300 {
            let _ =
                write!(text, "  transmit-interval {0}\n  receive-interval {0}\n", self.interval_ms);
        }
        text
    }

    /// Lines of a neighbour or of a group of them.
    pub(crate) fn neighbour(name: &str) -> String {
        format!(" neighbor {name} bfd\n neighbor {name} bfd profile {PROFILE}\n")
    }
}

/// A machine port that is routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name of the interface.
    pub name: String,
    /// What is plugged in.
    pub role: Role,
    /// Accepted prefixes, each with everything inside it; empty accepts nothing.
    pub accept: Vec<IpNet>,
    /// For people reading the configuration, one line.
    pub description: Option<String>,
}

/// What is plugged into a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A tenant's machine.
    Machine,
    /// A tenant's firewall, which is part of the underlay.
    Firewall,
}

impl Role {
    /// Name of the peer group.
    pub fn peer_group(self) -> &'static str {
        match self {
            Self::Machine => "MACHINE",
            Self::Firewall => "FIREWALL",
        }
    }
}

/// Name of the peer group towards spines and exits.
pub const FABRIC: &str = "FABRIC";

/// The complete configuration. Equal leaves give equal text, whatever the order of their ports and prefixes.
#[must_use]
pub fn frr(leaf: &Leaf) -> String {
    let mut ports: Vec<_> = leaf.ports.iter().collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = head(leaf);
    interfaces(&mut text, leaf, &ports, &BTreeMap::new());
    lists(&mut text, leaf, &ports);
    route_maps(&mut text, leaf, &ports);
    bgp(&mut text, leaf, &ports);
    profile(&mut text, leaf);
    text
}

fn head(leaf: &Leaf) -> String {
    format!("frr defaults datacenter\nhostname {}\n{NEXT_HOPS}\n", leaf.hostname)
}

fn profile(text: &mut String, leaf: &Leaf) {
    if let Some(bfd) = leaf.liveness.bfd {
        let _ = write!(text, "!\n{} exit\nexit\n", bfd.profile());
    }
}

/// Router advertisements are how unnumbered neighbours find one another: one a second, so that a machine that has just
/// booted waits at most that long. Lifetime 0 says that this is no default router for a machine without BGP.
/// `vrfs` has those that must be told which VRF they are in.
fn interfaces(text: &mut String, leaf: &Leaf, ports: &[&Port], vrfs: &BTreeMap<&str, String>) {
    for name in leaf.uplinks.iter().chain(ports.iter().map(|port| &port.name)) {
        let vrf = vrfs.get(&name[..]).map(|vrf| format!(" vrf {vrf}")).unwrap_or_default();
        let _ = write!(
            text,
            "!\ninterface {name}{vrf}\n no ipv6 nd suppress-ra\n ipv6 nd ra-interval 1\n ipv6 nd ra-lifetime 0\nexit\n"
        );
    }
}

fn lists(text: &mut String, leaf: &Leaf, ports: &[&Port]) {
    text.push_str("!\n");
    for prefix in ["0.0.0.0/0", "::/0"].map(|prefix| prefix.parse::<IpNet>()).into_iter().flatten()
    {
        let _ = writeln!(text, "{}default seq 10 permit {prefix}", list(&prefix));
    }
    for (index, prefix) in own(leaf).iter().enumerate() {
        let _ = writeln!(text, "{}own seq {} permit {prefix}", list(prefix), 10 * (index + 1));
    }
    for port in ports {
        port_lists(text, leaf, port);
    }
    let _ = writeln!(
        text,
        "!\nbgp large-community-list standard metal-machines seq 10 permit {}",
        mark(leaf)
    );
}

fn port_lists(text: &mut String, leaf: &Leaf, port: &Port) {
    // The default route is nobody's own: a machine that announced it would draw everybody's traffic.
    let accept: BTreeSet<_> =
        port.accept.iter().map(IpNet::trunc).filter(|prefix| prefix.prefix_len() > 0).collect();
    let protected: BTreeSet<_> =
        own(leaf).into_iter().chain(leaf.protected.iter().map(IpNet::trunc)).collect();
    let overlaps =
        |prefix: &&IpNet| accept.iter().any(|a| a.contains(*prefix) || prefix.contains(a));
    for (index, prefix) in protected.iter().filter(overlaps).enumerate() {
        let _ = writeln!(
            text,
            "{}{}-in seq {} deny {}",
            list(prefix),
            port.name,
            index + 1,
            inside(prefix)
        );
    }
    let mut taken = BTreeSet::new();
    for prefix in &accept {
        let mut place = sequence(prefix);
        while !taken.insert(place) {
            place += 1;
        }
        let _ = writeln!(
            text,
            "{}{}-in seq {place} permit {}",
            list(prefix),
            port.name,
            inside(prefix)
        );
    }
}

fn route_maps(text: &mut String, leaf: &Leaf, ports: &[&Port]) {
    text.push_str("!\nroute-map metal-fabric-in permit 10\nexit\n");
    text.push_str(
        "!\nroute-map metal-fabric-out permit 10\n match large-community metal-machines\nexit\n",
    );
    by_list(text, "metal-fabric-out", 20, "metal-own", "");
    // What a machine's group starts with, so that a peer whose own filter is not there yet opens nothing.
    text.push_str("!\nroute-map metal-machine-in deny 99\nexit\n");
    by_list(text, "metal-machine-out", 10, "metal-default", "");
    let set = format!(" set large-community {}\n", mark(leaf));
    for port in ports {
        let name = format!("metal-{}-in", port.name);
        by_list(text, &name, 10, &name, &set);
    }
}

/// Two entries for the two address families and an end that refuses the rest.
fn by_list(text: &mut String, map: &str, sequence: u32, list: &str, set: &str) {
    let (v4, v6) = (sequence, sequence + 10);
    let _ = write!(
        text,
        "!\nroute-map {map} permit {v4}\n match ip address prefix-list {list}\n{set}exit\n"
    );
    let _ = write!(
        text,
        "!\nroute-map {map} permit {v6}\n match ipv6 address prefix-list {list}\n{set}exit\n"
    );
    let _ = write!(text, "!\nroute-map {map} deny 99\nexit\n");
}

fn bgp(text: &mut String, leaf: &Leaf, ports: &[&Port]) {
    // A changed filter takes effect after this many seconds; FRR would take five.
    text.push_str("!\nbgp route-map delay-timer 1\n");
    // Groups are there before their first member, so that one more port changes nothing else.
    let groups = [FABRIC, Role::Machine.peer_group(), Role::Firewall.peer_group()];
    let instance = Instance {
        vrf: None,
        groups: &groups,
        uplinks: &leaf.uplinks,
        ports,
        out: "metal-machine-out",
    };
    instance.open(text, leaf);
    instance.unicast(text, leaf);
    text.push_str("exit\n");
}

/// One BGP instance: the main one, or that of a VRF.
struct Instance<'a> {
    vrf: Option<&'a str>,
    groups: &'a [&'a str],
    uplinks: &'a [String],
    ports: &'a [&'a Port],
    /// Route map towards machines.
    out: &'a str,
}

impl Instance<'_> {
    /// Everything before the address families.
    fn open(&self, text: &mut String, leaf: &Leaf) {
        let vrf = self.vrf.map(|vrf| format!(" vrf {vrf}")).unwrap_or_default();
        let _ = write!(
            text,
            "!\nrouter bgp {}{vrf}\n bgp router-id {}\n no bgp default ipv4-unicast\n bgp bestpath as-path multipath-relax\n coalesce-time {COALESCE}\n",
            leaf.asn, leaf.loopback
        );
        for group in self.groups {
            let _ = write!(
                text,
                " neighbor {group} peer-group
 neighbor {group} remote-as external
 neighbor {group} advertisement-interval 0
 neighbor {group} timers {} {}
 neighbor {group} timers connect 1
 neighbor {group} capability extended-nexthop
",
                leaf.liveness.hold / 3,
                leaf.liveness.hold
            );
            if leaf.liveness.bfd.is_some() {
                text.push_str(&Bfd::neighbour(group));
            }
        }
        for uplink in self.uplinks {
            let _ = writeln!(text, " neighbor {uplink} interface peer-group {FABRIC}");
        }
        for port in self.ports {
            let group = port.role.peer_group();
            let _ = writeln!(text, " neighbor {} interface peer-group {group}", port.name);
            if let Some(description) = &port.description {
                let line = description.split_whitespace().collect::<Vec<_>>().join(" ");
                let _ = writeln!(text, " neighbor {} description {line}", port.name);
            }
        }
    }

    fn unicast(&self, text: &mut String, leaf: &Leaf) {
        for (family, v6) in [("ipv4", false), ("ipv6", true)] {
            let _ = write!(text, " !\n address-family {family} unicast\n");
            if self.vrf.is_none() {
                for prefix in own(leaf).iter().filter(|prefix| prefix.addr().is_ipv6() == v6) {
                    let _ = writeln!(text, "  network {prefix}");
                }
            }
            self.policy(text, leaf);
            text.push_str(" exit-address-family\n");
        }
    }

    /// Who may say what to whom.
    fn policy(&self, text: &mut String, leaf: &Leaf) {
        for group in self.groups {
            let _ = writeln!(text, "  neighbor {group} activate");
            if *group == FABRIC {
                let _ = writeln!(text, "  neighbor {group} route-map metal-fabric-in in");
                let _ = writeln!(text, "  neighbor {group} route-map metal-fabric-out out");
            } else {
                let most = leaf.maximum_prefix;
                let _ = writeln!(text, "  neighbor {group} maximum-prefix {most} restart 1");
                let _ = writeln!(text, "  neighbor {group} route-map metal-machine-in in");
                let _ = writeln!(text, "  neighbor {group} route-map {} out", self.out);
            }
        }
        for port in self.ports {
            let _ = writeln!(text, "  neighbor {0} route-map metal-{0}-in in", port.name);
        }
    }
}

/// What the leaf announces for itself.
fn own(leaf: &Leaf) -> BTreeSet<IpNet> {
    std::iter::once(IpNet::from(std::net::IpAddr::from(leaf.loopback)))
        .chain(leaf.boot.iter().map(IpNet::trunc))
        .collect()
}

/// Large community that every route from a machine carries inside this leaf.
fn mark(leaf: &Leaf) -> String {
    format!("{}:1:1", leaf.asn)
}

fn list(prefix: &IpNet) -> &'static str {
    match prefix {
        IpNet::V4(_) => "ip prefix-list metal-",
        IpNet::V6(_) => "ipv6 prefix-list metal-",
    }
}

/// The prefix and everything inside it.
fn inside(prefix: &IpNet) -> String {
    match prefix.max_prefix_len() {
        host if host == prefix.prefix_len() => prefix.to_string(),
        host => format!("{prefix} le {host}"),
    }
}

/// A place that depends on the prefix alone, so that one more prefix is one more line and moves no other. FRR refuses
/// one prefix in two places and prints no list without places. FNV-1a; behind the refusals, which count from 1.
fn sequence(prefix: &IpNet) -> u32 {
    let hash = prefix
        .to_string()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    100_000 + hash % 1_000_000_000
}
