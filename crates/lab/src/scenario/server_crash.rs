//! The control plane is killed again and again; machines go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::ssh;
use super::stage::{Stage, Wish, address};
use crate::api::Event;
use crate::ledger;
use crate::parts::SERVER;
use crate::seed::OLD_IMAGE;
use crate::topology::Machine;

pub(super) async fn play(stage: &Stage) -> Result<String> {
    let machine = Machine { number: 1 };
    stage.until_waiting(machine).await?;
    kill(stage, "while machines wait").await?;
    // the stream of the machine comes back by itself, so it can be allocated
    let wish = Wish { image: OLD_IMAGE.to_owned(), ..stage.wish(machine, "steady") };
    let begin = Instant::now();
    while let Err(error) = stage.create(&wish).await {
        if begin.elapsed() > Duration::from_secs(30) {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    stage.note(&format!("allocated {:.1} s after that", begin.elapsed().as_secs_f64()));
    kill(stage, "right after the allocation").await?;
    stage.until_event(machine, Event::Installing).await?;
    kill(stage, "while it installs").await?;
    stage.until_event(machine, Event::BootingNewKernel).await?;
    kill(stage, "while the new kernel boots").await?;
    let seen = stage.until_phoned_home(machine).await?;
    let hostname = ssh::run(stage, machine, &address(&seen)?, "hostname")?;
    ensure!(hostname == "steady", "another machine answers: {hostname}");
    stage.delete(machine, &wish.project).await?;
    kill(stage, "right after the delete").await?;
    stage.until_waiting(machine).await?;
    let left = stage.addresses(&wish.project).await?;
    ensure!(left.is_empty(), "addresses are left: {left:?}");
    stage.all_wait().await?;
    Ok("server-crash: killed five times, nothing is stuck".to_owned())
}

/// Kills the control plane the hard way and waits until it answers again.
async fn kill(stage: &Stage, when: &str) -> Result<()> {
    let run = stage.paths.run();
    let before = ledger::find(&run, SERVER).context("the control plane does not run")?;
    before.signal(Signal::SIGKILL);
    let begin = Instant::now();
    loop {
        let now = ledger::find(&run, SERVER);
        if now.is_some_and(|now| now != before) && answers(stage).await {
            stage.note(&format!(
                "control plane killed {when}, answers again after {:.1} s",
                begin.elapsed().as_secs_f64()
            ));
            return Ok(());
        }
        if begin.elapsed() > Duration::from_secs(30) {
            bail!("the control plane does not come back");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn answers(stage: &Stage) -> bool {
    let client = stage.client.clone().with_patience(Duration::ZERO);
    client.health().get(proto::api::HealthServiceGetRequest::default()).await.is_ok()
}
