//! The configuration file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use netconf::leaf::{Bfd, Liveness};
use serde::Deserialize;

use crate::backend::sonic::settings as sonic;

/// Everything that an operator decides about one switch.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Id of the switch, its host name; machines report it as their LLDP neighbour.
    pub id: String,
    /// Partition to which it belongs.
    pub partition: String,
    /// Rack in which it stands.
    pub rack: Option<String>,
    /// Room in which the rack stands.
    pub room: Option<String>,
    /// Where the control plane is.
    pub api_url: String,
    /// File with the token of an infra editor, read again when it changes.
    pub token_file: PathBuf,
    /// Certificate authorities of the control plane; the system's when absent.
    pub ca_cert_file: Option<PathBuf>,
    /// Where the last good desired state is kept.
    pub state_dir: PathBuf,
    /// Router id, announced as a host route.
    pub loopback: Ipv4Addr,
    /// Own autonomous system.
    pub asn: u32,
    /// Interfaces to spines or exits.
    pub uplinks: Vec<String>,
    /// Bridge of which unallocated machine ports are members.
    pub boot_bridge: String,
    /// Prefixes of the boot network, announced.
    #[serde(default)]
    pub boot_prefix: OneOrMany<IpNet>,
    /// Machine ports: names, with `*` for any text.
    pub ports: OneOrMany<String>,
    /// Address for administration; the loopback unless told.
    pub management_ip: Option<IpAddr>,
    /// How ports are named, for the control plane.
    #[serde(default)]
    pub vendor: Vendor,
    /// Loopback address on which metrics are served; nowhere when absent.
    pub metrics: Option<SocketAddr>,
    /// What keeps tenants apart.
    #[serde(default)]
    pub backend: Backend,
    /// The routing daemons.
    #[serde(default)]
    pub frr: Frr,
    /// What machines may do.
    #[serde(default)]
    pub policy: Policy,
    /// What is different about SONiC; read with that backend only.
    #[serde(default)]
    pub sonic: sonic::Settings,
}

/// FRR's own program.
pub(crate) const VTYSH: &str = "vtysh";

/// The routing daemons.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Frr {
    /// What the daemons were started with as `-N`; empty for the default instance.
    pub pathspace: String,
    /// The program that speaks with them.
    pub vtysh: PathBuf,
    /// Folder with the daemons' sockets, by which they are asked instead; empty for never. Without it FRR's own folder, if it is there and
    /// `vtysh` is FRR's own.
    pub sockets: Option<PathBuf>,
    /// Lines of the running configuration that start so belong to somebody else and stay.
    pub keep: Vec<String>,
}

impl Default for Frr {
    fn default() -> Self {
        Self { pathspace: String::new(), vtysh: VTYSH.into(), sockets: None, keep: Vec::new() }
    }
}

/// What machines may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// More prefixes than this from one machine and address family take its session down for a minute.
    pub maximum_prefix: u32,
    /// Never accepted from a machine, whatever the control plane says.
    pub protected: Vec<IpNet>,
    /// Seconds without a word after which a neighbour with a good link is given up.
    pub hold_seconds: u16,
    /// Watch links by BFD, too; needs `bfdd`. Neighbours that do not speak it are judged by the hold time alone.
    pub bfd: bool,
    /// Milliseconds between two of its packets.
    pub bfd_interval_ms: u16,
    /// So many of them are missed until a neighbour is given up.
    pub bfd_multiplier: u8,
}

impl Policy {
    /// When a silent neighbour is given up.
    pub fn liveness(&self) -> Liveness {
        let (interval_ms, multiplier) = (self.bfd_interval_ms, self.bfd_multiplier);
        let bfd = self.bfd.then_some(Bfd { interval_ms, multiplier });
        Liveness { hold: self.hold_seconds, bfd }
    }
}

impl Default for Policy {
    fn default() -> Self {
        let (Liveness { hold, .. }, bfd) = Default::default();
        let Bfd { interval_ms, multiplier } = bfd;
        Self {
            maximum_prefix: 100,
            protected: Vec::new(),
            hold_seconds: hold,
            bfd: false,
            bfd_interval_ms: interval_ms,
            bfd_multiplier: multiplier,
        }
    }
}

/// What keeps tenants apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Nothing but filters: all share one routing table.
    #[default]
    Plain,
    /// A network namespace for each tenant, and EVPN between the leaves.
    Netns,
    /// A VRF of the kernel for each tenant, and EVPN between the leaves.
    Kernel,
    /// The same, by files of ifupdown2.
    Cumulus,
    /// What SONiC makes of CONFIG_DB, and EVPN between the leaves.
    Sonic,
}

impl Backend {
    /// Whether tenants have a VRF each.
    pub fn has_vrfs(self) -> bool {
        self != Self::Plain
    }
}

/// How ports are named: the contract knows two ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// `swp1`.
    #[default]
    Cumulus,
    /// `Ethernet0`.
    Sonic,
}

/// One value, or several in brackets.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// Without brackets.
    One(T),
    /// In brackets.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The values.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// A sentence that names file and key.
    pub fn load(path: &Path) -> Result<Self> {
        let config: Self = daemon::config::load(path)?;
        config.check()?;
        Ok(config)
    }

    /// What the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<()> {
        for (key, value) in [("id", &self.id), ("partition", &self.partition)] {
            ensure!(
                (2..=128).contains(&value.len()),
                "{key}: {value:?} must have 2 to 128 characters"
            );
        }
        ensure!(self.asn > 0, "asn: 0 is no autonomous system");
        ensure!(
            !self.uplinks.is_empty(),
            "uplinks: a leaf without an uplink reaches nobody; name at least one interface"
        );
        ensure!(
            !self.ports.as_slice().is_empty(),
            "ports: name at least one machine port, like \"swp*\""
        );
        let Policy { hold_seconds, bfd_interval_ms, bfd_multiplier, .. } = self.policy;
        ensure!(
            hold_seconds >= 3,
            "policy.hold_seconds: {hold_seconds} is less than BGP allows, 3"
        );
        ensure!(
            (10..=60_000).contains(&bfd_interval_ms),
            "policy.bfd_interval_ms: {bfd_interval_ms} is not between 10 and 60000"
        );
        ensure!(
            bfd_multiplier >= 2,
            "policy.bfd_multiplier: one lost packet is no failure; take 2 at least"
        );
        if self.backend == Backend::Sonic {
            self.sonic.check(self)?;
        }
        for name in self.uplinks.iter().chain([&self.boot_bridge]) {
            ensure!(is_interface_name(name), "{name:?} is no name of an interface");
            ensure!(!self.uplinks.contains(&self.boot_bridge), "boot_bridge: {name} is an uplink");
        }
        Ok(())
    }

    /// Whether this interface is one of the machine ports.
    pub fn is_port(&self, name: &str) -> bool {
        is_interface_name(name)
            && name != self.boot_bridge
            && !self.uplinks.iter().any(|uplink| uplink == name)
            && self.ports.as_slice().iter().any(|pattern| matches(pattern, name))
    }
}

/// What the kernel and FRR both take as one word.
pub fn is_interface_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=15).contains(&name.len()) && name.chars().all(plain)
}

/// `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            (0..=name.len()).any(|cut| name.is_char_boundary(cut) && matches(rest, &name[cut..]))
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const EXAMPLE: &str = r#"
        id = "leaf01"
        partition = "lab"
        rack = "rack-01"
        api_url = "http://10.255.0.1:8080"
        token_file = "switch.token"
        state_dir = "leaf01"
        loopback = "10.0.0.11"
        asn = 4200000011
        uplinks = ["up0"]
        boot_bridge = "boot"
        boot_prefix = "10.0.1.0/24"
        ports = "swp*"
        [frr]
        pathspace = "leaf01"
    "#;

    #[test]
    fn the_example_of_the_lab() {
        let config: Config = toml::from_str(EXAMPLE).unwrap();
        config.check().unwrap();
        assert!(config.is_port("swp1") && config.is_port("swp12"));
        assert!(!config.is_port("up0") && !config.is_port("boot") && !config.is_port("lo"));
        assert!(!config.is_port("swp1 evil"));
    }

    #[test]
    fn patterns() {
        assert!(matches("swp*", "swp1") && matches("*", "x") && matches("a*b*c", "aXbYc"));
        assert!(!matches("swp*", "eth0") && !matches("swp1", "swp10") && !matches("a*b", "ac"));
    }

    #[test]
    fn mistakes_are_named() {
        let mistake = |from: &str, to: &str| {
            let text = EXAMPLE.replace(from, to);
            let config: Config = toml::from_str(&text).unwrap();
            config.check().unwrap_err().to_string()
        };
        assert!(mistake("[\"up0\"]", "[]").contains("uplinks"));
        assert!(mistake("4200000011", "0").contains("asn"));
        for wrong in ["hold_seconds = 2", "bfd_interval_ms = 1", "bfd_multiplier = 1"] {
            let key = wrong.split(' ').next().unwrap();
            let error = mistake("[frr]", &format!("[policy]\n{wrong}\n[frr]"));
            assert!(error.contains(key), "{error}");
        }
        assert!(mistake("[\"up0\"]", "[\"up 0\"]").contains("no name of an interface"));
        assert!(
            mistake("\"leaf01\"\n        partition", "\"l\"\n        partition").contains("id")
        );
    }
}
