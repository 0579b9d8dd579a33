//! The main path: machines are allocated, installed, used, given back, and given to somebody else.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use proto::api;

use super::stage::{Stage, Wish, address};
use super::{fabric_check, ssh, timeline};
use crate::seed;
use crate::shape::disk_holds;
use crate::topology::Machine;

pub(super) async fn play(stage: &Stage) -> Result<String> {
    stage.all_wait().await?;
    let mut tenants = Vec::new();
    for machine in Machine::all(stage.spec.machines) {
        tenants.push(Tenant::new(stage, machine, "first", stage.wish(machine, "")));
    }
    let mut seconds = together(stage, &mut tenants).await?;
    for tenant in &tenants {
        tenant.uses_machine(stage).await?;
        timeline::print(stage, tenant.wish.machine, &tenant.wish.project).await?;
    }
    for tenant in &tenants {
        tenant.leaves(stage).await?;
    }
    for tenant in &tenants {
        let machine = tenant.wish.machine;
        stage.until_waiting(machine).await?;
        ensure!(!tenant.left_data(stage)?, "{machine} waits with data of its last user");
        stage.note(&format!("{machine} waits again and holds nothing of {}", tenant.secret));
    }

    let project = seed::create_project(&stage.client, &stage.seed.tenant, "second").await?;
    let network = seed::create_network(&stage.client, &project, "second-private").await?;
    let machine = Machine { number: 1 };
    let wish = Wish { project, network, ..stage.wish(machine, "") };
    let mut second = Tenant { named: true, ..Tenant::new(stage, machine, "second", wish) };
    seconds.push(second.arrives(stage).await?);
    second.uses_machine(stage).await?;
    let before = tenants.iter().find(|tenant| tenant.wish.machine == machine).context("nobody")?;
    ensure!(!before.left_data(stage)?, "the second user finds data of the first");
    let found = ssh::run(
        stage,
        machine,
        &address(&stage.look(machine).await?)?,
        &format!("sudo grep -rlsF {} /etc /home /var/tmp || true", before.secret),
    )?;
    ensure!(found.is_empty(), "the second user finds the first one's secret in {found}");
    stage.note("a second user of the same machine finds nothing of the first");
    second.leaves(stage).await?;
    stage.until_waiting(machine).await?;
    Ok(summary(usize::from(stage.spec.machines), &mut seconds))
}

/// The last line.
fn summary(machines: usize, seconds: &mut [f64]) -> String {
    seconds.sort_by(f64::total_cmp);
    let (p50, max) = (median(seconds), seconds.last().copied().unwrap_or_default());
    format!("provision: {machines} machines, allocate→phoned home p50 {p50:.1} s max {max:.1} s")
}

/// The middle of sorted numbers.
pub(super) fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

async fn together(stage: &Stage, tenants: &mut [Tenant]) -> Result<Vec<f64>> {
    futures::future::try_join_all(tenants.iter_mut().map(|tenant| tenant.arrives(stage))).await
}

/// Somebody with a machine.
struct Tenant {
    /// Without `named` the control plane chooses the machine, and this is corrected then.
    wish: Wish,
    /// Wants exactly that machine, as only operators may.
    named: bool,
    /// What nobody else may ever read.
    secret: String,
}

impl Tenant {
    fn new(stage: &Stage, machine: Machine, name: &str, wish: Wish) -> Self {
        // new in every run, so that the search cannot find what an earlier run left
        let now = jiff::Timestamp::now().as_nanosecond();
        let secret = format!("secret-of-{name}-tenant-{machine}-{now}");
        let hostname = format!("{name}-{machine}");
        // a script proves both that it arrived and that it ran
        let userdata = format!("#!/bin/sh\necho {secret} > /var/tmp/userdata-ran\n");
        stage.note(&format!("{hostname} will keep {secret}"));
        Self { wish: Wish { hostname, userdata, ..wish }, named: false, secret }
    }

    /// Allocates and waits for the sign of life; returns how long that took.
    async fn arrives(&mut self, stage: &Stage) -> Result<f64> {
        let begin = Instant::now();
        let created = match self.named {
            true => stage.create(&self.wish).await?,
            false => stage.create_any(&self.wish).await?,
        };
        let answered = begin.elapsed();
        self.wish.machine = Machine::parse(&created.uuid).context("a machine of no lab")?;
        let hostname = created.allocation.as_option().map(|a| a.hostname.clone());
        ensure!(hostname.as_deref() == Some(&self.wish.hostname), "hostname {hostname:?}");
        stage.until_phoned_home(self.wish.machine).await?;
        let seconds = begin.elapsed().as_secs_f64();
        let Wish { hostname, machine, .. } = &self.wish;
        stage.note(&format!(
            "{hostname} phoned home {seconds:.1} s after allocate ({:.3} s until the answer) on {machine}",
            answered.as_secs_f64()
        ));
        Ok(seconds)
    }

    /// Everything that was asked for is there.
    async fn uses_machine(&self, stage: &Stage) -> Result<()> {
        let machine = stage.look(self.wish.machine).await?;
        let address = address(&machine)?;
        let known = stage.addresses(&self.wish.project).await?;
        ensure!(known.contains(&address), "{address} is no address of the project: {known:?}");
        self.is_in_network(stage, &address).await?;
        fabric_check::both_leaves_have_route(stage, self.wish.machine, &address)?;
        let hostname = ssh::run(stage, self.wish.machine, &address, "hostname")?;
        ensure!(hostname == self.wish.hostname, "the machine calls itself {hostname}");
        let wait = "for i in 1 2 3 4 5 6 7 8 9 10; do cat /var/tmp/userdata-ran 2>/dev/null && break; sleep 1; done; sync";
        let ran = ssh::run(stage, self.wish.machine, &address, wait)?;
        ensure!(ran == self.secret, "the userdata did not run: {ran:?}");
        let system = ssh::run(
            stage,
            self.wish.machine,
            &address,
            ". /etc/os-release; echo $ID $VERSION_ID; ip -brief address show lo",
        )?;
        ensure!(
            system.starts_with("debian 12") && system.contains(&address),
            "the system is {system}"
        );
        // positive control: the search finds it while it is there
        ensure!(self.left_data(stage)?, "the secret is not on the disk");
        stage.note(&format!(
            "{}: ssh to {address}, hostname, userdata, BGP routes at both leaves",
            self.wish.hostname
        ));
        Ok(())
    }

    async fn is_in_network(&self, stage: &Stage, address: &str) -> Result<()> {
        let request = api::NetworkServiceGetRequest {
            id: self.wish.network.clone(),
            project: self.wish.project.clone(),
            ..Default::default()
        };
        let network = stage.client.network().get(request).await?.into_owned().network;
        let prefixes = network.into_option().context("no network")?.prefixes;
        let inside = prefixes.iter().any(|prefix| contains(prefix, address));
        ensure!(inside, "{address} is not in {prefixes:?}");
        Ok(())
    }

    /// Gives the machine back; the address must not be free before the ports are out of the tenant's network.
    async fn leaves(&self, stage: &Stage) -> Result<()> {
        let machine = self.wish.machine;
        let address = address(&stage.look(machine).await?)?;
        ensure!(
            !fabric_check::is_in_boot_network(stage, machine)?,
            "the tenant's port is in the boot network"
        );
        stage.delete(machine, &self.wish.project).await?;
        let begin = Instant::now();
        while stage.addresses(&self.wish.project).await?.contains(&address) {
            let patience = stage.patience(super::stage::TO_WAITING);
            ensure!(begin.elapsed() < patience, "{address} is never freed");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // ports never go back to a tenant by themselves: what is in now was in before the address was free
        ensure!(
            fabric_check::is_in_boot_network(stage, machine)?,
            "{address} was freed while a port of {machine} was still in the tenant's network"
        );
        stage.note(&format!(
            "{address} was freed {:.2} s after delete, after the ports",
            begin.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    fn left_data(&self, stage: &Stage) -> Result<bool> {
        let disk = stage.paths.machine(self.wish.machine).join("disk.raw");
        disk_holds(&disk, &self.secret)
    }
}

/// Whether an IPv4 prefix has the address.
fn contains(prefix: &str, address: &str) -> bool {
    let parse = || {
        let (network, length) = prefix.split_once('/')?;
        let network: std::net::Ipv4Addr = network.parse().ok()?;
        let address: std::net::Ipv4Addr = address.parse().ok()?;
        let mask = u32::MAX.checked_shl(32 - length.parse::<u32>().ok()?).unwrap_or(0);
        Some(u32::from(network) & mask == u32::from(address) & mask)
    };
    parse().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line() {
        assert_eq!(
            summary(2, &mut [41.0, 30.04, 33.0]),
            "provision: 2 machines, allocate→phoned home p50 33.0 s max 41.0 s"
        );
        assert!((median(&[1.0, 2.0]) - 1.5).abs() < 1e-9);
    }

    #[test]
    fn addresses_in_prefixes() {
        assert!(contains("10.100.4.0/22", "10.100.7.255"));
        assert!(!contains("10.100.4.0/22", "10.100.8.0"));
        assert!(contains("0.0.0.0/0", "1.2.3.4"));
        assert!(!contains("nonsense", "1.2.3.4"));
    }
}
