//! What the leaves really do, read from the kernel and the routing daemons, not from the control plane.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::names;
use crate::netns;
use crate::shell;
use crate::topology::{LEAVES, Leaf, Machine};

/// How long routes may take to be where they belong.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether the leaf has a route to the machine's address over the machine's port, learned by BGP and in use.
fn has_route(leaf: Leaf, machine: Machine, address: &str) -> Result<bool> {
    let vrf = names::vrf_of(leaf, &machine.port())?;
    let vrf = vrf.map(|vrf| format!(" vrf {vrf}")).unwrap_or_default();
    let command = format!("show ip route{vrf} {address}/32 json");
    let mut vtysh = shell::command("vtysh", ["-N", &leaf.name(), "-c", &command]);
    let routes: Value = serde_json::from_str(&shell::run(&mut vtysh)?).context("no JSON")?;
    let routes = routes[format!("{address}/32")].as_array().cloned().unwrap_or_default();
    Ok(routes.iter().any(|route| {
        let over_port = |hop: &Value| hop["interfaceName"] == machine.port().as_str();
        route["protocol"] == "bgp"
            && route["installed"] == true
            && route["nexthops"].as_array().is_some_and(|hops| hops.iter().any(over_port))
    }))
}

/// Waits until both leaves have it.
pub(super) fn both_leaves_have_route(machine: Machine, address: &str) -> Result<()> {
    let begin = Instant::now();
    for leaf in LEAVES {
        while !has_route(leaf, machine, address)? {
            if begin.elapsed() > PATIENCE {
                bail!("{} has no BGP route to {address} over {}", leaf.name(), machine.port());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

/// Whether the machine's port is a member of the boot network on every leaf.
pub(super) fn is_in_boot_network(machine: Machine) -> Result<bool> {
    let port = machine.port();
    for leaf in LEAVES {
        if names::vrf_of(leaf, &port)?.is_some() {
            return Ok(false);
        }
        let ports = netns::within(&leaf.namespace(), || {
            shell::run(&mut shell::command("ip", ["-json", "link", "show", "dev", &port]))
        })?;
        let ports: Value = serde_json::from_str(&ports)?;
        if ports[0]["master"] != "boot" {
            return Ok(false);
        }
    }
    Ok(true)
}
