//! BFD with the real daemon: on, without the daemon, and off again, while traffic goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::Shutdown;
use switch::agent::Agent;
use switch::backend::device::Device;
use switch::config::Config;
use switch::control::Control;

use crate::fake::{Fake, nic, within};
use crate::world::World;

const FILTER: &[&str] = &["10.128.0.0/22", "2001:db8:1::/64"];

struct Running(Shutdown, tokio::task::JoinHandle<()>);

/// An agent with BFD or without.
fn start(world: &World, url: &str, bfd: bool) -> Running {
    let text = format!("{}\n[policy]\nbfd = {bfd}\n", world.config_text(url));
    let config: Arc<Config> = Arc::new(toml::from_str(&text).unwrap());
    let control = Control::new(Fake::client(url), config.id.clone());
    let agent = Arc::new(Agent::new(config.clone(), Device::open(&config).unwrap(), control));
    let shutdown = Shutdown::manual();
    Running(shutdown.clone(), tokio::spawn(agent.run(shutdown)))
}

impl Running {
    async fn stop(self) {
        self.0.set();
        self.1.await.unwrap();
    }
}

/// Since when the machine's session with the leaf is up, by its own words.
fn session(world: &World) -> String {
    let text = world.vtysh("m1", "show bgp neighbors lan0 json");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["lan0"]["bgpTimerUpEstablishedEpoch"].to_string()
}

#[test]
fn links_are_watched_when_somebody_wants_it() {
    let Some(world) = World::with_vrfs() else { return };
    world.vtysh("m1", "bfd\nprofile metal\ntransmit-interval 100\nreceive-interval 100\nexit\nexit\nrouter bgp 4210000001\nneighbor lan0 bfd\nneighbor lan0 bfd profile metal\n");
    world.within("leaf", async || {
        let (fake, url) = Fake::start(true).await;
        let ports = |vrf| vec![nic("swp1", Some(vrf), FILTER), nic("swp2", None, &[])];
        let since = fake.say(1, ports("vrf7"), &[]);
        let agent = start(&world, &url, false);
        fake.heartbeat(since, |h| h.error.is_none()).await;
        let routed = || world.ip_in_vrf("vrf7", "route").contains("10.128.0.1 ").then_some(());
        within(20, "route of the machine", routed).await;
        agent.stop().await;
        let established = session(&world);

        // On: the group has its members already, and no session is lost by it.
        let agent = start(&world, &url, true);
        let peers = || world.vtysh("m1", "show bfd peers json");
        let up = || peers().contains("\"status\":\"up\"").then_some(());
        within(20, "BFD session", up).await;
        let interval = || peers().contains("\"remote-transmit-interval\":100").then_some(());
        within(5, "interval of the profile", interval).await;
        assert_eq!(session(&world), established, "the session was lost");

        // Who is silent is given up within a third of a second.
        let begin = Instant::now();
        world.kill("leaf", &["bfdd"]);
        let down = || (session(&world) != established).then_some(());
        within(3, "end of the session", down).await;
        eprintln!("given up {:?} after the last packet", begin.elapsed());

        // Without the daemon tenants still come, and an operator is told.
        let since = Instant::now();
        let is_told = |error: &String| error.contains("bfdd does not run");
        fake.heartbeat(since, |h| h.error.as_ref().is_some_and(is_told)).await;
        fake.say(2, ports("vrf8"), &[]);
        let moved = || {
            let text = world.vtysh("leaf", "show bgp vrf vrf8 ipv4 unicast");
            text.contains("10.128.0.1/32").then_some(())
        };
        within(30, "route in the other VRF", moved).await;
        agent.stop().await;

        // Off: nothing of it is left.
        let since = Instant::now();
        let agent = start(&world, &url, false);
        fake.heartbeat(since, |h| h.error.is_none()).await;
        let gone = || (!world.vtysh("leaf", "show running-config").contains(" bfd")).then_some(());
        within(5, "configuration without BFD", gone).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
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
        within(20, "two equal ways", || ways(2)).await;
        for _ in 0..2 {
            world.ip("m1", "link set lan0 down");
            within(5, "one way", || ways(1)).await;
            world.ip("m1", "link set lan0 up");
            within(20, "two ways again", || ways(2)).await;
        }
        agent.stop().await;
    });
}
