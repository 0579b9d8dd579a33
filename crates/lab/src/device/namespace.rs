//! A leaf that is a network namespace of the host, with one more for each tenant.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::Device;
use crate::control::{self, Request};
use crate::frr::Router;
use crate::paths::Paths;
use crate::spec::Spec;
use crate::topology::{Fabric, Leaf};
use crate::{config, ledger, names, netns, parts, shell};

/// What makes a router of a namespace.
const FORWARDING: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];

/// The leaf.
pub(super) struct Namespace {
    paths: Paths,
    fabric: Fabric,
    leaf: Leaf,
}

impl Namespace {
    pub(super) fn new(paths: Paths, fabric: Fabric, leaf: Leaf) -> Self {
        Self { paths, fabric, leaf }
    }

    /// In a VRF, or in the underlay.
    fn within<T: Send>(
        &self,
        vrf: Option<&str>,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        match vrf {
            Some(vrf) => names::within(self.leaf, vrf, work),
            None => netns::within(&self.leaf.namespace(), work),
        }
    }

    fn ip(&self, vrf: Option<&str>, line: &str) -> Result<String> {
        self.within(vrf, || shell::run(&mut shell::command("ip", line.split(' '))))
    }

    /// Everything that decides about packets.
    fn processes(&self) -> [String; 4] {
        ["switch", "bfdd", "bgpd", "zebra"].map(|part| format!("{}-{part}", self.leaf.name()))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        for part in self.processes() {
            ledger::find(&self.paths.run(), &part)
                .with_context(|| format!("{part} does not run"))?
                .signal(signal);
        }
        Ok(())
    }

    fn forward(&self, value: &str) -> Result<()> {
        let set = || {
            for switch in FORWARDING {
                let path = Path::new("/proc/sys/net").join(switch);
                fs::write(&path, value)
                    .with_context(|| format!("cannot set {}", path.display()))?;
            }
            Ok(())
        };
        for vrf in names::list(self.leaf)? {
            self.within(Some(&vrf), set)?;
        }
        self.within(None, set)
    }
}

fn tunnel(vrf: &str) -> String {
    vrf.replacen("vrf", "vni", 1)
}

impl Device for Namespace {
    fn leaf(&self) -> Leaf {
        self.leaf
    }

    fn run(&self, command: &[&str]) -> Result<String> {
        let (program, args) = command.split_first().context("no program")?;
        self.within(None, || shell::run(&mut shell::command(program, args)))
    }

    fn vtysh(&self, commands: &[&str]) -> Result<String> {
        let mut vtysh = shell::command("vtysh", ["-N", &self.leaf.name()]);
        for command in commands {
            vtysh.args(["-c", command]);
        }
        shell::run(&mut vtysh)
    }

    fn vrfs(&self) -> Result<Vec<String>> {
        names::list(self.leaf)
    }

    fn vrf_of(&self, port: &str) -> Result<Option<String>> {
        names::vrf_of(self.leaf, port)
    }

    fn route(&self, vrf: &str, address: IpAddr) -> Result<String> {
        let family = if address.is_ipv4() { "-4" } else { "-6" };
        self.ip(Some(vrf), &format!("{family} route show {address}"))
    }

    fn ssh(&self, vrf: Option<&str>, args: &[String], terminal: bool) -> Result<String> {
        self.within(vrf, || {
            let mut ssh = shell::command("ssh", args);
            if !terminal {
                return shell::run(&mut ssh);
            }
            let status = ssh.stdin(Stdio::inherit()).status()?;
            ensure!(status.success(), "ssh ended with {status}");
            Ok(String::new())
        })
    }

    fn take_out(&self, vrf: &str, port: &str) -> Result<()> {
        use std::os::fd::AsRawFd as _;
        let home = fs::File::open(netns::file(&self.leaf.namespace()))?;
        let home = format!("/proc/{}/fd/{}", std::process::id(), home.as_raw_fd());
        self.ip(Some(vrf), &format!("link set {port} netns {home}")).map(drop)
    }

    fn has_tunnel(&self, vrf: &str) -> Result<bool> {
        Ok(self.ip(Some(vrf), "-o link show")?.contains(&format!(" {}@", tunnel(vrf))))
    }

    fn cut_tunnel(&self, vrf: &str) -> Result<()> {
        self.ip(Some(vrf), &format!("link del {}", tunnel(vrf))).map(drop)
    }

    fn carrier(&self, _port: &str, _up: bool) -> Result<()> {
        Ok(())
    }

    fn watch_by_bfd(&self) -> Result<()> {
        let spec = Spec { bfd: true, ..Spec::load(&self.paths)? };
        let text = config::switch(&self.paths, self.leaf, spec);
        fs::write(self.paths.leaf(self.leaf).join("switch.toml"), text)?;
        let part = format!("{}-switch", self.leaf.name());
        ledger::find(&self.paths.run(), &part).context("no agent")?.signal(Signal::SIGKILL);
        Ok(())
    }

    fn reboot(&self) -> Result<Vec<String>> {
        self.signal(Signal::SIGKILL)?;
        names::clear(self.leaf)
    }

    fn power_off(&self) -> Result<Vec<String>> {
        self.ip(None, "link set up0 down")?;
        for vrf in names::list(self.leaf)? {
            self.within(Some(&vrf), || {
                for interface in nix::net::if_::if_nameindex()?.iter() {
                    let name = interface.name().to_string_lossy().into_owned();
                    if name.starts_with("swp") {
                        shell::run(&mut shell::command("ip", ["link", "set", &name, "down"]))?;
                    }
                }
                Ok(())
            })?;
        }
        for part in self.processes() {
            control::ask(&self.paths.control(), &Request::Stop(part))?;
        }
        names::clear(self.leaf)
    }

    fn power_on(&self) -> Result<()> {
        self.ip(None, "link set up0 up")?;
        let mut parts = Router::Leaf(self.leaf).parts(self.fabric);
        parts.push(parts::switch(&self.paths, self.leaf, self.fabric));
        for part in parts {
            control::ask(&self.paths.control(), &Request::Start(part))?;
        }
        Ok(())
    }

    fn hang(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        self.forward("0")
    }

    fn resume(&self) -> Result<()> {
        self.forward("1")?;
        self.signal(Signal::SIGCONT)
    }
}
