//! What a firewall lets pass, as one nftables table `inet metal`.
//!
//! Rules are written about the connection and not about the packet (`ct original …`), so that one rule judges both directions. A
//! connection that was let pass remembers by which rule of which generation (its conntrack mark). Packets of known connections
//! take one look into a map; after a change of rules every connection is judged anew with its next packet, in whichever direction
//! that is: what is still allowed goes on without a gap, what is not stops.
//!
//! Counters have names made of what the rule says, so that a rule keeps its count when others come, go or change places.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Kind, Network};

/// Family and name of the table. Nothing else of the kernel's filter is touched.
pub const TABLE: &str = "inet metal";
/// More connections than this from one address are refused, so that nobody fills the table of connections alone.
pub const CONNECTIONS_PER_ADDRESS: u32 = 16_384;
/// Rules of both directions together; their number is a part of the connection's mark.
pub const MAX_RULES: usize = (1 << INDEX_BITS) - 1;

const INDEX_BITS: u32 = 10;
/// What the kernel prints about some of the packets that were dropped.
const LOG_PREFIX: &str = "metal-firewall-dropped: ";

/// Transport protocol of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Protocol.
    pub protocol: Protocol,
    /// Destination ports; none are all.
    pub ports: Vec<u16>,
    /// Source prefixes; none are all.
    pub from: Vec<IpNet>,
    /// Destination prefixes; none are all.
    pub to: Vec<IpNet>,
    /// What it is for.
    pub comment: String,
}

/// All rules of a firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// From private networks to others.
    pub egress: Vec<Rule>,
    /// From other networks to private ones.
    pub ingress: Vec<Rule>,
}

/// From where the firewall itself is administered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Management {
    /// Interfaces, a `*` at the end stands for any text.
    pub interfaces: Vec<String>,
    /// Source prefixes that count on these interfaces; none are all.
    pub prefixes: Vec<IpNet>,
}

impl Default for Management {
    /// The fabric, which only operators and other routers reach, and the VPN.
    fn default() -> Self {
        Self { interfaces: vec!["lan*".to_owned(), "tailscale*".to_owned()], prefixes: Vec::new() }
    }
}

/// What the table is made from.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Version of the rules; connections that were let pass by another one are judged anew.
    pub generation: u64,
    /// Prefixes of the underlay, from which tunnels come; none are all.
    pub underlay: &'a [IpNet],
    /// Networks that the firewall joins.
    pub networks: &'a [Network],
    /// What may pass.
    pub rules: &'a Rules,
    /// From where it is administered.
    pub management: &'a Management,
}

/// A named counter of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// In the kernel.
    pub name: String,
    /// For humans: the rule, or why a packet was dropped.
    pub words: String,
}

/// The table as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its definition, `table inet metal { … }`.
    pub text: String,
    /// Counters of rules, in their order, egress first. Rules that say the same share one.
    pub rules: Vec<Counter>,
    /// Counters of what is dropped.
    pub drops: Vec<Counter>,
}

/// Chains of the table.
pub const CHAINS: [&str; 7] = [
    "connection_limit",
    "egress_rules",
    "forward",
    "ingress_rules",
    "input",
    "postrouting",
    "refuse",
];
/// Sets of the table, which the kernel fills.
pub const SETS: [&str; 2] = ["connections4", "connections6"];

const DROPS: [(&str, &str); 6] = [
    ("drop_bgp", "BGP is not forwarded"),
    ("drop_connections", "too many connections of one address"),
    ("drop_input", "sent to the firewall itself"),
    ("drop_invalid", "part of no connection"),
    ("drop_rule", "no rule allows it"),
    ("drop_spoofed", "from outside with an address of a private network"),
];

/// The table for these rules.
///
/// # Errors
/// A sentence about what cannot be written down.
pub fn table(wish: &Wish<'_>) -> Result<Table, String> {
    let Rules { egress, ingress } = wish.rules;
    if egress.len() + ingress.len() > MAX_RULES {
        return Err(format!("{} rules are more than {MAX_RULES}", egress.len() + ingress.len()));
    }
    for name in &wish.management.interfaces {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let stem = name.strip_suffix('*').unwrap_or(name);
        if stem.is_empty() || stem.len() > 15 || !stem.chars().all(plain) {
            return Err(format!("management: {name:?} is no name of an interface"));
        }
    }
    let all = egress.iter().map(|rule| ("egress", rule));
    let all = all.chain(ingress.iter().map(|rule| ("ingress", rule)));
    let mut judges = Vec::new();
    for (index, (direction, rule)) in all.enumerate() {
        judges.push(Judge::new(direction, rule, mark(wish.generation, index))?);
    }
    let rules: Vec<_> = judges.iter().map(|judge| judge.counter.clone()).collect();
    let drops: Vec<_> = DROPS
        .iter()
        .map(|(name, words)| Counter { name: (*name).to_owned(), words: (*words).to_owned() })
        .collect();

    let mut text = format!("table {TABLE} {{\n");
    let names: BTreeMap<&str, &str> =
        rules.iter().chain(&drops).map(|c| (&*c.name, &*c.words)).collect();
    for name in names.keys() {
        let _ = writeln!(text, "\tcounter {name} {{\n\t}}");
    }
    for (set, kind) in SETS.iter().zip(["ipv4_addr", "ipv6_addr"]) {
        let _ = writeln!(
            text,
            "\tset {set} {{\n\t\ttype {kind}\n\t\tsize 65535\n\t\tflags dynamic\n\t}}"
        );
    }
    chain(
        &mut text,
        "refuse",
        &[
            "counter name \"drop_rule\"".to_owned(),
            format!("limit rate 10/minute burst 20 packets log prefix \"{LOG_PREFIX}\""),
            "drop".to_owned(),
        ],
    );
    let limit = |family: &str, set: &str| {
        format!(
            "add @{set} {{ {family} saddr ct count over {CONNECTIONS_PER_ADDRESS} }} counter name \"drop_connections\" drop"
        )
    };
    chain(&mut text, "connection_limit", &[limit("ip", SETS[0]), limit("ip6", SETS[1])]);
    for direction in ["egress", "ingress"] {
        let lines: Vec<_> = judges
            .iter()
            .filter(|judge| judge.direction == direction)
            .map(|judge| judge.line.clone())
            .collect();
        chain(&mut text, &format!("{direction}_rules"), &lines);
    }
    chain(&mut text, "forward", &forward(wish.networks, &judges));
    chain(&mut text, "input", &input(wish));
    chain(&mut text, "postrouting", &postrouting(wish.networks));
    text.push_str("}\n");
    Ok(Table { text, rules, drops })
}

/// Nothing is forwarded and the firewall can be administered: what holds before anything is known.
#[must_use]
pub fn drop_all(management: &Management) -> Table {
    let rules = Rules::default();
    fn nothing(rules: &Rules, management: &Management) -> Result<Table, String> {
        table(&Wish { generation: 0, underlay: &[], networks: &[], rules, management })
    }
    // a wrong word in the configuration must not leave the door open
    let narrow = Management { interfaces: Vec::new(), prefixes: Vec::new() };
    nothing(&rules, management)
        .or_else(|_| nothing(&rules, &narrow))
        .unwrap_or_else(|never| unreachable!("{never}"))
}

impl Table {
    /// Text that makes the table in one transaction. What is in it already stays where it is the same, counters go on; `stale` is
    /// what it has beyond that, as `chain x`.
    #[must_use]
    pub fn replacing(&self, stale: &[String]) -> String {
        let mut text = format!("add table {TABLE}\nflush table {TABLE}\n");
        for object in stale {
            let (kind, name) = object.split_once(' ').unwrap_or((object, ""));
            let _ = writeln!(text, "delete {kind} {TABLE} {name}");
        }
        text + &self.text
    }

    /// Text that makes the table in one transaction from nothing, whatever it was before.
    #[must_use]
    pub fn fresh(&self) -> String {
        format!("add table {TABLE}\ndelete table {TABLE}\n{}", self.text)
    }

    /// Everything in it that has a name, as `chain x`.
    #[must_use]
    pub fn objects(&self) -> Vec<String> {
        let counters = self.rules.iter().chain(&self.drops).map(|c| format!("counter {}", c.name));
        let chains = CHAINS.iter().map(|name| format!("chain {name}"));
        let sets = SETS.iter().map(|name| format!("set {name}"));
        counters.chain(chains).chain(sets).collect()
    }
}

/// A rule as text.
struct Judge {
    direction: &'static str,
    counter: Counter,
    mark: u32,
    line: String,
}

impl Judge {
    fn new(direction: &'static str, rule: &Rule, mark: u32) -> Result<Self, String> {
        let words = words(direction, rule);
        let families = rule.from.iter().chain(&rule.to).map(|net| matches!(net, IpNet::V4(_)));
        let families: Vec<_> = families.collect();
        if families.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(format!("{words}: IPv4 and IPv6 in one rule"));
        }
        if !rule.comment.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, ' ' | '_' | '-')) {
            return Err(format!(
                "{words}: its comment is not made of letters, blanks, '_' and '-'"
            ));
        }
        let family = if families.first() == Some(&false) { "ip6" } else { "ip" };
        let mut line = format!("meta l4proto {}", rule.protocol.name());
        if !rule.ports.is_empty() {
            let _ = write!(line, " ct original proto-dst {{ {} }}", ranges(&rule.ports).join(", "));
        }
        for (end, prefixes) in [("saddr", &rule.from), ("daddr", &rule.to)] {
            if !prefixes.is_empty() {
                let _ = write!(line, " ct original {family} {end} {}", set(prefixes));
            }
        }
        let name = format!("{direction}_{:016x}", fnv(&words));
        let _ = write!(line, " counter name \"{name}\" ct mark set {mark:#010x} accept");
        if !rule.comment.is_empty() {
            let _ = write!(line, " comment \"{}\"", rule.comment);
        }
        Ok(Self { direction, counter: Counter { name, words }, mark, line })
    }
}

/// Which rule of which generation let a connection pass; never 0, which is a connection that nobody has judged.
fn mark(generation: u64, index: usize) -> u32 {
    let index = u32::try_from(index + 1).unwrap_or(u32::MAX) & ((1 << INDEX_BITS) - 1);
    let generation = u32::try_from(generation & 0x3f_ffff).unwrap_or_default();
    generation << INDEX_BITS | index
}

/// The rule in words, without its comment: what says the same counts as the same.
fn words(direction: &str, rule: &Rule) -> String {
    let mut words = format!("{direction} {}", rule.protocol.name());
    for (name, prefixes) in [("from", &rule.from), ("to", &rule.to)] {
        if !prefixes.is_empty() {
            let _ = write!(words, " {name} {}", aggregated(prefixes).join(","));
        }
    }
    if !rule.ports.is_empty() {
        let _ = write!(words, " port {}", ranges(&rule.ports).join(","));
    }
    words
}

/// FNV-1a: names need no secrecy, they only have to differ.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// `443`, `8000-8010`.
fn ranges(ports: &[u16]) -> Vec<String> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == port => *end = port,
            _ => ranges.push((port, port)),
        }
    }
    let text = |(start, end): (u16, u16)| {
        if start == end { start.to_string() } else { format!("{start}-{end}") }
    };
    ranges.into_iter().map(text).collect()
}

/// The same addresses by the fewest prefixes: the kernel refuses overlaps.
fn aggregated(prefixes: &[IpNet]) -> Vec<String> {
    let prefixes: Vec<_> = prefixes.iter().map(IpNet::trunc).collect();
    IpNet::aggregate(&prefixes).iter().map(IpNet::to_string).collect()
}

fn set(prefixes: &[IpNet]) -> String {
    format!("{{ {} }}", aggregated(prefixes).join(", "))
}

fn chain(text: &mut String, name: &str, lines: &[String]) {
    let _ = writeln!(text, "\tchain {name} {{");
    for line in lines {
        let _ = writeln!(text, "\t\t{line}");
    }
    text.push_str("\t}\n");
}

/// Interfaces of networks: packets come in by the VRF and go out by the bridge; the tunnel is named in case one of both changes.
fn interfaces<'a>(networks: impl Iterator<Item = &'a Network>) -> Option<String> {
    let names: Vec<_> = networks
        .flat_map(|network| [network.vrf(), network.bridge(), network.vxlan()])
        .map(|name| format!("\"{name}\""))
        .collect();
    (!names.is_empty()).then(|| format!("{{ {} }}", names.join(", ")))
}

fn of_family(prefixes: &[IpNet], v4: bool) -> Vec<IpNet> {
    prefixes.iter().copied().filter(|net| matches!(net, IpNet::V4(_)) == v4).collect()
}

fn private_prefixes(networks: &[Network], v4: bool) -> Vec<IpNet> {
    let private = networks.iter().filter(|network| network.kind == Kind::Private);
    private.flat_map(|network| of_family(&network.prefixes, v4)).collect()
}

fn forward(networks: &[Network], judges: &[Judge]) -> Vec<String> {
    let mut lines = vec![
        "type filter hook forward priority filter; policy drop;".to_owned(),
        "ct state invalid counter name \"drop_invalid\" drop".to_owned(),
    ];
    if !judges.is_empty() {
        let marks: Vec<_> = judges.iter().map(|judge| format!("{:#010x}", judge.mark)).collect();
        let counters: Vec<_> = judges
            .iter()
            .map(|judge| format!("{:#010x} : \"{}\"", judge.mark, judge.counter.name))
            .collect();
        lines.push(format!(
            "ct mark {{ {} }} counter name ct mark map {{ {} }} accept",
            marks.join(", "),
            counters.join(", ")
        ));
    }
    let inside = interfaces(networks.iter().filter(|network| network.kind == Kind::Private));
    let outside = interfaces(networks.iter().filter(|network| network.kind != Kind::Private));
    if let (Some(inside), Some(outside)) = (&inside, &outside) {
        for (family, v4) in [("ip", true), ("ip6", false)] {
            let private = private_prefixes(networks, v4);
            if !private.is_empty() {
                lines.push(format!(
                    "iifname {outside} {family} saddr {} counter name \"drop_spoofed\" drop",
                    set(&private)
                ));
            }
        }
        // machines speak BGP with their leaves and with nobody else
        lines.push(
            "meta l4proto tcp ct original proto-dst 179 counter name \"drop_bgp\" drop".to_owned(),
        );
        lines.push("ct state new jump connection_limit".to_owned());
        let jump = |direction: &str, from: &str, to: &str, chain: &str| {
            format!("ct direction {direction} iifname {from} oifname {to} jump {chain}_rules")
        };
        lines.push(jump("original", inside, outside, "egress"));
        lines.push(jump("reply", outside, inside, "egress"));
        lines.push(jump("original", outside, inside, "ingress"));
        lines.push(jump("reply", inside, outside, "ingress"));
    }
    lines.push("goto refuse".to_owned());
    lines
}

fn input(wish: &Wish<'_>) -> Vec<String> {
    let of_links = "iifname \"lan*\"";
    let mut lines = vec![
        "type filter hook input priority filter; policy drop;".to_owned(),
        "iif \"lo\" accept".to_owned(),
        "ct state established,related accept".to_owned(),
        "ct state invalid counter name \"drop_invalid\" drop".to_owned(),
        // without these nobody finds the next hop
        "ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept".to_owned(),
        "icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept".to_owned(),
        // routers of the fabric: BGP and BFD by their link-local addresses, tunnels by their loopbacks
        format!("{of_links} ip6 saddr fe80::/64 tcp dport 179 accept"),
        format!("{of_links} ip6 saddr fe80::/64 udp dport 3784 accept"),
    ];
    let tunnels = of_family(wish.underlay, true);
    lines.push(match tunnels.is_empty() {
        true => format!("{of_links} udp dport 4789 accept"),
        false => format!("{of_links} ip saddr {} udp dport 4789 accept", set(&tunnels)),
    });
    for name in &wish.management.interfaces {
        let prefixes = &wish.management.prefixes;
        if prefixes.is_empty() {
            lines.push(format!("iifname \"{name}\" tcp dport 22 accept"));
        }
        for (family, v4) in [("ip", true), ("ip6", false)] {
            let prefixes = of_family(prefixes, v4);
            if !prefixes.is_empty() {
                let prefixes = set(&prefixes);
                lines.push(format!(
                    "iifname \"{name}\" {family} saddr {prefixes} tcp dport 22 accept"
                ));
            }
        }
    }
    // whether the gateway lives is asked from inside and by the fabric
    let private = wish.networks.iter().filter(|network| network.kind == Kind::Private);
    let private = private.map(|network| format!("\"{}\"", network.vrf()));
    let near: Vec<_> = private.chain(["\"lan*\"".to_owned()]).collect();
    for name in near {
        lines.push(format!("iifname {name} icmp type echo-request limit rate 20/second accept"));
        lines.push(format!("iifname {name} icmpv6 type echo-request limit rate 20/second accept"));
    }
    lines.push("counter name \"drop_input\"".to_owned());
    lines.push(format!("limit rate 10/minute burst 20 packets log prefix \"{LOG_PREFIX}\""));
    lines
}

/// Packets of private networks leave with an address of the firewall. With several, each pair of source and destination keeps its own.
fn postrouting(networks: &[Network]) -> Vec<String> {
    let mut lines = vec!["type nat hook postrouting priority srcnat; policy accept;".to_owned()];
    let private = private_prefixes(networks, true);
    if private.is_empty() {
        return lines;
    }
    for network in networks.iter().filter(|network| network.masquerade) {
        let Some(out) = interfaces([network].into_iter()) else { continue };
        let egress: Vec<_> = network.addresses.iter().filter(|ip| ip.is_ipv4()).collect();
        let source = format!("oifname {out} ip saddr {}", set(&private));
        lines.push(match egress[..] {
            [] => format!("{source} masquerade"),
            [address] => format!("{source} snat ip to {address}"),
            _ => {
                let by_hash: Vec<_> = egress
                    .iter()
                    .enumerate()
                    .map(|(i, address): (usize, &&IpAddr)| format!("{i} : {address}"))
                    .collect();
                format!(
                    "{source} snat ip to jhash ip saddr . ip daddr mod {} seed 0x1 map {{ {} }}",
                    egress.len(),
                    by_hash.join(", ")
                )
            }
        });
    }
    lines
}

/// The whole file for a system that starts without its agent.
///
/// # Errors
/// Those of [`table`].
pub fn nft(wish: &Wish<'_>) -> Result<String, String> {
    Ok(table(wish)?.fresh())
}
