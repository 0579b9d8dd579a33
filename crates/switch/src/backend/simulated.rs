//! A device in memory, with faults on request. It knows what must never be and says so.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Result, bail};
use netconf::leaf::evpn::Evpn;

use super::{Backend, Observed, Place, Port, Step};
use crate::frr::neighbours::Session;
use crate::frr::{Change, Config};

/// The device.
#[derive(Debug)]
pub struct Simulated {
    apart: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    observed: Observed,
    faults: Faults,
    /// What must never be and was.
    broken: Vec<String>,
    changed: bool,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Routing is refused behind the first line that has this text.
    pub refuse: Option<String>,
    /// Neighbours cannot be removed.
    pub unpeer: bool,
    /// Steps about this port fail.
    pub port: Option<String>,
}

impl Simulated {
    /// With these ports, all in the boot network.
    pub fn new(ports: &[&str]) -> Self {
        let port = |name: &&str| {
            let place = Place::Boot;
            ((*name).to_owned(), Port { mac: [2, 0, 0, 0, 0, 1], up: true, link: true, place })
        };
        let observed = Observed {
            ports: ports.iter().map(port).collect(),
            forwards: true,
            missing: Vec::new(),
            tenants: BTreeMap::new(),
            bfd: true,
            routing: Ok(Config::default()),
        };
        let faults = Faults::default();
        Self {
            apart: false,
            state: Mutex::new(State { observed, faults, broken: Vec::new(), changed: false }),
        }
    }

    /// One that has VRFs.
    pub fn with_vrfs(ports: &[&str]) -> Self {
        Self { apart: true, ..Self::new(ports) }
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Somebody works on the device by hand.
    pub fn tamper(&self, hand: impl FnOnce(&mut Observed)) {
        let mut state = self.lock();
        hand(&mut state.observed);
        state.changed = true;
    }

    /// What must never be and was.
    pub fn broken(&self) -> Vec<String> {
        self.lock().broken.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Backend for Simulated {
    fn routing(&self, evpn: &Evpn) -> String {
        match self.apart {
            true => netconf::leaf::evpn::frr(evpn),
            false => netconf::leaf::frr(&evpn.flat()),
        }
    }

    async fn observe(&self) -> Result<Observed> {
        Ok(self.lock().observed.clone())
    }

    async fn apply(&self, step: &Step) -> Result<()> {
        let mut state = self.lock();
        if state.faults.port.is_some() && state.faults.port.as_deref() == step.port() {
            bail!("as told");
        }
        match step {
            Step::Forward => state.observed.forwards = true,
            Step::Unpeer(_) if state.faults.unpeer => bail!("as told"),
            Step::Unpeer(ports) => state.edit(|running| {
                let gone = |line: &&crate::frr::Line| {
                    !ports.iter().any(|port| line.neighbour().is_some_and(|(_, name)| name == port))
                };
                running.lines().iter().filter(gone).cloned().collect()
            })?,
            Step::Leave(port) => {
                let port = state.port(port)?;
                (port.place, port.up) = (Place::Routed(None), false);
            }
            Step::Prepare(vni) => drop(state.observed.tenants.insert(*vni, true)),
            Step::Route(port, vni) => {
                let vni = vni.filter(|_| self.apart);
                if let Some(vni) = vni
                    && state.observed.tenants.get(&vni) != Some(&true)
                {
                    bail!("vrf{vni} is not there");
                }
                state.port(port)?.place = Place::Routed(vni);
            }
            Step::CleanUp(vni) => drop(state.observed.tenants.remove(vni)),
            Step::Boot(port) => state.port(port)?.place = Place::Boot,
            Step::Admin(port, up) => state.port(port)?.up = *up,
            Step::Routing(routing) => state.configure(&routing.wanted)?,
        }
        state.judge(step);
        Ok(())
    }

    async fn sessions(&self) -> Result<BTreeMap<String, Session>> {
        let running = self.lock().observed.routing.clone().map_err(anyhow::Error::msg)?;
        let session = |(name, _)| {
            let state = "Established".to_owned();
            let group = Some("MACHINE".to_owned());
            (
                name,
                Session { state, vrf: "default".into(), peer_group: group, ..Default::default() },
            )
        };
        Ok(running.peers().into_iter().map(session).collect())
    }

    async fn changed(&self) {
        while !std::mem::take(&mut self.lock().changed) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

impl State {
    fn port(&mut self, name: &str) -> Result<&mut Port> {
        match self.observed.ports.get_mut(name) {
            Some(port) => Ok(port),
            None => bail!("{name} is not there"),
        }
    }

    fn edit(&mut self, edit: impl FnOnce(&Config) -> Config) -> Result<()> {
        let running = self.observed.routing.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
        self.observed.routing = Ok(edit(running));
        Ok(())
    }

    /// Line by line as FRR does: what comes before a refused line stays.
    fn configure(&mut self, wanted: &Config) -> Result<()> {
        let refuse = self.faults.refuse.clone();
        let mut refused = None;
        self.edit(|running| {
            let change = Change::between(running, wanted, &[]);
            let bad = |line: &crate::frr::Line| {
                refuse.as_ref().is_some_and(|text| line.to_string().contains(text.as_str()))
            };
            let Some(at) = change.add.iter().position(bad) else { return wanted.clone() };
            refused = Some(change.add[at].to_string());
            running.lines().iter().chain(&change.add[..at]).cloned().collect()
        })?;
        match refused {
            None => Ok(()),
            Some(line) => bail!("refused: {line}"),
        }
    }

    fn judge(&mut self, step: &Step) {
        let routing = self.observed.routing.clone().unwrap_or_default();
        let peers = routing.peers();
        for (name, port) in &self.observed.ports {
            match port.place {
                Place::Routed(Some(vni)) if !self.observed.tenants.contains_key(&vni) => {
                    self.broken.push(format!("after \"{step}\" {name} is gone with vrf{vni}"));
                }
                Place::Routed(_) => {}
                _ if peers.contains_key(name) => self
                    .broken
                    .push(format!("after \"{step}\" {name} is bridged and has a BGP neighbour")),
                _ => {}
            }
        }
        if let Step::CleanUp(vni) = step
            && routing.vrfs().contains(&format!("vrf{vni}"))
        {
            self.broken.push(format!("after \"{step}\" vrf{vni} is still configured"));
        }
    }
}
