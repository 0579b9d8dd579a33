//! Two firewalls of one network: one carries all traffic, and the other one takes over when it goes.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::firewall::{HTTPS, SERVICE, Wall, static_addresses, to, until};
use super::stage::{Stage, Wish};
use super::stand_in::StandIn;
use super::wire::{Ear, Line};
use crate::internet::SOMEBODY;
use crate::seed;
use crate::topology::{INTERNET, Machine};

/// Lines in each direction and family: of several equal ways, by flow, half of them would break.
const LINES: usize = 12;
/// How long until new lines go through the other one.
const TAKEN_OVER: Duration = Duration::from_secs(5);
/// Firewalls report their counters this often.
const REPORTED: Duration = Duration::from_secs(12);

pub(super) async fn play(stage: &Stage) -> Result<String> {
    stage.needs_tenant_networks()?;
    ensure!(stage.spec.machines > 1, "this story needs two machines that become firewalls: `-n 2`");
    seed::create_namespaced(&stage.client).await?;
    let project = seed::create_project(&stage.client, &stage.seed.tenant, "walled twice").await?;
    let network = seed::create_namespaced_network(&stage.client, &project, "walled-twice").await?;
    let wish = Wish {
        project: project.clone(),
        network: network.id.clone(),
        ..stage.wish(Machine { number: stage.spec.machines + 1 }, "behind-two")
    };
    let mut machine = StandIn::new(stage, wish).await?;
    let world = Ear::open(INTERNET, &[HTTPS])?;
    let _home = Ear::open(&machine.machine.namespace(), &[SERVICE])?;
    // at the same time: neither knows of the other
    let build = |number| Wall::build(stage, &project, &network.id, Machine { number });
    let (one, two) = tokio::try_join!(build(1), build(2))?;
    let (near, far) = if one.distance < two.distance { (one, two) } else { (two, one) };
    ensure!(
        (near.distance.as_str(), far.distance.as_str()) == ("0", "1"),
        "their distances are {} and {}",
        near.distance,
        far.distance
    );

    let own = static_addresses(stage, &mut machine, &project).await?;
    let settled = all_ways(stage, &machine, &own, &world, &near)?;
    stage.note(&format!("all ways are open {:.1} s later", settled.as_secs_f64()));
    tokio::time::sleep(REPORTED).await;
    let status = far.status(stage).await?;
    let passed: u64 = status.rules.iter().map(|rule| rule.packets).sum();
    ensure!(passed == 0, "{passed} packets went through the farther firewall: {status:?}");
    stage.note(&format!(
        "{LINES} lines in each direction and family, none broken, none through the farther one"
    ));

    stage.delete(near.machine, &project).await?;
    let taken = all_ways(stage, &machine, &own, &world, &far)?;
    stage.note(&format!(
        "the nearer one is deleted: all ways are open again after {:.1} s, as {}",
        taken.as_secs_f64(),
        far.outside
    ));
    ensure!(taken <= stage.patience(TAKEN_OVER), "the other one took over after {taken:?} only");

    stage.delete(far.machine, &project).await?;
    stage.delete(machine.machine, &project).await?;
    for wall in [&near, &far] {
        stage.until_waiting(wall.machine).await?;
    }
    Ok(format!(
        "firewalls: of two one carries all traffic; the other one took over within {:.1} s",
        taken.as_secs_f64()
    ))
}

/// Waits until the machine gets out by translation through this firewall, and out and in with its own addresses, over all of several equal
/// ways: many lines, of which none breaks.
fn all_ways(
    stage: &Stage,
    machine: &StandIn,
    own: &[IpAddr],
    world: &Ear,
    through: &Wall,
) -> Result<Duration> {
    let begin = Instant::now();
    let last = RefCell::new(String::new());
    until(stage, begin, "way of many", || match lines(machine, own, world, through) {
        Ok(()) => Ok(Some(())),
        Err(error) => {
            let error = format!("{error:#}");
            if last.replace(error.clone()) != error {
                stage.note(&format!("{:.1} s: {error}", begin.elapsed().as_secs_f64()));
            }
            Ok(None)
        }
    })?;
    Ok(begin.elapsed())
}

/// Many lines, of which none may break.
fn lines(machine: &StandIn, own: &[IpAddr], world: &Ear, through: &Wall) -> Result<()> {
    let namespace = machine.machine.namespace();
    for number in 0..LINES {
        let open = |from: &str, source: IpAddr, there: SocketAddr| -> Result<()> {
            let line = Line::open(from, source, there)?;
            let mut line = line.with_context(|| format!("line {number} to {there} is not open"))?;
            ensure!(line.echoes()?, "nobody answers on line {number} from {source} to {there}");
            Ok(())
        };
        open(&namespace, machine.addresses[0], to(0, HTTPS))?;
        let seen = world.last(HTTPS).context("nobody came")?;
        ensure!(seen == through.outside, "seen outside is {seen}, not {}", through.outside);
        for (family, own) in own.iter().enumerate() {
            open(&namespace, *own, to(family, HTTPS))?;
            open(INTERNET, SOMEBODY[family], SocketAddr::new(*own, SERVICE))?;
        }
    }
    Ok(())
}
