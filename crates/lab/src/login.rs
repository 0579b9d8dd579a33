//! The way into an installed machine by ssh.
//!
//! Where tenants have networks of their own nobody outside reaches them. There the way in is the machine's own port on
//! the first leaf, from inside the tenant's VRF, to the address that the machine has on that wire. A firewall's port is in
//! the underlay.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::paths::Paths;
use crate::spec::Spec;
use crate::topology::{Fabric, LEAVES, Machine};
use crate::{api, names, netns, shell};

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
        Fabric::Netns => by_port(machine, connect),
    }
}

/// Does `work` where the machine's port on the first leaf is, with the machine's address on that wire: in the VRF of its
/// tenant, or, for a firewall, in the underlay.
///
/// # Errors
/// The machine is not allocated, or has not said its address yet, or what the work says.
pub fn by_port<T: Send>(
    machine: Machine,
    work: impl FnOnce(&str) -> Result<T> + Send,
) -> Result<T> {
    let (leaf, port) = (LEAVES[0], machine.port());
    let vrf = names::vrf_of(leaf, &port)?;
    let show = "show bgp vrf all neighbors json";
    let mut vtysh = shell::command("vtysh", ["-N", &leaf.name(), "-c", show]);
    let neighbours: Value = serde_json::from_str(&shell::run(&mut vtysh)?).context("no JSON")?;
    let known = &neighbours[vrf.as_deref().unwrap_or("default")][&port];
    let neighbour = known["bgpNeighborAddr"].as_str().unwrap_or("none");
    ensure!(
        neighbour != "none",
        "{machine} has not said its address on {port}; is it allocated and installed?"
    );
    let target = format!("{neighbour}%{port}");
    match vrf {
        Some(vrf) => names::within(leaf, &vrf, || work(&target)),
        None => netns::within(&leaf.namespace(), || work(&target)),
    }
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
