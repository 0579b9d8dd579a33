//! FRR's daemons, asked in the cheapest way that there is here: by their sockets, or by `vtysh` where those cannot be reached.
//! What is to be changed always goes through `vtysh`, which knows whose each line is.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::text::Config;
use super::vty::Sockets;
use super::vtysh::Vtysh;
use crate::config::{Frr, VTYSH};

/// Where FRR puts its sockets unless told otherwise.
const FOLDER: &str = "/var/run/frr";
/// Without these there is no routing, and what the others say is no whole configuration.
const NEEDED: [&str; 2] = [ZEBRA, BGPD];
/// It only watches the others; what it says about its configuration is not what could be configured.
const WATCHER: &str = "watchfrr";
/// What each daemon understands; `show running-config` is `vtysh`'s own.
pub const RUNNING: &str = "do write terminal";
/// Each daemon that has filters keeps all of them for itself.
const FILTERS: [&str; 3] = ["ip prefix-list ", "ipv6 prefix-list ", "route-map "];

/// The daemon that has interfaces, VRFs, and the routes of the kernel.
pub const ZEBRA: &str = "zebra";
/// The daemon for BGP.
pub const BGPD: &str = "bgpd";
/// The daemon for BFD.
pub const BFDD: &str = "bfdd";

/// The daemons of one pathspace.
#[derive(Clone, Debug)]
pub struct Daemons {
    sockets: Option<Sockets>,
    /// Somebody said where the sockets are, so there is no other way.
    is_told: bool,
    vtysh: Vtysh,
}

impl Daemons {
    /// As the configuration says. Who has a `vtysh` of his own has daemons elsewhere.
    pub fn new(config: &Frr) -> Self {
        let folder = match &config.sockets {
            Some(folder) => Some(folder.clone()).filter(|folder| !folder.as_os_str().is_empty()),
            None => (config.vtysh == Path::new(VTYSH)).then(|| PathBuf::from(FOLDER)),
        };
        Self {
            sockets: folder.map(|folder| Sockets::new(&folder, &config.pathspace)),
            is_told: config.sockets.is_some(),
            vtysh: Vtysh::new(config.vtysh.clone(), config.pathspace.clone()),
        }
    }

    /// Sockets, if there are any.
    fn sockets(&self) -> Option<&Sockets> {
        self.sockets.as_ref().filter(|sockets| self.is_told || sockets.folder().is_dir())
    }

    /// How they are asked, for people.
    pub fn way(&self) -> String {
        match self.sockets() {
            Some(sockets) => format!("asked by the sockets in {}", sockets.folder().display()),
            None => format!("asked by {}", self.vtysh.program().display()),
        }
    }

    /// What runs.
    ///
    /// # Errors
    /// When one of the daemons that have to be there does not answer.
    pub async fn running(&self) -> Result<Config> {
        let Some(sockets) = self.sockets() else { return self.vtysh.running().await };
        let mut parts = Vec::new();
        for daemon in NEEDED {
            count(daemon);
            let text = sockets.ask(daemon, RUNNING).await?;
            parts.push((daemon.to_owned(), Config::parse(&text)));
        }
        for daemon in sockets.names()? {
            if daemon == WATCHER || NEEDED.contains(&daemon.as_str()) {
                continue;
            }
            count(&daemon);
            if let Some(text) = sockets.ask_if_there(&daemon, RUNNING).await? {
                parts.push((daemon, Config::parse(&text)));
            }
        }
        Ok(whole(&parts))
    }

    /// The answer of one daemon.
    ///
    /// # Errors
    /// When it does not answer, or does not know the command.
    pub async fn show(&self, daemon: &str, command: &str) -> Result<String> {
        match self.sockets() {
            Some(sockets) => {
                count(daemon);
                sockets.ask(daemon, command).await
            }
            None => self.vtysh.show(command).await,
        }
    }

    /// Whether there is such a daemon.
    pub async fn has(&self, daemon: &str) -> bool {
        match self.sockets() {
            Some(sockets) => sockets.hears(daemon).await,
            None => {
                let all = self.vtysh.show("show daemons").await.unwrap_or_default();
                all.split_whitespace().any(|other| other == daemon)
            }
        }
    }

    /// The way to change something.
    pub fn vtysh(&self) -> &Vtysh {
        &self.vtysh
    }
}

/// For `metrics`.
pub(super) fn count(of: &str) {
    metrics::counter!("switch_frr_questions_total", "of" => of.to_owned()).increment(1);
}

/// The configuration of all in one. A filter runs if the daemon for BGP has it: one that was restarted has lost them, whatever
/// the others still have.
fn whole(parts: &[(String, Config)]) -> Config {
    let bgp = parts.iter().find(|(daemon, _)| daemon == BGPD).map(|(_, part)| part);
    let lines = parts.iter().flat_map(|(_, part)| part.lines());
    let is_filter = |line: &super::Line| FILTERS.iter().any(|start| line.top().starts_with(start));
    lines.filter(|line| !is_filter(line) || bgp.is_none_or(|bgp| bgp.has(line))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_of_all_parts() {
        let part = |daemon: &str, text: &str| (daemon.to_owned(), Config::parse(text));
        let list = "ip prefix-list a seq 1 permit 10.0.0.0/8\n";
        let zebra = part(
            "zebra",
            &format!(
                "hostname a\nvrf vrf7\n vni 7\nexit-vrf\n{list}route-map b permit 1\n match x\nexit\n"
            ),
        );
        let bgpd = part("bgpd", &format!("hostname a\nrouter bgp 1\n x\nexit\n{list}"));
        let all = whole(&[zebra.clone(), bgpd]);
        let expected = format!("hostname a\nvrf vrf7\n vni 7\nrouter bgp 1\n x\n{list}");
        assert_eq!(all, Config::parse(&expected));
        // A daemon that was restarted has lost its filters.
        let all = whole(&[zebra, part("bgpd", "hostname a\n")]);
        assert_eq!(all, Config::parse("hostname a\nvrf vrf7\n vni 7\n"));
    }

    #[test]
    fn which_way() {
        let folder = tempfile::tempdir().unwrap();
        let way = |sockets: Option<PathBuf>, vtysh: &str| {
            let config = Frr { pathspace: "l1".into(), vtysh: vtysh.into(), sockets, keep: vec![] };
            Daemons::new(&config).way()
        };
        let here = folder.path().to_owned();
        let by_sockets = format!("asked by the sockets in {}", here.join("l1").display());
        assert_eq!(way(Some(here.clone()), "vtysh"), by_sockets);
        assert_eq!(way(Some(here), "/opt/vtysh"), by_sockets);
        assert_eq!(way(Some("".into()), "vtysh"), "asked by vtysh");
        assert_eq!(way(None, "/opt/vtysh"), "asked by /opt/vtysh");
    }
}
