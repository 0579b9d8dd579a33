//! The table `[sonic]` of the configuration file.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::schema;
use crate::config::{Config, Vendor};

/// What is different about SONiC. The defaults are where SONiC itself has these things.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Says where each database is. A switch without it has all of them behind one socket.
    pub databases: PathBuf,
    /// Where Redis is instead: the path of a socket, or host and port.
    pub redis: Option<String>,
    /// File with the password of Redis. SONiC has none.
    pub password_file: Option<PathBuf>,
    /// What SONiC loads when it boots; nothing is kept when absent.
    pub config_db: Option<PathBuf>,
    /// First and last VLAN for networks of tenants; they mean something on this switch only.
    pub vlans: (u16, u16),
    /// MTU of ports in the boot network and of machines.
    pub mtu: u32,
    /// MTU of ports of firewalls, which are part of the underlay.
    pub underlay_mtu: u32,
    /// Save the routing configuration as well, so that it is there after a reboot.
    pub save_routing: bool,
    /// So many seconds are SONiC's managers waited for.
    pub patience_seconds: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            databases: "/var/run/redis/sonic-db/database_config.json".into(),
            redis: None,
            password_file: None,
            config_db: Some("/etc/sonic/config_db.json".into()),
            vlans: (1001, 2000),
            mtu: 9000,
            underlay_mtu: 9216,
            save_routing: true,
            patience_seconds: 10,
        }
    }
}

impl Settings {
    /// What the types cannot say.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self, config: &Config) -> Result<()> {
        let (first, last) = self.vlans;
        ensure!(
            2 <= first && first <= last && last <= 4094,
            "sonic.vlans: {first} to {last} are no VLANs; they go from 2 to 4094"
        );
        ensure!(config.vendor == Vendor::Sonic, "vendor: on SONiC it is \"sonic\"");
        let boot = schema::vlan_id(&config.boot_bridge);
        ensure!(
            boot.is_some(),
            "boot_bridge: on SONiC the boot network is a VLAN, like \"Vlan4000\""
        );
        ensure!(
            boot.is_none_or(|boot| !(first..=last).contains(&boot)),
            "boot_bridge: {} is one of the VLANs for tenants, {first} to {last}",
            config.boot_bridge
        );
        for (key, mtu) in [("mtu", self.mtu), ("underlay_mtu", self.underlay_mtu)] {
            ensure!((68..=9216).contains(&mtu), "sonic.{key}: {mtu} is not between 68 and 9216");
        }
        ensure!(self.patience_seconds > 0, "sonic.patience_seconds: 0 waits for nobody");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let config = |from: &str, to: &str| -> Config {
            let text = crate::config::tests::EXAMPLE.replace(
                "boot_bridge = \"boot\"",
                "boot_bridge = \"Vlan4000\"\nbackend = \"sonic\"\nvendor = \"sonic\"",
            );
            toml::from_str(&format!("{text}\n[sonic]\nvlans = [1001, 2000]\n").replace(from, to))
                .unwrap()
        };
        config("", "").check().unwrap();
        for (from, to, key) in [
            ("Vlan4000", "boot", "boot_bridge"),
            ("Vlan4000", "Vlan1500", "boot_bridge"),
            ("vendor = \"sonic\"", "", "vendor"),
            ("[1001, 2000]", "[2000, 1001]", "sonic.vlans"),
            ("[1001, 2000]", "[1, 1000]", "sonic.vlans"),
            ("vlans = [1001, 2000]", "mtu = 10", "sonic.mtu"),
        ] {
            let error = config(from, to).check().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }
}
