//! A link is cut, a leaf loses power, a leaf hangs: traffic goes on over the other leaf, and comes back to both.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::leaf;
use super::probe::Probe;
use super::stage::{Stage, Wish};
use super::stand_in::StandIn;
use crate::topology::{LEAVES, Leaf, Machine};
use crate::{netns, seed, shell};

/// How many flows ask each address: equal paths are chosen by flow.
const FLOWS: u16 = 8;
/// Before and after a fault.
const CALM: Duration = Duration::from_secs(1);
/// How long it is looked at what a fault does.
const FAULT: Duration = Duration::from_secs(5);
/// How long both ways may take to come back.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest outage by the timers of BGP alone, and with BFD.
const PROMISES: [(&str, Duration); 2] =
    [("BGP", Duration::from_secs(3)), ("BFD", Duration::from_secs(1))];

/// From the last sign of life of a neighbour that hangs its hold time passes, and a moment until the routes are gone.
const HOLD: Duration = Duration::from_millis(3500);

/// What goes wrong, always on the first leaf.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A machine's link.
    Link,
    /// The leaf is gone, and its links with it.
    Power,
    /// The leaf's links stay up, but nothing goes through.
    Hang,
}

pub(super) async fn play(stage: &Stage) -> Result<String> {
    stage.needs_tenant_networks()?;
    seed::create_namespaced(&stage.client).await?;
    let project = seed::create_project(&stage.client, &stage.seed.tenant, "redundant").await?;
    let network = seed::create_namespaced_network(&stage.client, &project, "redundant").await?;
    let machine = async |offset: u8| {
        let machine = Machine { number: stage.spec.machines + offset };
        let wish = Wish {
            project: project.clone(),
            network: network.id.clone(),
            ..stage.wish(machine, &format!("redundant-{offset}"))
        };
        StandIn::new(stage, wish).await
    };
    let (one, two) = (machine(1).await?, machine(2).await?);
    let mut lines = Vec::new();
    // a lab with BFD has nothing else
    let promises = if stage.spec.bfd { &PROMISES[1..] } else { &PROMISES };
    for (by, promise) in promises.iter().copied() {
        if by == "BFD" {
            for leaf in LEAVES {
                with_bfd(stage, leaf).await?;
            }
        }
        both_ways(stage, &one, &two).await?;
        for fault in [Fault::Link, Fault::Power, Fault::Hang] {
            let promise = match (fault, by) {
                (Fault::Hang, "BGP") => HOLD,
                _ => promise,
            };
            let promise = stage.patience(promise);
            let (outage, back) = suffer(stage, fault, &one, &two).await?;
            ensure!(
                outage <= promise && back <= promise,
                "{by}, {fault:?}: no answers for {outage:?} after the fault, {back:?} after its end; \
                 promised are {promise:?}"
            );
            lines.push(format!(
                "{by} {fault:?} {} ms (end {} ms)",
                outage.as_millis(),
                back.as_millis()
            ));
        }
    }
    for machine in [&one, &two] {
        stage.delete(machine.machine, &project).await?;
    }
    leaf::until_empty(stage).await?;
    Ok(format!("redundancy: longest outages: {}", lines.join(", ")))
}

/// The longest outage when it happens, and when it is over.
async fn suffer(
    stage: &Stage,
    fault: Fault,
    one: &StandIn,
    two: &StandIn,
) -> Result<(Duration, Duration)> {
    let first = LEAVES[0];
    let device = stage.device(first);
    let mut outages = Vec::new();
    let mut vrfs = Vec::new();
    for begins in [true, false] {
        let probe = Probe::start(one, &two.addresses, FLOWS)?;
        tokio::time::sleep(CALM).await;
        let begin = Instant::now();
        match (fault, begins) {
            (Fault::Link, _) => one.link(first, !begins)?,
            (Fault::Power, true) => vrfs = device.power_off()?,
            (Fault::Power, false) => device.power_on()?,
            (Fault::Hang, true) => device.hang()?,
            (Fault::Hang, false) => device.resume()?,
        }
        if begins {
            tokio::time::sleep(stage.patience(FAULT)).await;
        } else {
            if !vrfs.is_empty() {
                leaf::until_has(stage, &*device, &vrfs).await?;
            }
            both_ways(stage, one, two).await?;
            stage.note(&format!(
                "{fault:?}: both ways are used again after {:.1} s",
                begin.elapsed().as_secs_f64()
            ));
        }
        tokio::time::sleep(CALM).await;
        let seen = probe.stop()?;
        ensure!(
            seen.by.iter().eq([&two.name()]),
            "{:?} answered instead of {}",
            seen.by,
            two.name()
        );
        stage.note(&format!(
            "{fault:?} {}: {} of {} answers lost, longest outage of a flow {} ms",
            if begins { "begins" } else { "ends" },
            seen.lost,
            seen.sent,
            seen.outage.as_millis()
        ));
        outages.push(seen.outage);
    }
    Ok((outages[0], outages[1]))
}

/// Waits until each machine has two equal ways to the other one, and each leaf a way to both by their own links.
async fn both_ways(stage: &Stage, one: &StandIn, two: &StandIn) -> Result<()> {
    let (begin, patience) = (Instant::now(), stage.patience(PATIENCE));
    loop {
        let missing = missing_way(one, two)?.or(missing_way(two, one)?);
        let Some(missing) = missing else { return Ok(()) };
        ensure!(begin.elapsed() < patience, "{missing} after {patience:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn missing_way(from: &StandIn, to: &StandIn) -> Result<Option<String>> {
    for address in &to.addresses {
        let family = if address.is_ipv4() { "-4" } else { "-6" };
        let routes = netns::within(&from.machine.namespace(), || {
            shell::run(&mut shell::command("ip", [family, "route", "show", &address.to_string()]))
        })?;
        if !["dev lan0", "dev lan1"].iter().all(|way| routes.contains(way)) {
            return Ok(Some(format!("{} has not two ways to {address}: {routes}", from.name())));
        }
    }
    Ok(None)
}

/// The agent of a leaf is told to use BFD, as an operator would do it.
async fn with_bfd(stage: &Stage, leaf: Leaf) -> Result<()> {
    let device = stage.device(leaf);
    device.watch_by_bfd()?;
    let (begin, patience) = (Instant::now(), stage.patience(PATIENCE));
    let sessions = || device.vtysh(&["show bfd peers json"]);
    // uplink at least; those of machines are in their VRFs
    while sessions()?.matches("\"status\":\"up\"").count() < 1 {
        let name = leaf.name();
        ensure!(begin.elapsed() < patience, "no BFD session of {name} comes up: {}", sessions()?);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stage.note(&format!("{} speaks BFD after {:.1} s", leaf.name(), begin.elapsed().as_secs_f64()));
    Ok(())
}
