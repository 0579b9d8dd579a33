//! Steps on a device: one that fails stops only what depends on it, and routing is either as wanted or as before.

use std::collections::BTreeSet;

use crate::backend::{Backend, Routing, Step};
use crate::frr::{Change, Config};

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
    let mut peered = BTreeSet::new();
    for step in steps {
        if let Step::Boot(port) = step
            && peered.contains(port)
        {
            outcome.errors.push(format!(
                "{port} stays out of the boot network because it may still be routed"
            ));
            continue;
        }
        if let Step::Routing(routing) = step {
            apply_routing(backend, routing, keep, &mut outcome).await;
            continue;
        }
        match backend.apply(step).await {
            Ok(()) => outcome.done.push(step.to_string()),
            Err(error) => {
                if let Step::Unpeer(ports) = step {
                    peered.extend(ports.iter().cloned());
                }
                outcome.errors.push(format!("cannot {step}: {error:#}"));
            }
        }
    }
    outcome
}

/// All at once; if that fails everything is taken back and tried port by port, so that the one that is refused is found
/// and the others get what they should.
async fn apply_routing(
    backend: &impl Backend,
    routing: &Routing,
    keep: &[String],
    outcome: &mut Outcome,
) {
    let before = &routing.before;
    let text = Step::Routing(Box::new(routing.clone())).to_string();
    let Err(error) = reach(backend, before, &routing.wanted, keep).await else {
        outcome.done.push(text);
        return;
    };
    outcome.errors.push(format!("cannot {text}: {error:#}"));
    if let Err(error) = reach(backend, &routing.wanted, before, keep).await {
        outcome.errors.push(format!("and it cannot be taken back: {error:#}"));
    }

    let ports = ports_in(&routing.wanted, before, &routing.change);
    let mut current = ports
        .iter()
        .fold(routing.wanted.clone(), |wanted, port| wanted.with_port_from(before, port));
    if current != *before && reach(backend, before, &current, keep).await.is_err() {
        // What concerns no port at all is refused: nothing is left that could be saved.
        if let Err(error) = reach(backend, &current, before, keep).await {
            outcome.errors.push(format!("and it cannot be taken back: {error:#}"));
        }
        return;
    }
    for port in ports {
        let next = current.with_port_from(&routing.wanted, &port);
        match reach(backend, &current, &next, keep).await {
            Ok(()) => {
                outcome.done.push(format!("change the routing of {port}"));
                current = next;
            }
            Err(error) => {
                outcome.errors.push(format!("port {port}: {error:#}"));
                outcome.refused.insert(port.clone());
                if let Err(error) = reach(backend, &next, &current, keep).await {
                    outcome
                        .errors
                        .push(format!("port {port}: and it cannot be taken back: {error:#}"));
                }
            }
        }
    }
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

/// Ports that the change is about: neighbours on an interface before or after.
fn ports_in(wanted: &Config, before: &Config, change: &Change) -> Vec<String> {
    let all: BTreeSet<_> = wanted.peers().into_keys().chain(before.peers().into_keys()).collect();
    change.ports(all.iter()).into_iter().cloned().collect()
}
