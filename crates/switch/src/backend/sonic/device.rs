//! A switch with SONiC.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netconf::leaf::evpn::{Evpn, Vrfs};
use tokio::sync::Notify;

use super::databases::{Address, Base, Databases};
use super::db::{Db, Task};
use super::names::Names;
use super::persist::{self, Own};
use super::schema::{self, Condition, Snapshot, field, key, table};
use super::settings::Settings;
use super::steps::{self, Rules};
use crate::backend::linux::{Linux, forwards};
use crate::backend::{Backend, Observed, Port, Step};
use crate::config::Config;
use crate::frr::neighbours::Session;
use crate::netlink::{self, Link};

/// The managers are asked again after this, and then more and more seldom.
const FIRST: Duration = Duration::from_millis(20);
const LAST: Duration = Duration::from_millis(300);
/// Managers that were waited for in vain are waited for only this long by the steps of the next minute: one that hangs must not hold
/// up what others do for other ports.
const IMPATIENCE: Duration = Duration::from_secs(1);
const HUNG: Duration = Duration::from_secs(60);
/// SONiC leaves FRR alone in these modes.
const MODES: [&str; 2] = ["split", "split-unified"];

/// The device.
pub struct Sonic {
    linux: Linux,
    db: Arc<Db>,
    rules: Rules,
    /// What SONiC's managers make of a VRF.
    vrfs: Vrfs,
    news: Arc<Notify>,
    _listening: Vec<Task>,
    kept: Mutex<Kept>,
    /// When the managers were last waited for in vain.
    hung: Mutex<Option<Instant>>,
}

/// What is not on disk yet.
#[derive(Debug)]
struct Kept {
    /// Nobody has compared it yet.
    new: bool,
    /// Rows that may not be in `config_db.json`.
    rows: Saved,
    /// The routing configuration.
    routing: Saved,
}

#[derive(Debug)]
enum Saved {
    Yes,
    No,
    /// It was tried, in vain.
    Failed(String),
}

impl Saved {
    fn is(&self) -> bool {
        matches!(self, Self::Yes)
    }

    fn trouble(&self) -> Option<String> {
        match self {
            Self::Failed(error) => Some(error.clone()),
            Self::Yes | Self::No => None,
        }
    }
}

impl Sonic {
    /// The switch that this process runs on. `vrfs` is what its managers make of a VRF: SONiC's own make devices of the
    /// kernel. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When nobody says where the databases are.
    pub fn open(settings: Arc<Config>, vrfs: Vrfs) -> Result<Self> {
        let db = Arc::new(Db::new(databases(&settings.sonic)?));
        let news = Arc::new(Notify::new());
        Ok(Self {
            _listening: db.listen(&news),
            rules: Rules::of(&settings),
            linux: Linux::new(settings),
            db,
            vrfs,
            news,
            kept: Mutex::new(Kept { new: true, rows: Saved::No, routing: Saved::Yes }),
            hung: Mutex::default(),
        })
    }

    fn settings(&self) -> &Settings {
        &self.linux.settings.sonic
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transaction after transaction until the step is done, and SONiC says so.
    async fn write(&self, step: &Step) -> Result<()> {
        let patience = self.patience();
        let (mut since, mut pause) = (Instant::now(), FIRST);
        let mut written = false;
        loop {
            let mut now = self.db.snapshot().await?;
            let keys = steps::keys(step, &now, &self.rules);
            let transaction = self.db.begin(&keys).await?;
            now.config.retain(|key, _| !keys.contains(key));
            now.config.extend(transaction.rows.clone());
            let next = steps::next(step, &now, &self.rules)?;
            let waiting = self.waiting(&next.wait).await?;
            if waiting.is_none() && next.writes.is_empty() {
                break;
            }
            if waiting.is_none() {
                self.kept().rows = Saved::No;
                let commands: Vec<_> = next.writes.iter().map(ToString::to_string).collect();
                if transaction.commit(&next.writes).await? {
                    tracing::debug!(commands = commands.join("; "), "written to CONFIG_DB");
                    (since, pause, written) = (Instant::now(), FIRST, true);
                    continue;
                }
                tracing::debug!("somebody else changed CONFIG_DB meanwhile; looking again");
            }
            if since.elapsed() > patience {
                let seconds = patience.as_secs();
                match waiting {
                    Some(condition) => {
                        *self.hung() = Some(Instant::now());
                        bail!(
                            "SONiC's managers have not done it within {seconds} s: {condition}; does swss run?"
                        )
                    }
                    None => bail!("somebody else changes the same rows all the time"),
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST);
        }
        if written {
            *self.hung() = None;
            self.save().await;
        }
        Ok(())
    }

    fn hung(&self) -> MutexGuard<'_, Option<Instant>> {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn patience(&self) -> Duration {
        let patience = Duration::from_secs(self.settings().patience_seconds.into());
        match *self.hung() {
            Some(at) if at.elapsed() < HUNG => patience.min(IMPATIENCE),
            _ => patience,
        }
    }

    async fn waiting<'c>(&self, conditions: &'c [Condition]) -> Result<Option<&'c Condition>> {
        for condition in conditions {
            if !self.db.holds(condition).await? {
                return Ok(Some(condition));
            }
        }
        Ok(None)
    }

    /// What is written stays written after a reboot. What cannot be saved now is tried again.
    async fn save(&self) {
        let Some(path) = &self.settings().config_db else { return };
        let result = match self.db.snapshot().await {
            Ok(now) => {
                let is_port = |name: &str| self.linux.settings.is_port(name);
                let own = Own { rules: &self.rules, is_port: &is_port };
                persist::save(path, &now.config, &own).map(drop)
            }
            Err(error) => Err(error),
        };
        self.kept().rows = match result {
            Ok(()) => Saved::Yes,
            Err(error) => Saved::Failed(format!("CONFIG_DB is not saved: {error:#}")),
        };
    }

    async fn save_routing(&self) {
        if !self.settings().save_routing {
            return;
        }
        let result = self.linux.save_routing().await;
        self.kept().routing = match result {
            Ok(()) => Saved::Yes,
            Err(error) => {
                Saved::Failed(format!("the routing configuration is not saved: {error:#}"))
            }
        };
    }

    /// What of the file is not as it runs, told once: somebody may have changed one of them while nobody looked.
    fn compare(&self, now: &Snapshot) {
        if !std::mem::take(&mut self.kept().new) {
            return;
        }
        match self.differences(now) {
            Ok(differences) if differences.is_empty() => {}
            Ok(differences) => tracing::warn!(
                differences = differences.join("; "),
                "config_db.json is not as what runs; what runs will be saved"
            ),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "config_db.json is not compared");
            }
        }
    }

    fn differences(&self, now: &Snapshot) -> Result<Vec<String>> {
        let Some(path) = &self.settings().config_db else { return Ok(Vec::new()) };
        let is_port = |name: &str| self.linux.settings.is_port(name);
        persist::compare(path, &now.config, &Own { rules: &self.rules, is_port: &is_port })
    }

    fn ports(&self, now: &Snapshot, links: &[Link]) -> BTreeMap<String, Port> {
        let base = base_mac(now);
        let port = |(name, wanted): (&str, &schema::Fields)| {
            let link = links.iter().find(|link| link.name == name);
            let applied = now.ports.get(name);
            let says = |field: &str| applied.and_then(|row| row.get(field)).map(String::as_str);
            let up = says("admin_status").or(wanted.get("admin_status").map(String::as_str));
            let port = Port {
                mac: link.map_or(base, |link| link.mac),
                up: up == Some("up"),
                link: says("oper_status") == Some("up"),
                place: steps::place(name, now, &self.rules),
            };
            (name.to_owned(), port)
        };
        table(&now.config, "PORT")
            .filter(|(name, _)| self.linux.settings.is_port(name))
            .map(port)
            .collect()
    }

    /// What others have to make: the factory, and whoever set the switch up.
    fn missing(&self, now: &Snapshot, links: &[Link]) -> Vec<String> {
        let mut missing = self.linux.missing(links);
        missing.extend(lacks(&now.config, &self.rules, &self.linux.settings));
        let kept = self.kept();
        missing.extend([&kept.rows, &kept.routing].into_iter().filter_map(Saved::trouble));
        missing
    }

    /// VRFs that are wanted and that the managers have made.
    async fn there(&self, wanted: &crate::frr::Config) -> Result<BTreeSet<String>> {
        let now = self.db.snapshot().await?;
        let mut vrfs = wanted.vrfs();
        vrfs.retain(|vrf| now.state.contains_key(&key("VRF_TABLE", vrf)));
        Ok(vrfs)
    }

    /// For `metal-switch check`: what it stands on, line by line.
    pub async fn check(&self) -> Vec<(&'static str, Result<String>)> {
        let address = self.db.address(Base::Config);
        let redis = self.db.version().await.map(|version| format!("{version} at {address}"));
        let now = match self.db.snapshot().await {
            Ok(now) => now,
            Err(error) => return vec![("redis", redis), ("CONFIG_DB", Err(error))],
        };
        let names = Names::read(&now.config);
        let metadata = |name| field(&now.config, "DEVICE_METADATA|localhost", name);
        let version = field(&now.config, "VERSIONS|DATABASE", "VERSION").unwrap_or("unknown");
        let hardware = metadata("hwsku").unwrap_or("unknown hardware");
        let config = format!("{} rows, {version}, {hardware}", now.config.len());
        let file = self.differences(&now).and_then(|differences| match &differences[..] {
            [] => Ok("the rows of this agent are saved".to_owned()),
            _ => bail!("{}", differences.join("; ")),
        });
        let ports = self.ports(&now, &[]);
        let ports: Vec<_> = ports
            .iter()
            .map(|(name, port)| format!("{} {:?}", names.both(name), port.place))
            .collect();
        vec![
            ("redis", redis),
            ("CONFIG_DB", Ok(config)),
            ("config_db.json", file),
            ("places", Ok(ports.join(", "))),
        ]
    }
}

impl Backend for Sonic {
    fn routing(&self, evpn: &Evpn) -> String {
        netconf::leaf::evpn::frr_named(&Evpn { vrfs: self.vrfs, ..evpn.clone() }, "Vrf")
    }

    async fn observe(&self) -> Result<Observed> {
        let links = netlink::links().context("interfaces cannot be read")?;
        let now = self.db.snapshot().await?;
        self.compare(&now);
        Ok(Observed {
            ports: self.ports(&now, &links),
            forwards: forwards(),
            missing: self.missing(&now, &links),
            tenants: steps::tenants(&now, &self.rules),
            bfd: self.linux.has_bfd().await,
            routing: self.linux.routing().await,
        })
    }

    async fn apply(&self, step: &Step) -> Result<()> {
        match step {
            Step::Forward => self.linux.forward(),
            Step::Unpeer(ports) => self.linux.unpeer(ports).await,
            Step::Routing(routing) => {
                let there = self.there(&routing.wanted).await?;
                self.linux.reroute(routing, there).await?;
                self.save_routing().await;
                Ok(())
            }
            Step::Boot(_)
            | Step::Route(..)
            | Step::Leave(_)
            | Step::Admin(..)
            | Step::Prepare(_)
            | Step::CleanUp(_) => self.write(step).await,
        }
    }

    async fn sessions(&self) -> Result<BTreeMap<String, Session>> {
        self.linux.sessions().await
    }

    /// Only an agent that serves waits; one that plans or checks saves nothing.
    async fn changed(&self) {
        let (rows, routing) = {
            let kept = self.kept();
            (kept.rows.is(), kept.routing.is())
        };
        if !rows {
            self.save().await;
        }
        if !routing {
            self.save_routing().await;
        }
        self.news.notified().await;
    }

    fn spaces(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

fn databases(settings: &Settings) -> Result<Databases> {
    let databases = match &settings.redis {
        Some(address) => Databases::at(&Address::parse(address).context("sonic.redis")?),
        None => Databases::load(&settings.databases).context("sonic.databases")?,
    };
    Ok(databases.with_password_file(settings.password_file.as_deref()))
}

/// SONiC gives all ports one address.
fn base_mac(now: &Snapshot) -> [u8; 6] {
    let text = field(&now.config, "DEVICE_METADATA|localhost", "mac").unwrap_or_default();
    let bytes: Vec<_> = text.split(':').map_while(|b| u8::from_str_radix(b, 16).ok()).collect();
    bytes.try_into().unwrap_or_default()
}

/// Rows that somebody else has to write.
fn lacks(config: &schema::Rows, rules: &Rules, settings: &Config) -> Vec<String> {
    let mut lacks = Vec::new();
    let names = Names::read(config);
    if !config.contains_key(&key("VLAN", &rules.boot)) {
        lacks.push(format!("VLAN has no row {}", rules.boot));
    }
    for uplink in &settings.uplinks {
        let is_port = config.contains_key(&key("PORT", uplink))
            || config.contains_key(&key("PORTCHANNEL", uplink));
        let of = match uplink.starts_with("PortChannel") {
            true => "PORTCHANNEL_INTERFACE",
            false => "INTERFACE",
        };
        let row = key(of, uplink);
        if !is_port {
            lacks.push(names.hint(uplink));
        } else if field(config, &row, "ipv6_use_link_local_only") != Some("enable") {
            lacks.push(format!("{row} does not have ipv6_use_link_local_only enable"));
        }
    }
    for port in settings.ports.as_slice().iter().filter(|port| !port.contains('*')) {
        if !config.contains_key(&key("PORT", port)) {
            lacks.push(names.hint(port));
        }
    }
    let mut tunnels = table(config, "VXLAN_TUNNEL");
    let loopback = settings.loopback.to_string();
    match (tunnels.next(), tunnels.next()) {
        (Some((_, tunnel)), None) if tunnel.get("src_ip") == Some(&loopback) => {}
        (Some((name, _)), None) => {
            lacks.push(format!("VXLAN_TUNNEL|{name} does not have src_ip {loopback}"));
        }
        _ => lacks.push("VXLAN_TUNNEL must have one row, the tunnel end of this switch".into()),
    }
    if table(config, "VXLAN_EVPN_NVO").next().is_none() {
        lacks.push("VXLAN_EVPN_NVO has no row: SONiC does not listen to EVPN".into());
    }
    let metadata = |name| field(config, "DEVICE_METADATA|localhost", name);
    let mode = metadata("docker_routing_config_mode").unwrap_or("separated");
    if !MODES.contains(&mode) || metadata("frr_mgmt_framework_config") == Some("true") {
        lacks.push(format!(
            "SONiC configures FRR itself (docker_routing_config_mode {mode}); it must be split-unified"
        ));
    }
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::sonic::persist::{parse, rows};

    fn settings() -> Config {
        let text = crate::config::tests::EXAMPLE
            .replace("\"up0\"", "\"Ethernet120\"")
            .replace("boot_bridge = \"boot\"", "boot_bridge = \"Vlan4000\"")
            .replace("\"swp*\"", "[\"Ethernet*\", \"Eth1/1\"]");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn what_others_have_to_write_is_named() {
        let settings = settings();
        let rules = Rules::of(&settings);
        let text = r#"{
            "DEVICE_METADATA": {"localhost": {"docker_routing_config_mode": "split-unified", "mac": "52:54:00:12:34:56"}},
            "INTERFACE": {"Ethernet120": {"ipv6_use_link_local_only": "enable"}},
            "PORT": {"Ethernet0": {"alias": "Eth1/1"}, "Ethernet120": {}},
            "VLAN": {"Vlan4000": {"vlanid": "4000"}},
            "VXLAN_TUNNEL": {"vtep": {"src_ip": "10.0.0.11"}},
            "VXLAN_EVPN_NVO": {"nvo": {"source_vtep": "vtep"}}
        }"#;
        let all = rows(&parse(text).unwrap());
        // An alias where SONiC's name is needed.
        let alias = "Eth1/1 is printed on the switch; SONiC calls that port Ethernet0";
        assert_eq!(lacks(&all, &rules, &settings), [alias]);
        for (row, hint) in [
            ("VLAN|Vlan4000", "VLAN has no row Vlan4000"),
            ("PORT|Ethernet120", "the port Ethernet120 is not there"),
            ("INTERFACE|Ethernet120", "ipv6_use_link_local_only"),
            ("VXLAN_TUNNEL|vtep", "must have one row"),
            ("VXLAN_EVPN_NVO|nvo", "does not listen to EVPN"),
            ("DEVICE_METADATA|localhost", "mode separated"),
        ] {
            let mut less = all.clone();
            less.remove(row);
            let said = lacks(&less, &rules, &settings);
            assert!(said.iter().any(|line| line.contains(hint)), "{row}: {said:?}");
        }
        let now = Snapshot { config: all, ..Snapshot::default() };
        assert_eq!(base_mac(&now), [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(base_mac(&Snapshot::default()), [0; 6]);
    }
}
