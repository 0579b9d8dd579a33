//! Real daemons, asked by their sockets: they say what `vtysh` says, and the agent asks no more than it has to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use switch::config::{Config, Frr};
use switch::frr::daemons::{BGPD, RUNNING, ZEBRA};
use switch::frr::neighbours::{self, Session};
use switch::frr::vty::Sockets;
use switch::frr::{self, Daemons};

use crate::fake::{Fake, nic};
use crate::running::{Running, eventually, patiently};
use crate::world::World;

const FILTER: &[&str] = &["10.128.0.0/22", "2001:db8:1::/64"];
/// As much of FRR as an agent writes, and what people and others add.
const RICH: &str = "vrf vrf7
vni 7
exit-vrf
ip prefix-list metal-swp1-in seq 1 permit 10.1.0.1/32
ip prefix-list metal-swp1-in seq 2 permit 10.2.0.0/22 le 32
ipv6 prefix-list metal-swp1-in seq 1 permit 2001:db8::/64 le 128
ip prefix-list unused description nobody needs it
ip prefix-list unused seq 5 deny any
bgp as-path access-list near seq 5 permit ^1$
bgp community-list standard mine seq 5 permit 65001:1
route-map metal-swp1-in permit 10
match ip address prefix-list metal-swp1-in
on-match next
exit
route-map metal-swp1-in permit 20
match ipv6 address prefix-list metal-swp1-in
set community 65001:1 additive
exit
route-map metal-swp1-in deny 99
exit
interface swp1
ipv6 nd ra-interval 6
no ipv6 nd suppress-ra
exit
interface up0
description to the exit
exit
bfd
profile metal
transmit-interval 100
receive-interval 100
exit
peer 192.0.2.1
profile metal
exit
exit
router bgp 4200000011
bgp router-id 10.0.0.11
bgp bestpath as-path multipath-relax
no bgp default ipv4-unicast
neighbor MACHINE peer-group
neighbor MACHINE remote-as external
neighbor MACHINE timers 1 3
neighbor MACHINE bfd
neighbor MACHINE bfd profile metal
neighbor up0 interface remote-as external
neighbor up0 description to the exit
address-family ipv4 unicast
network 10.0.0.11/32
neighbor MACHINE activate
neighbor up0 activate
maximum-paths 8
exit-address-family
address-family ipv6 unicast
neighbor up0 activate
exit-address-family
address-family l2vpn evpn
neighbor up0 activate
advertise-all-vni
exit-address-family
exit
router bgp 4200000011 vrf vrf7
bgp router-id 10.0.0.11
neighbor MACHINE peer-group
neighbor MACHINE remote-as external
neighbor swp1 interface peer-group MACHINE
neighbor swp1 description vrf7 a b
address-family ipv4 unicast
neighbor MACHINE activate
neighbor swp1 route-map metal-swp1-in in
neighbor swp1 maximum-prefix 100 restart 1
redistribute connected
exit-address-family
address-family l2vpn evpn
advertise ipv4 unicast
advertise ipv6 unicast
exit-address-family
exit
no zebra nexthop kernel enable
";

/// By the sockets, or else by `vtysh`.
fn daemons(world: &World, sockets: bool) -> Daemons {
    let config: Config = toml::from_str(&world.config_text("http://127.0.0.1:1")).unwrap();
    let sockets = (!sockets).then(PathBuf::new);
    Daemons::new(&Frr { sockets, ..config.frr })
}

fn pid(world: &World, daemon: &str) -> String {
    let file = format!("/var/run/frr/{}/{daemon}.pid", world.space("leaf"));
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

fn signal(world: &World, daemon: &str, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid(world, daemon)]).status().unwrap().success());
}

#[tokio::test]
async fn daemons_say_what_vtysh_says() {
    let Some(world) = World::with_vrfs() else { return };
    world.vtysh("leaf", RICH);
    let (direct, shell) = (daemons(&world, true), daemons(&world, false));
    assert!(direct.way().contains("sockets in /var/run/frr/mswitch-"), "{}", direct.way());
    assert_eq!(shell.way(), "asked by vtysh");

    let (ours, theirs) = (direct.running().await.unwrap(), shell.running().await.unwrap());
    assert!(theirs.lines().len() > 60, "all of it was taken: {}", theirs.lines().len());
    let only = |of: &frr::Config, other: &frr::Config| -> Vec<String> {
        of.lines().iter().filter(|line| !other.has(line)).map(ToString::to_string).collect()
    };
    let none: [String; 0] = [];
    assert_eq!((only(&ours, &theirs), only(&theirs, &ours)), (none.to_vec(), none.to_vec()));

    // Sessions that come up meanwhile are asked again.
    let sessions = async |of: &Daemons| -> BTreeMap<String, Session> {
        neighbours::parse(&of.show(BGPD, neighbours::COMMAND).await.unwrap()).unwrap()
    };
    let mut last = sessions(&shell).await;
    loop {
        let now = sessions(&direct).await;
        if now == last {
            assert_eq!(now.keys().collect::<Vec<_>>(), ["swp1", "up0"]);
            break;
        }
        last = sessions(&shell).await;
    }
    let vrfs = direct.show(ZEBRA, "show vrf").await.unwrap();
    assert_eq!(vrfs.trim(), shell.show(ZEBRA, "show vrf").await.unwrap().trim());
    assert!(vrfs.contains("vrf vrf7 inactive (configured)"), "{vrfs}");
    let refused = direct.show(BGPD, "show nonsense").await.unwrap_err().to_string();
    assert!(refused.contains("bgpd refuses `show nonsense`: % [BGP] Unknown command"), "{refused}");

    // One that hangs, one that has ended, one that was never there.
    let patience = Duration::from_millis(500);
    let sockets = Sockets::new(Path::new("/var/run/frr"), &world.space("leaf"));
    let sockets = sockets.with_patience(patience);
    signal(&world, "bgpd", "-STOP");
    let hangs = format!("{:#}", sockets.ask(BGPD, RUNNING).await.unwrap_err());
    signal(&world, "bgpd", "-CONT");
    assert!(hangs.contains("bgpd does not answer") && hangs.contains("it hangs"), "{hangs}");
    for of in [&direct, &shell] {
        assert!(of.has("bfdd").await && !of.has("ospfd").await);
    }
    world.kill("leaf", &["bfdd"]);
    assert!(!direct.has("bfdd").await && !shell.has("bfdd").await);
    let without = direct.running().await.unwrap();
    assert_eq!(only(&without, &ours), none);
    world.kill("leaf", &["bgpd"]);
    let ended = format!("{:#}", direct.running().await.unwrap_err());
    assert!(ended.contains("bgpd has ended"), "{ended}");
}

/// Whoever restarts daemons one by one: `watchfrr` does.
fn restart_bgpd(world: &World) {
    world.kill("leaf", &["bgpd"]);
    let space = world.space("leaf");
    world.within("leaf", async || {
        let mut bgpd = Command::new("/usr/lib/frr/bgpd");
        bgpd.args(["-d", "-N", &space, "-F", "datacenter", "-A", "127.0.0.1"]);
        assert!(bgpd.status().unwrap().success());
    });
}

#[test]
fn a_daemon_that_is_restarted_alone_gets_its_filters_again() {
    let Some(world) = World::with_vrfs() else { return };
    world.within("leaf", async || {
        let (fake, url) = Fake::start(true).await;
        let since =
            fake.say(1, vec![nic("swp1", Some("vrf7"), FILTER), nic("swp2", None, &[])], &[]);
        let agent = Running::start(world.config(&url));
        fake.applied(1, since).await;
        let sockets = Sockets::new(Path::new("/var/run/frr"), &world.space("leaf"));
        let filters = async || loop {
            if let Ok(text) = sockets.ask(BGPD, RUNNING).await {
                let is_filter = |line: &&str| line.contains("prefix-list metal-swp1-in seq");
                break text.lines().filter(is_filter).count();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let before = patiently("answer of bgpd", filters()).await;
        assert!(before > 0);

        agent.stop().await;
        restart_bgpd(&world);
        assert_eq!(patiently("answer of bgpd", filters()).await, 0, "it has lost them");
        let agent = Running::start(world.config(&url));
        patiently("filters as before", async {
            while filters().await != before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        agent.stop().await;
    });
}

/// What the agent of this thread counts: questions by whom they were for, and what it did besides by the name of the metric.
#[derive(Clone, Debug, Default)]
struct Counters(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Counters {
    fn so_far(&self) -> BTreeMap<String, u64> {
        let counters = self.0.lock().unwrap();
        counters.iter().map(|(of, count)| (of.clone(), count.load(Ordering::Relaxed))).collect()
    }

    /// How many more than in `before`.
    fn since(&self, before: &BTreeMap<String, u64>, of: &str) -> u64 {
        let now = self.so_far().get(of).copied().unwrap_or_default();
        now - before.get(of).copied().unwrap_or_default()
    }
}

#[derive(Debug)]
struct Count(Arc<AtomicU64>);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let name = match key.name() {
            "switch_frr_questions_total" => key.labels().next().unwrap().value(),
            name => name,
        };
        let count = self.0.lock().unwrap().entry(name.to_owned()).or_default().clone();
        Counter::from_arc(Arc::new(Count(count)))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn no_more_is_asked_than_has_to_be() {
    let Some(world) = World::with_vrfs() else { return };
    let counters = Counters::default();
    let recorder = counters.clone();
    world.within("leaf", async || {
        let _recording = metrics::set_default_local_recorder(&recorder);
        let (fake, url) = Fake::start(true).await;
        let ports = |filter| vec![nic("swp1", Some("vrf7"), filter), nic("swp2", None, &[])];
        let since = fake.say(1, ports(FILTER), &[]);
        let agent = Running::start(world.config(&url));
        fake.heartbeat(since, |h| h.error.is_none()).await;

        // Nothing is to be done: each pass asks each daemon once, each heartbeat asks for sessions. One of each may be on its way.
        let passes = |before| counters.since(before, "switch_passes_total");
        let before = counters.so_far();
        eventually("four passes", || (passes(&before) >= 4).then_some(())).await;
        let most = passes(&before) + 1;
        let heartbeats = counters.since(&before, "switch_heartbeats_total") + 1;
        assert_eq!(counters.since(&before, "vtysh"), 0);
        for (daemon, most) in [(ZEBRA, most), (BGPD, most + heartbeats), ("bfdd", most)] {
            let asked = counters.since(&before, daemon);
            assert!((3..=most).contains(&asked), "{daemon}: {asked} questions");
        }

        // A filter shrinks and grows. FRR is asked whether it understands all, told what to add and what to remove.
        for (generation, filter) in [(2, &["10.128.0.0/22"][..]), (3, FILTER)] {
            let before = counters.so_far();
            let since = fake.say(generation, ports(filter), &[]);
            fake.applied(generation, since).await;
            let processes = counters.since(&before, "vtysh");
            assert!((2..=3).contains(&processes), "vtysh {processes} times");
        }
        agent.stop().await;
    });
}

/// Nanoseconds of the processor that a thread or process has had.
fn processor(task: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{task}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// The same of children that have ended; the kernel counts in hundredths of a second.
fn children() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = text.rsplit(") ").next().unwrap().split(' ').collect();
    fields[13..15].iter().map(|ticks| ticks.parse::<u64>().unwrap() * 10_000_000).sum()
}

/// For docs/performance.md: what a question costs.
#[tokio::test]
#[ignore = "measures, and asserts nothing"]
async fn what_a_question_costs() {
    let Some(world) = World::with_vrfs() else { return };
    world.vtysh("leaf", RICH);
    for (sockets, rounds) in [(false, 100), (true, 1000)] {
        let daemons = daemons(&world, sockets);
        for what in ["running configuration", "sessions"] {
            let pids = [ZEBRA, BGPD, "bfdd"].map(|daemon| pid(&world, daemon));
            let theirs = || pids.iter().map(|pid| processor(pid)).sum::<u64>();
            let ours = || processor("thread-self") + children();
            let (asker, asked, begin) = (ours(), theirs(), Instant::now());
            for _ in 0..rounds {
                match what {
                    "sessions" => drop(daemons.show(BGPD, neighbours::COMMAND).await.unwrap()),
                    _ => drop(daemons.running().await.unwrap()),
                }
            }
            let each = |nanoseconds: u64| nanoseconds as f64 / f64::from(rounds) / 1e6;
            println!(
                "{what}, {}: asker {:.2} ms, daemons {:.2} ms, {:?} each",
                daemons.way(),
                each(ours() - asker),
                each(theirs() - asked),
                begin.elapsed() / rounds,
            );
        }
    }
}
