//! A VRF of the kernel for each tenant, and one bridge that tells VLANs apart between them and their VXLAN networks, as
//! on switches. Tenant N has the VRF `vrfN`, the end of its VXLAN network `vniN` as a member of the bridge, and the
//! bridge's interface `sviN` in the VRF. A VLAN, which has a meaning only inside this bridge, connects the
//! two; its number is that of the routing table, too.

pub(super) mod seen;

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use netconf::leaf::evpn::Vrfs;
use tokio::sync::Mutex;

use self::seen::{BRIDGE, MTU, Names, RULES, SWITCHES, Seen, address, is_local_first, kinds};
use super::{Table, Tables, name};
use crate::backend::linux::{link, write_switch};
use crate::config::Config as Settings;
use crate::netlink::rule::Family;
use crate::netlink::{self, Change, Changes, Kind, Link, New, Vlan};

/// Switches of a port in a VRF. A neighbour is alone on its wire: nobody else can have its address, so it needs no time
/// to find out, and traffic may come back another way than it went.
const PORT: [(&str, &str, &str); 3] = [
    // Neighbours find one another by their link-local addresses.
    ("ipv6", "disable_ipv6", "0"),
    ("ipv6", "accept_dad", "0"),
    ("ipv4", "rp_filter", "0"),
];

/// The kernel's VRFs.
pub struct Kernel {
    settings: Arc<Settings>,
    changes: Mutex<Changes>,
}

impl Kernel {
    /// Those of this network namespace. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the kernel does not tell about interfaces.
    pub fn new(settings: Arc<Settings>) -> Result<Self> {
        let changes = Changes::listen().context("the kernel does not tell about interfaces")?;
        Ok(Self { settings, changes: Mutex::new(changes) })
    }
}

impl Tables for Kernel {
    const VRFS: Vrfs = Vrfs::Kernel;

    fn look(&self) -> Result<std::collections::BTreeMap<u32, Table>> {
        Ok(Seen::now()?.tables(self.settings.loopback))
    }

    /// From the outside to the inside: what belongs to the VRF is in it before it is up.
    fn prepare(&self, vni: u32) -> Result<()> {
        let local = self.settings.loopback;
        let mut seen = Seen::now()?;
        tune(&seen)?;
        if !seen.links.iter().any(|link| link.name == BRIDGE) {
            make(New { mac: Some(address(local)), ..New::of(BRIDGE, Kind::VlanBridge) })?;
            seen = Seen::now()?;
        }
        let bridge = seen.bridge()?.clone();
        netlink::change(bridge.index, &Change { mtu: Some(MTU), ..Change::default() })?;
        up(&bridge)?;
        let vlan = match seen.vlan(vni) {
            Some(vlan) => vlan,
            None => seen.free_vlan()?,
        };
        let Names { vrf, vxlan, svi } = Names::of(vni);
        for (name, kind) in kinds(vni, local, vlan) {
            let there = seen.links.iter().find(|link| link.name == name);
            // A VLAN of another interface has our name, too.
            let right = |link: &Link| {
                link.kind == Some(kind) && (name != svi || link.lower == Some(bridge.index))
            };
            match there {
                Some(link) if right(link) => continue,
                Some(link) => netlink::delete(link.index)
                    .with_context(|| format!("{name} is something else and stays"))?,
                None => {}
            }
            let mtu = (name != vrf).then_some(MTU);
            let lower = (name == svi).then_some(bridge.index);
            make(New { mtu, lower, ..New::of(&name, kind) })?;
        }
        let (vrf, vxlan, svi) = (link(&vrf)?, link(&vxlan)?, link(&svi)?);
        let only = |wanted: &Link, vlans: &[Vlan], vlan: Vlan| -> Result<()> {
            for other in vlans.iter().filter(|other| other.id != vlan.id) {
                netlink::remove_vlan(wanted, *other)?;
            }
            netlink::add_vlan(wanted, vlan)
                .with_context(|| format!("{} does not get VLAN {}", wanted.name, vlan.id))
        };
        enslave(&vxlan, &bridge)?;
        netlink::change(vxlan.index, &Change { learning: Some(false), ..Change::default() })?;
        only(&vxlan, seen.vlans(vxlan.index), Vlan { id: vlan, access: true })?;
        only(&bridge, &[], Vlan { id: vlan, access: false })?;
        enslave(&svi, &vrf)?;
        [&vrf, &svi, &vxlan].into_iter().try_for_each(up)?;
        let whole = Seen::now()?.is_whole(vni, local);
        ensure!(whole, "{} is not complete; who else changes it?", vrf.name);
        Ok(())
    }

    fn enter(&self, port: &str, vni: u32, up: bool) -> Result<()> {
        let vrf = link(&name(vni))?;
        open(port)?;
        let port = link(port)?;
        enslave(&port, &vrf)?;
        Ok(netlink::change(port.index, &Change { up: Some(up), ..Change::default() })?)
    }

    fn leave(&self, port: &str, vni: u32) -> Result<()> {
        let link = link(port)?;
        let down = Change { up: Some(false), ..Change::default() };
        netlink::change(link.index, &down)?;
        let out = Change { master: Some(0), ..Change::default() };
        netlink::change(link.index, &out)
            .with_context(|| format!("{port} does not leave {}", name(vni)))
    }

    fn admin(&self, port: &str, _: u32, up: bool) -> Result<()> {
        Ok(netlink::change(link(port)?.index, &Change { up: Some(up), ..Change::default() })?)
    }

    /// The VRF is the last: as long as it is there, the rest is found again.
    fn clean_up(&self, vni: u32) -> Result<()> {
        let seen = Seen::now()?;
        let Names { vrf, vxlan, svi } = Names::of(vni);
        if let (Ok(bridge), Some(vlan)) = (seen.bridge(), seen.vlan(vni))
            && seen.vlans(bridge.index).iter().any(|there| there.id == vlan)
        {
            netlink::remove_vlan(bridge, Vlan { id: vlan, access: false })?;
        }
        for name in [vxlan, svi, vrf] {
            if let Some(link) = seen.links.iter().find(|link| link.name == name) {
                netlink::delete(link.index).with_context(|| format!("{name} stays"))?;
            }
        }
        Ok(())
    }

    async fn changed(&self) {
        if let Err(error) = self.changes.lock().await.next().await {
            tracing::warn!(%error, "the kernel does not tell about interfaces; looking now and then");
            std::future::pending::<()>().await;
        }
    }

    fn spaces(&self) -> Vec<std::path::PathBuf> {
        Vec::new()
    }
}

/// A port that is about to be routed in a VRF.
pub(super) fn open(port: &str) -> Result<()> {
    PORT.into_iter().try_for_each(|(family, switch, value)| {
        write_switch(&format!("{family}/conf/{port}/{switch}"), value)
    })
}

/// What concerns all tenants: switches, and rules that keep packets of a VRF in its table.
pub(super) fn tune(seen: &Seen) -> Result<()> {
    SWITCHES.into_iter().try_for_each(|(switch, value)| write_switch(switch, value))?;
    for (family, there) in Family::ALL.into_iter().zip(&seen.rules) {
        for rule in RULES {
            if !there.contains(&rule) {
                netlink::add_rule(family, &rule).context("a rule of routing is not added")?;
            }
        }
        // Only now that the others are there.
        for rule in there.iter().filter(|rule| is_local_first(rule)) {
            netlink::remove_rule(family, rule).context("a rule of routing stays")?;
        }
    }
    Ok(())
}

fn make(new: New) -> Result<()> {
    match netlink::make(&new) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {
            bail!("this kernel has no such devices as {}: {:?}", new.name, new.kind)
        }
        made => made.with_context(|| format!("{} is not made", new.name)),
    }
}

fn enslave(link: &Link, master: &Link) -> Result<()> {
    if link.master == Some(master.index) {
        return Ok(());
    }
    let enter = Change { master: Some(master.index), ..Change::default() };
    netlink::change(link.index, &enter)
        .with_context(|| format!("{} does not enter {}", link.name, master.name))
}

fn up(link: &Link) -> Result<()> {
    if link.up {
        return Ok(());
    }
    let up = Change { up: Some(true), ..Change::default() };
    netlink::change(link.index, &up).with_context(|| format!("{} does not come up", link.name))
}
