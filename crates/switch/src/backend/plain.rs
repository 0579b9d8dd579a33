//! Plain Linux, on a box or in a network namespace: machine ports are members of a bridge or routed in the main table,
//! routes come from FRR. No VRFs: tenants share one table, told apart by what each may announce.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use netconf::leaf::evpn::Evpn;
use tokio::sync::Mutex;

use super::linux::{Linux, forwards, link};
use super::{Backend, Observed, Port, Step};
use crate::config::Config as Settings;
use crate::frr::neighbours::Session;
use crate::netlink::{self, Changes};

/// The device.
pub struct Plain {
    linux: Linux,
    changes: Mutex<Changes>,
}

impl Plain {
    /// The device that this process runs on. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the kernel does not tell about interfaces.
    pub fn new(settings: Arc<Settings>) -> Result<Self> {
        let changes = Changes::listen().context("the kernel does not tell about interfaces")?;
        Ok(Self { linux: Linux::new(settings), changes: Mutex::new(changes) })
    }
}

impl Backend for Plain {
    fn routing(&self, evpn: &Evpn) -> String {
        netconf::leaf::frr(&evpn.flat())
    }

    async fn observe(&self) -> Result<Observed> {
        let links = netlink::links().context("interfaces cannot be read")?;
        let is_port = |link: &&netlink::Link| self.linux.settings.is_port(&link.name);
        let ports = links.iter().filter(is_port).map(|link| {
            let place = self.linux.place(&links, link);
            (link.name.clone(), Port { mac: link.mac, up: link.up, link: link.running, place })
        });
        Ok(Observed {
            ports: ports.collect(),
            forwards: forwards(),
            missing: self.linux.missing(&links),
            tenants: BTreeMap::new(),
            bfd: self.linux.has_bfd().await,
            routing: self.linux.routing().await,
        })
    }

    async fn apply(&self, step: &Step) -> Result<()> {
        match step {
            Step::Forward => self.linux.forward(),
            Step::Unpeer(ports) => self.linux.unpeer(ports).await,
            Step::Leave(port) | Step::Route(port, _) => self.linux.route(port),
            Step::Boot(port) => self.linux.boot(port),
            Step::Admin(port, up) => {
                let wish = netlink::Change { up: Some(*up), ..Default::default() };
                Ok(netlink::change(link(port)?.index, &wish)?)
            }
            Step::Routing(routing) => self.linux.reroute(routing, BTreeSet::new()).await,
            Step::Prepare(_) | Step::CleanUp(_) => Ok(()),
        }
    }

    async fn sessions(&self) -> Result<BTreeMap<String, Session>> {
        self.linux.sessions().await
    }

    async fn changed(&self) {
        if let Err(error) = self.changes.lock().await.next().await {
            tracing::warn!(%error, "the kernel does not tell about interfaces; looking now and then");
            std::future::pending::<()>().await;
        }
    }
}
