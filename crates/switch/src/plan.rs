//! From how the switch should be and how it is to ordered steps. Pure: same input, same plan; equal states, no plan.
//!
//! The order is the point. Who leaves a network loses its BGP neighbour before its port moves, and a port that enters
//! one is on its own before it gets a neighbour, so that at no moment two networks are connected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use netconf::leaf::evpn::{Evpn, Tenant, Vrfs};
use netconf::leaf::{Leaf, Port as RoutedPort, Role};

use crate::backend::{Observed, Place as Where, Port as ObservedPort, Routing, Step};
use crate::desired::{Admin, Desired, Place, Port};
use crate::frr::{Change, Config, Line};

/// What does not come from the control plane.
#[derive(Clone, Debug)]
pub struct Site {
    /// The leaf without its ports.
    pub leaf: Leaf,
    /// Tenants have a VRF each on this device.
    pub apart: bool,
    /// Starts of lines in the routing configuration that belong to somebody else.
    pub keep: Vec<String>,
    /// Ports that an operator shut down. The wish is told once, so the agent remembers it.
    pub down: BTreeSet<String>,
    /// Ports whose routing was refused lately: it stays as it is.
    pub frozen: BTreeSet<String>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// What cannot be done, for a human.
    pub faults: Vec<String>,
}

impl Plan {
    /// Compares. Without a desired state the switch gets what it needs to reach the control plane, and no machine
    /// loses its neighbour.
    pub fn make(
        desired: Option<&Desired>,
        observed: &Observed,
        site: &Site,
        render: impl Fn(&Evpn) -> String,
    ) -> Self {
        let mut planner = Planner::new(observed, site, desired);
        for (name, port) in desired.iter().flat_map(|desired| &desired.ports) {
            match observed.ports.get(name) {
                Some(now) => planner.port(name, port, now),
                None => planner.faults.push(format!("port {name} is not there")),
            }
        }
        planner.finish(desired.is_some(), render)
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether nobody has to leave a network any more and nothing that is accepted has to be refused.
    pub fn closes_nothing(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Step::Unpeer(_) | Step::Leave(_) | Step::Boot(_) => false,
            Step::Routing(routing) => !routing.change.closes(),
            Step::Forward
            | Step::Prepare(_)
            | Step::Route(..)
            | Step::Admin(..)
            | Step::CleanUp(_) => true,
        })
    }
}

/// For people: steps, the difference in the routing configuration, what is in the way.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{}. {step}", number + 1)?;
            if let Step::Routing(routing) = step {
                for line in routing.change.to_string().lines() {
                    writeln!(f, "     {line}")?;
                }
            }
        }
        for fault in &self.faults {
            writeln!(f, "! {fault}")?;
        }
        if self.steps.is_empty() {
            writeln!(f, "nothing to do")?;
        }
        Ok(())
    }
}

/// Steps by kind, until they are put in order.
struct Planner<'a> {
    observed: &'a Observed,
    site: &'a Site,
    /// Neighbours that run, with the network they belong to.
    peers: BTreeMap<String, Option<String>>,
    unpeer: BTreeSet<String>,
    shut: Vec<Step>,
    leave: Vec<Step>,
    prepare: Vec<Step>,
    route: Vec<Step>,
    boot: Vec<Step>,
    open: Vec<Step>,
    /// In no VRF: firewalls, or all where nothing keeps tenants apart.
    routed: Vec<RoutedPort>,
    tenants: BTreeMap<u32, Vec<RoutedPort>>,
    firewalls: BTreeMap<String, BTreeSet<u32>>,
    unclear: BTreeSet<String>,
    faults: Vec<String>,
}

impl<'a> Planner<'a> {
    fn new(observed: &'a Observed, site: &'a Site, desired: Option<&Desired>) -> Self {
        let mut faults = observed.missing.clone();
        faults.extend(desired.iter().flat_map(|desired| desired.faults.iter().cloned()));
        if !observed.bfd {
            faults.push(
                "BFD is wanted, but bfdd does not run: silent neighbours are given up by BGP's hold time alone"
                    .to_owned(),
            );
        }
        if let Err(error) = &observed.routing {
            faults
                .push(format!("routing is unknown, ports leave it only when it is known: {error}"));
        }
        Self {
            observed,
            site,
            peers: observed.routing.as_ref().map(Config::peers).unwrap_or_default(),
            unpeer: BTreeSet::new(),
            shut: Vec::new(),
            leave: Vec::new(),
            prepare: Vec::new(),
            route: Vec::new(),
            boot: Vec::new(),
            open: Vec::new(),
            routed: Vec::new(),
            tenants: BTreeMap::new(),
            firewalls: BTreeMap::new(),
            unclear: BTreeSet::new(),
            faults,
        }
    }

    fn port(&mut self, name: &str, port: &Port, now: &ObservedPort) {
        match &port.place {
            Place::Unclear(_) => {
                self.unclear.insert(name.to_owned());
                return;
            }
            Place::Boot => self.plan_boot(name, now),
            Place::Fabric => self.plan_routed(name, port, now, Role::Firewall, None),
            Place::Tenant(vni) => {
                let vni = self.site.apart.then_some(*vni);
                self.plan_routed(name, port, now, Role::Machine, vni);
            }
        }
        let down = match port.admin {
            Some(wish) => wish == Admin::Down,
            None => self.site.down.contains(name),
        };
        // Whoever leaves a VRF is down afterwards.
        let leaves = self.leave.last().and_then(Step::port) == Some(name);
        if down && now.up {
            self.shut.push(Step::Admin(name.to_owned(), false));
        } else if !down && (!now.up || leaves) {
            self.open.push(Step::Admin(name.to_owned(), true));
        }
    }

    fn plan_boot(&mut self, name: &str, now: &ObservedPort) {
        if self.peers.contains_key(name) {
            self.unpeer.insert(name.to_owned());
        }
        // As long as nobody knows whether it still has a neighbour, a routed port stays where it is.
        let known = self.observed.routing.is_ok() || now.place == Where::OpenBoot;
        if now.place != Where::Boot && known {
            self.boot.push(Step::Boot(name.to_owned()));
        }
    }

    fn plan_routed(
        &mut self,
        name: &str,
        port: &Port,
        now: &ObservedPort,
        role: Role,
        vni: Option<u32>,
    ) {
        let network = port.place.to_string();
        if let Some(Some(description)) = self.peers.get(name)
            && description.split(' ').next() != Some(&network)
        {
            self.unpeer.insert(name.to_owned());
        }
        if now.place != Where::Routed(vni) {
            if let Where::Routed(Some(_)) = now.place {
                // From one network to another only by way of none.
                if self.peers.contains_key(name) {
                    self.unpeer.insert(name.to_owned());
                }
                self.leave.push(Step::Leave(name.to_owned()));
            }
            self.route.push(Step::Route(name.to_owned(), vni));
        }
        let machine = port.machine.map(|machine| format!(" machine {machine}")).unwrap_or_default();
        let routed = RoutedPort {
            name: name.to_owned(),
            role,
            accept: port.accept.clone(),
            description: Some(format!("{network}{machine}")),
        };
        match vni {
            Some(vni) => self.tenants.entry(vni).or_default().push(routed),
            None => self.routed.push(routed),
        }
        if role == Role::Firewall {
            self.firewalls.insert(name.to_owned(), port.vnis.clone());
        }
    }

    fn finish(mut self, known: bool, render: impl Fn(&Evpn) -> String) -> Plan {
        let mut steps = Vec::new();
        if !self.observed.forwards {
            steps.push(Step::Forward);
        }
        let broken = |vni: &&u32| self.observed.tenants.get(vni) != Some(&true);
        self.prepare = self.tenants.keys().filter(broken).map(|vni| Step::Prepare(*vni)).collect();
        let clean_up = self.clean_up(known);
        let routing = self.routing(known, render);
        if !self.unpeer.is_empty() {
            steps.push(Step::Unpeer(std::mem::take(&mut self.unpeer)));
        }
        for kind in [self.shut, self.leave, self.prepare, self.route, self.boot, self.open] {
            steps.extend(kind);
        }
        steps.extend(routing.map(|routing| Step::Routing(Box::new(routing))));
        steps.extend(clean_up);
        Plan { steps, faults: self.faults }
    }

    /// VRFs that nobody needs: no port belongs into them, and none is left in them.
    fn clean_up(&self, known: bool) -> Vec<Step> {
        if !known || self.observed.routing.is_err() {
            return Vec::new();
        }
        let leaves =
            |port: &str| self.leave.iter().chain(&self.boot).any(|step| step.port() == Some(port));
        let left: BTreeSet<_> = self
            .observed
            .ports
            .iter()
            .filter(|(name, _)| !leaves(name))
            .filter_map(|(_, port)| match port.place {
                Where::Routed(vni) => vni,
                _ => None,
            })
            .collect();
        let idle = |vni: &&u32| !self.tenants.contains_key(vni) && !left.contains(vni);
        self.observed.tenants.keys().filter(idle).map(|vni| Step::CleanUp(*vni)).collect()
    }

    fn routing(&mut self, known: bool, render: impl Fn(&Evpn) -> String) -> Option<Routing> {
        let running = self.observed.routing.as_ref().ok()?;
        let tenants = std::mem::take(&mut self.tenants).into_iter();
        let evpn = Evpn {
            leaf: Leaf { ports: std::mem::take(&mut self.routed), ..self.site.leaf.clone() },
            tenants: tenants.map(|(vni, ports)| Tenant { vni, ports }).collect(),
            firewalls: std::mem::take(&mut self.firewalls),
            // The device knows.
            vrfs: Vrfs::default(),
        };
        let mut wanted = Config::parse(&render(&evpn));
        if !self.observed.bfd {
            // Nobody is there to take it. Neighbours keep theirs for the time when somebody is.
            wanted = wanted.lines().iter().filter(|line| line.top() != "bfd").cloned().collect();
        }
        for port in self.unclear.iter().chain(&self.site.frozen) {
            // One that leaves a network leaves it, whatever is wrong with it otherwise.
            if !self.unpeer.contains(port) {
                wanted = wanted.with_vrf_of(running, port).with_port_from(running, port);
            }
        }
        if !known {
            let uplinks = &self.site.leaf.uplinks;
            for port in self.peers.keys().filter(|peer| !uplinks.contains(peer)) {
                wanted = wanted.with_vrf_of(running, port).with_port_from(running, port);
            }
        }
        if self.unpeer.is_empty() {
            let change = Change::between(running, &wanted, &self.site.keep);
            let before = running;
            return (!change.is_empty()).then(|| Routing {
                before: before.clone(),
                wanted,
                change,
            });
        }
        // What goes with the neighbours that were removed before is gone by then.
        let gone =
            |line: &&Line| line.neighbour().is_some_and(|(_, name)| self.unpeer.contains(name));
        let before: Config = running.lines().iter().filter(|line| !gone(line)).cloned().collect();
        let change = Change::between(&before, &wanted, &self.site.keep);
        (!change.is_empty()).then_some(Routing { before, wanted, change })
    }
}

#[cfg(test)]
mod tests;
