//! The way into an installed machine by ssh.
//!
//! Where tenants have networks of their own nobody outside reaches them. There the way in is the machine's own port on
//! the first leaf, from inside the tenant's VRF, to the address that the machine has on that wire.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::paths::Paths;
use crate::spec::Spec;
use crate::topology::{Fabric, LEAVES, Machine};
use crate::{api, names, shell};

/// Logs in, or runs a command there.
///
/// # Errors
/// The machine is not allocated or does not answer, or the command failed.
pub fn login(paths: &Paths, machine: Machine, command: &[String]) -> Result<()> {
    let connect = |target: &str| {
        let mut ssh = ssh(paths, target);
        let status = ssh.args(command).stdin(Stdio::inherit()).status()?;
        ensure!(status.success(), "ssh to {machine} ended with {status}");
        Ok(())
    };
    match Spec::load(paths)?.fabric {
        Fabric::Plain => connect(&address(paths, machine)?),
        Fabric::Netns => {
            let (vrf, target) = by_port(machine)?;
            names::within(LEAVES[0], &vrf, || connect(&target))
        }
    }
}

/// The VRF of the machine's port on the first leaf, and the machine's address on that wire.
///
/// # Errors
/// The machine is not allocated, or has not said its address yet.
pub fn by_port(machine: Machine) -> Result<(String, String)> {
    let (leaf, port) = (LEAVES[0], machine.port());
    let vrf = names::vrf_of(leaf, &port)?
        .with_context(|| format!("{port} is in no VRF; is {machine} installed?"))?;
    let show = "show bgp vrf all neighbors json";
    let mut vtysh = shell::command("vtysh", ["-N", &leaf.name(), "-c", show]);
    let neighbours: Value = serde_json::from_str(&shell::run(&mut vtysh)?).context("no JSON")?;
    let neighbour = neighbours[&vrf][&port]["bgpNeighborAddr"].as_str().unwrap_or("none");
    ensure!(neighbour != "none", "{machine} has not said its address on {port} yet");
    Ok((vrf, format!("{neighbour}%{port}")))
}

/// The command line up to the command on the machine.
pub fn ssh(paths: &Paths, target: &str) -> Command {
    let mut ssh = shell::command("ssh", ["-i"]);
    ssh.arg(paths.ssh_key());
    for option in [
        "IdentitiesOnly=yes",
        "BatchMode=yes",
        "ConnectTimeout=5",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
    ] {
        ssh.args(["-o", option]);
    }
    ssh.arg(format!("metal@{target}"));
    ssh
}

/// The first address of the allocation.
fn address(paths: &Paths, machine: Machine) -> Result<String> {
    let client = api::client(paths, api::ADMIN)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let seen = runtime.block_on(api::machine(&client, &machine.uuid()))?;
    let allocation = seen.and_then(|machine| machine.allocation.into_option());
    let network = allocation.and_then(|allocation| allocation.networks.into_iter().next());
    let address = network.and_then(|network| network.ips.into_iter().next());
    address.with_context(|| format!("{machine} has no address; is it allocated?"))
}
