//! One pass: observe, plan, apply, look again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::apply::apply;
use crate::backend::{Backend, Observed, Step};
use crate::config::Config;
use crate::desired::Desired;
use crate::frr::{self, Line};
use crate::plan::{Plan, Site};
use crate::report::Report;

/// How long a port whose routing was refused is left alone before it is tried again.
const FROZEN: Duration = Duration::from_secs(60);

/// FRR applies a changed filter to known routes after one second, as configured.
const FILTERED: Duration = Duration::from_millis(1200);

/// What passes remember of one another. Nothing of it is needed to be right, only to be calm.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Refused ports: in which generation, until when.
    frozen: BTreeMap<String, (u64, Instant)>,
    /// What was reached without errors: whatever is to be done then was done by somebody else.
    reached: Option<Desired>,
    /// What was said last about what is wrong.
    errors: Vec<String>,
}

/// What a pass did.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) report: Report,
    /// Whether anything was changed on the device.
    pub(crate) changed: bool,
    /// What somebody else had changed, as what was done about it.
    pub(crate) drift: Option<String>,
    /// The routing daemons did not answer.
    pub(crate) deaf: bool,
}

/// What does not come from the control plane.
pub(crate) fn site(config: &Config, down: BTreeSet<String>) -> Site {
    let leaf = netconf::leaf::Leaf {
        hostname: config.id.clone(),
        asn: config.asn,
        loopback: config.loopback,
        boot: config.boot_prefix.as_slice().to_vec(),
        protected: config.policy.protected.clone(),
        uplinks: config.uplinks.clone(),
        ports: Vec::new(),
        maximum_prefix: config.policy.maximum_prefix,
        liveness: config.policy.liveness(),
    };
    Site {
        leaf,
        apart: config.backend.has_vrfs(),
        keep: config.frr.keep.clone(),
        down,
        frozen: BTreeSet::new(),
    }
}

pub(crate) async fn pass(
    backend: &impl Backend,
    mut site: Site,
    desired: Option<&Desired>,
    memory: &mut Memory,
) -> Passed {
    let started = Instant::now();
    let generation = desired.map_or(0, |desired| desired.generation);
    memory.frozen.retain(|_, (of, until)| *of == generation && started < *until);
    let mut errors = Vec::new();
    let mut changed = false;
    let (mut drift, mut deaf) = (None, false);
    let mut closed = false;
    let mut ports = BTreeMap::new();
    site.frozen = memory.frozen.keys().cloned().collect();
    match backend.observe().await {
        Err(error) => errors.push(format!("the switch cannot be observed: {error:#}")),
        Ok(observed) => {
            let plan = Plan::make(desired, &observed, &site, |evpn| backend.routing(evpn));
            errors.extend(plan.faults.iter().cloned());
            deaf = observed.routing.is_err();
            errors.extend(
                memory.frozen.keys().map(|port| {
                    format!("the routing of {port} was refused and is tried again later")
                }),
            );
            closed = is_closed(desired, &observed, &site, backend);
            ports = observed.ports;
            if !plan.is_empty() {
                changed = true;
                if desired.is_some() && memory.reached.as_ref() == desired {
                    drift = Some(describe(&plan));
                }
                announce(&plan, drift.is_some());
                let outcome = apply(backend, &plan.steps, &site.keep).await;
                let until = Instant::now() + FROZEN;
                memory
                    .frozen
                    .extend(outcome.refused.iter().map(|port| (port.clone(), (generation, until))));
                site.frozen = memory.frozen.keys().cloned().collect();
                errors.extend(outcome.errors);
                if narrows(&plan) {
                    tokio::time::sleep(FILTERED).await;
                }
                match backend.observe().await {
                    Ok(after) => {
                        errors.extend(left_over(desired, &after, &site, backend));
                        closed = is_closed(desired, &after, &site, backend);
                        ports = after.ports;
                    }
                    Err(error) => errors.push(format!("the switch cannot be observed: {error:#}")),
                }
            }
        }
    }
    let took = started.elapsed();
    memory.reached = desired.filter(|_| errors.is_empty()).cloned();
    if errors != memory.errors {
        for error in &errors {
            tracing::warn!(generation, "{error}");
        }
        memory.errors.clone_from(&errors);
    }
    if changed {
        tracing::info!(
            generation,
            errors = errors.len(),
            duration_ms = took.as_millis() as u64,
            "applied"
        );
    }
    measure(&errors, took, generation);
    Passed { report: Report { generation, took, errors, closed, ports }, changed, drift, deaf }
}

/// Longer lists help nobody.
const LINES: usize = 6;

/// What a plan does, for somebody who sees nothing but this: steps, and the first lines of the routing configuration.
fn describe(plan: &Plan) -> String {
    let step = |step: &Step| match step {
        Step::Routing(routing) => {
            let text = routing.change.to_string();
            let (all, shown) = (text.lines().count(), text.lines().take(LINES));
            let more =
                if all > LINES { format!(", and {} more", all - LINES) } else { String::new() };
            format!("routing {}{more}", shown.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    };
    plan.steps.iter().map(step).collect::<Vec<_>>().join("; ")
}

fn announce(plan: &Plan, reached: bool) {
    for step in &plan.steps {
        metrics::counter!("switch_steps_total").increment(1);
        if reached {
            metrics::counter!("switch_drift_total").increment(1);
            tracing::warn!(%step, "somebody changed the switch; healing");
        } else {
            tracing::info!(%step, "applying");
        }
    }
    tracing::debug!("{plan}");
}

/// Whether a neighbour that stays loses a part of what it may announce.
fn narrows(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| match step {
        Step::Routing(routing) => {
            let stay = routing.wanted.peers();
            let is_about_one = |line: &Line| stay.keys().any(|port| line.is_about(port));
            let mut lost = routing.change.remove.iter();
            lost.any(|line| is_about_one(line) && !is_still_accepted(line, &routing.wanted))
        }
        _ => false,
    })
}

/// Two neighbouring prefixes become one: what is accepted stays the same.
fn is_still_accepted(line: &Line, wanted: &frr::Config) -> bool {
    let Some((list, prefix)) = accepted(line) else { return false };
    wanted
        .lines()
        .iter()
        .filter_map(accepted)
        .any(|(other, wider)| other == list && wider.contains(&prefix))
}

/// The list and the prefix that a line of it accepts with everything inside.
fn accepted(line: &Line) -> Option<(&str, IpNet)> {
    let (list, rest) = line.text().split_once(" seq ")?;
    let (_, prefix) = rest.split_once(" permit ")?;
    Some((list, prefix.split(' ').next()?.parse().ok()?))
}

/// Also what was refused and left alone counts: it is still open.
fn is_closed(
    desired: Option<&Desired>,
    observed: &Observed,
    site: &Site,
    backend: &impl Backend,
) -> bool {
    let site = Site { frozen: BTreeSet::new(), ..site.clone() };
    observed.routing.is_ok()
        && Plan::make(desired, observed, &site, |evpn| backend.routing(evpn)).closes_nothing()
}

/// What should be empty after applying.
fn left_over(
    desired: Option<&Desired>,
    after: &Observed,
    site: &Site,
    backend: &impl Backend,
) -> Option<String> {
    let rest = Plan::make(desired, after, site, |evpn| backend.routing(evpn));
    let rest: Vec<_> = rest.steps.iter().map(ToString::to_string).collect();
    (!rest.is_empty()).then(|| format!("still to do after applying: {}", rest.join(", ")))
}

fn measure(errors: &[String], took: Duration, generation: u64) {
    let result = if errors.is_empty() { "ok" } else { "error" };
    metrics::counter!("switch_passes_total", "result" => result).increment(1);
    metrics::histogram!("switch_pass_seconds").record(took.as_secs_f64());
    metrics::gauge!("switch_errors").set(errors.len() as f64);
    if errors.is_empty() {
        metrics::gauge!("switch_generation").set(generation as f64);
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        metrics::gauge!("switch_last_success_timestamp_seconds").set(now.as_secs_f64());
    }
}

#[cfg(test)]
mod tests;
