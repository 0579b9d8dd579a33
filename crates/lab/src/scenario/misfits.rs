//! Machines that do not fit. Each is visible with a reason, none disturbs the others.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::stage::{Stage, TO_WAITING, events};
use crate::api::{describe, machine as look_up, waits};
use crate::power;
use crate::seed;
use crate::shape::Shape;
use crate::topology::Machine;

pub(super) async fn play(stage: &Stage) -> Result<String> {
    stage.all_wait().await?;
    // on the spare ports
    let first = stage.spec.machines + 1;
    let spare = |index: u8| Shape::usual(Machine { number: first + index }, stage.spec.firmware);
    unknown_size(stage, Shape { memory: 1536, ..spare(0) }).await?;
    no_disk(stage, Shape { disk: 0, ..spare(1) }).await?;
    small_disk(stage, Shape { disk: 600, ..spare(2) }).await?;
    one_leaf(stage, Shape { cards: 1, ..spare(3) }).await?;
    let stolen = Machine { number: 1 }.uuid();
    duplicate(stage, Shape { uuid: Some(stolen), ..spare(4) }).await?;
    stage.all_wait().await?;
    Ok("misfits: five machines that do not fit, each with a reason, none in anybody's way"
        .to_owned())
}

/// Plugs a machine in.
fn plug(stage: &Stage, shape: &Shape) -> Result<Machine> {
    shape.save(&stage.paths)?;
    power::on(&stage.paths, shape.machine)?;
    Ok(shape.machine)
}

/// Unplugs it and forgets its disk.
fn unplug(stage: &Stage, machine: Machine) -> Result<()> {
    power::off(&stage.paths, machine)?;
    Ok(fs::remove_dir_all(stage.paths.machine(machine))?)
}

async fn refused(stage: &Stage, machine: Machine, words: &[&str]) -> Result<()> {
    let wish = stage.wish(machine, "misfit");
    let error = match stage.create(&wish).await {
        Ok(_) => bail!("{machine} can be allocated"),
        Err(error) => format!("{error:#}"),
    };
    let clear = words.iter().any(|word| error.contains(word));
    ensure!(clear, "the refusal says none of {words:?}: {error}");
    stage.note(&format!("{machine} is refused: {error}"));
    Ok(())
}

/// It is seen with its hardware, and nobody gets it by asking for a size.
async fn unknown_size(stage: &Stage, shape: Shape) -> Result<()> {
    let machine = plug(stage, &shape)?;
    let seen = stage.until_waiting(machine).await?;
    let size = seen.size.as_option().map(|size| size.id.clone()).unwrap_or_default();
    ensure!(size == "unknown", "a machine with {} MiB is a {size}", shape.memory);
    let memory = seen.hardware.as_option().map_or(0, |hardware| hardware.memory);
    ensure!(memory > 1400 << 20, "its memory is not seen: {memory}");
    refused(stage, machine, &["size", "wait", "layout"]).await?;
    unplug(stage, machine)
}

async fn no_disk(stage: &Stage, shape: Shape) -> Result<()> {
    let machine = plug(stage, &shape)?;
    let seen = stage.until_waiting(machine).await?;
    let disks = seen.hardware.as_option().map_or(9, |hardware| hardware.disks.len());
    ensure!(disks == 0, "{disks} disks are seen where there is none");
    refused(stage, machine, &["disk", "size", "wait", "layout"]).await?;
    unplug(stage, machine)
}

/// A size of its own lets it be asked for, and then the layout does not fit.
async fn small_disk(stage: &Stage, shape: Shape) -> Result<()> {
    seed::create_tiny(&stage.client).await?;
    let machine = plug(stage, &shape)?;
    let seen = stage.until_waiting(machine).await?;
    let size = seen.size.as_option().map(|size| size.id.clone()).unwrap_or_default();
    ensure!(size == seed::TINY_SIZE, "a machine with {} MiB of disk is a {size}", shape.disk);
    refused(stage, machine, &["too small", "disk"]).await?;
    unplug(stage, machine)
}

/// It must not be offered: its users would lose their network with that one leaf.
async fn one_leaf(stage: &Stage, shape: Shape) -> Result<()> {
    let machine = plug(stage, &shape)?;
    let visible = |seen: &proto::api::Machine| events(seen).iter().any(|(_, text)| says_leaf(text));
    let what = "seen with its missing leaf";
    let seen = stage.until(machine, TO_WAITING, what, visible).await?;
    ensure!(!waits(&seen), "a machine with one leaf is offered");
    stage.note(&format!("{machine}: {}", describe(Some(&seen))));
    unplug(stage, machine)
}

fn says_leaf(text: &str) -> bool {
    ["leaf", "leaves", "switch", "neighbor", "neighbour"].iter().any(|word| text.contains(word))
}

/// Whoever was there first stays who he is.
async fn duplicate(stage: &Stage, shape: Shape) -> Result<()> {
    let victim = Machine { number: 1 };
    let before = stage.until_waiting(victim).await?;
    let machine = plug(stage, &shape)?;
    let log = stage.paths.log(&format!("{machine}.console"));
    let mut said = None;
    for _ in 0..240 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let text = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        said = text.ok().and_then(|text| refusal(&text));
        if said.is_some() {
            break;
        }
    }
    let said = said.context("the console of the duplicate says nothing of a refusal")?;
    stage.note(&format!("{machine} with the UUID of {victim}: {said}"));
    let after = look_up(&stage.client, &victim.uuid()).await?.context("the victim is gone")?;
    ensure!(waits(&after), "the victim suffers: {}", describe(Some(&after)));
    ensure!(before.hardware == after.hardware, "the hardware of the victim changed");
    unplug(stage, machine)
}

/// The line in which the duplicate was told.
fn refusal(console: &str) -> Option<String> {
    let words = ["claimed by", "already", "refuses", "refused"];
    let line = console.lines().find(|line| words.iter().any(|word| line.contains(word)))?;
    Some(line.trim().to_owned())
}
