//! What all backends on Linux share: the boot bridge, switches of the kernel, and FRR.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Place, Routing};
use crate::config::Config as Settings;
use crate::frr::change::unpeer;
use crate::frr::daemons::{BFDD, BGPD, ZEBRA};
use crate::frr::neighbours::{self, Session};
use crate::frr::{Change, Config, Daemons};
use crate::netlink::{self, Link};

/// FRR prints some lines only once others are there; more rounds than this mean that it never ends.
const ROUNDS: usize = 3;
/// FRR looks for new namespaces once a second, and hears of other VRFs at once. Who goes on too early has a port that is silent for ever.
const SEEN: Duration = Duration::from_secs(20);
/// A port is seen as soon as the kernel has told of it.
const PORTS_SEEN: Duration = Duration::from_secs(5);
/// What is gone is forgotten as soon as the kernel has told of it.
const FORGOTTEN: Duration = Duration::from_secs(2);
/// zebra tells the daemon for BGP, which cannot be asked what it has seen.
const SPREAD: Duration = Duration::from_millis(200);
/// Routers forward packets of both families.
pub(super) const FORWARDING: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];

/// The namespace that the agent runs in, and its routing daemons.
pub(super) struct Linux {
    pub(super) settings: Arc<Settings>,
    daemons: Daemons,
    /// What FRR understood last.
    understood: Mutex<String>,
}

impl Linux {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let daemons = Daemons::new(&settings.frr);
        Self { settings, daemons, understood: Mutex::default() }
    }

    /// Where a port of this namespace is.
    pub(super) fn place(&self, links: &[Link], link: &Link) -> Place {
        let Some(master) = link.master else { return Place::Routed(None) };
        match links.iter().find(|other| other.index == master) {
            Some(bridge) if bridge.name == self.settings.boot_bridge => {
                if link.isolated {
                    Place::Boot
                } else {
                    Place::OpenBoot
                }
            }
            other => Place::Foreign(
                other.map_or_else(|| format!("interface {master}"), |o| o.name.clone()),
            ),
        }
    }

    /// What is missing of what others make.
    pub(super) fn missing(&self, links: &[Link]) -> Vec<String> {
        let needed = self.settings.uplinks.iter().chain([&self.settings.boot_bridge]);
        needed
            .filter(|name| !links.iter().any(|link| link.name == **name))
            .map(|name| format!("the interface {name} is not there"))
            .collect()
    }

    pub(super) fn forward(&self) -> Result<()> {
        FORWARDING.iter().try_for_each(|switch| write_switch(switch, "1"))
    }

    /// On its own, ready to speak.
    pub(super) fn route(&self, name: &str) -> Result<()> {
        let link = link(name)?;
        if link.master.is_some() {
            let leave = netlink::Change { master: Some(0), ..Default::default() };
            netlink::change(link.index, &leave)?;
        }
        // Neighbours find one another by their link-local addresses.
        write_switch(&format!("ipv6/conf/{name}/disable_ipv6"), "0")?;
        ensure!(
            self::link(name)?.master.is_none(),
            "{name} went back into a bridge at once; who else changes it?"
        );
        Ok(())
    }

    /// Into the boot bridge, shielded. Down in between: the kernel forgets every route and neighbour over it.
    pub(super) fn boot(&self, name: &str) -> Result<()> {
        let bridge = link(&self.settings.boot_bridge)?;
        let port = link(name)?;
        if port.master != Some(bridge.index) {
            let leave = netlink::Change { up: Some(false), master: Some(0), ..Default::default() };
            netlink::change(port.index, &leave)?;
            let enter = netlink::Change { master: Some(bridge.index), ..Default::default() };
            netlink::change(port.index, &enter)?;
        }
        netlink::change(
            port.index,
            &netlink::Change { isolated: Some(true), ..Default::default() },
        )
        .context("the bridge cannot shield its members from one another")?;
        netlink::change(port.index, &netlink::Change { up: Some(port.up), ..Default::default() })?;
        let port = link(name)?;
        ensure!(
            port.master == Some(bridge.index) && port.isolated,
            "{name} left the bridge at once; who else changes it?"
        );
        Ok(())
    }

    /// Removes the neighbours at these ports.
    pub(super) async fn unpeer(&self, ports: &BTreeSet<String>) -> Result<()> {
        let commands = unpeer(&self.running().await?, ports);
        let said = self.daemons.vtysh().configure(&commands).await;
        let left = self.running().await?.peers();
        match ports.iter().find(|port| left.contains_key(*port)) {
            None => Ok(()),
            Some(port) => said.and_then(|()| bail!("{port} still has a neighbour")),
        }
    }

    /// What FRR itself remembers after a restart is what runs now.
    pub(super) async fn save_routing(&self) -> Result<()> {
        self.daemons.vtysh().show("write memory").await.map(drop)
    }

    async fn running(&self) -> Result<Config> {
        self.daemons.running().await
    }

    /// What runs, or why that is not known.
    pub(super) async fn routing(&self) -> Result<Config, String> {
        self.running().await.map_err(|error| format!("{error:#}"))
    }

    /// Waits until FRR has seen these VRFs, which are there. An interface that is configured before stays silent: its router
    /// advertisements begin with the next event on it, if there ever is one.
    async fn until_vrfs(&self, mut needed: BTreeSet<String>) -> Result<()> {
        let begin = Instant::now();
        while !needed.is_empty() {
            let seen = active(&self.daemons.show(ZEBRA, "show vrf").await?);
            needed.retain(|vrf| !seen.contains(vrf));
            if begin.elapsed() > SEEN {
                tracing::warn!(?needed, "FRR does not see VRFs that are there");
                break;
            }
            // Also when all are seen: the daemon for BGP hears of them a moment later.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Whether there is a daemon for BFD, if somebody wants one.
    pub(super) async fn has_bfd(&self) -> bool {
        if !self.settings.policy.bfd {
            return true;
        }
        self.daemons.has(BFDD).await
    }

    /// What is left to do.
    async fn change(&self, wanted: &Config) -> Result<Change> {
        let running = self.running().await?;
        Ok(Change::between(&running, wanted, &self.settings.frr.keep))
    }

    /// Whether FRR understands the text. What it understood last is not asked again.
    async fn understands(&self, text: String) -> Result<()> {
        let known = || self.understood.lock().unwrap_or_else(PoisonError::into_inner);
        if *known() == text {
            return Ok(());
        }
        self.daemons.vtysh().check(&text).await?;
        *known() = text;
        Ok(())
    }

    /// Waits until FRR has seen ports that get a neighbour in one of these VRFs: it hears of them after the VRF. They are silent, too, if they are
    /// configured before.
    async fn until_ports(&self, routing: &Routing, vrfs: &BTreeSet<String>) -> Result<()> {
        let begin = Instant::now();
        let mut is_new = false;
        for port in routing.change.new_peers() {
            let Some(vrf) = routing.wanted.vrf_of(&port).filter(|vrf| vrfs.contains(*vrf)) else {
                continue;
            };
            let question = format!("show interface {port} vrf {vrf}");
            while !is_seen(&self.daemons.show(ZEBRA, &question).await?) {
                if begin.elapsed() > PORTS_SEEN {
                    tracing::warn!(port, vrf, "FRR does not see a port that should be there");
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            is_new = true;
        }
        if is_new {
            tokio::time::sleep(SPREAD).await;
        }
        Ok(())
    }

    /// Waits until FRR has forgotten what was in a VRF: zebra 8.4 now and then does not survive that a network namespace goes in which it
    /// still believes interfaces to be.
    pub(super) async fn until_empty(&self, vrf: &str) {
        let begin = Instant::now();
        let question = format!("show interface vrf {vrf} brief");
        while let Ok(text) = self.daemons.show(ZEBRA, &question).await
            && !is_empty(&text)
            && begin.elapsed() < FORGOTTEN
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Makes the routing configuration as it is wanted, once FRR has seen those of its VRFs that are there.
    pub(super) async fn reroute(&self, routing: &Routing, vrfs: BTreeSet<String>) -> Result<()> {
        self.until_vrfs(vrfs.clone()).await?;
        self.until_ports(routing, &vrfs).await?;
        self.converge(&routing.before, &routing.wanted).await
    }

    /// Adds, looks, removes, looks: until what runs is what is wanted. `before` is what is believed to run.
    async fn converge(&self, before: &Config, wanted: &Config) -> Result<()> {
        let nothing = Config::default();
        let complete = Change::between(&nothing, wanted, &self.settings.frr.keep);
        self.understands(complete.opening_commands()).await?;
        let mut said = Vec::new();
        // Whoever asks has just looked; to look again costs as much time as the change.
        let mut change = Change::between(before, wanted, &self.settings.frr.keep);
        if change.is_empty() {
            change = self.change(wanted).await?;
        }
        for _ in 0..ROUNDS {
            if change.is_empty() {
                return Ok(());
            }
            said.extend(self.daemons.vtysh().configure(&change.opening_commands()).await.err());
            change = self.change(wanted).await?;
            if change.closes() {
                said.extend(self.daemons.vtysh().configure(&change.closing_commands()).await.err());
                change = self.change(wanted).await?;
            }
        }
        if change.is_empty() {
            return Ok(());
        }
        let said = said.first().map(|error| format!("; {error:#}")).unwrap_or_default();
        let rest: Vec<_> = change.to_string().lines().take(5).map(str::to_owned).collect();
        bail!("FRR does not take it{said}; missing (+) and left over (-): {}", rest.join(", "));
    }

    pub(super) async fn sessions(&self) -> Result<std::collections::BTreeMap<String, Session>> {
        let text = self.daemons.show(BGPD, neighbours::COMMAND).await?;
        neighbours::parse(&text).context("what FRR says about neighbours is no JSON")
    }
}

/// VRFs in what FRR answers to `show vrf` that are more than a name in its configuration.
fn active(text: &str) -> BTreeSet<String> {
    let line = |line: &str| {
        let (name, rest) = line.trim().strip_prefix("vrf ")?.split_once(' ')?;
        rest.starts_with("id ").then(|| name.to_owned())
    };
    text.lines().filter_map(line).collect()
}

/// Whether what FRR answers to `show interface` is about one that is there, not one that is only configured.
fn is_seen(text: &str) -> bool {
    let index = text.lines().find_map(|line| line.trim().strip_prefix("index "));
    index.is_some_and(|rest| rest.contains(" metric "))
}

/// Whether nothing but the loopback is up in what FRR answers to `show interface brief`. One with a configuration stays, down.
fn is_empty(text: &str) -> bool {
    let is_up = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().is_some_and(|name| name != "lo") && words.next() == Some("up")
    };
    !text.lines().any(is_up)
}

/// An interface of the namespace of this thread.
pub(super) fn link(name: &str) -> Result<Link> {
    let links = netlink::links().context("interfaces cannot be read")?;
    links.into_iter().find(|link| link.name == name).with_context(|| format!("{name} is not there"))
}

/// Whether packets are forwarded in the namespace of this thread.
pub(super) fn forwards() -> bool {
    FORWARDING.iter().all(|switch| read_switch(switch).is_ok_and(|value| value == "1"))
}

/// A switch of the kernel below `/proc/sys/net`, for the namespace of this thread.
pub(super) fn read_switch(switch: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(Path::new("/proc/sys/net").join(switch))?.trim().to_owned())
}

pub(super) fn write_switch(switch: &str, value: &str) -> Result<()> {
    if read_switch(switch).is_ok_and(|now| now == value) {
        return Ok(());
    }
    let path = Path::new("/proc/sys/net").join(switch);
    std::fs::write(&path, value)
        .with_context(|| format!("{} cannot be set to {value}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vrfs_that_frr_has_seen() {
        let text = "netns-based vrfs\nvrf vrf7 id 1 netns /run/netns/vrf7 (configured)\nvrf vrf8 inactive (configured)\nvrf vrf9 id 5 table 1009\n";
        assert_eq!(active(text), ["vrf7".to_owned(), "vrf9".to_owned()].into());
        assert!(active("").is_empty());
    }

    #[test]
    fn what_frr_has_not_forgotten() {
        let head = "Interface       Status  VRF             Addresses\n---------       ------  ---             ---------\n";
        let lo = "lo              up      vrf7            \n";
        let gone = "vni7            down    vrf7            \n";
        assert!(is_empty(&format!("{head}{lo}{gone}\n")));
        assert!(!is_empty(&format!("{head}{lo}br7             up      vrf7            \n")));
    }

    #[test]
    fn ports_that_frr_has_seen() {
        let there = "Interface swp1 is up, line protocol is up\n  vrf: vrf7\n  index 4 metric 0 mtu 9000 speed 10000\n  flags: <UP>\n";
        assert!(is_seen(there));
        for not in [
            "% Can't find interface swp1\n",
            "Interface swp1 is down\n  vrf: vrf7\n  pseudo interface\n",
            "Interface swp1 is down\n  vrf: vrf7\n  index 4 inactive interface\n",
            "",
        ] {
            assert!(!is_seen(not), "{not}");
        }
    }
}
