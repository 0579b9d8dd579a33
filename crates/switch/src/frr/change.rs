//! The way from one configuration to another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use netconf::leaf::NEXT_HOPS;

use super::text::{Config, Line};

/// What belongs to the daemons themselves and to whoever starts them.
const KEPT: [&str; 20] = [
    "frr ",
    "hostname ",
    "domainname ",
    "log ",
    "no log ",
    "service ",
    "no service ",
    "debug ",
    "line ",
    "password ",
    "enable password ",
    "banner ",
    "no banner ",
    "agentx",
    "ip forwarding",
    "no ip forwarding",
    "ipv6 forwarding",
    "no ipv6 forwarding",
    "zebra ",
    "no zebra ",
];
/// Contexts that FRR makes and removes by itself; only what stands in them counts.
const CONTAINERS: [&str; 3] = ["interface ", "address-family ", "vrf "];
/// The context of the daemon for BFD, made and removed by itself, too.
const BFD: &str = "bfd";
/// Lines that open a context even if nothing stands in it.
const OPENERS: [&str; 3] = ["router ", "route-map ", "profile "];

/// Commands in the order in which nothing opens: first what closes, then what is new, then what is left over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Neighbours and routers to be removed before anything else.
    pub close: Vec<Line>,
    /// Lines to be added; values that can exist only once are replaced by it.
    pub add: Vec<Line>,
    /// Lines to be removed at last. To be computed again after adding, which may have replaced some.
    pub remove: Vec<Line>,
}

impl Change {
    /// Compares. Lines that start with one of `keep` belong to somebody else.
    pub fn between(running: &Config, wanted: &Config, keep: &[String]) -> Self {
        let ours = |line: &&Line| !is_kept(line, keep) && !is_container(line);
        let close = closing(running, wanted, keep);
        let closed: BTreeSet<_> = close
            .iter()
            .flat_map(|line| running.lines().iter().filter(move |other| goes_with(other, line)))
            .collect();
        let add = wanted
            .lines()
            .iter()
            .filter(ours)
            .filter(|line| !running.has(line) || closed.contains(line))
            .cloned()
            .collect();
        let surplus: Vec<_> = running
            .lines()
            .iter()
            .filter(ours)
            .filter(|line| !wanted.has(line) && !closed.contains(line))
            .collect();
        let mut remove: Vec<Line> = surplus
            .iter()
            .filter(|line| !surplus.iter().any(|other| line.is_below(other)))
            .map(|&line| line.clone())
            .collect();
        // Whoever refers goes before what is referred to.
        remove.sort_by_key(|line| match line.top() {
            top if top.starts_with("router ") => 0,
            top if top.starts_with("interface ") => 1,
            top if top.starts_with("route-map ") => 2,
            _ => 3,
        });
        Self { close, add, remove }
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.close.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Whether something goes.
    pub fn closes(&self) -> bool {
        !self.close.is_empty() || !self.remove.is_empty()
    }

    /// Ports of `ports` that it is about.
    pub fn ports<'a>(&self, ports: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
        let lines = || self.close.iter().chain(&self.add).chain(&self.remove);
        ports.filter(|port| lines().any(|line| line.is_about(port))).collect()
    }

    /// Interfaces that get a neighbour, for the first time or once more.
    pub(crate) fn new_peers(&self) -> BTreeSet<String> {
        let is_peer = |line: &&Line| line.text().split(' ').nth(2) == Some("interface");
        let peers = self.add.iter().filter(is_peer).filter_map(Line::neighbour);
        peers.map(|(_, name)| name.to_owned()).collect()
    }

    /// Whether it is about this VRF.
    pub(crate) fn is_about_vrf(&self, vrf: &str) -> bool {
        self.close.iter().chain(&self.add).chain(&self.remove).any(|line| line.vrf() == Some(vrf))
    }

    /// Commands that close and add.
    pub fn opening_commands(&self) -> String {
        let close = self.close.iter().map(|line| (line.context(), removal(line)));
        let add = self.add.iter().map(|line| (line.context(), line.text().to_owned()));
        commands(close.chain(add))
    }

    /// Commands that remove what is left over.
    pub fn closing_commands(&self) -> String {
        commands(self.remove.iter().map(|line| (line.context(), removal(line))))
    }
}

/// Commands that remove the neighbours on these interfaces, whatever else is configured.
pub fn unpeer(running: &Config, interfaces: &BTreeSet<String>) -> String {
    let lines = running.lines().iter().filter(|line| {
        line.text().split(' ').nth(2) == Some("interface")
            && line.neighbour().is_some_and(|(_, name)| interfaces.contains(name))
    });
    commands(lines.map(|line| (line.context(), removal(line))))
}

/// For people, as in a patch.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.close.iter().chain(&self.remove) {
            writeln!(f, "- {line}")?;
        }
        for line in &self.add {
            writeln!(f, "+ {line}")?;
        }
        Ok(())
    }
}

/// Neighbours that go or that FRR can only change by making them again, members before their groups; routers that go.
fn closing(running: &Config, wanted: &Config, keep: &[String]) -> Vec<Line> {
    // A VRF gives its VXLAN network back before its router goes: FRR refuses the other way round.
    let is_network = |line: &&Line| {
        line.top().starts_with("vrf ") && line.text().starts_with("vni ") && !wanted.has(line)
    };
    let networks = running.lines().iter().filter(is_network);
    let wanted = definitions(wanted);
    let routers = running
        .lines()
        .iter()
        .filter(|line| !is_kept(line, keep) && line.context().is_empty())
        .filter(|line| {
            line.top().starts_with("router ") && !wanted.contains_key(&(line.top(), ""))
        });
    let mut close: Vec<_> = networks.chain(routers).cloned().collect();
    let mut neighbours: Vec<_> = definitions(running)
        .into_iter()
        .filter(|((router, name), line)| {
            !name.is_empty()
                && !is_kept(line, keep)
                && wanted.contains_key(&(*router, ""))
                && wanted.get(&(*router, *name)).is_none_or(|other| other.text() != line.text())
        })
        .map(|(_, line)| line.clone())
        .collect();
    neighbours.sort_by_key(is_group);
    close.extend(neighbours);
    close
}

/// The line that makes each neighbour, by router and name; a router itself has the empty name.
fn definitions(config: &Config) -> BTreeMap<(&str, &str), &Line> {
    let mut definitions: BTreeMap<(&str, &str), &Line> = BTreeMap::new();
    for line in config.lines() {
        if line.context().is_empty() && line.top().starts_with("router ") {
            definitions.insert((line.top(), ""), line);
        }
        let Some((router, name)) = line.neighbour() else { continue };
        match line.text().split(' ').nth(2) {
            Some("interface") => {
                definitions.insert((router, name), line);
            }
            Some("peer-group") if is_group(line) => {
                definitions.insert((router, name), line);
            }
            Some("remote-as") => {
                definitions.entry((router, name)).or_insert(line);
            }
            _ => {}
        }
    }
    definitions
}

/// `neighbor NAME peer-group` makes a group; with one more word a member of it.
fn is_group(line: &Line) -> bool {
    let mut words = line.text().split(' ').skip(2);
    words.next() == Some("peer-group") && words.next().is_none()
}

/// Whether `line` disappears when `closed` is removed.
fn goes_with(line: &Line, closed: &Line) -> bool {
    match closed.neighbour() {
        Some(neighbour) => line.neighbour() == Some(neighbour),
        None => line == closed || line.is_below(closed),
    }
}

fn is_kept(line: &Line, keep: &[String]) -> bool {
    if line.top() == NEXT_HOPS {
        return false;
    }
    let is_place_of_vrf = line.top().starts_with("vrf ") && line.text().starts_with("netns ");
    is_place_of_vrf
        || KEPT.iter().any(|start| line.top().starts_with(start))
        || keep.iter().any(|start| line.top().starts_with(start.as_str()))
}

fn is_container(line: &Line) -> bool {
    line.text() == BFD || CONTAINERS.iter().any(|start| line.text().starts_with(start))
}

/// The command that takes a line away.
fn removal(line: &Line) -> String {
    let text = line.text();
    if let Some((_, name)) = line.neighbour() {
        let kind = text.split(' ').nth(2);
        if is_group(line) {
            return format!("no neighbor {name} peer-group");
        }
        if kind == Some("interface") {
            return format!("no neighbor {name}");
        }
    }
    text.strip_prefix("no ").map_or_else(|| format!("no {text}"), str::to_owned)
}

/// Commands with the lines that lead to them, each context opened as rarely as the order allows.
fn commands<'a>(commands: impl Iterator<Item = (&'a [Arc<str>], String)>) -> String {
    let mut text = String::new();
    let mut open: Vec<Arc<str>> = Vec::new();
    for (context, command) in commands {
        let common = open.iter().zip(context).take_while(|(a, b)| a == b).count();
        leave(&mut text, &mut open, common);
        for line in &context[common..] {
            let _ = writeln!(text, "{:1$}{line}", "", open.len());
            open.push(line.clone());
        }
        let _ = writeln!(text, "{:1$}{command}", "", open.len());
        if OPENERS.iter().any(|start| command.starts_with(start)) {
            open.push(command.into());
        }
    }
    leave(&mut text, &mut open, 0);
    text
}

fn leave(text: &mut String, open: &mut Vec<Arc<str>>, depth: usize) {
    while open.len() > depth {
        let Some(context) = open.pop() else { return };
        let word = match &*context {
            context if context.starts_with("address-family ") => "exit-address-family",
            context if context.starts_with("vrf ") => "exit-vrf",
            _ => "exit",
        };
        let _ = writeln!(text, "{:1$}{word}", "", open.len());
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const BASE: &str = "router bgp 1
 neighbor MACHINE peer-group
 neighbor MACHINE remote-as external
 neighbor MACHINE timers 3 9
 neighbor swp1 interface peer-group MACHINE
 neighbor swp1 description vrf1
 address-family ipv4 unicast
  network 10.0.0.0/8
  neighbor MACHINE activate
  neighbor swp1 route-map metal-swp1-in in
 exit-address-family
exit
ip prefix-list metal-swp1-in seq 1 permit 10.1.0.1/32
route-map metal-swp1-in permit 10
 match ip address prefix-list metal-swp1-in
exit
route-map metal-swp1-in deny 99
exit
";

    fn check(running: &str, wanted: &str, expect: Expect) {
        let change = Change::between(
            &Config::parse(running),
            &Config::parse(wanted),
            &["ip route 192.0.2.".into()],
        );
        expect.assert_eq(&format!(
            "{}---\n{}",
            change.opening_commands(),
            change.closing_commands()
        ));
    }

    #[test]
    fn equal_configurations_need_nothing() {
        let noisy = format!(
            "frr version 8.4.4\nhostname vm\nlog syslog\ninterface lo\nexit\nip route 192.0.2.0/24 blackhole\n{BASE}"
        );
        let change = Change::between(
            &Config::parse(&noisy),
            &Config::parse(BASE),
            &["ip route 192.0.2.".into()],
        );
        assert!(change.is_empty(), "{change}");
    }

    #[test]
    fn from_nothing() {
        check(
            "",
            BASE,
            expect![[r#"
            router bgp 1
             neighbor MACHINE peer-group
             neighbor MACHINE remote-as external
             neighbor MACHINE timers 3 9
             neighbor swp1 interface peer-group MACHINE
             neighbor swp1 description vrf1
             address-family ipv4 unicast
              network 10.0.0.0/8
              neighbor MACHINE activate
              neighbor swp1 route-map metal-swp1-in in
             exit-address-family
            exit
            ip prefix-list metal-swp1-in seq 1 permit 10.1.0.1/32
            route-map metal-swp1-in permit 10
             match ip address prefix-list metal-swp1-in
            exit
            route-map metal-swp1-in deny 99
            exit
            ---
        "#]],
        );
    }

    #[test]
    fn a_neighbour_goes_as_a_whole_and_before_everything() {
        let wanted =
            BASE.lines().filter(|line| !line.contains("swp1") && !line.starts_with("exit\n"));
        let wanted = wanted.collect::<Vec<_>>().join("\n");
        check(
            BASE,
            &wanted,
            expect![[r#"
            router bgp 1
             no neighbor swp1
            exit
            ---
            no route-map metal-swp1-in permit 10
            no route-map metal-swp1-in deny 99
            no ip prefix-list metal-swp1-in seq 1 permit 10.1.0.1/32
        "#]],
        );
    }

    #[test]
    fn values_are_replaced_and_drift_is_taken_back() {
        let running = BASE
            .replace("timers 3 9", "timers 60 180")
            .replace("  network 10.0.0.0/8\n", "  network 11.0.0.0/8\n")
            + "router ospf\nexit\nip route 0.0.0.0/0 Null0\nip route 192.0.2.0/24 blackhole\nno bgp network import-check\n";
        let running = running.replace(" neighbor MACHINE peer-group\n", " neighbor MACHINE peer-group\n neighbor 10.9.9.9 remote-as 7\n neighbor 10.9.9.9 timers 1 3\n");
        check(
            &running,
            BASE,
            expect![[r#"
            no router ospf
            router bgp 1
             no neighbor 10.9.9.9 remote-as 7
             neighbor MACHINE timers 3 9
             address-family ipv4 unicast
              network 10.0.0.0/8
             exit-address-family
            exit
            ---
            router bgp 1
             no neighbor MACHINE timers 60 180
             address-family ipv4 unicast
              no network 11.0.0.0/8
             exit-address-family
            exit
            no ip route 0.0.0.0/0 Null0
            bgp network import-check
        "#]],
        );
    }

    #[test]
    fn new_peers_are_those_on_an_interface() {
        let between = |running: &str, wanted: &str| {
            Change::between(&Config::parse(running), &Config::parse(wanted), &[]).new_peers()
        };
        let more = BASE.replace(
            " address-family",
            " neighbor up0 interface remote-as external\n neighbor 10.0.0.1 remote-as 7\n address-family",
        );
        assert_eq!(between(BASE, &more), ["up0".to_owned()].into());
        assert_eq!(between(&more, BASE), BTreeSet::new());
        // It is made again.
        assert_eq!(between(BASE, &BASE.replace("MACHINE", "FIREWALL")), ["swp1".to_owned()].into());
    }

    #[test]
    fn another_group_means_another_neighbour() {
        let wanted = BASE.replace("MACHINE", "FIREWALL");
        check(
            BASE,
            &wanted,
            expect![[r#"
            router bgp 1
             no neighbor swp1
             no neighbor MACHINE peer-group
             neighbor FIREWALL peer-group
             neighbor FIREWALL remote-as external
             neighbor FIREWALL timers 3 9
             neighbor swp1 interface peer-group FIREWALL
             neighbor swp1 description vrf1
             address-family ipv4 unicast
              neighbor FIREWALL activate
              neighbor swp1 route-map metal-swp1-in in
             exit-address-family
            exit
            ---
        "#]],
        );
    }

    #[test]
    fn another_autonomous_system_is_another_router() {
        let change = Change::between(
            &Config::parse(BASE),
            &Config::parse(&BASE.replace("bgp 1", "bgp 2")),
            &[],
        );
        assert!(
            change
                .opening_commands()
                .starts_with("no router bgp 1\nrouter bgp 2\n neighbor MACHINE peer-group\n")
        );
        assert!(change.remove.is_empty());
    }

    #[test]
    fn bfd_comes_and_goes() {
        let with = BASE.replace(
            " neighbor swp1 interface",
            " neighbor MACHINE bfd\n neighbor MACHINE bfd profile metal\n neighbor swp1 interface",
        ) + "bfd\n profile metal\n  transmit-interval 100\n  receive-interval 100\n exit\n !\nexit\n";
        check(
            BASE,
            &with,
            expect![[r#"
            router bgp 1
             neighbor MACHINE bfd
             neighbor MACHINE bfd profile metal
            exit
            bfd
             profile metal
              transmit-interval 100
              receive-interval 100
             exit
            exit
            ---
        "#]],
        );
        check(
            &with,
            BASE,
            expect![[r#"
            ---
            router bgp 1
             no neighbor MACHINE bfd
             no neighbor MACHINE bfd profile metal
            exit
            bfd
             no profile metal
            exit
        "#]],
        );
        // What a restarted daemon for BFD prints is nothing.
        let empty = format!("{BASE}bfd\nexit\n");
        assert!(Change::between(&Config::parse(&empty), &Config::parse(BASE), &[]).is_empty());
    }

    #[test]
    fn peers_are_removed_whatever_else_is_there() {
        let text = unpeer(&Config::parse(BASE), &["swp1".to_owned(), "swp2".to_owned()].into());
        assert_eq!(text, "router bgp 1\n no neighbor swp1\nexit\n");
    }
}
