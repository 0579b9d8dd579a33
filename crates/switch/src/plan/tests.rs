use expect_test::{Expect, expect};

use super::*;
use crate::desired::tests::{nic, switch};
use netconf::leaf::{Bfd, Liveness};

fn site() -> Site {
    let leaf = Leaf {
        hostname: "leaf01".into(),
        asn: 4_200_000_011,
        loopback: [10, 0, 0, 11].into(),
        boot: vec!["10.0.1.0/24".parse().unwrap()],
        protected: Vec::new(),
        uplinks: vec!["up0".into()],
        ports: Vec::new(),
        maximum_prefix: 100,
        liveness: Liveness::default(),
    };
    let (down, frozen) = (BTreeSet::new(), BTreeSet::new());
    Site { leaf, apart: false, keep: Vec::new(), down, frozen }
}

fn desired(nics: &[(&str, Option<&str>, &[&str])]) -> Desired {
    let nics = nics.iter().map(|(name, vrf, cidrs)| nic(name, *vrf, cidrs)).collect();
    Desired::read(&switch(nics), 1)
}

fn port(place: Where) -> ObservedPort {
    ObservedPort { mac: [2, 0, 0, 0, 0, 1], up: true, link: true, place }
}

fn flat(evpn: &Evpn) -> String {
    netconf::leaf::frr(&evpn.flat())
}

fn make(desired: &Desired, observed: &Observed) -> Plan {
    Plan::make(Some(desired), observed, &site(), flat)
}

/// A device on which `desired` was applied.
fn reached(state: &Desired) -> Observed {
    let mut observed = Observed {
        ports: BTreeMap::new(),
        forwards: true,
        missing: Vec::new(),
        tenants: BTreeMap::new(),
        bfd: true,
        routing: Ok(Config::default()),
    };
    for (name, wish) in &state.ports {
        let place = if wish.place == Place::Boot { Where::Boot } else { Where::Routed(None) };
        observed.ports.insert(name.clone(), port(place));
    }
    for step in make(state, &observed).steps {
        if let Step::Routing(routing) = step {
            observed.routing = Ok(routing.wanted);
        }
    }
    assert_eq!(make(state, &observed), Plan::default());
    observed
}

fn check(
    from: &[(&str, Option<&str>, &[&str])],
    to: &[(&str, Option<&str>, &[&str])],
    expect: Expect,
) {
    expect.assert_eq(&make(&desired(to), &reached(&desired(from))).to_string());
}

#[test]
fn a_machine_is_allocated() {
    check(
        &[("swp1", None, &[]), ("swp2", Some("vrf2"), &["10.2.0.1/32"])],
        &[("swp1", Some("vrf1"), &["10.1.0.1/32"]), ("swp2", Some("vrf2"), &["10.2.0.1/32"])],
        expect![[r#"
            1. take swp1 out of the boot network
            2. change the routing configuration: 15 lines come, 0 go
                 + interface swp1 > no ipv6 nd suppress-ra
                 + interface swp1 > ipv6 nd ra-interval 1
                 + interface swp1 > ipv6 nd ra-lifetime 0
                 + ip prefix-list metal-swp1-in seq 467644818 permit 10.1.0.1/32
                 + route-map metal-swp1-in permit 10
                 + route-map metal-swp1-in permit 10 > match ip address prefix-list metal-swp1-in
                 + route-map metal-swp1-in permit 10 > set large-community 4200000011:1:1
                 + route-map metal-swp1-in permit 20
                 + route-map metal-swp1-in permit 20 > match ipv6 address prefix-list metal-swp1-in
                 + route-map metal-swp1-in permit 20 > set large-community 4200000011:1:1
                 + route-map metal-swp1-in deny 99
                 + router bgp 4200000011 > neighbor swp1 interface peer-group MACHINE
                 + router bgp 4200000011 > neighbor swp1 description vrf1
                 + router bgp 4200000011 > address-family ipv4 unicast > neighbor swp1 route-map metal-swp1-in in
                 + router bgp 4200000011 > address-family ipv6 unicast > neighbor swp1 route-map metal-swp1-in in
        "#]],
    );
}

#[test]
fn a_machine_is_deleted() {
    check(
        &[("swp1", Some("vrf1"), &["10.1.0.1/32"])],
        &[("swp1", None, &[])],
        expect![[r#"
        1. remove the BGP neighbour at swp1
        2. put swp1 into the boot network
        3. change the routing configuration: 0 lines come, 7 go
             - interface swp1 > no ipv6 nd suppress-ra
             - interface swp1 > ipv6 nd ra-interval 1
             - interface swp1 > ipv6 nd ra-lifetime 0
             - route-map metal-swp1-in permit 10
             - route-map metal-swp1-in permit 20
             - route-map metal-swp1-in deny 99
             - ip prefix-list metal-swp1-in seq 467644818 permit 10.1.0.1/32
    "#]],
    );
}

#[test]
fn a_machine_gets_one_more_address() {
    check(
        &[("swp1", Some("vrf1"), &["10.1.0.1/32"])],
        &[("swp1", Some("vrf1"), &["10.1.0.1/32", "203.0.113.7"])],
        expect![[r#"
            1. change the routing configuration: 1 lines come, 0 go
                 + ip prefix-list metal-swp1-in seq 499930344 permit 203.0.113.7/32
        "#]],
    );
}

#[test]
fn another_network_is_another_neighbour() {
    check(
        &[("swp1", Some("vrf1"), &["10.1.0.1/32"])],
        &[("swp1", Some("vrf2"), &["10.1.0.1/32"])],
        expect![[r#"
            1. remove the BGP neighbour at swp1
            2. change the routing configuration: 4 lines come, 0 go
                 + router bgp 4200000011 > neighbor swp1 interface peer-group MACHINE
                 + router bgp 4200000011 > neighbor swp1 description vrf2
                 + router bgp 4200000011 > address-family ipv4 unicast > neighbor swp1 route-map metal-swp1-in in
                 + router bgp 4200000011 > address-family ipv6 unicast > neighbor swp1 route-map metal-swp1-in in
        "#]],
    );
}

#[test]
fn what_is_unclear_stays_and_stops_nobody() {
    check(
        &[("swp1", Some("vrf1"), &["10.1.0.1/32"]), ("swp2", Some("vrf2"), &[])],
        &[("swp1", Some("VrfMpls"), &[]), ("swp2", None, &[]), ("swp3", None, &["nonsense"])],
        expect![[r#"
            1. remove the BGP neighbour at swp2
            2. put swp2 into the boot network
            3. change the routing configuration: 0 lines come, 6 go
                 - interface swp2 > no ipv6 nd suppress-ra
                 - interface swp2 > ipv6 nd ra-interval 1
                 - interface swp2 > ipv6 nd ra-lifetime 0
                 - route-map metal-swp2-in permit 10
                 - route-map metal-swp2-in permit 20
                 - route-map metal-swp2-in deny 99
            ! port swp1: the VRF "VrfMpls" is neither empty nor `default` nor `vrf` and a number; the port stays as it is
            ! port swp3: "nonsense" is no prefix; the machine may not announce it
            ! port swp3 is not there
        "#]],
    );
}

#[test]
fn without_a_desired_state_nobody_loses_anything() {
    let observed = reached(&desired(&[("swp1", Some("vrf1"), &["10.1.0.1/32"])]));
    let plan = Plan::make(None, &observed, &site(), flat);
    assert_eq!(plan, Plan::default());

    // What changed in the configuration of the agent takes effect all the same.
    let mut stricter = site();
    stricter.leaf.maximum_prefix = 50;
    let plan = Plan::make(None, &observed, &stricter, flat);
    let Some(Step::Routing(routing)) = plan.steps.first() else { panic!("{plan}") };
    assert!(routing.change.to_string().lines().all(|line| line.contains("maximum-prefix")));

    let fresh = Observed { routing: Ok(Config::default()), forwards: false, ..observed };
    let plan = Plan::make(None, &fresh, &site(), flat);
    assert_eq!(plan.steps[0], Step::Forward);
    let Step::Routing(routing) = &plan.steps[1] else { panic!("{plan}") };
    assert_eq!(routing.wanted.peers().into_keys().collect::<Vec<_>>(), ["up0"]);
}

#[test]
fn while_routing_is_unknown_ports_leave_the_boot_network_only() {
    let to = desired(&[("swp1", None, &[]), ("swp2", Some("vrf2"), &[])]);
    let mut observed = reached(&desired(&[("swp1", Some("vrf1"), &[]), ("swp2", None, &[])]));
    observed.routing = Err("bgpd is gone".into());
    let plan = make(&to, &observed);
    assert_eq!(plan.steps, [Step::Route("swp2".into(), None)]);
    assert!(plan.faults[0].contains("bgpd is gone"));
}

#[test]
fn drift_is_seen() {
    let wish = desired(&[("swp1", None, &[]), ("swp2", Some("vrf2"), &["10.2.0.1/32"])]);
    let good = reached(&wish);
    let mut observed = good.clone();
    observed.ports.insert("swp1".into(), port(Where::OpenBoot));
    observed.ports.insert("swp2".into(), port(Where::Foreign("br-evil".into())));
    let running = good.routing.clone().unwrap();
    let foreign = Config::parse("router bgp 4200000011\n neighbor 10.9.9.9 remote-as 7\nexit\n");
    observed.routing = Ok(running.lines().iter().chain(foreign.lines()).cloned().collect());
    let plan = make(&wish, &observed).to_string();
    expect![[r#"
        1. take swp2 out of the boot network
        2. put swp1 into the boot network
        3. change the routing configuration: 0 lines come, 1 go
             - router bgp 4200000011 > neighbor 10.9.9.9 remote-as 7
    "#]]
    .assert_eq(&plan);
}

#[test]
fn operators_shut_ports_and_open_them() {
    let mut wish = desired(&[("swp1", None, &[])]);
    let observed = reached(&wish);
    wish.ports.get_mut("swp1").unwrap().admin = Some(Admin::Down);
    assert_eq!(make(&wish, &observed).steps, [Step::Admin("swp1".into(), false)]);

    // The wish is taken back once it is fulfilled; the port stays down.
    wish.ports.get_mut("swp1").unwrap().admin = None;
    let mut shut = observed.clone();
    shut.ports.get_mut("swp1").unwrap().up = false;
    let down = Site { down: ["swp1".to_owned()].into(), ..site() };
    assert!(Plan::make(Some(&wish), &shut, &down, flat).is_empty());
    assert_eq!(make(&wish, &shut).steps, [Step::Admin("swp1".into(), true)]);
}

#[test]
fn a_refused_port_stays_as_it_is() {
    let observed = reached(&desired(&[("swp1", Some("vrf1"), &["10.1.0.1/32"])]));
    let wish = desired(&[("swp1", Some("vrf1"), &["10.1.0.2/32"])]);
    let frozen = Site { frozen: ["swp1".to_owned()].into(), ..site() };
    assert!(Plan::make(Some(&wish), &observed, &frozen, flat).is_empty());
}

#[test]
fn a_port_that_is_not_there_stops_nobody() {
    let observed = reached(&desired(&[("swp1", None, &[])]));
    let plan =
        make(&desired(&[("swp1", Some("vrf1"), &[]), ("swp9", Some("vrf9"), &[])]), &observed);
    assert_eq!(plan.faults, ["port swp9 is not there"]);
    assert_eq!(plan.steps[0], Step::Route("swp1".into(), None));
}

#[test]
fn on_a_big_switch_nothing_else_is_touched() {
    let nics = (0..512)
        .map(|n| nic(&format!("swp{n}"), Some(&format!("vrf{}", n % 200 + 1)), &["10.1.0.0/24"]));
    let mut wish = Desired::read(&switch(nics.collect()), 1);
    let observed = reached(&wish);
    wish.ports.get_mut("swp7").unwrap().place = Place::Boot;
    let plan = make(&wish, &observed);
    assert_eq!(plan.steps.iter().filter(|step| step.port() == Some("swp7")).count(), 1);
    let Some(Step::Routing(routing)) = plan.steps.last() else { panic!("{plan}") };
    assert!(
        routing.change.close.iter().chain(&routing.change.remove).all(|line| line.is_about("swp7"))
    );
}

mod vrfs;

#[test]
fn without_a_daemon_for_bfd_the_rest_is_configured() {
    let site = Site {
        leaf: Leaf {
            liveness: Liveness { bfd: Some(Bfd::default()), ..Liveness::default() },
            ..site().leaf
        },
        ..site()
    };
    let desired = desired(&[("swp1", Some("vrf1"), &["10.1.0.0/24"])]);
    let mut observed = reached(&self::desired(&[("swp1", None, &[])]));
    let lines = |observed: &Observed| {
        let plan = Plan::make(Some(&desired), observed, &site, flat);
        let faults = plan.faults.len();
        let routing = plan.steps.into_iter().find_map(|step| match step {
            Step::Routing(routing) => Some(routing.change.to_string()),
            _ => None,
        });
        let text = routing.expect("routing changes");
        (text.contains("+ bfd > profile metal"), text.contains("neighbor MACHINE bfd"), faults)
    };
    assert_eq!(lines(&observed), (true, true, 0));
    observed.bfd = false;
    assert_eq!(lines(&observed), (false, true, 1));
}
