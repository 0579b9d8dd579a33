//! The life of machines on a leaf, as packets and routes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lldp::{ChassisId, Frame, PortId};
use proto::api;
use switch::speaker::{Speaker, addresses};

use crate::fake::{Fake, nic};
use crate::running::{Running, eventually, patiently};
use crate::world::World;

const MACHINE: &str = "4d4c4142-0000-4000-8000-000000000001";
const FILTER: &[&str] = &["10.128.0.0/22", "2001:db8:1::/64"];

fn start(world: &World, url: &str) -> Running {
    Running::start(world.config(url))
}

/// Waits until the routes of a namespace are like this; tells how long it took.
async fn routes(world: &World, of: &str, like: impl Fn(&str) -> bool) -> Duration {
    let started = Instant::now();
    eventually(&format!("such routes in {of}"), || {
        let text = world.ip(of, "route") + &world.ip(of, "-6 route");
        like(&text).then_some(())
    })
    .await;
    started.elapsed()
}

/// How often the exit's session with the leaf came up.
fn sessions(world: &World) -> u64 {
    world.neighbour("exit", "leaf")["connectionsEstablished"].as_u64().unwrap_or_default()
}

fn master(world: &World, port: &str) -> Option<String> {
    let text = world.ip("leaf", &format!("-o link show dev {port}"));
    text.split(" master ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned)
}

#[test]
fn a_machine_comes_and_goes() {
    let Some(world) = World::new() else { return };
    world.within("leaf", async || {
        let (fake, url) = Fake::start(true).await;
        let since = fake.say(1, vec![nic("swp1", None, &[]), nic("swp2", None, &[])], &[]);
        let agent = start(&world, &url);
        let (_, first) = fake.applied(1, since).await;
        assert_eq!(first.error, None);
        assert_eq!(first.port_states.len(), 2);
        assert_eq!(
            (master(&world, "swp1").as_deref(), master(&world, "swp2").as_deref()),
            (Some("boot"), Some("boot"))
        );
        let registered = fake.state.lock().unwrap().registered.clone().unwrap();
        assert_eq!(
            registered.nics.iter().map(|nic| &nic.name[..]).collect::<Vec<_>>(),
            ["swp1", "swp2"]
        );
        // Nobody talks BGP in the boot network.
        routes(&world, "exit", |text| text.contains("10.0.0.11 ") && text.contains("10.0.1.0/24 "))
            .await;
        assert!(!world.ip("leaf", "route").contains("10.128.0.1"));

        let since = fake.say(
            2,
            vec![nic("swp1", Some("vrf7"), FILTER), nic("swp2", None, &[])],
            &[(MACHINE, "swp1")],
        );
        let (took, applied) = fake.applied(2, since).await;
        assert_eq!(applied.error, None);
        assert_eq!(master(&world, "swp1"), None);
        eprintln!("allocated: heartbeat after {took:?}");
        let reached = |text: &str| text.contains("10.128.0.1 ") && text.contains("2001:db8:1::1 ");
        let took = routes(&world, "exit", reached).await;
        eprintln!("allocated: the exit has the routes {took:?} later");
        routes(&world, "m1", |text| text.contains("default nhid")).await;
        // What the filter does not name is refused.
        for place in ["leaf", "exit"] {
            assert!(!world.ip(place, "route").contains("10.66.0.1"), "{place}");
        }
        let established = api::BGPState::BGP_STATE_ESTABLISHED;
        let is_up = |state: &api::SwitchBGPPortState| {
            state.bgp_state.as_known() == Some(established) && state.accepted_prefix_counter == 2
        };
        fake.heartbeat(since, |h| h.bgp_port_states.get("swp1").is_some_and(is_up)).await;

        let since =
            fake.say(3, vec![nic("swp1", None, &[]), nic("swp2", None, &[])], &[(MACHINE, "swp1")]);
        let (took, applied) = fake.applied(3, since).await;
        eprintln!("deleted: heartbeat after {took:?}");
        assert_eq!(applied.error, None);
        assert!(!applied.bgp_port_states.contains_key("swp1"));
        assert_eq!(fake.confirmed(), [1, 2, 3]);
        assert_eq!(master(&world, "swp1").as_deref(), Some("boot"));
        // The heartbeat said so: no route is left then.
        assert!(!world.ip("leaf", "route").contains("10.128.0.1"));
        routes(&world, "exit", |text| !text.contains("10.128.0.1")).await;

        // The end of the agent changes nothing.
        let before = world.vtysh("leaf", "show running-config");
        agent.stop().await;
        assert_eq!(world.vtysh("leaf", "show running-config"), before);
    });
}

#[test]
fn what_somebody_changes_by_hand_is_healed() {
    let Some(world) = World::new() else { return };
    world.within("leaf", async || {
        let (fake, url) = Fake::start(true).await;
        let machines = &[(MACHINE, "swp1")];
        let since = fake.say(1, vec![nic("swp1", Some("vrf7"), FILTER), nic("swp2", None, &[])], machines);
        let agent = start(&world, &url);
        fake.heartbeat(since, |h| h.error.is_none()).await;
        routes(&world, "exit", |text| text.contains("10.128.0.1 ")).await;

        let healed = async |what: &str, is: &dyn Fn() -> bool| {
            let started = Instant::now();
            eventually(what, || is().then_some(())).await;
            eprintln!("{what}: healed after {:?}", started.elapsed());
        };
        world.ip("leaf", "link set swp1 master boot");
        healed("a tenant in the boot network", &|| master(&world, "swp1").is_none()).await;
        world.ip("leaf", "link set swp2 nomaster");
        healed("a free port on its own", &|| master(&world, "swp2").is_some()).await;
        world.ip("leaf", "link set swp2 type bridge_slave isolated off");
        let shielded = || world.ip("leaf", "-d -o link show dev swp2").contains("isolated on");
        healed("a free port without a shield", &shielded).await;
        let running = |text: &str| world.vtysh("leaf", "show running-config").contains(text);
        world.vtysh("leaf", "router bgp 4200000011\nneighbor 10.9.9.9 remote-as 7\naddress-family ipv4 unicast\nno neighbor swp1 route-map metal-swp1-in in\n");
        healed("a foreign neighbour and a filter that is gone", &|| !running("10.9.9.9") && running("neighbor swp1 route-map metal-swp1-in in")).await;
        world.vtysh("leaf", "ip prefix-list metal-swp1-in seq 7 permit 10.66.0.0/16 le 32\n");
        healed("a wider filter", &|| !running("10.66.0.0/16")).await;

        let before = sessions(&world);
        world.kill_frr("leaf");
        world.start_frr("leaf");
        let started = Instant::now();
        eventually("new session", || (sessions(&world) > before).then_some(())).await;
        routes(&world, "exit", |text| text.contains("10.128.0.1 ")).await;
        eprintln!("routing daemons that crashed: traffic is back after {:?}", started.elapsed());
        agent.stop().await;
    });
}

#[test]
fn a_leaf_starts_without_the_control_plane() {
    let Some(world) = World::new() else { return };
    world.within("leaf", async || {
        let (fake, url) = Fake::start(true).await;
        let since =
            fake.say(5, vec![nic("swp1", Some("vrf7"), FILTER), nic("swp2", None, &[])], &[]);
        let agent = start(&world, &url);
        fake.heartbeat(since, |h| h.error.is_none()).await;
        agent.stop().await;

        // What somebody changed is not used, and the control plane hears of it.
        let saved = world.folder.path().join("desired");
        let text = std::fs::read_to_string(&saved).unwrap();
        assert!(text.contains("vrf7"), "{text}");
        std::fs::write(&saved, text.replace("vrf7", "vrf8")).unwrap();
        std::fs::remove_file(world.folder.path().join("desired.previous")).ok();
        let since = std::time::Instant::now();
        let agent = start(&world, &url);
        let told = |told: &str| told.contains("the saved state was not used");
        let (_, heard) = fake.heartbeat(since, |h| h.error.as_deref().is_some_and(told)).await;
        assert!(heard.error.unwrap().contains("its seal does not fit"));
        fake.heartbeat(since, |h| h.error.is_none()).await;
        agent.stop().await;

        // The leaf starts again: nothing is as it was, and nobody is there to ask.
        world.kill_frr("leaf");
        world.start_frr("leaf");
        world.ip("leaf", "link set swp1 down");
        world.ip("leaf", "link set swp1 master boot");
        let agent = start(&world, "http://127.0.0.1:1");
        routes(&world, "exit", |text| text.contains("10.128.0.1 ")).await;
        agent.stop().await;

        // Without any saved state the leaf reaches its uplink, and its tenants stay.
        for file in std::fs::read_dir(world.folder.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        let before = world.vtysh("leaf", "show running-config");
        let forwards = "/proc/sys/net/ipv4/ip_forward";
        std::fs::write(forwards, "0").unwrap();
        let agent = start(&world, "http://127.0.0.1:1");
        // This it does without being told, so it has looked; it ends when it has done the rest.
        let acts = || (std::fs::read_to_string(forwards).unwrap() == "1\n").then_some(());
        eventually("forwarding of packets", acts).await;
        agent.stop().await;
        assert_eq!(world.vtysh("leaf", "show running-config"), before);
    });
}

#[test]
fn without_a_stream_the_control_plane_is_asked() {
    let Some(world) = World::new() else { return };
    world.within("leaf", async || {
        let (fake, url) = Fake::start(false).await;
        let since =
            fake.say(1, vec![nic("swp1", Some("vrf7"), FILTER), nic("swp2", None, &[])], &[]);
        let agent = start(&world, &url);
        fake.heartbeat(since, |h| h.error.is_none()).await;
        assert_eq!(master(&world, "swp1"), None);
        agent.stop().await;
    });
}

#[test]
fn machines_phone_home() {
    let Some(world) = World::new() else { return };
    world.within("leaf", async || {
        let (fake, url) = Fake::start(true).await;
        let nics = || vec![nic("swp1", Some("vrf7"), FILTER), nic("swp2", Some("vrf8"), &[])];
        let machines = [(MACHINE, "swp1"), ("4d4c4142-0000-4000-8000-000000000002", "swp2")];
        let since = fake.say(1, nics(), &machines);
        let agent = start(&world, &url);
        fake.heartbeat(since, |h| h.error.is_none()).await;

        // From both links of the machine; only one is where the control plane knows it.
        phone_home(&world, &fake).await;
        let events = std::mem::take(&mut fake.state.lock().unwrap().events);
        let [(machine, event)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(machine, MACHINE);
        assert_eq!(event.event.to_i32(), 10);
        assert_eq!(event.message, "provisioned since 2026-11-21T07:00:00Z");
        // cards of other makes pass on to their port what is sent to these groups, and nothing else
        let groups = std::fs::read_to_string("/proc/thread-self/net/dev_mcast").unwrap();
        for port in ["swp1", "swp2"] {
            let mut lines = groups.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let joined = lines.any(|words| words[1] == port && words[4] == "0180c200000e");
            assert!(joined, "{port} is not in LLDP's group:\n{groups}");
        }

        speak(&world, "metal-installer waiting", |rounds, _| rounds == 3).await;
        assert!(fake.state.lock().unwrap().events.is_empty());
        agent.stop().await;
    });
}

/// The machine speaks until it is heard and has heard the leaf on both its links.
async fn phone_home(world: &World, fake: &Arc<Fake>) {
    let fake = fake.clone();
    let enough = move |_, heard: &BTreeSet<String>| {
        heard.len() >= 2 && !fake.state.lock().unwrap().events.is_empty()
    };
    let heard = speak(world, "provisioned since 2026-11-21T07:00:00Z", enough).await;
    assert!(heard.iter().eq(["leaf01 swp1", "leaf01 swp2"]), "{heard:?}");
}

/// The machine sends twice a second until it is `enough`, by rounds and by whom it heard.
async fn speak(
    world: &World,
    description: &'static str,
    enough: impl Fn(u32, &BTreeSet<String>) -> bool + Send + 'static,
) -> BTreeSet<String> {
    let work = async move || {
        let speaker = Speaker::open().unwrap();
        let (mut rounds, mut heard) = (0, BTreeSet::new());
        while !enough(rounds, &heard) {
            rounds += 1;
            for (name, address) in addresses().unwrap() {
                let mut frame =
                    Frame::new(ChassisId::Mac(address.mac), PortId::InterfaceName(name), 30);
                frame.system_name = Some(MACHINE.to_owned());
                frame.system_description = Some(description.to_owned());
                let _ = speaker.send(&address, &frame);
            }
            let until = Instant::now() + Duration::from_millis(500);
            let next = async || tokio::time::timeout_at(until.into(), speaker.receive()).await;
            while let Ok(Ok((port, frame))) = next().await {
                if port != "lo" {
                    heard.insert(format!(
                        "{} {}",
                        frame.system_name.unwrap_or_default(),
                        frame.port_id
                    ));
                }
            }
        }
        heard
    };
    patiently("word of both links", world.beside("m1", work)).await
}

/// The VRF that a port is in, or the bridge in the underlay.
fn place(world: &World, port: &str) -> String {
    for vrf in ["vrf7", "vrf8"] {
        let names =
            world.within("leaf", async || std::path::Path::new("/run/netns").join(vrf).exists());
        if names && world.ip_in_vrf(vrf, "-o link").contains(&format!(": {port}@")) {
            return vrf.to_owned();
        }
    }
    master(world, port).unwrap_or_default()
}

#[test]
fn a_tenant_has_a_network_of_its_own() {
    let Some(world) = World::with_vrfs() else { return };
    world.within("leaf", async || {
        let (fake, url) = Fake::start(true).await;
        let free = || vec![nic("swp1", None, &[]), nic("swp2", None, &[])];
        let since = fake.say(1, free(), &[]);
        let agent = start(&world, &url);
        fake.applied(1, since).await;

        // The same addresses in two networks.
        let both = || vec![nic("swp1", Some("vrf7"), FILTER), nic("swp2", Some("vrf8"), FILTER)];
        let since = fake.say(2, both(), &[(MACHINE, "swp1")]);
        let (took, applied) = fake.applied(2, since).await;
        assert_eq!(applied.error, None);
        eprintln!("allocated: heartbeat after {took:?}");
        assert_eq!((&*place(&world, "swp1"), &*place(&world, "swp2")), ("vrf7", "vrf8"));
        let table = |vrf: &str| world.ip_in_vrf(vrf, "route") + &world.ip_in_vrf(vrf, "-6 route");
        eventually("routes in the VRF", || {
            let table = table("vrf7");
            (table.contains("10.128.0.1 ") && table.contains("2001:db8:1::1 ")).then_some(())
        })
        .await;
        // Nothing in the other network, nothing in the underlay, nothing that the filter does not name.
        assert!(!table("vrf8").contains("10.128.0.1"), "{}", table("vrf8"));
        for of in ["leaf", "exit"] {
            assert!(!world.ip(of, "route").contains("10.128.0.1"), "{of}");
        }
        assert!(!table("vrf7").contains("10.66.0.1"));
        let established = api::BGPState::BGP_STATE_ESTABLISHED;
        fake.heartbeat(since, |h| {
            let state = h.bgp_port_states.get("swp1");
            state.is_some_and(|state| state.bgp_state.as_known() == Some(established))
        })
        .await;
        // The machine is still heard and still hears.
        phone_home(&world, &fake).await;

        // By hand: what is gone comes back, who is elsewhere goes where it belongs.
        let started = Instant::now();
        world.ip_in_vrf("vrf7", "link del vni7");
        eventually("a VXLAN end that is gone", || {
            world.ip_in_vrf("vrf7", "-d -o link show").contains("vxlan id 7 ").then_some(())
        })
        .await;
        eprintln!("a VXLAN end that is gone: healed after {:?}", started.elapsed());
        let started = Instant::now();
        world.within("leaf", async || move_port("vrf7", "swp1", "vrf8"));
        eventually("a port in a foreign network", || {
            (place(&world, "swp1") == "vrf7").then_some(())
        })
        .await;
        eprintln!("a port in a foreign network: healed after {:?}", started.elapsed());
        eventually("its routes", || table("vrf7").contains("10.128.0.1 ").then_some(())).await;

        // The routing daemons crash, the agent starts again without a control plane.
        world.kill_frr("leaf");
        world.start_frr("leaf");
        let started = Instant::now();
        eventually("routes after the crash", || {
            world.vtysh("leaf", "show ip route vrf vrf7").contains("10.128.0.1/32").then_some(())
        })
        .await;
        eprintln!("routing daemons that crashed: routes are back after {:?}", started.elapsed());
        agent.stop().await;

        // What the next one finds is as it should be.
        let before = world.vtysh("leaf", "show running-config");
        let since = Instant::now();
        let agent = start(&world, &url);
        fake.heartbeat(since, |h| h.error.is_none()).await;
        agent.stop().await;
        assert_eq!(world.vtysh("leaf", "show running-config"), before);

        let agent = start(&world, &url);
        let since = fake.say(3, free(), &[(MACHINE, "swp1")]);
        // the first ones may still be about the saved state, which daemons that have just started take in a second round
        let (took, _) = fake.heartbeat(since, |h| h.error.is_none()).await;
        eprintln!("deleted: heartbeat without error after {took:?}");
        eventually("way back into the boot network", || {
            (place(&world, "swp1") == "boot" && place(&world, "swp2") == "boot").then_some(())
        })
        .await;
        eventually("end of the last VRF", || {
            let names =
                world.within("leaf", async || std::fs::read_dir("/run/netns").unwrap().count());
            let configured = world.vtysh("leaf", "show running-config").contains("vrf");
            (names == 0 && !configured).then_some(())
        })
        .await;
        agent.stop().await;
    });
}

fn move_port(from: &str, port: &str, to: &str) {
    let line = format!("-n {from} link set {port} netns {to}");
    let moved = std::process::Command::new("ip").args(line.split(' ')).status().unwrap();
    assert!(moved.success());
}
