//! The configuration file.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::dhcp::lease::Pool;
use crate::dhcp::{Mode, SCRIPT_PATH, Settings};

/// The configuration file of `metal-boot`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The partition whose machines boot here.
    pub partition: String,
    /// The control plane.
    pub api_url: String,
    /// File with our token of an infra editor.
    pub token_file: PathBuf,
    /// Certificate authorities (PEM) of the control plane, the system's unless given.
    pub ca_cert_file: Option<PathBuf>,
    /// Where kernels, initrds, leases and known machines are kept.
    pub cache_dir: PathBuf,
    /// Id of the switch that this runs on, if it runs on one.
    #[serde(default)]
    pub switch: String,
    /// User to whom the tokens of machines belong; its tenant carries the label `tenant.metal-stack.io/machine-bootstrapper`.
    #[serde(default = "default_user")]
    pub machine_user: String,
    /// Loopback address for `/metrics` and `/healthz`, none unless given.
    pub metrics_address: Option<SocketAddr>,
    /// Where the iPXE binaries are.
    #[serde(default = "default_loaders")]
    pub loader_dir: PathBuf,
    pub network: Network,
    #[serde(default)]
    pub machine: Machine,
}

/// `[network]`: the network on which machines boot.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    #[serde(default)]
    pub mode: ModeName,
    pub interface: String,
    /// Our address on the interface.
    pub address: Ipv4Addr,
    pub prefix_length: u8,
    /// First and last address that machines get; required in mode `dhcp`.
    pub pool_start: Option<Ipv4Addr>,
    pub pool_end: Option<Ipv4Addr>,
    /// The router that machines are told, our own address unless given.
    pub router: Option<Ipv4Addr>,
    #[serde(default)]
    pub dns_servers: Vec<Ipv4Addr>,
    /// A /64 from which machines make IPv6 addresses.
    pub ipv6_prefix: Option<String>,
    #[serde(default = "default_http_port")]
    pub http_port: u16,
}

/// Whether we hand out addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeName {
    #[default]
    Dhcp,
    /// A foreign DHCP server does.
    Proxy,
}

/// `[machine]`: what machines are told.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The control plane as machines reach it, if that differs.
    pub api_url: Option<String>,
    /// Names or addresses of NTP servers.
    #[serde(default)]
    pub ntp_servers: Vec<String>,
    /// Certificate authorities (PEM) of the control plane that machines trust.
    pub ca_cert_file: Option<PathBuf>,
}

fn default_user() -> String {
    "machine".into()
}

fn default_loaders() -> PathBuf {
    "/usr/lib/ipxe".into()
}

fn default_http_port() -> u16 {
    80
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// With a sentence that says what to change.
    pub fn load(path: &Path) -> Result<Self> {
        let config: Self = daemon::config::load(path)?;
        config.settings().with_context(|| path.display().to_string())?;
        config.ipv6_prefix().with_context(|| path.display().to_string())?;
        Ok(config)
    }

    /// What DHCP answers say.
    ///
    /// # Errors
    /// With a sentence that says what to change.
    pub fn settings(&self) -> Result<Settings> {
        let network = &self.network;
        ensure!(!self.partition.is_empty(), "partition: must not be empty");
        ensure!(!network.interface.is_empty(), "network.interface: must not be empty");
        ensure!(
            (1..=30).contains(&network.prefix_length),
            "network.prefix_length: must be between 1 and 30"
        );
        let mode = match network.mode {
            ModeName::Dhcp => Mode::Dhcp(self.pool()?),
            ModeName::Proxy => Mode::Proxy,
        };
        let settings = Settings {
            mode,
            server: network.address,
            prefix_length: network.prefix_length,
            router: Some(network.router.unwrap_or(network.address)),
            dns_servers: network.dns_servers.clone(),
            ntp_servers: self
                .machine
                .ntp_servers
                .iter()
                .filter_map(|server| server.parse().ok())
                .collect(),
            http_port: network.http_port,
        };
        debug_assert!(settings.url(SCRIPT_PATH).len() < 128, "fits the boot file field of DHCP");
        Ok(settings)
    }

    fn pool(&self) -> Result<Pool> {
        let network = &self.network;
        let (Some(first), Some(last)) = (network.pool_start, network.pool_end) else {
            bail!("network: mode \"dhcp\" needs pool_start and pool_end");
        };
        ensure!(first <= last, "network.pool_end: {last} comes before pool_start {first}");
        let host_bits = u32::MAX >> network.prefix_length;
        let part = |address: Ipv4Addr| address.to_bits() & !host_bits;
        for (key, address) in [("pool_start", first), ("pool_end", last)] {
            ensure!(
                part(address) == part(network.address),
                "network.{key}: {address} is outside of the network {}/{}",
                Ipv4Addr::from_bits(part(network.address)),
                network.prefix_length,
            );
            let host = address.to_bits() & host_bits;
            ensure!(
                host != 0 && host != host_bits,
                "network.{key}: {address} is no address of a single machine"
            );
        }
        Ok(Pool { first, last, own: network.address })
    }

    /// The /64 for router advertisements.
    ///
    /// # Errors
    /// When it is no /64.
    pub fn ipv6_prefix(&self) -> Result<Option<Ipv6Addr>> {
        let Some(text) = &self.network.ipv6_prefix else { return Ok(None) };
        let prefix = text.strip_suffix("/64").and_then(|address| address.parse().ok());
        prefix.map(Some).with_context(|| {
            format!("network.ipv6_prefix: {text:?} is no /64; write it like fd00:0:0:1::/64")
        })
    }

    /// The control plane as machines reach it.
    #[must_use]
    pub fn machine_api_url(&self) -> &str {
        self.machine.api_url.as_deref().unwrap_or(&self.api_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const EXAMPLE: &str = r#"
        partition = "lab"
        api_url = "http://10.255.0.1:8080"
        token_file = "boot.token"
        cache_dir = "cache"
        switch = "leaf01"
        [network]
        mode = "dhcp"
        interface = "boot"
        address = "10.0.1.1"
        prefix_length = 24
        pool_start = "10.0.1.100"
        pool_end = "10.0.1.199"
        ipv6_prefix = "fd99:0:0:1::/64"
        http_port = 80
        [machine]
        ntp_servers = ["192.0.2.1", "ntp.example"]
    "#;

    fn load(change: &str, into: &str) -> Result<Settings> {
        assert!(EXAMPLE.contains(change));
        let config: Config = daemon::config::parse("boot.toml", &EXAMPLE.replace(change, into))?;
        config.ipv6_prefix()?;
        config.settings()
    }

    #[test]
    fn the_example_and_its_mistakes() {
        let settings = load("", "").unwrap();
        assert_eq!(settings.url("/config"), "http://10.0.1.1/config");
        assert_eq!(settings.ntp_servers, ["192.0.2.1".parse::<Ipv4Addr>().unwrap()]);
        let proxy = load("mode = \"dhcp\"", "mode = \"proxy\"").unwrap();
        assert_eq!(proxy.mode, Mode::Proxy);

        let sentence = |change, into| format!("{:#}\n", load(change, into).unwrap_err());
        let text = [
            sentence("\"10.0.1.199\"", "\"10.0.1.9\""),
            sentence("\"10.0.1.199\"", "\"10.0.2.9\""),
            sentence("\"10.0.1.199\"", "\"10.0.1.255\""),
            sentence("pool_start = \"10.0.1.100\"", ""),
            sentence("prefix_length = 24", "prefix_length = 32"),
            sentence("::/64", "::/48"),
            sentence("\"dhcp\"", "\"both\""),
            sentence("http_port = 80", "http_prot = 80"),
        ];
        expect![[r#"
            network.pool_end: 10.0.1.9 comes before pool_start 10.0.1.100
            network.pool_end: 10.0.2.9 is outside of the network 10.0.1.0/24
            network.pool_end: 10.0.1.255 is no address of a single machine
            network: mode "dhcp" needs pool_start and pool_end
            network.prefix_length: must be between 1 and 30
            network.ipv6_prefix: "fd99:0:0:1::/48" is no /64; write it like fd00:0:0:1::/64
            boot.toml:8: network.mode: unknown variant `both`, expected `dhcp` or `proxy`
            boot.toml:15: network.http_prot: unknown field `http_prot`, expected one of `mode`, `interface`, `address`, `prefix_length`, `pool_start`, `pool_end`, `router`, `dns_servers`, `ipv6_prefix`, `http_port`
        "#]].assert_eq(&text.concat());
    }
}
