//! SONiC's databases are real Redis and routing is real FRR. SONiC's managers cannot run here: `managers` stands in for
//! them, does with the interfaces of a namespace what they do, and knows what they do not survive.

mod managers;
mod redis;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netconf::leaf::evpn::Vrfs;
use proto::api;
use switch::backend::sonic::Sonic;
use switch::backend::sonic::databases::{Address, Base, Databases};
use switch::backend::sonic::db::Db;
use switch::backend::sonic::persist::{self, Own};
use switch::backend::sonic::resp::{Connection, command};
use switch::backend::sonic::schema::{Rows, Write};
use switch::backend::sonic::steps::{self, Rules};
use switch::backend::{Backend, Place, Routing, Step};
use switch::config::Config;
use switch::frr::{self, Change};

use crate::contract::{Ports, contract_of, leaf};
use crate::fake::{Fake, nic};
use crate::running::{Running, eventually, patiently};
use crate::world::World;
use managers::Managers;
use redis::Redis;

const PORTS: Ports = Ports { machine: "Ethernet0", firewall: "Ethernet4", uplink: "Ethernet120" };

/// As `sonic-cfggen` and an installation leave it.
const CONFIG_DB: &str = r#"{
    "DEVICE_METADATA": {
        "localhost": {
            "docker_routing_config_mode": "split-unified",
            "hostname": "leaf01",
            "hwsku": "Force10-S6000",
            "mac": "52:54:00:aa:bb:cc",
            "type": "LeafRouter"
        }
    },
    "INTERFACE": {
        "Ethernet120": {
            "ipv6_use_link_local_only": "enable"
        }
    },
    "LOOPBACK_INTERFACE": {
        "Loopback0": {},
        "Loopback0|10.0.0.11/32": {}
    },
    "NTP_SERVER": {
        "192.0.2.1": {}
    },
    "PORT": {
        "Ethernet0": {
            "admin_status": "up",
            "alias": "Eth1/1(Port1)",
            "index": "1",
            "lanes": "25,26,27,28",
            "mtu": "9100",
            "speed": "100000"
        },
        "Ethernet4": {
            "admin_status": "up",
            "alias": "Eth1/2(Port2)",
            "lanes": "29,30,31,32"
        },
        "Ethernet120": {
            "admin_status": "up",
            "alias": "Eth1/31(Port31)",
            "lanes": "1,2,3,4",
            "mtu": "9216"
        }
    },
    "VERSIONS": {
        "DATABASE": {
            "VERSION": "version_202405_01"
        }
    },
    "VLAN": {
        "Vlan4000": {
            "dhcp_servers": [
                "10.255.0.2"
            ],
            "vlanid": "4000"
        }
    },
    "VLAN_INTERFACE": {
        "Vlan4000": {},
        "Vlan4000|10.0.1.1/24": {}
    },
    "VXLAN_EVPN_NVO": {
        "nvo": {
            "source_vtep": "vtep"
        }
    },
    "VXLAN_TUNNEL": {
        "vtep": {
            "src_ip": "10.0.0.11"
        }
    }
}
"#;

/// A leaf with SONiC's names, its databases, and somebody who follows them.
struct Leaf {
    // In this order they end.
    managers: Managers,
    redis: Redis,
    world: World,
}

impl Leaf {
    /// `None` when this machine cannot have one.
    fn new() -> Option<Self> {
        if !Redis::is_installed() {
            eprintln!("not run: this needs redis-server");
            return None;
        }
        let world = World::with_vrfs()?;
        for (old, new) in [
            ("swp1", PORTS.machine),
            ("swp2", PORTS.firewall),
            ("up0", PORTS.uplink),
            ("boot", "Vlan4000"),
        ] {
            world.ip("leaf", &format!("link set {old} down"));
            world.ip("leaf", &format!("link set {old} name {new}"));
            world.ip("leaf", &format!("link set {new} up"));
        }
        let redis = Redis::start(world.folder.path());
        fs::write(file(&world), CONFIG_DB).unwrap();
        redis.load(&persist::rows(&persist::parse(CONFIG_DB).unwrap()));
        let managers = Managers::start(&world, redis.socket());
        Some(Self { managers, redis, world })
    }

    fn config(&self) -> Arc<Config> {
        Arc::new(toml::from_str(&self.config_text("http://127.0.0.1:1")).unwrap())
    }

    fn config_text(&self, api_url: &str) -> String {
        let text = self
            .world
            .config_text(api_url)
            .replace("\"up0\"", "\"Ethernet120\"")
            .replace("\"boot\"", "\"Vlan4000\"")
            .replace("\"swp*\"", "\"Ethernet*\"")
            .replace("backend = \"netns\"", "backend = \"sonic\"\nvendor = \"sonic\"");
        format!(
            "{text}\n[sonic]\nredis = {:?}\nconfig_db = {:?}\npatience_seconds = 100\n",
            self.redis.socket(),
            file(&self.world)
        )
    }

    fn open(&self) -> Sonic {
        Self::open_as(self.config())
    }

    /// What stands in for the managers makes namespaces of VRFs: this kernel has no others.
    fn open_as(config: Arc<Config>) -> Sonic {
        Sonic::open(config, Vrfs::Namespaces).unwrap()
    }

    fn db(&self) -> Db {
        Db::new(Databases::at(&Address::Socket(self.redis.socket().into())))
    }

    /// Runs something on the leaf and sees to it that the managers survived it.
    fn within(&self, work: impl AsyncFnOnce() + Send) {
        self.world.within("leaf", work);
        assert_eq!(self.managers.broken(), Vec::<String>::new());
    }

    /// What of this agent's rows is not in the file.
    async fn unsaved(&self) -> Vec<String> {
        let rules = Rules::of(&self.config());
        let config = self.config();
        let is_port = |name: &str| config.is_port(name);
        let now = self.db().snapshot().await.unwrap();
        let own = Own { rules: &rules, is_port: &is_port };
        persist::compare(&file(&self.world), &now.config, &own).unwrap()
    }

    fn has_listeners(&self) -> bool {
        self.redis.run(0, &["PUBSUB", "NUMPAT"]) != "0"
    }

    /// Until nothing but what somebody writes from now on is heard as a change.
    async fn listens(&self, device: &Sonic) {
        eventually("subscription", || self.has_listeners().then_some(())).await;
        while tokio::time::timeout(CALM, device.changed()).await.is_ok() {}
    }
}

/// What was written before is heard sooner than this, as a rule; a test that hears it later sees less, and does not fail.
const CALM: Duration = Duration::from_millis(300);

/// Does what the agent does between two looks until `work` is done: what is not saved is saved.
async fn serving(device: &Sonic, work: impl Future<Output = ()>) {
    let serve = async {
        loop {
            device.changed().await;
        }
    };
    tokio::select! {
        () = serve => {}
        () = work => {}
    }
}

fn file(world: &World) -> PathBuf {
    world.folder.path().join("config_db.json")
}

fn saved(path: &Path) -> Rows {
    persist::rows(&persist::parse(&fs::read_to_string(path).unwrap()).unwrap())
}

#[test]
fn sonic_does_what_every_backend_must() {
    let Some(leaf) = Leaf::new() else { return };
    leaf.within(async || {
        let device = leaf.open();
        contract_of(&device, true, &PORTS).await;
        assert_eq!(leaf.unsaved().await, Vec::<String>::new());
    });
}

/// Rows become a network, and the machine is heard and reached in the VRF of its tenant.
#[test]
fn a_machine_speaks_in_the_vrf_of_its_tenant() {
    let Some(sonic) = Leaf::new() else { return };
    sonic.within(async || {
        let device = sonic.open();
        let port = || PORTS.machine.to_owned();
        let steps = [
            Step::Forward,
            Step::Boot(port()),
            Step::Prepare(7),
            Step::Route(port(), Some(7)),
            Step::Admin(port(), true),
        ];
        for step in steps {
            device.apply(&step).await.unwrap();
        }
        let wanted = frr::Config::parse(&device.routing(&leaf(&[PORTS.machine], &PORTS)));
        assert_eq!(wanted.vrfs(), ["Vrf7".to_owned()].into());
        let (before, change) = (frr::Config::default(), Change::default());
        device.apply(&Step::Routing(Box::new(Routing { before, wanted, change }))).await.unwrap();
        let heard = async {
            while !device.sessions().await.unwrap().get(PORTS.machine).is_some_and(|s| {
                assert_eq!(s.vrf, "Vrf7");
                s.is_established() && s.accepted > 0
            }) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        patiently("session that accepts something", heard).await;
        // The kernel gets what bgpd has accepted by way of zebra.
        let reached = || sonic.world.ip_in_vrf("Vrf7", "route").contains("10.128.0.1");
        eventually("the machine's route", || reached().then_some(())).await;
        // And all of it is there after a reboot.
        assert_eq!(sonic.unsaved().await, Vec::<String>::new());
        let folder = Path::new("/etc/frr").join(sonic.world.space("leaf"));
        let files = fs::read_dir(folder).unwrap();
        let text: String = files.map(|f| fs::read_to_string(f.unwrap().path()).unwrap()).collect();
        assert!(text.contains("router bgp 4200000011 vrf Vrf7"), "{text}");
    });
}

/// The whole agent: a tenant comes, somebody interferes, the tenant goes.
#[test]
fn a_tenant_comes_and_goes() {
    let Some(leaf) = Leaf::new() else { return };
    leaf.within(async || {
        let (fake, url) = Fake::start(true).await;
        let config: Arc<Config> = Arc::new(toml::from_str(&leaf.config_text(&url)).unwrap());
        let nics =
            |vrf| vec![nic("Ethernet0", vrf, &["10.128.0.0/22"]), nic("Ethernet4", None, &[])];
        let since = fake.say(1, nics(None), &[]);
        let agent = Running::on(leaf.open(), config);
        let (took, first) = fake.applied(1, since).await;
        assert_eq!(first.error, None);
        eprintln!("both ports in the boot network: heartbeat after {took:?}");
        assert_eq!(first.port_states.len(), 2);
        let registered = fake.state.lock().unwrap().registered.clone().unwrap();
        assert_eq!(
            registered.os.vendor.as_known(),
            Some(api::SwitchOSVendor::SWITCH_OS_VENDOR_SONIC)
        );
        let start = leaf.db().snapshot().await.unwrap().config;

        let machine = [("4d4c4142-0000-4000-8000-000000000001", "Ethernet0")];
        let since = fake.say(2, nics(Some("vrf7")), &machine);
        let (took, applied) = fake.applied(2, since).await;
        eprintln!("allocated: heartbeat after {took:?}");
        assert_eq!(applied.error, None);
        let reached = || leaf.world.ip_in_vrf("Vrf7", "route").contains("10.128.0.1");
        eventually("the machine's route", || reached().then_some(())).await;
        let is_up = |state: &api::SwitchBGPPortState| {
            state.vrf_name == "Vrf7" && state.accepted_prefix_counter == 1
        };
        fake.heartbeat(since, |h| h.bgp_port_states.get("Ethernet0").is_some_and(is_up)).await;

        // By hand out of its VRF.
        let since = Instant::now();
        leaf.redis.cli("DEL INTERFACE|Ethernet0");
        let told = |text: &String| text.contains("put Ethernet0 into vrf7");
        let (took, _) = fake.heartbeat(since, |h| h.error.as_ref().is_some_and(told)).await;
        eprintln!("taken out by hand: told after {took:?}");
        eventually("the machine's route", || reached().then_some(())).await;

        let since = fake.say(3, nics(None), &[]);
        let (took, applied) = fake.applied(3, since).await;
        eprintln!("deleted: heartbeat after {took:?}");
        assert_eq!(applied.error, None);
        assert_eq!(fake.confirmed(), [1, 2, 3]);
        assert_eq!(leaf.db().snapshot().await.unwrap().config, start);
        assert_eq!(leaf.unsaved().await, Vec::<String>::new());
        agent.stop().await;
    });
}

#[test]
fn nobody_elses_write_is_lost() {
    let Some(leaf) = Leaf::new() else { return };
    leaf.within(async || {
        let db = leaf.db();
        // Between reading and writing.
        let keys = ["PORT|Ethernet0".to_owned()].into();
        let mine = [Write::set("PORT|Ethernet0", [("mtu", "9000")])];
        let transaction = db.begin(&keys).await.unwrap();
        leaf.redis.cli("HSET PORT|Ethernet0 mtu 1500");
        assert!(!transaction.commit(&mine).await.unwrap());
        assert_eq!(leaf.redis.cli("HGET PORT|Ethernet0 mtu"), "1500");
        let transaction = db.begin(&keys).await.unwrap();
        assert_eq!(transaction.rows["PORT|Ethernet0"]["mtu"], "1500");
        leaf.redis.cli("HSET PORT|Ethernet4 description other");
        assert!(transaction.commit(&mine).await.unwrap());
        assert_eq!(leaf.redis.cli("HGET PORT|Ethernet0 mtu"), "9000");

        // All the time, about the same port.
        let device = leaf.open();
        let (steps, writer) = (
            async {
                for vni in [None, Some(7), None] {
                    let port = || "Ethernet0".to_owned();
                    device.apply(&Step::Boot(port())).await.unwrap();
                    if let Some(vni) = vni {
                        device.apply(&Step::Prepare(vni)).await.unwrap();
                    }
                    device.apply(&Step::Route(port(), vni)).await.unwrap();
                }
            },
            async {
                for count in 1..=100 {
                    leaf.redis.cli(&format!("HSET PORT|Ethernet0 description {count}"));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            },
        );
        tokio::join!(steps, writer);
        assert_eq!(leaf.redis.cli("HGET PORT|Ethernet0 description"), "100");
        assert_eq!(device.observe().await.unwrap().ports["Ethernet0"].place, Place::Routed(None));
        // What the other wrote and did not save is not in the file; what was in it is.
        assert!(!saved(&file(&leaf.world))["PORT|Ethernet0"].contains_key("description"));
        let (before, now) =
            (persist::rows(&persist::parse(CONFIG_DB).unwrap()), saved(&file(&leaf.world)));
        for (key, fields) in before.iter().filter(|(key, _)| !key.starts_with("PORT|")) {
            assert_eq!(now.get(key), Some(fields), "{key}");
        }
    });
}

/// A manager that hangs is an error that says so, and the port is not told to be where only its rows are.
#[test]
fn managers_that_hang_are_told() {
    let Some(leaf) = Leaf::new() else { return };
    leaf.within(async || {
        let mut config = Config::clone(&leaf.config());
        config.sonic.patience_seconds = 2;
        let device = Leaf::open_as(Arc::new(config));
        leaf.managers.pause(true).await;
        let boot = Step::Boot("Ethernet0".into());
        let error = device.apply(&boot).await.unwrap_err().to_string();
        assert!(error.contains("managers have not done it within 2 s: STATE_DB has no VLAN_MEMBER_TABLE|Vlan4000|Ethernet0"), "{error}");
        let place = device.observe().await.unwrap().ports["Ethernet0"].place.clone();
        assert!(matches!(place, Place::Foreign(_)), "{place:?}");
        // Who has been waited for in vain does not hold up everybody else.
        let error = device.apply(&Step::Boot("Ethernet4".into())).await.unwrap_err().to_string();
        assert!(error.contains("within 1 s"), "{error}");
        leaf.managers.pause(false).await;
        let done = async { while device.apply(&boot).await.is_err() {} };
        patiently("end of the hanging", done).await;
        assert_eq!(device.observe().await.unwrap().ports["Ethernet0"].place, Place::Boot);
    });
}

/// While SONiC loads its configuration again, half of it is there: nobody may take that for what is wanted.
#[test]
fn a_reload_of_the_configuration_is_waited_for() {
    let Some(leaf) = Leaf::new() else { return };
    leaf.within(async || {
        let device = leaf.open();
        device.apply(&Step::Boot("Ethernet0".into())).await.unwrap();
        device.apply(&Step::Prepare(7)).await.unwrap();
        let before = fs::read_to_string(file(&leaf.world)).unwrap();
        assert!(before.contains("map_7_Vlan1008"));
        let keys = ["PORT|Ethernet0".to_owned()].into();
        let transaction = leaf.db().begin(&keys).await.unwrap();
        // One that has saved nothing yet.
        let new = leaf.open();
        leaf.managers.pause(true).await;
        leaf.redis.cli("FLUSHDB");
        leaf.redis.cli("HSET PORT|Ethernet0 admin_status up");
        let error = device.observe().await.unwrap_err().to_string();
        assert!(error.contains("CONFIG_DB is not loaded"), "{error}");
        assert!(device.apply(&Step::Boot("Ethernet0".into())).await.is_err());
        let mine = [Write::set("PORT|Ethernet0", [("mtu", "1")])];
        assert!(!transaction.commit(&mine).await.unwrap(), "written into what is being loaded");
        // It saves before it waits for what is heard.
        let write = async {
            loop {
                leaf.redis.cli("HSET PORT|Ethernet0 admin_status up");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let hear = async {
            tokio::select! {
                () = write => {}
                () = new.changed() => {}
            }
        };
        patiently("change that is heard", hear).await;
        assert_eq!(fs::read_to_string(file(&leaf.world)).unwrap(), before);
        leaf.redis.load(&saved(&file(&leaf.world)));
        leaf.managers.pause(false).await;
        assert_eq!(device.observe().await.unwrap().ports["Ethernet0"].place, Place::Boot);
        assert_eq!(device.observe().await.unwrap().tenants, [(7, true)].into());
        let missing = new.observe().await.unwrap().missing;
        assert!(missing.iter().any(|one| one.contains("CONFIG_DB is not saved")), "{missing:?}");
    });
}

/// As with SONiC's `database` container: it is away, and then it has what the file had.
#[test]
fn redis_goes_and_comes_again() {
    let Some(leaf) = Leaf::new() else { return };
    leaf.within(async || {
        let device = leaf.open();
        device.apply(&Step::Boot("Ethernet0".into())).await.unwrap();
        leaf.managers.pause(true).await;
        leaf.redis.end();
        let error = format!("{:#}", device.observe().await.unwrap_err());
        assert!(error.contains("CONFIG_DB does not answer at /"), "{error}");
        leaf.redis.begin();
        leaf.redis.load(&saved(&file(&leaf.world)));
        let error = device.observe().await.unwrap_err().to_string();
        assert!(error.contains("has not made its ports"), "{error}");
        leaf.redis.run(0, &["HSET", "PORT_TABLE:PortInitDone", "lanes", "0"]);
        // The managers have not done anything since.
        let place = device.observe().await.unwrap().ports["Ethernet0"].place.clone();
        assert_eq!(place, Place::Foreign("VLAN_MEMBER|Vlan4000|Ethernet0".into()));
        // And changes are heard as before.
        leaf.listens(&device).await;
        leaf.redis.cli("HSET PORT|Ethernet0 mtu 1500");
        patiently("change that is heard", device.changed()).await;
        assert!(leaf.has_listeners(), "what was heard is the end of the subscription");
    });
}

/// The stand-in knows what SONiC does not survive; without that the other tests would say little.
#[test]
fn the_stand_in_notes_who_hurries_it() {
    let Some(leaf) = Leaf::new() else { return };
    leaf.world.within("leaf", async || {
        let device = leaf.open();
        device.apply(&Step::Route("Ethernet0".into(), None)).await.unwrap();
        device.apply(&Step::Boot("Ethernet4".into())).await.unwrap();
        device.apply(&Step::Prepare(7)).await.unwrap();
        assert_eq!(leaf.managers.broken(), Vec::<String>::new());
        leaf.redis.cli("HSET INTERFACE|Ethernet0 vrf_name Vrf7");
        leaf.redis.cli("HSET INTERFACE|Ethernet4 ipv6_use_link_local_only enable");
        leaf.redis.cli("HSET VLAN_MEMBER|Vlan4000|Ethernet0 tagging_mode untagged");
        let noted = || (leaf.managers.broken().len() >= 3).then_some(());
        eventually("note of all of it", noted).await;
        // And in the rest of the round nothing else.
        leaf.managers.pause(true).await;
    });
    let mut broken = leaf.managers.broken();
    broken.sort();
    assert_eq!(
        broken,
        [
            "Ethernet0 enters Vlan4000 while the ASIC routes over it",
            "Ethernet0 is to change its VRF in one go",
            "Ethernet4 is routed while it is in a VLAN",
        ]
    );
}

#[test]
fn what_somebody_changes_is_heard_and_what_was_not_saved_is() {
    let Some(leaf) = Leaf::new() else { return };
    leaf.within(async || {
        let device = leaf.open();
        device.apply(&Step::Boot("Ethernet0".into())).await.unwrap();
        // The file from before, as after a restored backup: the next agent makes it right.
        fs::write(file(&leaf.world), CONFIG_DB).unwrap();
        assert!(!leaf.unsaved().await.is_empty());
        drop(device);
        eventually("end of the subscription", || (!leaf.has_listeners()).then_some(())).await;
        let device = leaf.open();
        device.observe().await.unwrap();
        leaf.listens(&device).await;
        leaf.redis.cli("DEL VLAN_MEMBER|Vlan4000|Ethernet0");
        let changed = async {
            device.changed().await;
            while device.observe().await.unwrap().ports["Ethernet0"].place == Place::Boot {
                device.changed().await;
            }
        };
        patiently("change that is heard", changed).await;
        assert!(leaf.has_listeners(), "what was heard is the end of the subscription");
        device.apply(&Step::Boot("Ethernet0".into())).await.unwrap();
        assert_eq!(leaf.unsaved().await, Vec::<String>::new());

        // A disk that does not take it is told as long as it does not, and nothing else suffers.
        let away = leaf.world.folder.path().join("away.json");
        fs::rename(file(&leaf.world), &away).unwrap();
        device.apply(&Step::Route("Ethernet0".into(), None)).await.unwrap();
        let missing = device.observe().await.unwrap().missing;
        assert!(
            matches!(&missing[..], [one] if one.contains("CONFIG_DB is not saved")),
            "{missing:?}"
        );
        fs::rename(&away, file(&leaf.world)).unwrap();
        let saved = async {
            while !device.observe().await.unwrap().missing.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        patiently("file that is saved", serving(&device, saved)).await;
        assert_eq!(leaf.unsaved().await, Vec::<String>::new());
    });
}

/// A large switch, with 128 ports and 500 tenants, and what else is in its databases.
#[tokio::test]
async fn a_full_switch_is_looked_at_row_by_own_row() {
    if !Redis::is_installed() {
        eprintln!("not run: this needs redis-server");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start(folder.path());
    redis.load(&persist::rows(&persist::parse(CONFIG_DB).unwrap()));
    redis.run(0, &["HSET", "PORT_TABLE:PortInitDone", "lanes", "0"]);
    let databases = Databases::at(&Address::Socket(redis.socket().into()));
    let mut state = Connection::open(databases.get(Base::State)).await.unwrap();
    let others: Vec<_> = (0..20_000)
        .map(|n| command(["HSET", &format!("FDB_TABLE|Vlan4000:{n}"), "port", "Ethernet0"]))
        .collect();
    state.call(&others).await.unwrap();
    let rules =
        Rules { boot: "Vlan4000".into(), vlans: (1001, 2000), mtu: 9000, underlay_mtu: 9216 };
    let db = Db::new(databases);
    let mut now = db.snapshot().await.unwrap();
    for n in 0..128 {
        now.config.insert(format!("PORT|Ethernet{n}"), [("mtu".into(), "9000".into())].into());
    }
    let mut written = Vec::new();
    for vni in 1..=500 {
        let port = format!("Ethernet{}", vni % 128);
        for step in [Step::Prepare(vni), Step::Route(port, Some(vni))] {
            let next = steps::next(&step, &now, &rules).unwrap();
            for write in next.writes {
                if let Write::Set(key, fields) = write {
                    now.config.entry(key.clone()).or_default().extend(fields.clone());
                    written.push((key, fields));
                }
            }
        }
    }
    let mut config =
        Connection::open(Databases::at(db.address(Base::Config)).get(Base::Config)).await.unwrap();
    let ports =
        (0..128).map(|n| (format!("PORT|Ethernet{n}"), vec![("mtu".into(), "9000".into())]));
    let rows: Vec<_> = ports
        .chain(written)
        .map(|(key, fields)| {
            let mut set = command(["HSET", &key]);
            set.extend(fields.into_iter().flat_map(|(name, value)| [name, value]));
            set
        })
        .collect();
    config.call(&rows).await.unwrap();

    let (begin, before) = (Instant::now(), redis.commands());
    let now = db.snapshot().await.unwrap();
    let (read, commands) = (begin.elapsed(), redis.commands() - before);
    let tenants = steps::tenants(&now, &rules);
    let places = (0..128).filter(|n| {
        matches!(steps::place(&format!("Ethernet{n}"), &now, &rules), Place::Foreign(_))
    });
    // Nobody has made anything of these rows.
    assert_eq!((tenants.len(), places.count()), (500, 128));
    assert!(tenants.values().all(|whole| !whole));
    let (rows, all) = (now.config.len(), begin.elapsed());
    eprintln!(
        "{rows} rows beside 20000 others: {commands} commands, read in {read:?}, looked at in {all:?}"
    );
    // One command for each row and for each port, and what finds the names of a thousand keys in one.
    assert!((rows..rows + 128 + 100).contains(&commands), "{rows} rows, {commands} commands");
}

#[test]
fn plan_writes_nothing_and_check_tells_what_it_stands_on() {
    let Some(leaf) = Leaf::new() else { return };
    let path = leaf.world.folder.path().join("switch.toml");
    fs::write(&path, leaf.config_text("http://127.0.0.1:1")).unwrap();
    fs::write(leaf.world.folder.path().join("token"), "t").unwrap();
    let run = |command: &str| {
        let output = Command::new("ip")
            .args(["netns", "exec", &leaf.world.space("leaf")])
            .args([env!("CARGO_BIN_EXE_metal-switch"), command, "--config"])
            .arg(&path)
            .current_dir(leaf.world.folder.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let rows = || leaf.world.within("leaf", async || leaf.db().snapshot().await.unwrap().config);
    let before = rows();
    let (code, plan) = run("plan");
    assert_eq!(code, Some(2), "{plan}");
    assert!(plan.contains("+ router bgp 4200000011"), "{plan}");
    assert_eq!(rows(), before);
    assert_eq!(fs::read_to_string(file(&leaf.world)).unwrap(), CONFIG_DB);

    let (code, check) = run("check");
    for line in [
        "ok    redis: ",
        "ok    CONFIG_DB: ",
        "version_202405_01, Force10-S6000",
        "ok    config_db.json: the rows of this agent are saved",
        "ok    places: Ethernet0 (Eth1/1(Port1)) Foreign(\"no network\")",
        "ok    machine ports: Ethernet0 Ethernet4",
    ] {
        assert!(check.contains(line), "{line}: {check}");
    }
    assert_eq!(code, Some(0), "{check}");
    leaf.redis.cli("HSET DEVICE_METADATA|localhost docker_routing_config_mode unified");
    let (code, check) = run("check");
    assert_eq!(code, Some(1));
    assert!(check.contains("bad   interfaces: SONiC configures FRR itself"), "{check}");
}
