//! Two projects with the same private prefix: machines of one reach each other and never the other's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::leaf;
use super::stage::{Stage, Wish};
use super::stand_in::StandIn;
use crate::seed;
use crate::topology::{LEAVES, Leaf, Machine};

/// How long routes may take to be where they belong.
const PATIENCE: Duration = Duration::from_secs(30);
/// Questions that nobody must answer.
const SILENCE: u32 = 5;

pub(super) async fn play(stage: &Stage) -> Result<String> {
    stage.needs_tenant_networks()?;
    seed::create_namespaced(&stage.client).await?;
    let first = stage.spec.machines + 1;
    let mut projects = Vec::new();
    for (index, name) in ["red", "blue"].into_iter().enumerate() {
        let offset = first + 2 * u8::try_from(index)?;
        projects.push(Project::new(stage, name, [offset, offset + 1]).await?);
    }
    let [red, blue] = &projects[..] else { unreachable!("two projects") };
    ensure!(
        red.prefixes == blue.prefixes && red.addresses() == blue.addresses(),
        "the projects differ: {:?} and {:?}",
        red.addresses(),
        blue.addresses()
    );
    stage.note(&format!("two projects with {:?} and {:?}", red.prefixes, red.addresses()));

    check(stage, &projects, "both links")?;
    // each pair meets only by way of the other leaf
    for project in &projects {
        let [one, two] = &project.machines;
        one.link(LEAVES[1], false)?;
        two.link(LEAVES[0], false)?;
    }
    check(stage, &projects, "over the fabric, one leaf each")?;
    restart(stage, LEAVES[0]).await?;
    check(stage, &projects, "after a restart of the first leaf")?;
    for project in &projects {
        let [one, two] = &project.machines;
        one.link(LEAVES[1], true)?;
        two.link(LEAVES[0], true)?;
    }
    check(stage, &projects, "both links again")?;

    let questions = nobody_else_asked(&projects)?;
    for project in &projects {
        for machine in &project.machines {
            stage.delete(machine.machine, &project.id).await?;
        }
    }
    let begin = Instant::now();
    leaf::until_empty(stage).await?;
    stage.note(&format!("no VRF is left {:.1} s after the deletes", begin.elapsed().as_secs_f64()));
    Ok(format!(
        "isolation: two projects with the same addresses, {questions} packets, none between them"
    ))
}

/// One of the projects, with two machines.
struct Project {
    id: String,
    prefixes: Vec<String>,
    machines: [StandIn; 2],
}

impl Project {
    async fn new(stage: &Stage, name: &str, numbers: [u8; 2]) -> Result<Self> {
        let id = seed::create_project(&stage.client, &stage.seed.tenant, name).await?;
        let network = seed::create_namespaced_network(&stage.client, &id, name).await?;
        let machine = |number: u8| {
            let wish = Wish {
                project: id.clone(),
                network: network.id.clone(),
                ..stage.wish(Machine { number }, &format!("{name}-{number}"))
            };
            StandIn::new(stage, wish)
        };
        // one after the other, so that both projects give the same addresses in the same order
        let machines = [machine(numbers[0]).await?, machine(numbers[1]).await?];
        Ok(Self { prefixes: network.prefixes.clone(), machines, id })
    }

    fn addresses(&self) -> Vec<std::net::IpAddr> {
        let mut all: Vec<_> = self.machines.iter().flat_map(|m| m.addresses.clone()).collect();
        all.sort();
        all
    }
}

/// Everybody reaches the other one of the own project, by both families; who answers is the right one.
fn check(stage: &Stage, projects: &[Project], when: &str) -> Result<()> {
    let begin = Instant::now();
    for project in projects {
        let [one, two] = &project.machines;
        ensure!(
            one.addresses.iter().any(|address| address.is_ipv6()) && one.addresses.len() == 2,
            "{} has {:?}",
            one.name(),
            one.addresses
        );
        for (from, to) in [(one, two), (two, one)] {
            for address in &to.addresses {
                let answer = from.reaches(*address, PATIENCE).context(when.to_owned())?;
                ensure!(
                    answer == to.name(),
                    "{when}: {} asked {}, {answer} answered",
                    from.name(),
                    to.name()
                );
            }
        }
    }
    stage.note(&format!("{when}: all reach their own, {:.1} s", begin.elapsed().as_secs_f64()));
    // one that is silent is not answered for by the other project, which has the same address
    let [here, there] = projects else { return Ok(()) };
    for (project, other) in [(here, there), (there, here)] {
        let ([one, two], asked) = (&project.machines, other.machines.iter().map(StandIn::asked));
        let before: Vec<_> = asked.collect();
        LEAVES.into_iter().try_for_each(|leaf| two.link(leaf, false))?;
        let mut answered = 0;
        for address in &two.addresses {
            for _ in 0..SILENCE {
                // answers of the right one may still be under way
                match one.ask(*address)? {
                    Some(name) if name != two.name() => {
                        anyhow::bail!("{when}: {name} answered for {}", two.name())
                    }
                    Some(_) => answered += 1,
                    None => {}
                }
            }
        }
        ensure!(answered == 0, "{} answers with its links down", two.name());
        let after: Vec<_> = other.machines.iter().map(StandIn::asked).collect();
        ensure!(before == after, "{when}: {} reached the other project", one.name());
        restore(two, when)?;
    }
    stage.note(&format!("{when}: nobody answers for the other project"));
    for project in projects {
        let [one, two] = &project.machines;
        for address in &two.addresses {
            one.reaches(*address, PATIENCE).context(when.to_owned())?;
        }
    }
    Ok(())
}

/// The links that the machine had.
fn restore(machine: &StandIn, when: &str) -> Result<()> {
    let both = when.starts_with("both");
    machine.link(LEAVES[1], true)?;
    if both { machine.link(LEAVES[0], true) } else { Ok(()) }
}

/// A leaf starts again with nothing but its disk.
async fn restart(stage: &Stage, leaf: Leaf) -> Result<()> {
    let begin = Instant::now();
    let device = stage.device(leaf);
    let vrfs = leaf::reboot(&*device)?;
    leaf::until_has(stage, &*device, &vrfs).await?;
    stage.note(&format!(
        "{} killed without its VRFs; {vrfs:?} are there again {:.1} s later",
        leaf.name(),
        begin.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Over the whole story: who asked whom.
fn nobody_else_asked(projects: &[Project]) -> Result<u64> {
    let mut questions = 0;
    for project in projects {
        let own: Vec<_> = project.machines.iter().map(StandIn::name).collect();
        for machine in &project.machines {
            for (who, count) in machine.asked() {
                ensure!(own.contains(&who), "{who} reached {}", machine.name());
                questions += count;
            }
        }
    }
    Ok(questions)
}
