//! The control plane is away: leaves and machines start again, and traffic comes back from the last good state.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::leaf;
use super::probe::{Probe, first_answer};
use super::stage::Stage;
use super::stand_in::StandIn;
use crate::control::{self, Request};
use crate::parts;
use crate::topology::{LEAVES, Machine};

/// How long traffic may take to come back when everything starts at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing may be lost after the control plane is back.
const QUIET: Duration = Duration::from_secs(8);

pub(super) async fn play(stage: &Stage) -> Result<String> {
    stage.needs_tenant_networks()?;
    let machine = |offset: u8| {
        let machine = Machine { number: stage.spec.machines + offset };
        StandIn::new(stage, stage.wish(machine, &format!("autonomy-{offset}")))
    };
    let (one, two) = (machine(1).await?, machine(2).await?);
    // only the fabric connects them
    one.link(LEAVES[1], false)?;
    two.link(LEAVES[0], false)?;
    let address = two.addresses[0];
    first_answer(&one, address, stage.patience(PATIENCE))?;

    control::ask(&stage.paths.control(), &Request::Stop(parts::SERVER.to_owned()))?;
    stage.note("the control plane is away");
    let probe = Probe::start(&one, &two.addresses, 2)?;
    tokio::time::sleep(QUIET).await;
    let seen = probe.stop()?;
    ensure!(seen.lost == 0, "{} of {} lost because nobody is there", seen.lost, seen.sent);

    let mut lines = Vec::new();
    for what in ["one leaf", "both machines", "everything"] {
        let begin = Instant::now();
        let mut vrfs = Vec::new();
        match what {
            "one leaf" => vrfs.push((LEAVES[0], leaf::reboot(&*stage.device(LEAVES[0]))?)),
            "both machines" => restart(stage, &[&one, &two])?,
            _ => {
                for leaf in LEAVES {
                    vrfs.push((leaf, leaf::reboot(&*stage.device(leaf))?));
                }
                restart(stage, &[&one, &two])?;
            }
        }
        let begun = begin.elapsed();
        for (leaf, vrfs) in vrfs {
            leaf::until_has(stage, &*stage.device(leaf), &vrfs).await?;
        }
        let made = begin.elapsed();
        let back = first_answer(&one, address, stage.patience(PATIENCE))?.duration_since(begin);
        stage.note(&format!(
            "{what} started again: taken down within {:.1} s, VRFs after {:.1} s, traffic after {:.1} s",
            begun.as_secs_f64(),
            made.as_secs_f64(),
            back.as_secs_f64()
        ));
        lines.push(format!("{what} {:.1} s", back.as_secs_f64()));
        // settled, so that the next one is measured alone
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    let probe = Probe::start(&one, &two.addresses, 2)?;
    control::ask(&stage.paths.control(), &Request::Start(parts::server(&stage.paths)))?;
    let begin = Instant::now();
    while stage.look(one.machine).await.is_err() {
        ensure!(begin.elapsed() < PATIENCE, "the control plane does not come back");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(QUIET).await;
    let seen = probe.stop()?;
    ensure!(seen.lost == 0, "{} of {} lost when the control plane came back", seen.lost, seen.sent);
    stage.note(&format!("the control plane is back, {} packets, none lost", seen.sent));
    for machine in [&one, &two] {
        stage.delete(machine.machine, &stage.seed.project).await?;
    }
    leaf::until_empty(stage).await?;
    Ok(format!("autonomy: without the control plane traffic is back: {}", lines.join(", ")))
}

fn restart(stage: &Stage, machines: &[&StandIn]) -> Result<()> {
    machines.iter().try_for_each(|machine| machine.restart(stage))
}
