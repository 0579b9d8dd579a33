//! Text of a configuration to lines that know where they stand.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

/// A line with the lines that lead to it: `router bgp 1`, `address-family ipv4 unicast`, `network 10.0.0.0/8`. A large leaf has
/// fifteen thousand of them, looked at every two seconds: copies share their text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(Arc<[Arc<str>]>);

impl Line {
    /// What stands above it.
    pub fn context(&self) -> &[Arc<str>] {
        &self.0[..self.0.len() - 1]
    }

    /// The line itself.
    pub fn text(&self) -> &str {
        &self.0[self.0.len() - 1]
    }

    /// The outermost line.
    pub fn top(&self) -> &str {
        &self.0[0]
    }

    /// Whether it stands below `other`.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && self.0.starts_with(&other.0)
    }

    /// Whether it is about this port: its interface, its neighbour, its filter.
    pub fn is_about(&self, port: &str) -> bool {
        let filter = format!("{}{port}-in", netconf::leaf::NAME_PREFIX);
        self.0.iter().any(|line| line.split(' ').any(|word| word == port || word == filter))
    }

    /// The VRF that it makes or configures, if it is about one as a whole.
    pub(crate) fn vrf(&self) -> Option<&str> {
        let top = self.top();
        if let Some(name) = top.strip_prefix("vrf ") {
            return Some(name);
        }
        top.strip_prefix("router bgp ")?.split_once(" vrf ").map(|(_, name)| name)
    }

    /// The neighbour or peer group that it configures, with the router that it stands in.
    pub(crate) fn neighbour(&self) -> Option<(&str, &str)> {
        if !self.top().starts_with("router bgp ") {
            return None;
        }
        Some((self.top(), self.text().strip_prefix("neighbor ")?.split(' ').next()?))
    }
}

/// For people: `router bgp 1 > network 10.0.0.0/8`.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" > "))
    }
}

/// A configuration. Two are equal when they mean the same to FRR, which prints lines in an order of its own.
#[derive(Clone, Debug, Default)]
pub struct Config {
    lines: Vec<Line>,
    set: HashSet<Line>,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.set == other.set
    }
}

impl Eq for Config {}

impl Config {
    /// Reads what FRR prints or what is meant for it. Nothing is refused: what it does not know are lines, too.
    pub fn parse(text: &str) -> Self {
        let mut config = Self::default();
        // (indent, line) of everything that is open
        let mut open: Vec<(usize, Arc<str>)> = Vec::new();
        for raw in text.lines() {
            let line = raw.trim();
            if is_decoration(line) {
                continue;
            }
            let indent = raw.len() - raw.trim_start().len();
            open.truncate(
                open.iter().position(|(other, _)| *other >= indent).unwrap_or(open.len()),
            );
            open.push((indent, line.into()));
            config.push(Line(open.iter().map(|(_, line)| line.clone()).collect()));
        }
        config
    }

    fn push(&mut self, line: Line) {
        if self.set.insert(line.clone()) {
            self.lines.push(line);
        }
    }

    /// In the order of the text.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Whether it has this line.
    pub fn has(&self, line: &Line) -> bool {
        self.set.contains(line)
    }

    /// Neighbours that are found on an interface, with their description.
    pub fn peers(&self) -> BTreeMap<String, Option<String>> {
        let mut peers = BTreeMap::new();
        for line in &self.lines {
            if let Some((_, name)) = line.neighbour()
                && line.text().split(' ').nth(2) == Some("interface")
            {
                peers.entry(name.to_owned()).or_insert(None);
            }
        }
        for line in &self.lines {
            if let Some((_, name)) = line.neighbour()
                && let Some(peer) = peers.get_mut(name)
                && let Some((_, text)) = line.text().split_once(" description ")
            {
                *peer = Some(text.to_owned());
            }
        }
        peers
    }

    /// The same, but everything about one port as in `other`.
    #[must_use]
    pub fn with_port_from(&self, other: &Self, port: &str) -> Self {
        let mut config = Self::default();
        for line in self.lines.iter().filter(|line| !line.is_about(port)) {
            config.push(line.clone());
        }
        for line in other.lines.iter().filter(|line| line.is_about(port)) {
            // What it stands in comes along.
            for depth in 1..line.0.len() {
                config.push(Line(line.0[..depth].into()));
            }
            config.push(line.clone());
        }
        config
    }
}

impl Config {
    /// VRFs in it.
    pub fn vrfs(&self) -> BTreeSet<String> {
        self.lines.iter().filter_map(Line::vrf).map(str::to_owned).collect()
    }

    /// The same, but everything about one VRF as in `other`.
    #[must_use]
    pub fn with_vrf_from(&self, other: &Self, vrf: &str) -> Self {
        let mine = self.lines.iter().filter(|line| line.vrf() != Some(vrf));
        let theirs = other.lines.iter().filter(|line| line.vrf() == Some(vrf));
        mine.chain(theirs).cloned().collect()
    }

    /// The VRF in which `port` has a neighbour.
    pub(crate) fn vrf_of(&self, port: &str) -> Option<&str> {
        let is_neighbour = |line: &&Line| line.neighbour().is_some_and(|(_, name)| name == port);
        self.lines.iter().filter(is_neighbour).find_map(Line::vrf)
    }

    /// The same with the VRF that `port` has a neighbour in in `other`, unless it is there anyway.
    #[must_use]
    pub fn with_vrf_of(self, other: &Self, port: &str) -> Self {
        match other.vrf_of(port) {
            Some(vrf) if !self.vrfs().contains(vrf) => self.with_vrf_from(other, vrf),
            _ => self,
        }
    }
}

impl FromIterator<Line> for Config {
    fn from_iter<I: IntoIterator<Item = Line>>(lines: I) -> Self {
        let mut config = Self::default();
        lines.into_iter().for_each(|line| config.push(line));
        config
    }
}

fn is_decoration(line: &str) -> bool {
    line.is_empty()
        || line.starts_with('!')
        || line == "end"
        || line == "exit"
        || line.starts_with("exit-")
        || line == "Building configuration..."
        || line == "Current configuration:"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "Building configuration...\n\nCurrent configuration:\n!\nfrr version 8.4.4\n!\ninterface swp1\n no ipv6 nd suppress-ra\nexit\n!\nrouter bgp 1\n neighbor swp1 interface peer-group MACHINE\n neighbor swp1 description vrf7 a b\n neighbor up0 interface remote-as external\n !\n address-family ipv4 unicast\n  network 10.0.0.0/8\n exit-address-family\nexit\n!\nip prefix-list metal-swp1-in seq 1 permit 10.0.0.1/32\n!\nend\n";

    #[test]
    fn lines_know_where_they_stand() {
        let lines: Vec<_> = Config::parse(TEXT).lines().iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "frr version 8.4.4",
                "interface swp1",
                "interface swp1 > no ipv6 nd suppress-ra",
                "router bgp 1",
                "router bgp 1 > neighbor swp1 interface peer-group MACHINE",
                "router bgp 1 > neighbor swp1 description vrf7 a b",
                "router bgp 1 > neighbor up0 interface remote-as external",
                "router bgp 1 > address-family ipv4 unicast",
                "router bgp 1 > address-family ipv4 unicast > network 10.0.0.0/8",
                "ip prefix-list metal-swp1-in seq 1 permit 10.0.0.1/32",
            ]
        );
    }

    #[test]
    fn peers_and_what_is_about_a_port() {
        let config = Config::parse(TEXT);
        let peers = config.peers();
        assert_eq!(peers["swp1"].as_deref(), Some("vrf7 a b"));
        assert_eq!(peers["up0"], None);
        assert_eq!(config.lines().iter().filter(|line| line.is_about("swp1")).count(), 5);
        assert_eq!(config.lines().iter().filter(|line| line.is_about("swp")).count(), 0);
    }

    #[test]
    fn one_port_from_another_configuration() {
        let with = Config::parse(TEXT);
        let without: Config =
            with.lines().iter().filter(|line| !line.is_about("swp1")).cloned().collect();
        assert_eq!(without.with_port_from(&with, "swp1"), with);
        assert_eq!(with.with_port_from(&without, "swp1"), without);
    }

    proptest! {
        #[test]
        fn anything_is_read(text in "([ !a-z0-9]{0,12}\n){0,20}") {
            let config = Config::parse(&text);
            prop_assert!(config.lines().len() <= text.lines().count());
        }
    }
}
