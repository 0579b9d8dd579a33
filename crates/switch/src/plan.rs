//! From how the switch should be and how it is to ordered steps. Pure: same input, same plan; equal states, no plan.
//!
//! The order is the point. Who leaves a network loses its BGP neighbour before its port moves, and a port that enters
//! one is on its own before it gets a neighbour, so that at no moment two networks are connected.

use std::collections::BTreeSet;
use std::fmt;

use netconf::leaf::{Leaf, Port as RoutedPort, Role};

use crate::backend::{Observed, Place as Where, Port as ObservedPort, Routing, Step};
use crate::desired::{Admin, Desired, Place, Port};
use crate::frr::{Change, Config, Line};

/// What does not come from the control plane.
#[derive(Clone, Debug)]
pub struct Site {
    /// The leaf without its ports.
    pub leaf: Leaf,
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
        render: impl Fn(&Leaf) -> String,
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
            Step::Unpeer(_) | Step::Boot(_) => false,
            Step::Routing(routing) => !routing.change.closes(),
            Step::Forward | Step::Route(_) | Step::Admin(..) => true,
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
    peers: std::collections::BTreeMap<String, Option<String>>,
    unpeer: BTreeSet<String>,
    shut: Vec<Step>,
    route: Vec<Step>,
    boot: Vec<Step>,
    open: Vec<Step>,
    routed: Vec<RoutedPort>,
    unclear: BTreeSet<String>,
    faults: Vec<String>,
}

impl<'a> Planner<'a> {
    fn new(observed: &'a Observed, site: &'a Site, desired: Option<&Desired>) -> Self {
        let mut faults = observed.missing.clone();
        faults.extend(desired.iter().flat_map(|desired| desired.faults.iter().cloned()));
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
            route: Vec::new(),
            boot: Vec::new(),
            open: Vec::new(),
            routed: Vec::new(),
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
            Place::Fabric => self.plan_routed(name, port, now, Role::Firewall),
            Place::Tenant(_) => self.plan_routed(name, port, now, Role::Machine),
        }
        let down = match port.admin {
            Some(wish) => wish == Admin::Down,
            None => self.site.down.contains(name),
        };
        match (now.up, down) {
            (true, true) => self.shut.push(Step::Admin(name.to_owned(), false)),
            (false, false) => self.open.push(Step::Admin(name.to_owned(), true)),
            _ => {}
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

    fn plan_routed(&mut self, name: &str, port: &Port, now: &ObservedPort, role: Role) {
        let network = port.place.to_string();
        if let Some(Some(description)) = self.peers.get(name)
            && description.split(' ').next() != Some(&network)
        {
            self.unpeer.insert(name.to_owned());
        }
        if now.place != Where::Routed {
            self.route.push(Step::Route(name.to_owned()));
        }
        let machine = port.machine.map(|machine| format!(" machine {machine}")).unwrap_or_default();
        self.routed.push(RoutedPort {
            name: name.to_owned(),
            role,
            accept: port.accept.clone(),
            description: Some(format!("{network}{machine}")),
        });
    }

    fn finish(mut self, known: bool, render: impl Fn(&Leaf) -> String) -> Plan {
        let mut steps = Vec::new();
        if !self.observed.forwards {
            steps.push(Step::Forward);
        }
        let routing = self.routing(known, render);
        if !self.unpeer.is_empty() {
            steps.push(Step::Unpeer(std::mem::take(&mut self.unpeer)));
        }
        for kind in [self.shut, self.route, self.boot, self.open] {
            steps.extend(kind);
        }
        steps.extend(routing.map(|routing| Step::Routing(Box::new(routing))));
        Plan { steps, faults: self.faults }
    }

    fn routing(&mut self, known: bool, render: impl Fn(&Leaf) -> String) -> Option<Routing> {
        let running = self.observed.routing.as_ref().ok()?;
        let leaf = Leaf { ports: std::mem::take(&mut self.routed), ..self.site.leaf.clone() };
        let mut wanted = Config::parse(&render(&leaf));
        for port in self.unclear.iter().chain(&self.site.frozen) {
            // One that leaves a network leaves it, whatever is wrong with it otherwise.
            if !self.unpeer.contains(port) {
                wanted = wanted.with_port_from(running, port);
            }
        }
        if !known {
            let uplinks = &self.site.leaf.uplinks;
            for port in self.peers.keys().filter(|peer| !uplinks.contains(peer)) {
                wanted = wanted.with_port_from(running, port);
            }
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
