//! Steps on a device: one that fails stops only what depends on it, and routing is either as wanted or as before.

use std::collections::BTreeSet;

use crate::backend::{Backend, Routing, Step};
use crate::frr::{Change, Config, Line};

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Steps that were done.
    pub done: Vec<String>,
    /// What failed, for a human.
    pub errors: Vec<String>,
    /// Ports whose routing was refused.
    pub refused: BTreeSet<String>,
}

/// Does the steps in order.
pub async fn apply(backend: &impl Backend, steps: &[Step], keep: &[String]) -> Outcome {
    let mut outcome = Outcome::default();
    // Ports that may still have a neighbour, and ports that are not where they should be.
    let (mut peered, mut stuck) = (BTreeSet::new(), BTreeSet::new());
    let mut as_wanted = true;
    for step in steps {
        if let Step::Boot(port) | Step::Leave(port) | Step::Route(port, _) = step
            && peered.contains(port)
        {
            outcome.errors.push(format!("cannot {step}: {port} may still be routed"));
            continue;
        }
        if let Step::Admin(port, true) | Step::Route(port, _) = step
            && stuck.contains(port)
        {
            continue;
        }
        if let Step::Routing(routing) = step {
            as_wanted = apply_routing(backend, routing, keep, &mut outcome).await;
            continue;
        }
        // It may still be configured; the next pass sees.
        if matches!(step, Step::CleanUp(_)) && !as_wanted {
            continue;
        }
        match backend.apply(step).await {
            Ok(()) => outcome.done.push(step.to_string()),
            Err(error) => {
                match step {
                    Step::Unpeer(ports) => peered.extend(ports.iter().cloned()),
                    _ => stuck.extend(step.port().map(str::to_owned)),
                }
                outcome.errors.push(format!("cannot {step}: {error:#}"));
            }
        }
    }
    outcome
}

/// What is tried on its own when all at once is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    /// A VRF without its ports; comes before them.
    Vrf(String),
    Port(String),
}

impl Unit {
    fn of(&self, config: &Config, from: &Config) -> Config {
        match self {
            Self::Port(port) => config.with_port_from(from, port),
            Self::Vrf(vrf) => {
                // Ports keep what they have: they are tried one by one.
                let whole = config.with_vrf_from(from, vrf);
                let ports = from.peers().into_keys().chain(config.peers().into_keys());
                let ports: BTreeSet<_> = ports.collect();
                let is_free = |line: &&Line| {
                    line.vrf() != Some(vrf) || !ports.iter().any(|port| line.is_about(port))
                };
                let kept = config.lines().iter().filter(|line| !is_free(line));
                whole.lines().iter().filter(is_free).chain(kept).cloned().collect()
            }
        }
    }
}

/// All at once; if that fails everything is taken back and tried tenant by tenant and port by port, so that what is
/// refused is found and the others get what they should. Tells whether all is as wanted.
async fn apply_routing(
    backend: &impl Backend,
    routing: &Routing,
    keep: &[String],
    outcome: &mut Outcome,
) -> bool {
    let before = &routing.before;
    let text = Step::Routing(Box::new(routing.clone())).to_string();
    let Err(error) = reach(backend, before, &routing.wanted, keep).await else {
        outcome.done.push(text);
        return true;
    };
    outcome.errors.push(format!("cannot {text}: {error:#}"));
    if let Err(error) = reach(backend, &routing.wanted, before, keep).await {
        outcome.errors.push(format!("and it cannot be taken back: {error:#}"));
    }

    let units = units(&routing.wanted, before, &routing.change);
    // Ports first, so that none is left in a VRF that is not there.
    let mut current =
        units.iter().rev().fold(routing.wanted.clone(), |wanted, unit| unit.of(&wanted, before));
    if current != *before && reach(backend, before, &current, keep).await.is_err() {
        // What concerns no tenant and no port is refused: nothing is left that could be saved.
        if let Err(error) = reach(backend, &current, before, keep).await {
            outcome.errors.push(format!("and it cannot be taken back: {error:#}"));
        }
        return false;
    }
    let mut refused = BTreeSet::new();
    for unit in units {
        if let Unit::Port(port) = &unit
            && routing.wanted.vrf_of(port).is_some_and(|vrf| refused.contains(vrf))
        {
            outcome.errors.push(format!("port {port}: its VRF is refused"));
            outcome.refused.insert(port.clone());
            continue;
        }
        let next = unit.of(&current, &routing.wanted);
        let name = match &unit {
            Unit::Port(port) => format!("port {port}"),
            Unit::Vrf(vrf) => vrf.clone(),
        };
        let Err(error) = reach(backend, &current, &next, keep).await else {
            outcome.done.push(format!("change the routing of {name}"));
            current = next;
            continue;
        };
        outcome.errors.push(format!("{name}: {error:#}"));
        match unit {
            Unit::Port(port) => drop(outcome.refused.insert(port)),
            Unit::Vrf(vrf) => drop(refused.insert(vrf)),
        }
        if let Err(error) = reach(backend, &next, &current, keep).await {
            outcome.errors.push(format!("{name}: and it cannot be taken back: {error:#}"));
        }
    }
    false
}

async fn reach(
    backend: &impl Backend,
    from: &Config,
    wanted: &Config,
    keep: &[String],
) -> anyhow::Result<()> {
    let change = Change::between(from, wanted, keep);
    backend
        .apply(&Step::Routing(Box::new(Routing {
            before: from.clone(),
            wanted: wanted.clone(),
            change,
        })))
        .await
}

/// What the change is about: VRFs, and neighbours on an interface before or after.
fn units(wanted: &Config, before: &Config, change: &Change) -> Vec<Unit> {
    let all: BTreeSet<_> = wanted.peers().into_keys().chain(before.peers().into_keys()).collect();
    let ports = change.ports(all.iter()).into_iter().cloned().map(Unit::Port);
    let vrfs = wanted.vrfs().into_iter().chain(before.vrfs());
    let vrfs: BTreeSet<_> = vrfs.filter(|vrf| change.is_about_vrf(vrf)).map(Unit::Vrf).collect();
    vrfs.into_iter().chain(ports).collect()
}
