//! What the leaves really do, read from the kernel and the routing daemons, not from the control plane.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::stage::Stage;
use crate::device::Device;
use crate::topology::{LEAVES, Machine};

/// How long routes may take to be where they belong.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether the leaf has a route to the machine's address over the machine's port, learned by BGP and in use.
fn has_route(leaf: &dyn Device, machine: Machine, address: &str) -> Result<bool> {
    let vrf = leaf.vrf_of(&machine.port())?;
    let vrf = vrf.map(|vrf| format!(" vrf {vrf}")).unwrap_or_default();
    let command = format!("show ip route{vrf} {address}/32 json");
    let routes: Value = serde_json::from_str(&leaf.vtysh(&[&command])?).context("no JSON")?;
    let routes = routes[format!("{address}/32")].as_array().cloned().unwrap_or_default();
    Ok(routes.iter().any(|route| {
        let over_port = |hop: &Value| hop["interfaceName"] == machine.port().as_str();
        route["protocol"] == "bgp"
            && route["installed"] == true
            && route["nexthops"].as_array().is_some_and(|hops| hops.iter().any(over_port))
    }))
}

/// Waits until both leaves have it.
pub(super) fn both_leaves_have_route(stage: &Stage, machine: Machine, address: &str) -> Result<()> {
    let begin = Instant::now();
    for leaf in LEAVES {
        let device = stage.device(leaf);
        while !has_route(&*device, machine, address)? {
            if begin.elapsed() > stage.patience(PATIENCE) {
                bail!("{} has no BGP route to {address} over {}", leaf.name(), machine.port());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

/// Whether the machine's port is a member of the boot network on every leaf.
pub(super) fn is_in_boot_network(stage: &Stage, machine: Machine) -> Result<bool> {
    let port = machine.port();
    for leaf in LEAVES {
        let device = stage.device(leaf);
        if device.vrf_of(&port)?.is_some() {
            return Ok(false);
        }
        let ports = device.run(&["ip", "-json", "link", "show", "dev", &port])?;
        let ports: Value = serde_json::from_str(&ports)?;
        if ports[0]["master"] != "boot" {
            return Ok(false);
        }
    }
    Ok(true)
}
