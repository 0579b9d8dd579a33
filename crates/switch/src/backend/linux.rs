//! What all backends on Linux share: the boot bridge, switches of the kernel, and FRR by its shell.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::Place;
use crate::config::Config as Settings;
use crate::frr::change::unpeer;
use crate::frr::neighbours::{self, Session};
use crate::frr::{Change, Config, Vtysh};
use crate::netlink::{self, Link};

/// FRR prints some lines only once others are there; more rounds than this mean that it never ends.
const ROUNDS: usize = 3;
/// Routers forward packets of both families.
pub(super) const FORWARDING: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];

/// The namespace that the agent runs in, and its routing daemons.
pub(super) struct Linux {
    pub(super) settings: Arc<Settings>,
    vtysh: Vtysh,
}

impl Linux {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let vtysh = Vtysh::new(settings.frr.vtysh.clone(), settings.frr.pathspace.clone());
        Self { settings, vtysh }
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
        let commands = unpeer(&self.vtysh.running().await?, ports);
        let said = self.vtysh.configure(&commands).await;
        let left = self.vtysh.running().await?.peers();
        match ports.iter().find(|port| left.contains_key(*port)) {
            None => Ok(()),
            Some(port) => said.and_then(|()| bail!("{port} still has a neighbour")),
        }
    }

    pub(super) async fn show(&self, command: &str) -> Result<String> {
        self.vtysh.show(command).await
    }

    pub(super) async fn running(&self) -> Result<Config> {
        self.vtysh.running().await
    }

    /// Whether there is a daemon for BFD, if somebody wants one.
    pub(super) async fn has_bfd(&self) -> bool {
        if !self.settings.policy.bfd {
            return true;
        }
        let daemons = self.vtysh.show("show daemons").await.unwrap_or_default();
        daemons.split_whitespace().any(|daemon| daemon == "bfdd")
    }

    /// What is left to do.
    async fn change(&self, wanted: &Config) -> Result<Change> {
        let running = self.vtysh.running().await?;
        Ok(Change::between(&running, wanted, &self.settings.frr.keep))
    }

    /// Adds, looks, removes, looks: until what runs is what is wanted. `before` is what is believed to run.
    pub(super) async fn converge(&self, before: &Config, wanted: &Config) -> Result<()> {
        let nothing = Config::default();
        let complete = Change::between(&nothing, wanted, &self.settings.frr.keep);
        self.vtysh.check(&complete.opening_commands()).await?;
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
            said.extend(self.vtysh.configure(&change.opening_commands()).await.err());
            change = self.change(wanted).await?;
            if change.closes() {
                said.extend(self.vtysh.configure(&change.closing_commands()).await.err());
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
        let text = self.vtysh.show(neighbours::COMMAND).await?;
        neighbours::parse(&text).context("what FRR says about neighbours is no JSON")
    }
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
