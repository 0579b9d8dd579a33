//! VRFs of the kernel where ifupdown2 owns the interfaces, as on Cumulus: what is there is read from the kernel, and every
//! change is a new version of one file of ours and an `ifreload -a`. So a reboot has it, too, and nobody's reload undoes it.
//!
//! A change that ifupdown2 does not take is taken back: the file is what it was, and so is the kernel.

mod layout;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use netconf::leaf::evpn::Evpn;
use tokio::process::Command;

use self::layout::Layout;
use super::kernel::seen::Seen;
use super::kernel::{Kernel, open, tune};
use super::{Table, Vrf};
use crate::backend::linux::link;
use crate::backend::{Backend, Observed, Place, Port, Step};
use crate::config::Config as Settings;
use crate::frr::neighbours::Session;
use crate::netlink;

/// Ours alone. What Debian and Cumulus ship reads every file in this folder.
const FILE: &str = "/etc/network/interfaces.d/metal.intf";
/// Reloads of large switches take their time.
const PATIENCE: Duration = Duration::from_secs(120);

/// The device.
pub struct Cumulus {
    settings: Arc<Settings>,
    kernel: Vrf<Kernel>,
}

/// What is there.
struct Now {
    seen: Seen,
    tables: BTreeMap<u32, Table>,
    ports: BTreeMap<String, Port>,
}

impl Cumulus {
    /// The device that this process runs on. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the kernel does not tell about interfaces.
    pub fn new(settings: Arc<Settings>) -> Result<Self> {
        let kernel = Vrf::new(settings.clone(), Kernel::new(settings.clone())?);
        Ok(Self { settings, kernel })
    }

    fn look(&self) -> Result<Now> {
        let seen = Seen::now()?;
        let tables = seen.tables(self.settings.loopback);
        let ports = self.kernel.ports(&seen.links, &tables);
        Ok(Now { seen, tables, ports })
    }

    fn layout(&self, now: &Now) -> Layout {
        Layout::of(&self.settings, &now.seen, &now.tables, &now.ports)
    }

    async fn change(&self, step: &Step) -> Result<()> {
        let now = self.look()?;
        let there = self.layout(&now);
        let wanted = there.after(step, &now.seen)?;
        let before = read(Path::new(FILE))?;
        if is_done(step, &now)? && before.as_deref() == Some(&wanted.to_string()) {
            return Ok(());
        }
        let Err(error) = self.reach(step, &there, &wanted).await else { return Ok(()) };
        let before = before.unwrap_or_else(|| there.to_string());
        match reload(&before).await {
            Ok(()) => Err(error),
            Err(again) => bail!("{error:#}; and it cannot be taken back: {again:#}"),
        }
    }

    async fn reach(&self, step: &Step, there: &Layout, wanted: &Layout) -> Result<()> {
        if let Step::Leave(port) | Step::Boot(port) | Step::Route(port, _) = step {
            if there.ports.get(port).map(|port| port.0) != wanted.ports.get(port).map(|port| port.0)
            {
                take_out(port)?;
            }
            if let Step::Route(_, Some(_)) = step {
                open(port)?;
            }
        }
        reload(&wanted.to_string()).await?;
        if let Step::Prepare(_) = step {
            // ifupdown2 has its own idea of rules when it makes its first VRF.
            tune(&Seen::now()?)?;
        }
        let done = is_done(step, &self.look()?)?;
        ensure!(done, "ifupdown2 says it is done, but it is not; is another file about this, too?");
        Ok(())
    }
}

impl Backend for Cumulus {
    fn routing(&self, evpn: &Evpn) -> String {
        self.kernel.routing(evpn)
    }

    async fn observe(&self) -> Result<Observed> {
        self.kernel.observe().await
    }

    async fn apply(&self, step: &Step) -> Result<()> {
        match step {
            Step::Forward | Step::Unpeer(_) | Step::Routing(_) => self.kernel.apply(step).await,
            Step::CleanUp(vni) => {
                self.kernel.may_go(*vni)?;
                self.change(step).await
            }
            Step::Leave(_)
            | Step::Prepare(_)
            | Step::Route(..)
            | Step::Boot(_)
            | Step::Admin(..) => self.change(step).await,
        }
    }

    async fn sessions(&self) -> Result<BTreeMap<String, Session>> {
        self.kernel.sessions().await
    }

    async fn changed(&self) {
        self.kernel.changed().await;
    }

    fn spaces(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

fn is_done(step: &Step, now: &Now) -> Result<bool> {
    let port = |name: &str| now.ports.get(name).with_context(|| format!("{name} is not there"));
    Ok(match step {
        // One that is in no VRF has nothing to leave.
        Step::Leave(name) => !matches!(port(name)?.place, Place::Routed(Some(_))),
        Step::Route(name, vni) => port(name)?.place == Place::Routed(*vni),
        Step::Boot(name) => port(name)?.place == Place::Boot,
        Step::Admin(name, up) => port(name)?.up == *up,
        Step::Prepare(vni) => now.tables.get(vni).is_some_and(|table| table.whole),
        Step::CleanUp(vni) => !now.tables.contains_key(vni),
        Step::Forward | Step::Unpeer(_) | Step::Routing(_) => true,
    })
}

/// Down and nowhere, so that the kernel forgets every route over it. ifupdown2 would leave it up, and in the boot bridge.
fn take_out(port: &str) -> Result<()> {
    let index = link(port)?.index;
    netlink::change(index, &netlink::Change { up: Some(false), ..Default::default() })?;
    Ok(netlink::change(index, &netlink::Change { master: Some(0), ..Default::default() })?)
}

/// Makes the kernel what this text says.
async fn reload(text: &str) -> Result<()> {
    write(Path::new(FILE), text)?;
    let mut command = Command::new("ifreload");
    command.arg("-a").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output())
        .await
        .context("ifreload does not end")?
        .context("ifreload does not start; is ifupdown2 installed?")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("error")).take(3).collect();
    ensure!(output.status.success(), "ifreload failed ({}): {}", output.status, lines.join("; "));
    Ok(())
}

fn read(file: &Path) -> Result<Option<String>> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        text => text.map(Some).with_context(|| format!("{} cannot be read", file.display())),
    }
}

/// All or nothing, also when the power fails.
fn write(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    // Files that begin with a dot are not read by ifupdown2.
    let new = folder.join(".metal.intf.new");
    let write = || {
        let mut out = File::create(&new)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&new, file)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("{} cannot be written", file.display()))
}
