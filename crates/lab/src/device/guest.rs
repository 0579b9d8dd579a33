//! A leaf that is a guest: it is asked and told by commands that run in it, and by the buttons of its QEMU.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::Device;
use crate::asset::kernel;
use crate::control::{self, Request};
use crate::guests::{Node, PIDS};
use crate::paths::Paths;
use crate::qmp::Qmp;
use crate::spec::Spec;
use crate::topology::Leaf;
use crate::{config, ledger};

/// The leaf.
pub(super) struct Guest {
    paths: Paths,
    leaf: Leaf,
}

impl Guest {
    pub(super) fn new(paths: Paths, leaf: Leaf) -> Self {
        Self { paths, leaf }
    }

    fn node(&self) -> Node {
        Node::Leaf(self.leaf)
    }

    fn ports(&self) -> Result<u8> {
        Ok(Spec::load(&self.paths)?.ports())
    }

    /// Interfaces as `ip` tells.
    fn links(&self, which: &[&str]) -> Result<Vec<Value>> {
        let mut command = vec!["ip", "-json", "link", "show"];
        command.extend(which);
        Ok(serde_json::from_str(&self.run(&command)?)?)
    }

    fn qmp(&self, command: &str) -> Result<()> {
        Qmp::connect(&self.node().qmp())?.call(command, json!({})).map(drop)
    }

    fn kill(&self) -> Result<()> {
        let name = self.node().name();
        let entry = ledger::find(&self.paths.run(), &name);
        entry.with_context(|| format!("{name} does not run"))?.signal(Signal::SIGKILL);
        Ok(())
    }
}

/// Sets the carrier of a guest's card.
fn carrier(node: Node, card: &str, ports: u8, up: bool) -> Result<()> {
    let name = node.wire(card, ports).with_context(|| format!("no card {card}"))?;
    let mut qmp = Qmp::connect(&node.qmp())?;
    qmp.call("set_link", json!({ "name": name, "up": up })).map(drop)
}

fn tunnel(vrf: &str) -> String {
    vrf.replacen("vrf", "vni", 1)
}

/// A VRF of a tenant.
fn is_vrf(name: &str) -> bool {
    name.strip_prefix("vrf").is_some_and(|vni| vni.parse::<u32>().is_ok())
}

impl Device for Guest {
    fn leaf(&self) -> Leaf {
        self.leaf
    }

    fn run(&self, command: &[&str]) -> Result<String> {
        self.node().channel().ok(command)
    }

    fn vtysh(&self, commands: &[&str]) -> Result<String> {
        let mut all = vec!["vtysh"];
        all.extend(commands.iter().flat_map(|command| ["-c", command]));
        self.run(&all)
    }

    fn vrfs(&self) -> Result<Vec<String>> {
        let links = self.links(&["type", "vrf"])?;
        let names = links.iter().filter_map(|link| link["ifname"].as_str());
        let mut names: Vec<_> = names.filter(|name| is_vrf(name)).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    fn vrf_of(&self, port: &str) -> Result<Option<String>> {
        let links = self.links(&["dev", port])?;
        let master = links.first().and_then(|link| link["master"].as_str());
        Ok(master.filter(|name| is_vrf(name)).map(str::to_owned))
    }

    fn route(&self, vrf: &str, address: IpAddr) -> Result<String> {
        let family = if address.is_ipv4() { "-4" } else { "-6" };
        self.run(&["ip", family, "route", "show", "vrf", vrf, &address.to_string()])
    }

    fn ssh(&self, _vrf: Option<&str>, args: &[String], terminal: bool) -> Result<String> {
        // an address of a link says by itself in which VRF it is
        let (key, inside) = (self.paths.ssh_key(), Paths::in_guest().ssh_key());
        let place = |arg: &String| {
            if Path::new(arg) == key { inside.display().to_string() } else { arg.clone() }
        };
        let command: Vec<_> =
            std::iter::once("ssh".to_owned()).chain(args.iter().map(place)).collect();
        let output = self.node().channel().run(&command)?;
        if terminal {
            print!("{}", output.stdout);
            eprint!("{}", output.stderr);
            ensure!(output.status == 0, "ssh ended with status {}", output.status);
            return Ok(String::new());
        }
        output.ok(&command)
    }

    fn take_out(&self, vrf: &str, port: &str) -> Result<()> {
        ensure!(self.vrf_of(port)?.as_deref() == Some(vrf), "{port} is not in {vrf}");
        self.run(&["ip", "link", "set", port, "nomaster"]).map(drop)
    }

    fn has_tunnel(&self, vrf: &str) -> Result<bool> {
        let links = self.links(&["type", "vxlan"])?;
        Ok(links.iter().any(|link| link["ifname"] == tunnel(vrf).as_str()))
    }

    fn cut_tunnel(&self, vrf: &str) -> Result<()> {
        self.run(&["ip", "link", "del", &tunnel(vrf)]).map(drop)
    }

    fn carrier(&self, port: &str, up: bool) -> Result<()> {
        carrier(self.node(), port, self.ports()?, up)
    }

    fn watch_by_bfd(&self) -> Result<()> {
        let spec = Spec { bfd: true, ..Spec::load(&self.paths)? };
        let text = config::switch(&Paths::in_guest(), self.leaf, spec);
        let file = Paths::in_guest().leaf(self.leaf).join("switch.toml").display().to_string();
        let channel = self.node().channel();
        channel.write(&file, text.as_bytes(), 0o644)?;
        channel.ok(&["sh", "-c", &format!("sync; kill -9 $(cat {PIDS}/switch)")]).map(drop)
    }

    fn reboot(&self) -> Result<Vec<String>> {
        let vrfs = self.vrfs()?;
        self.kill()?;
        Ok(vrfs)
    }

    fn power_off(&self) -> Result<Vec<String>> {
        let vrfs = self.vrfs()?;
        carrier(Node::Spine, &self.node().name(), 0, false)?;
        self.kill()?;
        control::ask(&self.paths.control(), &Request::Stop(self.node().name()))?;
        Ok(vrfs)
    }

    fn power_on(&self) -> Result<()> {
        let (kernel, cached) = kernel::kernel(&self.paths.cache())?;
        if !cached {
            bail!("the kernel is gone from the cache");
        }
        let part = self.node().part(&self.paths, &kernel.image(), self.ports()?);
        control::ask(&self.paths.control(), &Request::Start(part))?;
        carrier(Node::Spine, &self.node().name(), 0, true)
    }

    fn hang(&self) -> Result<()> {
        self.qmp("stop")
    }

    fn resume(&self) -> Result<()> {
        self.qmp("cont")
    }
}
