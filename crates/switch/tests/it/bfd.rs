//! BFD with the real daemon: on, without the daemon, and off again, while traffic goes on.

use std::sync::Arc;
use std::time::Instant;

use switch::config::Config;

use crate::fake::{Fake, nic};
use crate::running::{Running, eventually};
use crate::world::World;

const FILTER: &[&str] = &["10.128.0.0/22", "2001:db8:1::/64"];

/// An agent with BFD or without. A machine that does much else loses no session to BGP's hold time.
fn start(world: &World, url: &str, bfd: bool) -> Running {
    let policy = format!("[policy]\nhold_seconds = 60\nbfd = {bfd}\n");
    let config: Config = toml::from_str(&format!("{}\n{policy}", world.config_text(url))).unwrap();
    Running::start(Arc::new(config))
}

/// How often the machine lost its session with the leaf, by its own words.
fn losses(world: &World) -> u64 {
    world.neighbour("m1", "lan0")["connectionsDropped"].as_u64().unwrap()
}

#[test]
fn links_are_watched_when_somebody_wants_it() {
    let Some(world) = World::with_vrfs() else { return };
    world.vtysh("m1", "bfd\nprofile metal\ntransmit-interval 1000\nreceive-interval 1000\nexit\nexit\nrouter bgp 4210000001\ntimers bgp 20 60\nneighbor lan0 bfd\nneighbor lan0 bfd profile metal\n");
    world.within("leaf", async || {
        let (fake, url) = Fake::start(true).await;
        let ports = |vrf| vec![nic("swp1", Some(vrf), FILTER), nic("swp2", None, &[])];
        let since = fake.say(1, ports("vrf7"), &[]);
        let agent = start(&world, &url, false);
        fake.heartbeat(since, |h| h.error.is_none()).await;
        let routed = || world.ip_in_vrf("vrf7", "route").contains("10.128.0.1 ").then_some(());
        eventually("route of the machine", routed).await;
        agent.stop().await;
        let before = losses(&world);

        // On: the group has its members already, and no session is lost by it.
        let agent = start(&world, &url, true);
        let peers = || world.vtysh("m1", "show bfd peers json");
        let up = || peers().contains("\"status\":\"up\"").then_some(());
        eventually("BFD session", up).await;
        let interval = || peers().contains("\"remote-transmit-interval\":100").then_some(());
        eventually("interval of the profile", interval).await;
        assert_eq!(losses(&world), before, "the session was lost");

        // Who is silent is given up, though the routing daemon goes on.
        world.kill("leaf", &["bfdd"]);
        let down = || (losses(&world) > before).then_some(());
        eventually("end of the session", down).await;
        let why = world.neighbour("m1", "lan0")["lastNotificationReason"].clone();
        assert_eq!(why, "Cease/BFD Down");

        // Without the daemon tenants still come, and an operator is told.
        let since = Instant::now();
        let is_told = |error: &String| error.contains("bfdd does not run");
        fake.heartbeat(since, |h| h.error.as_ref().is_some_and(is_told)).await;
        fake.say(2, ports("vrf8"), &[]);
        let moved = || {
            let text = world.vtysh("leaf", "show bgp vrf vrf8 ipv4 unicast");
            text.contains("10.128.0.1/32").then_some(())
        };
        eventually("route in the other VRF", moved).await;
        agent.stop().await;

        // Off: nothing of it is left.
        let since = Instant::now();
        let agent = start(&world, &url, false);
        fake.heartbeat(since, |h| h.error.is_none()).await;
        let gone = || (!world.vtysh("leaf", "show running-config").contains(" bfd")).then_some(());
        eventually("configuration without BFD", gone).await;
        agent.stop().await;
    });
}

#[test]
fn a_way_that_was_away_for_a_moment_comes_back() {
    let Some(world) = World::with_vrfs() else { return };
    world.vtysh("m1", "router bgp 4210000001\nneighbor other2 interface remote-as external\naddress-family ipv6 unicast\nneighbor other2 activate\n");
    world.within("leaf", async || {
        let (fake, url) = Fake::start(true).await;
        let both = vec![nic("swp1", Some("vrf7"), FILTER), nic("swp2", Some("vrf7"), FILTER)];
        let since = fake.say(1, both, &[]);
        let agent = start(&world, &url, false);
        fake.heartbeat(since, |h| h.error.is_none()).await;
        let ways = |count: usize| {
            let routes = ["-4 route show 10.128.0.1", "-6 route show 2001:db8:1::1"];
            let found = |route: &str| world.ip_in_vrf("vrf7", route).matches("dev swp").count();
            routes.iter().all(|route| found(route) == count).then_some(())
        };
        eventually("two equal ways", || ways(2)).await;
        for _ in 0..2 {
            world.ip("m1", "link set lan0 down");
            eventually("one way", || ways(1)).await;
            world.ip("m1", "link set lan0 up");
            eventually("two ways again", || ways(2)).await;
        }
        agent.stop().await;
    });
}
