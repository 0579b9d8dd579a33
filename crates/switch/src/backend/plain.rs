//! Plain Linux, on a box or in a network namespace: machine ports are members of a bridge or routed in the main table,
//! routes come from FRR. No VRFs: tenants share one table, told apart by what each may announce.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::Mutex;

use super::{Backend, Observed, Place, Port, Step};
use crate::config::Config as Settings;
use crate::frr::change::unpeer;
use crate::frr::neighbours::{self, Session};
use crate::frr::{Change, Config, Vtysh};
use crate::netlink::{self, Changes, Link};

/// FRR prints some lines only once others are there; more rounds than this mean that it never ends.
const ROUNDS: usize = 3;
const FORWARDING: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];

/// The device.
pub struct Plain {
    settings: Arc<Settings>,
    vtysh: Vtysh,
    changes: Mutex<Changes>,
}

impl Plain {
    /// The device that this process runs on. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the kernel does not tell about interfaces.
    pub fn new(settings: Arc<Settings>) -> Result<Self> {
        let changes = Changes::listen().context("the kernel does not tell about interfaces")?;
        let vtysh = Vtysh::new(settings.frr.vtysh.clone(), settings.frr.pathspace.clone());
        Ok(Self { vtysh, changes: Mutex::new(changes), settings })
    }

    fn link(&self, name: &str) -> Result<Link> {
        let links = netlink::links().context("interfaces cannot be read")?;
        links
            .into_iter()
            .find(|link| link.name == name)
            .with_context(|| format!("{name} is not there"))
    }

    fn place(&self, links: &[Link], link: &Link) -> Place {
        let Some(master) = link.master else { return Place::Routed };
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

    fn route(&self, name: &str) -> Result<()> {
        let link = self.link(name)?;
        if link.master.is_some() {
            let leave = netlink::Change { master: Some(0), ..Default::default() };
            netlink::change(link.index, &leave)?;
        }
        // Neighbours find one another by their link-local addresses.
        write_switch(&format!("ipv6/conf/{name}/disable_ipv6"), "0")?;
        ensure!(
            self.link(name)?.master.is_none(),
            "{name} went back into a bridge at once; who else changes it?"
        );
        Ok(())
    }

    /// Down in between: the kernel forgets every route and neighbour over it.
    fn boot(&self, name: &str) -> Result<()> {
        let bridge = self.link(&self.settings.boot_bridge)?;
        let link = self.link(name)?;
        if link.master != Some(bridge.index) {
            netlink::change(
                link.index,
                &netlink::Change { up: Some(false), master: Some(0), isolated: None },
            )?;
            let enter = netlink::Change { master: Some(bridge.index), ..Default::default() };
            netlink::change(link.index, &enter)?;
        }
        netlink::change(
            link.index,
            &netlink::Change { isolated: Some(true), ..Default::default() },
        )
        .context("the bridge cannot shield its members from one another")?;
        netlink::change(link.index, &netlink::Change { up: Some(link.up), ..Default::default() })?;
        let link = self.link(name)?;
        ensure!(
            link.master == Some(bridge.index) && link.isolated,
            "{name} left the bridge at once; who else changes it?"
        );
        Ok(())
    }

    /// What is left to do.
    async fn change(&self, wanted: &Config) -> Result<Change> {
        let running = self.vtysh.running().await?;
        Ok(Change::between(&running, wanted, &self.settings.frr.keep))
    }

    /// Adds, looks, removes, looks: until what runs is what is wanted.
    async fn converge(&self, wanted: &Config) -> Result<()> {
        let nothing = Config::default();
        let complete = Change::between(&nothing, wanted, &self.settings.frr.keep);
        self.vtysh.check(&complete.opening_commands()).await?;
        let mut said = Vec::new();
        let mut change = self.change(wanted).await?;
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
}

impl Backend for Plain {
    fn routing(&self, leaf: &netconf::leaf::Leaf) -> String {
        netconf::leaf::frr(leaf)
    }

    async fn observe(&self) -> Result<Observed> {
        let links = netlink::links().context("interfaces cannot be read")?;
        let ports = links.iter().filter(|link| self.settings.is_port(&link.name)).map(|link| {
            let place = self.place(&links, link);
            (link.name.clone(), Port { mac: link.mac, up: link.up, link: link.running, place })
        });
        let needed = self.settings.uplinks.iter().chain([&self.settings.boot_bridge]);
        let missing = needed
            .filter(|name| !links.iter().any(|link| link.name == **name))
            .map(|name| format!("the interface {name} is not there"));
        Ok(Observed {
            ports: ports.collect(),
            forwards: FORWARDING
                .iter()
                .all(|switch| read_switch(switch).is_ok_and(|value| value == "1")),
            missing: missing.collect(),
            routing: self.vtysh.running().await.map_err(|error| format!("{error:#}")),
        })
    }

    async fn apply(&self, step: &Step) -> Result<()> {
        match step {
            Step::Forward => FORWARDING.iter().try_for_each(|switch| write_switch(switch, "1")),
            Step::Unpeer(ports) => {
                let commands = unpeer(&self.vtysh.running().await?, ports);
                let said = self.vtysh.configure(&commands).await;
                let left = self.vtysh.running().await?.peers();
                match ports.iter().find(|port| left.contains_key(*port)) {
                    None => Ok(()),
                    Some(port) => said.and_then(|()| bail!("{port} still has a neighbour")),
                }
            }
            Step::Route(port) => self.route(port),
            Step::Boot(port) => self.boot(port),
            Step::Admin(port, up) => {
                let wish = netlink::Change { up: Some(*up), ..Default::default() };
                Ok(netlink::change(self.link(port)?.index, &wish)?)
            }
            Step::Routing(routing) => self.converge(&routing.wanted).await,
        }
    }

    async fn sessions(&self) -> Result<BTreeMap<String, Session>> {
        let text = self.vtysh.show(neighbours::COMMAND).await?;
        neighbours::parse(&text).context("what FRR says about neighbours is no JSON")
    }

    async fn changed(&self) {
        if let Err(error) = self.changes.lock().await.next().await {
            tracing::warn!(%error, "the kernel does not tell about interfaces; looking now and then");
            std::future::pending::<()>().await;
        }
    }
}

fn read_switch(switch: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(Path::new("/proc/sys/net").join(switch))?.trim().to_owned())
}

fn write_switch(switch: &str, value: &str) -> Result<()> {
    if read_switch(switch).is_ok_and(|now| now == value) {
        return Ok(());
    }
    let path = Path::new("/proc/sys/net").join(switch);
    std::fs::write(&path, value)
        .with_context(|| format!("{} cannot be set to {value}", path.display()))
}
