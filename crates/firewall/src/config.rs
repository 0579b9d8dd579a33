//! The configuration file.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ipnet::IpNet;
use netconf::firewall::rules;
use serde::Deserialize;

/// What the installer wrote about one firewall.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Id of the machine.
    pub machine: String,
    /// Where the control plane is.
    pub api_url: String,
    /// File with the token of this firewall; the agent renews it.
    pub token_file: PathBuf,
    /// Certificate authorities of the control plane; the system's when absent.
    pub ca_cert_file: Option<PathBuf>,
    /// Where the last good rules are kept.
    pub state_dir: PathBuf,
    /// From where the firewall itself is administered by SSH.
    #[serde(default)]
    pub management: Management,
    /// The program that loads rules.
    #[serde(default = "nft")]
    pub nft: PathBuf,
}

fn nft() -> PathBuf {
    "nft".into()
}

/// From where the firewall itself is administered by SSH.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Management {
    /// Interfaces, a `*` at the end stands for any text. Absent: the fabric and the VPN.
    pub interfaces: Vec<String>,
    /// Source prefixes on these interfaces; none are all.
    pub prefixes: Vec<IpNet>,
}

impl Default for Management {
    fn default() -> Self {
        let rules::Management { interfaces, prefixes } = rules::Management::default();
        Self { interfaces, prefixes }
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// A sentence that names file and key.
    pub fn load(path: &Path) -> Result<Self> {
        Ok(daemon::config::load(path)?)
    }

    /// As the rules want it.
    #[must_use]
    pub fn management(&self) -> rules::Management {
        let Management { interfaces, prefixes } = self.management.clone();
        rules::Management { interfaces, prefixes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_installer_writes() {
        let text = r#"
            machine = "00000000-0000-4000-8000-000000000001"
            api_url = "http://10.255.0.1:8080"
            token_file = "/etc/metal/firewall.token"
            state_dir = "/var/lib/metal-firewall"
        "#;
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.management.interfaces, ["lan*", "tailscale*"]);
        let narrowed = format!("{text}[management]\nprefixes = [\"10.255.0.0/16\"]\n");
        let config: Config = toml::from_str(&narrowed).unwrap();
        assert_eq!(config.management().prefixes.len(), 1);
        assert!(toml::from_str::<Config>(&format!("{text}colour = 1\n")).is_err());
    }
}
