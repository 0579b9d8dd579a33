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
use switch::backend::sonic::databases::{Address, Databases};
use switch::backend::sonic::db::Db;
use switch::backend::sonic::persist::{self, Own};
use switch::backend::sonic::schema::{Rows, Write};
use switch::backend::sonic::steps::Rules;
use switch::backend::{Backend, Place, Routing, Step};
use switch::config::Config;
use switch::frr::{self, Change};

use crate::contract::{Ports, contract_of, leaf};
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
        Arc::new(toml::from_str(&self.config_text()).unwrap())
    }

    fn config_text(&self) -> String {
        let text = self
            .world
            .config_text("http://127.0.0.1:1")
            .replace("\"up0\"", "\"Ethernet120\"")
            .replace("\"boot\"", "\"Vlan4000\"")
            .replace("\"swp*\"", "\"Ethernet*\"")
            .replace("backend = \"netns\"", "backend = \"sonic\"\nvendor = \"sonic\"");
        format!(
            "{text}\n[sonic]\nredis = {:?}\nconfig_db = {:?}\npatience_seconds = 5\n",
            self.redis.socket(),
            file(&self.world)
        )
    }

    fn open(&self) -> switch::backend::sonic::Sonic {
        // What stands in for the managers makes namespaces of VRFs: this kernel has no others.
        switch::backend::sonic::Sonic::open(self.config(), Vrfs::Namespaces).unwrap()
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
        let begin = Instant::now();
        while !device.sessions().await.unwrap().get(PORTS.machine).is_some_and(|s| {
            assert_eq!(s.vrf, "Vrf7");
            s.is_established() && s.accepted > 0
        }) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", device.sessions().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // And all of it is there after a reboot.
        assert_eq!(sonic.unsaved().await, Vec::<String>::new());
        let folder = Path::new("/etc/frr").join(sonic.world.space("leaf"));
        let files = fs::read_dir(folder).unwrap();
        let text: String = files.map(|f| fs::read_to_string(f.unwrap().path()).unwrap()).collect();
        assert!(text.contains("router bgp 4200000011 vrf Vrf7"), "{text}");
    });
    let routes = sonic.world.ip_in_vrf("Vrf7", "route");
    assert!(routes.contains("10.128.0.1"), "{routes}");
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
        let device = leaf.open();
        leaf.managers.pause(true);
        let boot = Step::Boot("Ethernet0".into());
        let error = device.apply(&boot).await.unwrap_err().to_string();
        assert!(error.contains("managers have not done it within 5 s: STATE_DB has no VLAN_MEMBER_TABLE|Vlan4000|Ethernet0"), "{error}");
        let place = device.observe().await.unwrap().ports["Ethernet0"].place.clone();
        assert!(matches!(place, Place::Foreign(_)), "{place:?}");
        leaf.managers.pause(false);
        device.apply(&boot).await.unwrap();
        assert_eq!(device.observe().await.unwrap().ports["Ethernet0"].place, Place::Boot);
    });
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
        let device = leaf.open();
        device.observe().await.unwrap();
        let changed = async {
            loop {
                device.changed().await;
                if device.observe().await.unwrap().ports["Ethernet0"].place != Place::Boot {
                    return Instant::now();
                }
            }
        };
        let hand = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let at = Instant::now();
            leaf.redis.cli("DEL VLAN_MEMBER|Vlan4000|Ethernet0");
            at
        };
        let (heard, done) = tokio::join!(changed, hand);
        let after = heard - done;
        assert!(after < Duration::from_secs(1), "heard after {after:?}");
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
        let _ = tokio::time::timeout(Duration::from_millis(300), device.changed()).await;
        assert_eq!(device.observe().await.unwrap().missing, Vec::<String>::new());
        assert_eq!(leaf.unsaved().await, Vec::<String>::new());
    });
}

#[test]
fn plan_writes_nothing_and_check_tells_what_it_stands_on() {
    let Some(leaf) = Leaf::new() else { return };
    let path = leaf.world.folder.path().join("switch.toml");
    fs::write(&path, leaf.config_text()).unwrap();
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
