//! A machine goes from one tenant to another with the same addresses: no address is free while it is announced, and
//! neither tenant sees anything of the other one.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::leaf;
use super::probe::Probe;
use super::stage::{Stage, Wish};
use super::stand_in::StandIn;
use crate::seed;
use crate::topology::{LEAVES, Leaf, Machine};

/// How often the machine goes to the other tenant.
const ROUNDS: usize = 4;
/// How long a delete may take to free the addresses.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn play(stage: &Stage) -> Result<String> {
    stage.needs_tenant_networks()?;
    seed::create_namespaced(&stage.client).await?;
    let first = stage.spec.machines + 1;
    let red = Tenant::new(stage, "red", first).await?;
    let blue = Tenant::new(stage, "blue", first + 1).await?;
    let wish = red.wish(stage, Machine { number: first + 2 });
    let mut moved = StandIn::new(stage, wish).await?;
    let addresses = moved.addresses.clone();
    red.watcher.reaches(addresses[0], stage.patience(PATIENCE))?;

    let (mut frees, mut sent) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        let (old, new) = if round % 2 == 0 { (&red, &blue) } else { (&blue, &red) };
        // those that stay speak all the time, the one that moves until it is reset
        let probes = [
            Probe::start(&red.watcher, &addresses, 1)?,
            Probe::start(&blue.watcher, &addresses, 1)?,
        ];
        let old_system = Probe::start(&moved, &old.watcher.addresses, 1)?;
        let (old_name, vrfs) = (moved.name(), old.vrfs(stage)?);
        let before = new.watcher.asked();
        let begin = Instant::now();
        stage.delete(moved.machine, &old.id).await?;
        free(stage, old, &addresses, begin).await?;
        frees.push(begin.elapsed());
        still_announced(stage, &vrfs, &addresses)?;
        let (heard, said) = (moved.asked(), old.watcher.asked());
        // the system of the old tenant runs on until the machine is reset
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(moved.asked() == heard, "round {round}: the tenant still reaches the machine");
        ensure!(
            old.watcher.asked().get(&old_name) == said.get(&old_name),
            "round {round}: the machine still reaches its old tenant"
        );
        ensure!(
            new.watcher.asked().keys().eq(before.keys()),
            "round {round}: {:?} reached {}",
            new.watcher.asked(),
            new.watcher.name()
        );
        sent += old_system.stop()?.sent;
        moved.reset(stage)?;
        moved.allocate(stage, &new.wish(stage, moved.machine)).await?;
        ensure!(
            moved.addresses == addresses,
            "round {round}: other addresses, {:?} and {addresses:?}",
            moved.addresses
        );
        for address in &addresses {
            new.watcher.reaches(*address, stage.patience(PATIENCE)).context("the new tenant")?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        for probe in probes {
            sent += probe.stop()?.sent;
        }
        let foreign: Vec<_> =
            moved.asked().into_keys().filter(|who| *who != new.watcher.name()).collect();
        ensure!(foreign.is_empty(), "round {round}: {foreign:?} reached {}", moved.name());
        stage.note(&format!(
            "round {round}: addresses free {:.2} s after the delete and not announced then; {} sees {:?}",
            frees[round].as_secs_f64(),
            moved.name(),
            moved.asked()
        ));
    }
    let last = if ROUNDS.is_multiple_of(2) { &red } else { &blue };
    stage.delete(moved.machine, &last.id).await?;
    for tenant in [&red, &blue] {
        let foreign = tenant.watcher.asked().into_keys().find(|who| !who.starts_with(&tenant.name));
        ensure!(foreign.is_none(), "{foreign:?} reached {}", tenant.watcher.name());
        stage.delete(tenant.watcher.machine, &tenant.id).await?;
    }
    leaf::until_empty(stage).await?;
    let slowest = frees.iter().max().copied().unwrap_or_default();
    Ok(format!(
        "move: {ROUNDS} times to another tenant, {sent} packets, none of them to the wrong one; addresses free after {:.2} s at most, \
         never while announced",
        slowest.as_secs_f64()
    ))
}

/// One of the two, with a machine that stays.
struct Tenant {
    name: String,
    id: String,
    network: String,
    watcher: StandIn,
}

impl Tenant {
    async fn new(stage: &Stage, name: &str, number: u8) -> Result<Self> {
        let id = seed::create_project(&stage.client, &stage.seed.tenant, name).await?;
        let network = seed::create_namespaced_network(&stage.client, &id, name).await?.id;
        let wish = Wish {
            project: id.clone(),
            network: network.clone(),
            ..stage.wish(Machine { number }, &format!("{name}-stays"))
        };
        let watcher = StandIn::new(stage, wish).await?;
        Ok(Self { name: name.to_owned(), id, network, watcher })
    }

    fn wish(&self, stage: &Stage, machine: Machine) -> Wish {
        Wish {
            project: self.id.clone(),
            network: self.network.clone(),
            ..stage.wish(machine, &format!("{}-moves", self.name))
        }
    }

    /// Its VRF on each leaf.
    fn vrfs(&self, stage: &Stage) -> Result<Vec<(Leaf, String)>> {
        let port = self.watcher.machine.port();
        let vrf = |leaf| {
            let vrf = stage.device(leaf).vrf_of(&port)?;
            Ok((leaf, vrf.with_context(|| format!("{port} is in no VRF of {}", leaf.name()))?))
        };
        LEAVES.into_iter().map(vrf).collect()
    }
}

/// Waits until one of the addresses is free.
async fn free(stage: &Stage, tenant: &Tenant, addresses: &[IpAddr], begin: Instant) -> Result<()> {
    loop {
        let held = stage.addresses(&tenant.id).await?;
        if !addresses.iter().all(|address| held.contains(&address.to_string())) {
            return Ok(());
        }
        ensure!(
            begin.elapsed() < stage.patience(PATIENCE),
            "{addresses:?} are not free after {PATIENCE:?}"
        );
    }
}

/// No leaf may have a route to what is free.
fn still_announced(stage: &Stage, vrfs: &[(Leaf, String)], addresses: &[IpAddr]) -> Result<()> {
    for (leaf, vrf) in vrfs {
        for address in addresses {
            let routes = stage.device(*leaf).route(vrf, *address)?;
            ensure!(
                routes.trim().is_empty(),
                "{address} is free while {} has a route to it in {vrf}: {routes}",
                leaf.name()
            );
        }
    }
    Ok(())
}
