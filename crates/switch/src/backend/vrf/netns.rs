//! A network namespace as the VRF of a tenant, for kernels that have no VRFs. FRR runs as `zebra -n` in the same mount
//! namespace as the agent and takes every name below `/run/netns` for a VRF.
//!
//! A port changes its VRF by moving to another namespace: it is down for a moment, and the kernel forgets every route
//! and neighbour over it. Namespaces whose names are not `vrf` and a number belong to somebody else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use netconf::leaf::evpn::Vrfs;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::{Table, Tables, name};
use crate::backend::linux::{FORWARDING, link, read_switch, write_switch};
use crate::config::Config as Settings;
use crate::netlink::{self, Change, Changes, Kind, Link, New};
use crate::space::{self, inside};

/// As on machines and their ports; the underlay must carry 50 bytes more.
const MTU: u32 = 9000;
/// Switches of a new namespace beside forwarding. A neighbour is alone on its wire: nobody else can have its address,
/// so it needs no time to find out, and traffic may come back another way than it went.
const SWITCHES: [(&str, &str); 5] = [
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/fib_multipath_hash_policy", "1"),
    ("ipv6/fib_multipath_hash_policy", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
];

/// The namespaces.
pub struct Namespaces {
    settings: Arc<Settings>,
    watch: Mutex<Watch>,
    news: Arc<Notify>,
}

impl Namespaces {
    /// Those of this mount namespace. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the kernel does not tell about interfaces.
    pub fn new(settings: Arc<Settings>) -> Result<Self> {
        let news = Arc::new(Notify::new());
        let own = Changes::listen().context("the kernel does not tell about interfaces")?;
        let watch = Watch { _own: listen(own, news.clone()), others: BTreeMap::new() };
        Ok(Self { settings, watch: Mutex::new(watch), news })
    }

    fn table(&self, vni: u32, space: &Path) -> Result<Table> {
        inside(space, || {
            let links = netlink::links().context("interfaces cannot be read")?;
            let whole = is_whole(&links, vni, self.settings.loopback)
                && switches()
                    .all(|(switch, value)| read_switch(switch).is_ok_and(|now| now == value));
            Ok(Table { whole, links })
        })
    }

    /// Follows what comes and goes. A socket in a namespace that has no name any more would keep it alive.
    fn follow(&self, spaces: &BTreeMap<u32, PathBuf>) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let identities: BTreeMap<_, _> = spaces
            .values()
            .filter_map(|space| Some((space.clone(), space::identity(space).ok()?)))
            .collect();
        watch.others.retain(|space, (identity, _)| identities.get(space) == Some(identity));
        for (space, identity) in identities {
            if watch.others.contains_key(&space) {
                continue;
            }
            match Changes::listen_in(&space) {
                Ok(changes) => {
                    let task = listen(changes, self.news.clone());
                    watch.others.insert(space, (identity, task));
                }
                Err(error) => {
                    tracing::debug!(space = %space.display(), %error, "not watched, looked at now and then");
                }
            }
        }
    }
}

impl Tables for Namespaces {
    const VRFS: Vrfs = Vrfs::Namespaces;

    fn look(&self) -> Result<BTreeMap<u32, Table>> {
        let spaces = spaces()?;
        self.follow(&spaces);
        let look = |(vni, space): (u32, PathBuf)| {
            // One that cannot be entered is half made or half removed.
            let table = self.table(vni, &space).unwrap_or_else(|error| {
                tracing::debug!(vni, error = format!("{error:#}"), "a broken namespace");
                Table::default()
            });
            (vni, table)
        };
        Ok(spaces.into_iter().map(look).collect())
    }

    fn prepare(&self, vni: u32) -> Result<()> {
        let (space, local) = (path(vni), self.settings.loopback);
        if space.exists() && inside(&space, || std::io::Result::Ok(())).is_err() {
            space::remove(&space)
                .with_context(|| format!("{} is no namespace and stays", space.display()))?;
        }
        if !space.exists() {
            space::make(&space).with_context(|| format!("{} is not made", space.display()))?;
        }
        let file = File::open(&space)?;
        let links = inside(&space, || {
            switches().try_for_each(|(switch, value)| write_switch(switch, value))?;
            remove_wrong(vni, local)?;
            netlink::links().context("interfaces cannot be read")
        })?;
        // Made from here, so that packets with the tenant's packets inside travel through the underlay.
        for (name, kind) in parts(vni, local) {
            if !links.iter().any(|link| link.name == name) {
                let (mtu, space) = (Some(MTU), Some(file.as_raw_fd()));
                let new = New { mtu, space, ..New::of(&name, kind) };
                netlink::make(&new).with_context(|| format!("{name} is not made"))?;
            }
        }
        inside(&space, || {
            let [(vxlan, _), (bridge, _)] = parts(vni, local);
            let master = Some(link(&bridge)?.index);
            netlink::change(link(&vxlan)?.index, &Change { master, ..Change::default() })?;
            for name in [vxlan, bridge, "lo".to_owned()] {
                netlink::change(
                    link(&name)?.index,
                    &Change { up: Some(true), ..Change::default() },
                )?;
            }
            anyhow::Ok(())
        })
        .with_context(|| format!("{} is not complete", name(vni)))
    }

    fn enter(&self, port: &str, vni: u32, up: bool) -> Result<()> {
        let space = path(vni);
        let file = File::open(&space).with_context(|| format!("{} is not there", name(vni)))?;
        let to = Change { space: Some(file.as_raw_fd()), ..Change::default() };
        netlink::change(link(port)?.index, &to)
            .with_context(|| format!("{port} does not move to {}", name(vni)))?;
        inside(&space, || {
            // Neighbours find one another by their link-local addresses.
            write_switch(&format!("ipv6/conf/{port}/disable_ipv6"), "0")?;
            let up = Change { up: Some(up), ..Change::default() };
            anyhow::Ok(netlink::change(link(port)?.index, &up)?)
        })
    }

    fn leave(&self, port: &str, vni: u32) -> Result<()> {
        let home = File::open("/proc/thread-self/ns/net")?;
        let back = Change { space: Some(home.as_raw_fd()), ..Change::default() };
        inside(&path(vni), || {
            let link = link(port)?;
            netlink::change(link.index, &Change { up: Some(false), ..Change::default() })?;
            netlink::change(link.index, &Change { master: Some(0), ..Change::default() })?;
            anyhow::Ok(netlink::change(link.index, &back)?)
        })
        .with_context(|| format!("{port} does not leave {}", name(vni)))
    }

    fn admin(&self, port: &str, vni: u32, up: bool) -> Result<()> {
        let wish = Change { up: Some(up), ..Change::default() };
        inside(&path(vni), || anyhow::Ok(netlink::change(link(port)?.index, &wish)?))
    }

    /// Devices first: who still has the namespace open keeps it alive, and its VXLAN id taken.
    fn empty(&self, vni: u32) -> bool {
        let emptied = inside(&path(vni), || {
            for (name, _) in parts(vni, self.settings.loopback) {
                if let Ok(link) = link(&name) {
                    netlink::delete(link.index)?;
                }
            }
            anyhow::Ok(())
        });
        if let Err(error) = emptied {
            tracing::debug!(vni, error = format!("{error:#}"), "a namespace is not emptied");
        }
        true
    }

    fn clean_up(&self, vni: u32) -> Result<()> {
        let space = path(vni);
        space::remove(&space).with_context(|| format!("{} stays", space.display()))
    }

    async fn changed(&self) {
        self.news.notified().await;
    }

    fn spaces(&self) -> Vec<PathBuf> {
        spaces().unwrap_or_default().into_values().collect()
    }
}

/// Tasks that wait for changes of interfaces, by namespace.
struct Watch {
    _own: Task,
    others: BTreeMap<PathBuf, (u64, Task)>,
}

/// Ends when it is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn listen(mut changes: Changes, news: Arc<Notify>) -> Task {
    let task = tokio::spawn(async move {
        while changes.next().await.is_ok() {
            news.notify_one();
        }
    });
    Task(task.abort_handle())
}

fn path(vni: u32) -> PathBuf {
    Path::new(space::FOLDER).join(name(vni))
}

/// Namespaces of tenants.
fn spaces() -> Result<BTreeMap<u32, PathBuf>> {
    let entries = match fs::read_dir(space::FOLDER) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.with_context(|| format!("{} cannot be read", space::FOLDER))?,
    };
    let mut spaces = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        if let Some(vni) = read_name(&entry.file_name().to_string_lossy()) {
            spaces.insert(vni, entry.path());
        }
    }
    Ok(spaces)
}

/// The number in a name that this agent gives, and in no other.
fn read_name(text: &str) -> Option<u32> {
    let vni = text.strip_prefix("vrf")?.parse().ok()?;
    (name(vni) == text).then_some(vni)
}

/// The end of the VXLAN network and the bridge that stands between it and the VRF.
fn parts(vni: u32, local: Ipv4Addr) -> [(String, Kind); 2] {
    [(format!("vni{vni}"), Kind::Vxlan(vni, local)), (format!("br{vni}"), Kind::Bridge)]
}

fn switches() -> impl Iterator<Item = (&'static str, &'static str)> {
    SWITCHES.into_iter().chain(FORWARDING.map(|switch| (switch, "1")))
}

/// What has our name and is something else.
fn remove_wrong(vni: u32, local: Ipv4Addr) -> Result<()> {
    let links = netlink::links().context("interfaces cannot be read")?;
    for (name, kind) in parts(vni, local) {
        if let Some(link) = links.iter().find(|link| link.name == name)
            && link.kind != Some(kind)
        {
            netlink::delete(link.index)
                .with_context(|| format!("{name} is something else and stays"))?;
        }
    }
    Ok(())
}

fn is_whole(links: &[Link], vni: u32, local: Ipv4Addr) -> bool {
    let find = |name: &str| links.iter().find(|link| link.name == name && link.up);
    let [vxlan, bridge] =
        parts(vni, local).map(|(name, kind)| find(&name).filter(|link| link.kind == Some(kind)));
    match (vxlan, bridge) {
        (Some(vxlan), Some(bridge)) => vxlan.master == Some(bridge.index) && find("lo").is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_this_agent_gives() {
        assert_eq!(read_name("vrf7"), Some(7));
        for other in ["vrf", "vrf07", "vrf+7", "vrf-1", "vrf7x", "Vrf7", "mgmt", "vrf99999999999"] {
            assert_eq!(read_name(other), None, "{other}");
        }
    }

    #[test]
    fn whole_is_when_nothing_is_missing() {
        let local = Ipv4Addr::new(10, 0, 0, 11);
        let link = |index, name: &str, kind, master| Link {
            index,
            name: name.to_owned(),
            up: true,
            master,
            kind,
            ..Link::default()
        };
        let good = [
            link(1, "lo", None, None),
            link(2, "vni7", Some(Kind::Vxlan(7, local)), Some(3)),
            link(3, "br7", Some(Kind::Bridge), None),
        ];
        assert!(is_whole(&good, 7, local));
        assert!(!is_whole(&good, 8, local));
        assert!(!is_whole(&good, 7, Ipv4Addr::new(10, 0, 0, 12)));
        for broken in 0..3 {
            let mut links = good.clone();
            links[broken].up = false;
            assert!(!is_whole(&links, 7, local), "{broken}");
        }
        let mut links = good;
        links[1].master = None;
        assert!(!is_whole(&links, 7, local));
    }
}
