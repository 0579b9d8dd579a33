//! What happens to leaves: they lose power, they hang, they start again with nothing but their disk.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::stage::Stage;
use crate::control::{self, Request};
use crate::frr::Router;
use crate::topology::{LEAVES, Leaf};
use crate::{ledger, names, netns, parts, shell};

/// How long a leaf may take to be as it was.
const PATIENCE: Duration = Duration::from_secs(30);
/// What makes a router of a namespace.
const FORWARDING: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];

/// Everything that decides about packets on a leaf.
fn processes(leaf: Leaf) -> [String; 4] {
    ["switch", "bfdd", "bgpd", "zebra"].map(|part| format!("{}-{part}", leaf.name()))
}

fn signal(stage: &Stage, leaf: Leaf, signal: Signal) -> Result<()> {
    for part in processes(leaf) {
        ledger::find(&stage.paths.run(), &part)
            .with_context(|| format!("{part} does not run"))?
            .signal(signal);
    }
    Ok(())
}

/// Kills everything that runs on a leaf and takes away what a reboot takes away; what starts there again finds nothing
/// but the last good state on disk. Returns what VRFs it had.
pub(super) fn reboot(stage: &Stage, leaf: Leaf) -> Result<Vec<String>> {
    signal(stage, leaf, Signal::SIGKILL)?;
    let vrfs = names::clear(leaf)?;
    ensure!(!vrfs.is_empty(), "{} has no VRFs", leaf.name());
    Ok(vrfs)
}

/// Waits until a leaf has these VRFs again.
pub(super) async fn until_has(leaf: Leaf, vrfs: &[String]) -> Result<()> {
    let begin = Instant::now();
    while names::list(leaf)? != vrfs {
        ensure!(begin.elapsed() < PATIENCE, "{} does not come back with {vrfs:?}", leaf.name());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Waits until no leaf has any VRF.
pub(super) async fn until_empty() -> Result<()> {
    for leaf in LEAVES {
        until_has(leaf, &[]).await?;
    }
    Ok(())
}

/// Pulls the plug: first nobody hears anything from it any more, then nothing is there.
pub(super) fn power_off(stage: &Stage, leaf: Leaf) -> Result<Vec<String>> {
    let uplink = leaf.namespace();
    shell::run(&mut shell::command("ip", ["-n", &uplink, "link", "set", "up0", "down"]))?;
    for vrf in names::list(leaf)? {
        names::within(leaf, &vrf, || {
            for interface in nix::net::if_::if_nameindex()?.iter() {
                let name = interface.name().to_string_lossy().into_owned();
                if name.starts_with("swp") {
                    shell::run(&mut shell::command("ip", ["link", "set", &name, "down"]))?;
                }
            }
            Ok(())
        })?;
    }
    for part in processes(leaf) {
        control::ask(&stage.paths.control(), &Request::Stop(part))?;
    }
    names::clear(leaf)
}

/// Plugs it in again.
pub(super) fn power_on(stage: &Stage, leaf: Leaf) -> Result<()> {
    let uplink = leaf.namespace();
    shell::run(&mut shell::command("ip", ["-n", &uplink, "link", "set", "up0", "up"]))?;
    let fabric = stage.spec.fabric;
    let mut parts = Router::Leaf(leaf).parts(fabric);
    parts.push(parts::switch(&stage.paths, leaf, fabric));
    for part in parts {
        control::ask(&stage.paths.control(), &Request::Start(part))?;
    }
    Ok(())
}

/// The worst way to fail: links stay up, and nothing comes out of them any more.
pub(super) fn hang(stage: &Stage, leaf: Leaf) -> Result<()> {
    signal(stage, leaf, Signal::SIGSTOP)?;
    forward(leaf, "0")
}

/// The end of [`hang`].
pub(super) fn resume(stage: &Stage, leaf: Leaf) -> Result<()> {
    forward(leaf, "1")?;
    signal(stage, leaf, Signal::SIGCONT)
}

fn forward(leaf: Leaf, value: &str) -> Result<()> {
    let set = || {
        for switch in FORWARDING {
            let path = Path::new("/proc/sys/net").join(switch);
            fs::write(&path, value).with_context(|| format!("cannot set {}", path.display()))?;
        }
        Ok(())
    };
    for vrf in names::list(leaf)? {
        names::within(leaf, &vrf, set)?;
    }
    netns::within(&leaf.namespace(), set)
}

/// What FRR on a leaf answers.
pub(super) fn vtysh(leaf: Leaf, commands: &[&str]) -> Result<String> {
    let mut vtysh = shell::command("vtysh", ["-N", &leaf.name()]);
    for command in commands {
        vtysh.args(["-c", command]);
    }
    shell::run(&mut vtysh)
}

/// What `ip` says in a VRF of a leaf.
pub(super) fn ip(leaf: Leaf, vrf: &str, line: &str) -> Result<String> {
    names::within(leaf, vrf, || {
        let mut command = shell::command("ip", line.split(' '));
        shell::run(&mut command)
    })
}
