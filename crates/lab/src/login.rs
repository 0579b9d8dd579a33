//! The way into an installed machine by ssh.
//!
//! Where tenants have networks of their own nobody outside reaches them. There the way in is the machine's own port on
//! the first leaf, from inside the tenant's VRF, to the address that the machine has on that wire. A firewall's port is in
//! the underlay.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::device::{Device, device};
use crate::guests::Node;
use crate::paths::Paths;
use crate::spec::Spec;
use crate::topology::{Fabric, LEAVES, Machine};
use crate::{api, shell};

/// Logs in, or runs a command there.
///
/// # Errors
/// The machine is not allocated or does not answer, or the command failed.
pub fn login(paths: &Paths, machine: Machine, command: &[String]) -> Result<()> {
    let fabric = Spec::load(paths)?.fabric;
    match way(paths, fabric, machine)? {
        Some(way) => way.ssh(paths, command, true).map(drop),
        None => {
            let args = ssh(paths, &address(paths, machine)?);
            let mut ssh = shell::command("ssh", args.iter().chain(command));
            let status = ssh.stdin(Stdio::inherit()).status()?;
            ensure!(status.success(), "ssh to {machine} ended with {status}");
            Ok(())
        }
    }
}

/// Runs a command on a machine that has this address, and returns what it printed.
///
/// # Errors
/// As [`login`].
pub fn run(
    paths: &Paths,
    fabric: Fabric,
    machine: Machine,
    address: &str,
    command: &str,
) -> Result<String> {
    match way(paths, fabric, machine)? {
        Some(way) => way.ssh(paths, &[command.to_owned()], false),
        None => shell::run(shell::command("ssh", ssh(paths, address)).arg(command)),
    }
}

/// Runs a line in a shell.
type Run = Box<dyn Fn(&str) -> Result<()>>;

/// Runs a command on a router of the fabric, or the lines of the standard input one by one, each in a shell of its own.
///
/// # Errors
/// There is no such router, it is down, or the command failed.
pub fn router(paths: &Paths, name: &str, command: &[String]) -> Result<()> {
    let run: Run = match Spec::load(paths)?.fabric {
        Fabric::Vm => {
            let node = Node::parse(name).with_context(|| nobody(name))?;
            Box::new(move |line| {
                let output = node.channel().run(&["sh", "-c", line])?;
                print!("{}", output.stdout);
                eprint!("{}", output.stderr);
                ensure!(output.status == 0, "{line} ended with status {}", output.status);
                Ok(())
            })
        }
        fabric => {
            let leaf = LEAVES.into_iter().find(|leaf| leaf.name() == name);
            let leaf = device(paths, fabric, leaf.with_context(|| nobody(name))?);
            Box::new(move |line| {
                print!("{}", leaf.run(&["sh", "-c", line])?);
                Ok(())
            })
        }
    };
    if !command.is_empty() {
        return run(&command.join(" "));
    }
    eprintln!("each line runs in a shell of its own on {name}; Ctrl-D ends it");
    loop {
        eprint!("{name}# ");
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Err(error) = run(line.trim()) {
            eprintln!("{error:#}");
        }
    }
}

fn nobody(name: &str) -> String {
    format!("{name} is neither a machine nor a router of this lab; m1 and leaf01 are some")
}

/// How a machine is reached from inside its tenant's network.
struct Way {
    leaf: Box<dyn Device>,
    /// The VRF of its port; a firewall's port is in the underlay.
    vrf: Option<String>,
    /// The machine's address on that wire.
    target: String,
}

impl Way {
    fn ssh(&self, paths: &Paths, command: &[String], terminal: bool) -> Result<String> {
        let mut args = ssh(paths, &self.target);
        args.extend_from_slice(command);
        self.leaf.ssh(self.vrf.as_deref(), &args, terminal)
    }
}

/// The way by the machine's port on the first leaf; none where the host reaches all machines itself.
///
/// # Errors
/// The machine is not allocated, or has not said its address yet.
fn way(paths: &Paths, fabric: Fabric, machine: Machine) -> Result<Option<Way>> {
    if !fabric.has_tenant_networks() {
        return Ok(None);
    }
    let (leaf, port) = (device(paths, fabric, LEAVES[0]), machine.port());
    let vrf = leaf.vrf_of(&port)?;
    let neighbours = leaf.vtysh(&["show bgp vrf all neighbors json"])?;
    let neighbours: Value = serde_json::from_str(&neighbours).context("no JSON")?;
    let known = &neighbours[vrf.as_deref().unwrap_or("default")][&port];
    let neighbour = known["bgpNeighborAddr"].as_str().unwrap_or("none");
    ensure!(
        neighbour != "none",
        "{machine} has not said its address on {port}; is it allocated and installed?"
    );
    Ok(Some(Way { target: format!("{neighbour}%{port}"), vrf, leaf }))
}

/// Arguments up to the command on the machine.
fn ssh(paths: &Paths, target: &str) -> Vec<String> {
    let mut args = vec!["-i".to_owned(), paths.ssh_key().display().to_string()];
    for option in [
        "IdentitiesOnly=yes",
        "BatchMode=yes",
        "ConnectTimeout=5",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
    ] {
        args.extend(["-o".to_owned(), option.to_owned()]);
    }
    args.push(format!("metal@{target}"));
    args
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
