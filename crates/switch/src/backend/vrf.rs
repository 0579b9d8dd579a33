//! Linux with a VRF per tenant and EVPN between the leaves. What a VRF is made of differs: [`Tables`] is that part,
//! everything else is the same for network namespaces and for VRFs of the kernel.

pub mod cumulus;
pub mod kernel;
pub mod netns;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use netconf::leaf::evpn::{Evpn, Vrfs};

use super::linux::{Linux, forwards, link};
use super::{Backend, Observed, Place, Port, Step};
use crate::config::Config as Settings;
use crate::frr::Config;
use crate::frr::neighbours::Session;
use crate::netlink::{self, Link};

/// How the VRFs of tenants are made on this kernel. Each call looks first; what is done already is no error.
pub trait Tables: Send + Sync + 'static {
    /// What FRR has to be told.
    const VRFS: Vrfs;

    /// VRFs that are there, whole or in part.
    ///
    /// # Errors
    /// When the kernel does not tell.
    fn look(&self) -> Result<BTreeMap<u32, Table>>;

    /// Makes what is missing: the VRF, the end of its VXLAN network, and the bridge between them.
    ///
    /// # Errors
    /// What stood in the way.
    fn prepare(&self, vni: u32) -> Result<()>;

    /// Moves a port, which must be down, in no VRF and in no bridge, and sets it up there if wanted.
    ///
    /// # Errors
    /// What stood in the way.
    fn enter(&self, port: &str, vni: u32, up: bool) -> Result<()>;

    /// Takes a port out of the VRF; it is down then.
    ///
    /// # Errors
    /// What stood in the way.
    fn leave(&self, port: &str, vni: u32) -> Result<()>;

    /// Sets a port in the VRF up or down.
    ///
    /// # Errors
    /// What stood in the way.
    fn admin(&self, port: &str, vni: u32, up: bool) -> Result<()>;

    /// Takes out what was made for the VRF, where FRR has to forget that before the VRF goes. Tells whether it has to.
    fn empty(&self, _vni: u32) -> bool {
        false
    }

    /// Removes the VRF with everything in it. There is no machine port in it.
    ///
    /// # Errors
    /// What stood in the way.
    fn clean_up(&self, vni: u32) -> Result<()>;

    /// Waits until something may have changed.
    fn changed(&self) -> impl Future<Output = ()> + Send;

    /// Network namespaces in which ports may be.
    fn spaces(&self) -> Vec<PathBuf>;
}

/// The VRF of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Whether nothing is missing but ports.
    pub whole: bool,
    /// Interfaces in it.
    pub links: Vec<Link>,
}

/// Name of the VRF of a tenant.
pub fn name(vni: u32) -> String {
    format!("vrf{vni}")
}

/// The device.
pub struct Vrf<T> {
    linux: Linux,
    tables: T,
}

impl<T: Tables> Vrf<T> {
    /// The device that this process runs on.
    pub fn new(settings: Arc<Settings>, tables: T) -> Self {
        Self { linux: Linux::new(settings), tables }
    }

    /// Ports with the VRF that they are in.
    fn ports(&self, own: &[Link], tables: &BTreeMap<u32, Table>) -> BTreeMap<String, Port> {
        let is_port = |link: &&Link| self.linux.settings.is_port(&link.name);
        let port = |link: &Link, place| {
            let port = Port { mac: link.mac, up: link.up, link: link.running, place };
            (link.name.clone(), port)
        };
        let mut ports: BTreeMap<_, _> =
            own.iter().filter(is_port).map(|l| port(l, self.linux.place(own, l))).collect();
        for (vni, table) in tables {
            for link in table.links.iter().filter(is_port) {
                let place = match link.master {
                    None => Place::Routed(Some(*vni)),
                    Some(_) => Place::Foreign(format!("a bridge in {}", name(*vni))),
                };
                ports.extend([port(link, place)]);
            }
        }
        ports
    }

    /// A port that is in a VRF.
    fn find(&self, port: &str) -> Result<Option<(u32, Link)>> {
        let there = |(vni, table): (u32, Table)| {
            Some((vni, table.links.into_iter().find(|link| link.name == port)?))
        };
        Ok(self.tables.look()?.into_iter().find_map(there))
    }

    /// Tells whether the port was up.
    fn leave(&self, port: &str) -> Result<Option<bool>> {
        let Some((vni, link)) = self.find(port)? else { return Ok(None) };
        self.tables.leave(port, vni)?;
        Ok(Some(link.up))
    }

    fn route(&self, port: &str, vni: Option<u32>) -> Result<()> {
        if let (Some((now, link)), Some(vni)) = (self.find(port)?, vni)
            && now == vni
            && link.master.is_none()
        {
            return Ok(());
        }
        let was_up = self.leave(port)?;
        let Some(vni) = vni else {
            self.linux.route(port)?;
            return set_up(port, was_up);
        };
        let link = link(port)?;
        // Down before it is on its own in the underlay.
        set(&link, netlink::Change { up: Some(false), ..Default::default() })?;
        set(&link, netlink::Change { master: Some(0), ..Default::default() })?;
        self.tables.enter(port, vni, was_up.unwrap_or(link.up))
    }

    fn boot(&self, port: &str) -> Result<()> {
        let was_up = self.leave(port)?;
        self.linux.boot(port)?;
        set_up(port, was_up)
    }

    /// VRFs that are wanted and there.
    fn there(&self, wanted: &Config) -> Result<BTreeSet<String>> {
        let there = self.tables.look()?.into_keys().map(name).collect();
        Ok(wanted.vrfs().intersection(&there).cloned().collect())
    }

    /// Ports would go with a VRF. False when there is none.
    fn may_go(&self, vni: u32) -> Result<bool> {
        let Some(table) = self.tables.look()?.remove(&vni) else { return Ok(false) };
        let port = table.links.iter().find(|link| self.linux.settings.is_port(&link.name));
        match port {
            Some(port) => bail!("{} is still in it", port.name),
            None => Ok(true),
        }
    }
}

impl<T: Tables> Backend for Vrf<T> {
    fn routing(&self, evpn: &Evpn) -> String {
        netconf::leaf::evpn::frr(&Evpn { vrfs: T::VRFS, ..evpn.clone() })
    }

    async fn observe(&self) -> Result<Observed> {
        let own = netlink::links().context("interfaces cannot be read")?;
        let tables = self.tables.look()?;
        Ok(Observed {
            ports: self.ports(&own, &tables),
            forwards: forwards(),
            missing: self.linux.missing(&own),
            tenants: tables.iter().map(|(vni, table)| (*vni, table.whole)).collect(),
            bfd: self.linux.has_bfd().await,
            routing: self.linux.routing().await,
        })
    }

    async fn apply(&self, step: &Step) -> Result<()> {
        match step {
            Step::Forward => self.linux.forward(),
            Step::Unpeer(ports) => self.linux.unpeer(ports).await,
            Step::Leave(port) => self.leave(port).map(drop),
            Step::Prepare(vni) => self.tables.prepare(*vni),
            Step::Route(port, vni) => self.route(port, *vni),
            Step::Boot(port) => self.boot(port),
            Step::Admin(port, up) => match self.find(port)? {
                Some((vni, _)) => self.tables.admin(port, vni, *up),
                None => set_up(port, Some(*up)),
            },
            Step::Routing(routing) => {
                let there = self.there(&routing.wanted)?;
                self.linux.reroute(routing, there).await
            }
            Step::CleanUp(vni) if self.may_go(*vni)? => {
                if self.tables.empty(*vni) {
                    self.linux.until_empty(&name(*vni)).await;
                }
                self.tables.clean_up(*vni)
            }
            Step::CleanUp(_) => Ok(()),
        }
    }

    async fn sessions(&self) -> Result<BTreeMap<String, Session>> {
        self.linux.sessions().await
    }

    async fn changed(&self) {
        self.tables.changed().await;
    }

    fn spaces(&self) -> Vec<PathBuf> {
        self.tables.spaces()
    }
}

fn set(link: &Link, change: netlink::Change) -> Result<()> {
    netlink::change(link.index, &change).with_context(|| format!("{} does not change", link.name))
}

/// Up or down as told, in the underlay.
fn set_up(port: &str, up: Option<bool>) -> Result<()> {
    match up {
        Some(_) => set(&link(port)?, netlink::Change { up, ..Default::default() }),
        None => Ok(()),
    }
}
