//! What every backend must do.

use std::collections::BTreeSet;

use netconf::leaf::{Leaf, Port, Role};
use switch::backend::plain::Plain;
use switch::backend::simulated::Simulated;
use switch::backend::{Backend, Observed, Place, Routing, Step};
use switch::frr::{Change, Config};

use crate::world::World;

/// A device with the machine ports `swp1` and `swp2`.
async fn contract(device: &impl Backend) {
    let port = "swp1".to_owned();
    let peered: BTreeSet<_> = [port.clone()].into();

    device.apply(&Step::Forward).await.unwrap();
    assert!(look(device).await.forwards);

    // Each step twice: done already is no error.
    for _ in 0..2 {
        device.apply(&Step::Boot(port.clone())).await.unwrap();
        assert_eq!(look(device).await.ports["swp1"].place, Place::Boot);
    }
    for _ in 0..2 {
        device.apply(&Step::Route(port.clone())).await.unwrap();
        assert_eq!(look(device).await.ports["swp1"].place, Place::Routed);
    }
    for up in [false, false, true, true] {
        device.apply(&Step::Admin(port.clone(), up)).await.unwrap();
        assert_eq!(look(device).await.ports["swp1"].up, up);
    }

    // Routing becomes what is wanted, whatever was before, and the same again is nothing.
    for leaf in
        [leaf(&[]), leaf(&["swp1"]), leaf(&["swp1", "swp2"]), leaf(&["swp2"]), leaf(&["swp1"])]
    {
        let wanted = Config::parse(&device.routing(&leaf));
        for _ in 0..2 {
            device.apply(&routing(&wanted)).await.unwrap();
            let running = look(device).await.routing.unwrap();
            let rest = Change::between(&running, &wanted, &[]);
            assert!(rest.is_empty(), "{rest}");
        }
    }

    // What it cannot be is an error, and what was there still works.
    let before = look(device).await.routing.unwrap();
    let nonsense = Config::parse("router bgp 4200000011\n bgp nonsense\nexit\n");
    let nonsense: Config = before.lines().iter().chain(nonsense.lines()).cloned().collect();
    if device.apply(&routing(&nonsense)).await.is_err() {
        device.apply(&routing(&before)).await.unwrap();
        assert!(Change::between(&look(device).await.routing.unwrap(), &before, &[]).is_empty());
    }

    // A neighbour goes and nothing else with it.
    for _ in 0..2 {
        device.apply(&Step::Unpeer(peered.clone())).await.unwrap();
        let peers = look(device).await.routing.unwrap().peers();
        assert!(!peers.contains_key("swp1") && peers.contains_key("up0"));
    }

    for step in
        [Step::Boot("swp9".into()), Step::Route("swp9".into()), Step::Admin("swp9".into(), true)]
    {
        assert!(device.apply(&step).await.is_err(), "{step}");
    }
    device.sessions().await.unwrap();
}

async fn look(device: &impl Backend) -> Observed {
    device.observe().await.unwrap()
}

fn routing(wanted: &Config) -> Step {
    Step::Routing(Box::new(Routing {
        before: Config::default(),
        wanted: wanted.clone(),
        change: Change::default(),
    }))
}

fn leaf(ports: &[&str]) -> Leaf {
    let port = |name: &&str| Port {
        name: (*name).to_owned(),
        role: if *name == "swp2" { Role::Firewall } else { Role::Machine },
        accept: ["10.128.0.0/22", "2001:db8:1::/64"].map(|prefix| prefix.parse().unwrap()).into(),
        description: Some(format!("vrf{} machine", ports.len())),
    };
    Leaf {
        hostname: "leaf01".into(),
        asn: 4_200_000_011,
        loopback: [10, 0, 0, 11].into(),
        boot: vec!["10.0.1.0/24".parse().unwrap(), "fd99:0:0:1::/64".parse().unwrap()],
        protected: vec!["10.255.0.0/24".parse().unwrap()],
        uplinks: vec!["up0".into()],
        ports: ports.iter().map(port).collect(),
        maximum_prefix: 100,
    }
}

#[tokio::test]
async fn in_memory() {
    contract(&Simulated::new(&["swp1", "swp2"])).await;
}

#[test]
fn plain_linux() {
    let Some(world) = World::new() else { return };
    world.within("leaf", async || {
        let device = Plain::new(world.config("http://127.0.0.1:1")).unwrap();
        contract(&device).await;
    });
}
