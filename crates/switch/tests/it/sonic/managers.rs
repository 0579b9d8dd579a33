//! In place of vlanmgrd, intfmgrd, vrfmgrd, portmgrd, vxlanmgrd and orchagent. It looks at CONFIG_DB again and again, makes the
//! interfaces of the leaf accordingly, and says in STATE_DB, APPL_DB and ASIC_DB what they say: the ASIC a little later
//! than the kernel. VRFs are network namespaces, for lack of others; the boot VLAN is the bridge that is there.
//!
//! What kills them or leaves them stuck for ever is written down: a port that changes its VRF in one go, one that enters a
//! VLAN while the ASIC routes over it, one that is routed while it is in a VLAN.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use switch::backend::sonic::databases::{Address, Base, Databases};
use switch::backend::sonic::db::Db;
use switch::backend::sonic::resp::{Connection, command};
use switch::backend::sonic::schema::{Snapshot, field, memberships, table};
use switch::netlink::{Link, links};
use switch::space;

use crate::world::World;

/// The ASIC follows so much later.
const LATE: Duration = Duration::from_millis(60);

/// A zebra that does not forget what is gone will not.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Managers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Whether they hang. Held while they do something.
    paused: tokio::sync::Mutex<bool>,
    broken: Mutex<Vec<String>>,
}

impl Managers {
    /// Returns when SONiC would say that its ports are made.
    pub(crate) fn start(world: &World, socket: &Path) -> Self {
        let (shared, socket) = (Arc::<Shared>::default(), socket.to_owned());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let own = shared.clone();
        let pathspace = world.space("leaf");
        let thread = world.spawn("leaf", async move || {
            let mut following = Following::new(&socket, pathspace, own.clone()).await;
            while !own.stop.load(Ordering::Relaxed) {
                let paused = own.paused.lock().await;
                if !*paused {
                    following.follow().await;
                    let _ = ready.send(());
                }
                drop(paused);
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        });
        is_ready.recv().unwrap();
        Self { shared, thread: Some(thread) }
    }

    /// They hang, until they go on. A round that had begun ends before.
    pub(crate) async fn pause(&self, pause: bool) {
        *self.shared.paused.lock().await = pause;
    }

    /// What they would not have survived.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.shared.broken.lock().unwrap().clone()
    }
}

impl Drop for Managers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Following {
    /// Of the routing daemons.
    pathspace: String,
    /// Namespaces of VRFs that are to go, and since when.
    going: BTreeMap<String, Instant>,
    db: Db,
    writers: BTreeMap<Base, Connection>,
    shared: Arc<Shared>,
    /// Keys of ASIC_DB that go, and when.
    leaving: Vec<(Instant, String, Option<String>)>,
    routers: BTreeSet<String>,
}

impl Following {
    async fn new(socket: &Path, pathspace: String, shared: Arc<Shared>) -> Self {
        let databases = Databases::at(&Address::Socket(socket.to_owned()));
        let mut writers = BTreeMap::new();
        for base in Base::ALL {
            writers.insert(base, Connection::open(databases.get(base)).await.unwrap());
        }
        let mut new = Self {
            pathspace,
            going: BTreeMap::new(),
            db: Db::new(databases),
            writers,
            shared,
            leaving: Vec::new(),
            routers: BTreeSet::new(),
        };
        new.set(Base::Application, "PORT_TABLE:PortInitDone", "lanes", "0").await;
        let ports = new.db.snapshot().await.unwrap().config;
        for (name, _) in table(&ports, "PORT") {
            new.set(Base::Counters, "COUNTERS_PORT_NAME_MAP", name, &port_id(name)).await;
            new.set(Base::State, &format!("PORT_TABLE|{name}"), "state", "ok").await;
        }
        new
    }

    async fn follow(&mut self) {
        self.leave_asic().await;
        let now = self.db.snapshot().await.unwrap();
        self.vlans(&now).await;
        self.vrfs(&now).await;
        self.vlan_interfaces(&now).await;
        self.interfaces(&now).await;
        self.members(&now).await;
        // Some have moved.
        let now = self.db.snapshot().await.unwrap();
        self.ports(&now).await;
    }

    async fn vlans(&mut self, now: &Snapshot) {
        for (name, _) in table(&now.config, "VLAN") {
            self.ok(now, "VLAN_TABLE", name).await;
        }
        for (name, _) in table(&now.state, "VLAN_TABLE") {
            let used = now.state.contains_key(&format!("INTERFACE_TABLE|{name}"));
            if !now.config.contains_key(&format!("VLAN|{name}")) && !used {
                self.remove(Base::State, &format!("VLAN_TABLE|{name}")).await;
            }
        }
    }

    async fn vrfs(&mut self, now: &Snapshot) {
        for (name, _) in table(&now.config, "VRF") {
            if !now.state.contains_key(&format!("VRF_TABLE|{name}")) {
                space::make(&Path::new(space::FOLDER).join(name)).unwrap();
                ip(&format!("-n {name} link set lo up"));
                space::inside(&Path::new(space::FOLDER).join(name), || {
                    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
                    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
                    std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0")
                })
                .unwrap();
            }
            self.ok(now, "VRF_TABLE", name).await;
            self.ok(now, "VRF_OBJECT_TABLE", name).await;
        }
        for (name, _) in table(&now.state, "VRF_TABLE") {
            let mut interfaces = table(&now.state, "INTERFACE_TABLE");
            let used = interfaces.any(|(_, row)| row.get("vrf").is_some_and(|vrf| vrf == name));
            if !now.config.contains_key(&format!("VRF|{name}")) && !used && self.may_go(name) {
                self.going.remove(name);
                space::remove(&Path::new(space::FOLDER).join(name)).unwrap();
                self.remove(Base::State, &format!("VRF_TABLE|{name}")).await;
                self.remove(Base::State, &format!("VRF_OBJECT_TABLE|{name}")).await;
            }
        }
    }

    /// zebra 8.4 now and then does not survive that a namespace goes in which it still believes interfaces to be.
    fn may_go(&mut self, vrf: &str) -> bool {
        let since = *self.going.entry(vrf.to_owned()).or_insert_with(Instant::now);
        let show = format!("show interface vrf {vrf} brief");
        let asked = Command::new("vtysh").args(["-N", &self.pathspace, "-c", &show]).output();
        let said = String::from_utf8(asked.unwrap().stdout).unwrap();
        // One with a configuration stays, down.
        let is_up = |line: &str| !line.starts_with("lo ") && line.contains(" up ");
        !said.lines().any(is_up) || since.elapsed() > PATIENCE
    }

    /// The end of a tunnel and its VLAN, in the VRF.
    async fn vlan_interfaces(&mut self, now: &Snapshot) {
        for (name, row) in table(&now.config, "VLAN_INTERFACE").filter(|(n, _)| !n.contains('|')) {
            let vrf = row.get("vrf_name").map_or("", String::as_str);
            if !self.may_enter(now, name, vrf)
                || !now.state.contains_key(&format!("VLAN_TABLE|{name}"))
            {
                continue;
            }
            let map = table(&now.config, "VXLAN_TUNNEL_MAP")
                .find(|(_, map)| map.get("vlan").is_some_and(|vlan| vlan == name));
            if !vrf.is_empty() {
                let Some((_, map)) = map else { continue };
                let vxlan = name.replace("Vlan", "vtep-");
                let vni = &map["vni"];
                ip(&format!(
                    "link add {vxlan} mtu 9000 type vxlan id {vni} local 10.0.0.11 dstport 4789 nolearning"
                ));
                ip(&format!("link set {vxlan} netns {vrf}"));
                ip(&format!("-n {vrf} link add {name} type bridge"));
                ip(&format!("-n {vrf} link set {vxlan} master {name}"));
                ip(&format!("-n {vrf} link set {vxlan} up"));
                ip(&format!("-n {vrf} link set {name} up"));
            }
            self.enter(name, vrf).await;
        }
        for (name, row) in
            table(&now.state, "INTERFACE_TABLE").filter(|(n, _)| n.starts_with("Vlan"))
        {
            if now.config.contains_key(&format!("VLAN_INTERFACE|{name}")) {
                continue;
            }
            let vrf = row.get("vrf").map_or("", String::as_str);
            if !vrf.is_empty() {
                ip(&format!("-n {vrf} link del {}", name.replace("Vlan", "vtep-")));
                ip(&format!("-n {vrf} link del {name}"));
            }
            self.leave(name).await;
        }
    }

    async fn interfaces(&mut self, now: &Snapshot) {
        let rows = table(&now.config, "INTERFACE").filter(|(name, _)| !name.contains('|'));
        for (name, row) in rows {
            let vrf = row.get("vrf_name").map_or("", String::as_str);
            if !self.may_enter(now, name, vrf) {
                continue;
            }
            if !memberships(&now.state, "VLAN_MEMBER_TABLE", name).is_empty() {
                self.break_down(format!("{name} is routed while it is in a VLAN"));
            }
            if !vrf.is_empty() {
                self.carry(now, name, "", vrf);
            }
            self.enter(name, vrf).await;
        }
        for (name, row) in
            table(&now.state, "INTERFACE_TABLE").filter(|(n, _)| n.starts_with("Eth"))
        {
            if !now.config.contains_key(&format!("INTERFACE|{name}")) {
                let vrf = row.get("vrf").map_or("", String::as_str);
                if !vrf.is_empty() {
                    self.carry(now, name, vrf, "");
                }
                self.leave(name).await;
            }
        }
    }

    async fn members(&mut self, now: &Snapshot) {
        for (name, _) in table(&now.config, "VLAN_MEMBER") {
            let Some((vlan, port)) = name.split_once('|') else { continue };
            let ready = now.state.contains_key(&format!("VLAN_TABLE|{vlan}"));
            if now.state.contains_key(&format!("VLAN_MEMBER_TABLE|{name}")) || !ready {
                continue;
            }
            if self.routers.contains(port) {
                self.break_down(format!("{port} enters {vlan} while the ASIC routes over it"));
                continue;
            }
            if vlan == "Vlan4000" {
                ip(&format!("link set {port} master {vlan}"));
            }
            let bridge = format!("ASIC_STATE:SAI_OBJECT_TYPE_BRIDGE_PORT:oid:{port}");
            self.leaving.retain(|(_, key, _)| *key != bridge);
            self.set(Base::Asic, &bridge, "SAI_BRIDGE_PORT_ATTR_PORT_ID", &port_id(port)).await;
            self.ok(now, "VLAN_MEMBER_TABLE", name).await;
        }
        for (name, _) in table(&now.state, "VLAN_MEMBER_TABLE") {
            if now.config.contains_key(&format!("VLAN_MEMBER|{name}")) {
                continue;
            }
            let Some((vlan, port)) = name.split_once('|') else { continue };
            if vlan == "Vlan4000" {
                ip(&format!("link set {port} nomaster"));
            }
            let bridge = format!("ASIC_STATE:SAI_OBJECT_TYPE_BRIDGE_PORT:oid:{port}");
            self.leaving.push((Instant::now() + LATE, bridge, None));
            self.remove(Base::State, &format!("VLAN_MEMBER_TABLE|{name}")).await;
        }
    }

    async fn ports(&mut self, now: &Snapshot) {
        for (name, row) in table(&now.config, "PORT") {
            let key = format!("PORT_TABLE:{name}");
            let is = |field: &str| now.ports.get(name).and_then(|port| port.get(field));
            let (mtu, status) = (row.get("mtu"), row.get("admin_status"));
            let vrf = now.state.get(&format!("INTERFACE_TABLE|{name}")).and_then(|r| r.get("vrf"));
            let vrf = vrf.filter(|vrf| !vrf.is_empty()).cloned().unwrap_or_default();
            let place = if vrf.is_empty() { String::new() } else { format!("-n {vrf} ") };
            if let Some(mtu) = mtu.filter(|mtu| is("mtu") != Some(mtu)) {
                ip(&format!("{place}link set {name} mtu {mtu}"));
                self.set(Base::Application, &key, "mtu", mtu).await;
            }
            let link = look(name, &vrf);
            let up = if status.is_some_and(|status| status == "up") { "up" } else { "down" };
            if is("admin_status").map(String::as_str) != Some(up) {
                ip(&format!("{place}link set {name} {up}"));
                self.set(Base::Application, &key, "admin_status", up).await;
            }
            let carrier = if link.is_some_and(|link| link.running) { "up" } else { "down" };
            if is("oper_status").map(String::as_str) != Some(carrier) {
                self.set(Base::Application, &key, "oper_status", carrier).await;
            }
        }
    }

    /// Whether an interface is to be put into the VRF now.
    fn may_enter(&self, now: &Snapshot, name: &str, vrf: &str) -> bool {
        if let Some(row) = now.state.get(&format!("INTERFACE_TABLE|{name}")) {
            if row.get("vrf").map_or("", String::as_str) != vrf {
                self.break_down(format!("{name} is to change its VRF in one go"));
            }
            return false;
        }
        vrf.is_empty() || now.state.contains_key(&format!("VRF_TABLE|{vrf}"))
    }

    async fn enter(&mut self, name: &str, vrf: &str) {
        let router = format!("ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE:oid:{name}");
        self.leaving.retain(|(_, key, _)| *key != router);
        self.routers.insert(name.to_owned());
        self.set(Base::Asic, &router, "SAI_ROUTER_INTERFACE_ATTR_TYPE", "PORT").await;
        self.set(Base::Counters, "COUNTERS_RIF_NAME_MAP", name, &format!("oid:{name}")).await;
        self.set(Base::State, &format!("INTERFACE_TABLE|{name}"), "vrf", vrf).await;
    }

    async fn leave(&mut self, name: &str) {
        let router = format!("ASIC_STATE:SAI_OBJECT_TYPE_ROUTER_INTERFACE:oid:{name}");
        self.leaving.push((Instant::now() + LATE, router, Some(name.to_owned())));
        self.remove(Base::State, &format!("INTERFACE_TABLE|{name}")).await;
    }

    async fn leave_asic(&mut self) {
        let due = |(at, ..): &(Instant, String, Option<String>)| *at <= Instant::now();
        let (gone, rest): (Vec<_>, _) =
            std::mem::take(&mut self.leaving).into_iter().partition(due);
        self.leaving = rest;
        for (_, key, router) in gone {
            self.remove(Base::Asic, &key).await;
            if let Some(name) = router {
                self.routers.remove(&name);
            }
        }
    }

    /// From one VRF to another; none is the leaf itself.
    fn carry(&self, now: &Snapshot, port: &str, from: &str, to: &str) {
        let up = field(&now.config, &format!("PORT|{port}"), "admin_status").unwrap_or("down");
        let at = |vrf: &str| if vrf.is_empty() { String::new() } else { format!("-n {vrf} ") };
        if to.is_empty() {
            let home = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            let home = format!(
                "/proc/{}/fd/{}",
                std::process::id(),
                std::os::fd::AsRawFd::as_raw_fd(&home)
            );
            ip(&format!("{}link set {port} netns {home}", at(from)));
        } else {
            ip(&format!("{}link set {port} netns {to}", at(from)));
        }
        ip(&format!("{}link set {port} {up}", at(to)));
    }

    fn break_down(&self, what: String) {
        let mut broken = self.shared.broken.lock().unwrap();
        if !broken.contains(&what) {
            broken.push(what);
        }
    }

    async fn ok(&mut self, now: &Snapshot, table: &str, name: &str) {
        let key = format!("{table}|{name}");
        if !now.state.contains_key(&key) {
            self.set(Base::State, &key, "state", "ok").await;
        }
    }

    async fn set(&mut self, base: Base, key: &str, field: &str, value: &str) {
        let set = command(["HSET", key, field, value]);
        self.writers.get_mut(&base).unwrap().call(&[set]).await.unwrap();
    }

    async fn remove(&mut self, base: Base, key: &str) {
        self.writers.get_mut(&base).unwrap().call(&[command(["DEL", key])]).await.unwrap();
    }
}

fn port_id(port: &str) -> String {
    format!("oid:port-{port}")
}

fn look(name: &str, vrf: &str) -> Option<Link> {
    let all = match vrf {
        "" => links(),
        vrf => space::inside(&Path::new(space::FOLDER).join(vrf), links),
    };
    all.ok()?.into_iter().find(|link| link.name == name)
}

fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {line}: {said}");
}
