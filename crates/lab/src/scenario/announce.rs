//! A new address of a machine is reached from the other leaf soon after it was asked for.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use proto::api;

use super::leaf;
use super::probe::first_answer;
use super::stage::Stage;
use super::stand_in::StandIn;
use crate::topology::{LEAVES, Machine};

/// Addresses of each kind.
const ROUNDS: usize = 12;
/// How soon.
const PROMISE: Duration = Duration::from_secs(3);
/// More is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Machine and asker are on one leaf each.
const READY: Duration = Duration::from_secs(30);

pub(super) async fn play(stage: &Stage) -> Result<String> {
    stage.needs_tenant_networks()?;
    let machine = |offset: u8| {
        let machine = Machine { number: stage.spec.machines + offset };
        StandIn::new(stage, stage.wish(machine, &format!("announce-{offset}")))
    };
    let (mut here, there) = (machine(1).await?, machine(2).await?);
    here.link(LEAVES[1], false)?;
    there.link(LEAVES[0], false)?;
    let own = here.addresses[0];
    first_answer(&there, own, stage.patience(READY))?;

    // those of its own network its leaf accepts already, those of the internet the leaf has to be told about
    let kinds = [
        ("its network", stage.seed.network.as_str(), api::IPType::Static),
        ("internet", "internet", api::IPType::Ephemeral),
    ];
    let (mut lines, mut kept) = (Vec::new(), Vec::new());
    for (what, network, kind) in kinds {
        let (mut called, mut added) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            let address = create(stage, network, kind, &here).await?;
            let begin_added = Instant::now();
            here.add(address)?;
            if kind == api::IPType::Static {
                kept.push(address);
            }
            let answered = first_answer(&there, address, stage.patience(PATIENCE))?;
            called.push(answered.duration_since(begin));
            added.push(answered.duration_since(begin_added));
        }
        let (called, added) = (Times::of(called), Times::of(added));
        stage.note(&format!("{what}: from the call {called}; from the address {added}"));
        ensure!(
            called.worst <= stage.patience(PROMISE),
            "{what}: {called} from the call, promised are {:?}",
            stage.patience(PROMISE)
        );
        lines.push(format!("{what} {called}"));
    }
    for machine in [&here, &there] {
        stage.delete(machine.machine, &stage.seed.project).await?;
    }
    leaf::until_empty(stage).await?;
    for ip in kept {
        let (ip, project) = (ip.to_string(), stage.seed.project.clone());
        let request = api::IPServiceDeleteRequest { ip, project, ..Default::default() };
        stage.client.ip().delete(request).await.context("a static address stays")?;
    }
    Ok(format!("announce: call → reached from the other leaf: {}", lines.join(", ")))
}

async fn create(
    stage: &Stage,
    network: &str,
    kind: api::IPType,
    machine: &StandIn,
) -> Result<IpAddr> {
    let request = api::IPServiceCreateRequest {
        network: network.to_owned(),
        project: stage.seed.project.clone(),
        r#type: Some(kind.into()),
        machine: (kind == api::IPType::Ephemeral).then(|| machine.machine.uuid()),
        ..Default::default()
    };
    let answer = stage.client.ip().create(request).await.context("no address")?.into_owned();
    let ip = answer.ip.into_option().context("no address in the answer")?;
    ip.ip.parse().context("no address")
}

/// Middle and worst of some times; the worst of few is their 99th percentile.
struct Times {
    middle: Duration,
    worst: Duration,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        Self { middle: at(times.len() / 2), worst: at(times.len().saturating_sub(1)) }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {} ms p99 {} ms", self.middle.as_millis(), self.worst.as_millis())
    }
}
