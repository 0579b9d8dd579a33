//! Hundreds of agents on one control plane: how long a change takes to reach the one that it is for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use proto::{admin, api, ext, infra};
use tokio::task::JoinSet;

use super::stage::Stage;
use crate::api as lab_api;
use crate::topology::PARTITION;

/// Agents with an open stream, each on a connection of its own.
const AGENTS: usize = 500;
/// Changes one after the other.
const CHANGES: usize = 300;
/// Changes at once.
const BURST: usize = 100;
/// From the call to the agent.
const PROMISE: Duration = Duration::from_millis(500);
/// For what must come at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the agent heard what, by switch.
type Heard = Arc<Mutex<HashMap<String, (Instant, api::SwitchPortStatus)>>>;

pub(super) async fn play(stage: &Stage) -> Result<String> {
    let begin = Instant::now();
    let agents = lab_api::client(&stage.paths, "switch")?;
    for chunk in (0..AGENTS).collect::<Vec<_>>().chunks(20) {
        try_join_all(chunk.iter().map(|number| register(&agents, *number))).await?;
    }
    stage.note(&format!("{AGENTS} switches, {:.1} s", begin.elapsed().as_secs_f64()));

    let begin = Instant::now();
    let heard = Heard::default();
    let mut streams = JoinSet::new();
    for number in 0..AGENTS {
        streams.spawn(listen(lab_api::client(&stage.paths, "switch")?, id(number), heard.clone()));
    }
    while heard.lock().unwrap_or_else(PoisonError::into_inner).len() < AGENTS {
        ensure!(begin.elapsed() < PATIENCE, "not all agents have a stream after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stage.note(&format!("{AGENTS} streams, {:.1} s", begin.elapsed().as_secs_f64()));

    let mut single = Vec::new();
    for change in 0..CHANGES {
        single.push(change_one(stage, &heard, (change * 37) % AGENTS).await?);
    }
    let single = Times::of(single);
    stage.note(&format!("{CHANGES} changes one after the other: call → agent {single}"));
    let burst = (0..BURST).map(|number| change_one(stage, &heard, (number * 5) % AGENTS));
    let burst = Times::of(try_join_all(burst).await?);
    stage.note(&format!("{BURST} changes at once: call → agent {burst}"));
    streams.shutdown().await;
    for number in 0..AGENTS {
        let request = admin::SwitchServiceDeleteRequest { id: id(number), ..Default::default() };
        stage.client.admin_switch().delete(request).await.context("a switch stays")?;
    }
    ensure!(single.late <= PROMISE, "p99 {:?}, promised are {PROMISE:?}", single.late);
    Ok(format!("scale: {AGENTS} agents, change → agent {single}; {BURST} changes at once {burst}"))
}

fn id(number: usize) -> String {
    format!("scale-{number:03}")
}

async fn register(client: &client::Client, number: usize) -> Result<()> {
    let nic = |port: usize| api::SwitchNic {
        name: format!("swp{port}"),
        identifier: format!("swp{port}"),
        ..Default::default()
    };
    let switch = api::Switch {
        id: id(number),
        rack: Some(format!("scale-{:03}", number / 2)),
        partition: PARTITION.to_owned(),
        replace_mode: api::SwitchReplaceMode::Operational.into(),
        management_ip: "192.0.2.1".to_owned(),
        nics: (1..=32).map(nic).collect(),
        os: api::SwitchOS {
            vendor: api::SwitchOSVendor::Cumulus.into(),
            version: "5.0".to_owned(),
            metal_core_version: "0.1".to_owned(),
            ..Default::default()
        }
        .into(),
        ..Default::default()
    };
    let request =
        infra::SwitchServiceRegisterRequest { switch: switch.into(), ..Default::default() };
    client.infra_switch().register(request).await.context("a switch is refused")?;
    Ok(())
}

async fn listen(client: client::Client, id: String, heard: Heard) {
    let service = client.switch_watch();
    let request = ext::SwitchWatchServiceWatchRequest { id: id.clone(), ..Default::default() };
    client::follow(
        "switch watch",
        std::future::pending(),
        || service.watch(request.clone()),
        |answer| {
            let wish = answer.switch.as_option().and_then(|switch| switch.nics.first());
            let wish = wish.and_then(|nic| nic.state.as_option()?.desired?.as_known());
            let wish = wish.unwrap_or(api::SwitchPortStatus::Unspecified);
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let news = heard.get(&id).is_none_or(|(_, last)| *last != wish);
            if news {
                heard.insert(id.clone(), (Instant::now(), wish));
            }
            std::future::ready(())
        },
    )
    .await;
}

/// Wishes something else of a port than before; tells how long its agent took to hear of it.
async fn change_one(stage: &Stage, heard: &Heard, number: usize) -> Result<Duration> {
    let id = id(number);
    let last = |id: &str| heard.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied();
    let before = last(&id).context("no stream")?.1;
    let wish = match before {
        api::SwitchPortStatus::Down => api::SwitchPortStatus::Up,
        _ => api::SwitchPortStatus::Down,
    };
    let begin = Instant::now();
    let request = admin::SwitchServicePortRequest {
        id: id.clone(),
        nic_name: "swp1".to_owned(),
        status: wish.into(),
        ..Default::default()
    };
    stage.client.admin_switch().port(request).await.context("port")?;
    loop {
        if let Some((at, now)) = last(&id)
            && now == wish
        {
            return Ok(at.duration_since(begin));
        }
        ensure!(begin.elapsed() < PATIENCE, "{id} does not hear of its change");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Percentiles.
struct Times {
    middle: Duration,
    late: Duration,
    worst: Duration,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |percent: usize| {
            let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(index).copied().unwrap_or_default()
        };
        Self { middle: at(50), late: at(99), worst: at(100) }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [middle, late, worst] =
            [self.middle, self.late, self.worst].map(|t| t.as_secs_f64() * 1e3);
        write!(f, "p50 {middle:.1} ms p99 {late:.1} ms max {worst:.1} ms")
    }
}
