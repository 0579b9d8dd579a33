//! The configuration of a leaf as text.

use expect_test::{Expect, expect};
use ipnet::IpNet;
use netconf::leaf::{Leaf, Liveness, Port, Role, frr};

fn leaf() -> Leaf {
    Leaf {
        hostname: "leaf01".into(),
        asn: 4_200_000_011,
        loopback: [10, 0, 0, 11].into(),
        boot: nets(&["10.0.1.0/24"]),
        protected: Vec::new(),
        uplinks: vec!["up0".into()],
        ports: Vec::new(),
        maximum_prefix: 200,
        liveness: Liveness::default(),
    }
}

fn nets(prefixes: &[&str]) -> Vec<IpNet> {
    prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect()
}

fn port(name: &str, accept: &[&str]) -> Port {
    Port { name: name.into(), role: Role::Machine, accept: nets(accept), description: None }
}

/// Only what a change adds to and takes from the text, so that a test shows what it is about.
fn check_difference(before: &Leaf, after: &Leaf, expect: Expect) {
    let (before, after) = (frr(before), frr(after));
    let gone = before
        .lines()
        .filter(|line| !after.lines().any(|l| l == *line))
        .map(|line| format!("- {line}\n"));
    let come = after
        .lines()
        .filter(|line| !before.lines().any(|l| l == *line))
        .map(|line| format!("+ {line}\n"));
    expect.assert_eq(&gone.chain(come).collect::<String>());
}

#[test]
fn a_leaf_with_one_machine() {
    let mut leaf = leaf();
    leaf.ports = vec![Port {
        description: Some("machine\n 7f1d ".into()),
        ..port("swp1", &["10.128.0.0/22", "203.0.113.7/32", "2001:db8:1::/64"])
    }];
    expect![[r#"
        frr defaults datacenter
        hostname leaf01
        no zebra nexthop kernel enable
        !
        interface up0
         no ipv6 nd suppress-ra
         ipv6 nd ra-interval 1
         ipv6 nd ra-lifetime 0
        exit
        !
        interface swp1
         no ipv6 nd suppress-ra
         ipv6 nd ra-interval 1
         ipv6 nd ra-lifetime 0
        exit
        !
        ip prefix-list metal-default seq 10 permit 0.0.0.0/0
        ipv6 prefix-list metal-default seq 10 permit ::/0
        ip prefix-list metal-own seq 10 permit 10.0.0.11/32
        ip prefix-list metal-own seq 20 permit 10.0.1.0/24
        ip prefix-list metal-swp1-in seq 477664140 permit 10.128.0.0/22 le 32
        ip prefix-list metal-swp1-in seq 499930344 permit 203.0.113.7/32
        ipv6 prefix-list metal-swp1-in seq 1407564 permit 2001:db8:1::/64 le 128
        !
        bgp large-community-list standard metal-machines seq 10 permit 4200000011:1:1
        !
        route-map metal-fabric-in permit 10
        exit
        !
        route-map metal-fabric-out permit 10
         match large-community metal-machines
        exit
        !
        route-map metal-fabric-out permit 20
         match ip address prefix-list metal-own
        exit
        !
        route-map metal-fabric-out permit 30
         match ipv6 address prefix-list metal-own
        exit
        !
        route-map metal-fabric-out deny 99
        exit
        !
        route-map metal-machine-in deny 99
        exit
        !
        route-map metal-machine-out permit 10
         match ip address prefix-list metal-default
        exit
        !
        route-map metal-machine-out permit 20
         match ipv6 address prefix-list metal-default
        exit
        !
        route-map metal-machine-out deny 99
        exit
        !
        route-map metal-swp1-in permit 10
         match ip address prefix-list metal-swp1-in
         set large-community 4200000011:1:1
        exit
        !
        route-map metal-swp1-in permit 20
         match ipv6 address prefix-list metal-swp1-in
         set large-community 4200000011:1:1
        exit
        !
        route-map metal-swp1-in deny 99
        exit
        !
        bgp route-map delay-timer 1
        !
        router bgp 4200000011
         bgp router-id 10.0.0.11
         no bgp default ipv4-unicast
         bgp bestpath as-path multipath-relax
         coalesce-time 50
         neighbor FABRIC peer-group
         neighbor FABRIC remote-as external
         neighbor FABRIC advertisement-interval 0
         neighbor FABRIC timers 1 3
         neighbor FABRIC timers connect 1
         neighbor FABRIC capability extended-nexthop
         neighbor MACHINE peer-group
         neighbor MACHINE remote-as external
         neighbor MACHINE advertisement-interval 0
         neighbor MACHINE timers 1 3
         neighbor MACHINE timers connect 1
         neighbor MACHINE capability extended-nexthop
         neighbor FIREWALL peer-group
         neighbor FIREWALL remote-as external
         neighbor FIREWALL advertisement-interval 0
         neighbor FIREWALL timers 1 3
         neighbor FIREWALL timers connect 1
         neighbor FIREWALL capability extended-nexthop
         neighbor up0 interface peer-group FABRIC
         neighbor swp1 interface peer-group MACHINE
         neighbor swp1 description machine 7f1d
         !
         address-family ipv4 unicast
          network 10.0.0.11/32
          network 10.0.1.0/24
          neighbor FABRIC activate
          neighbor FABRIC route-map metal-fabric-in in
          neighbor FABRIC route-map metal-fabric-out out
          neighbor MACHINE activate
          neighbor MACHINE maximum-prefix 200 restart 1
          neighbor MACHINE route-map metal-machine-in in
          neighbor MACHINE route-map metal-machine-out out
          neighbor FIREWALL activate
          neighbor FIREWALL maximum-prefix 200 restart 1
          neighbor FIREWALL route-map metal-machine-in in
          neighbor FIREWALL route-map metal-machine-out out
          neighbor swp1 route-map metal-swp1-in in
         exit-address-family
         !
         address-family ipv6 unicast
          neighbor FABRIC activate
          neighbor FABRIC route-map metal-fabric-in in
          neighbor FABRIC route-map metal-fabric-out out
          neighbor MACHINE activate
          neighbor MACHINE maximum-prefix 200 restart 1
          neighbor MACHINE route-map metal-machine-in in
          neighbor MACHINE route-map metal-machine-out out
          neighbor FIREWALL activate
          neighbor FIREWALL maximum-prefix 200 restart 1
          neighbor FIREWALL route-map metal-machine-in in
          neighbor FIREWALL route-map metal-machine-out out
          neighbor swp1 route-map metal-swp1-in in
         exit-address-family
        exit
    "#]]
    .assert_eq(&frr(&leaf));
}

#[test]
fn one_more_port_touches_only_itself() {
    let before = frr(&leaf());
    let mut leaf = leaf();
    leaf.ports = vec![port("swp1", &["10.128.0.0/22"])];
    let after = frr(&leaf);
    for line in before.lines() {
        assert!(after.lines().any(|other| other == line), "{line}");
    }
}

#[test]
fn one_more_prefix_is_one_more_line() {
    let mut before = leaf();
    before.ports = vec![port("swp1", &["10.128.0.0/22", "203.0.113.7/32"])];
    let mut after = before.clone();
    after.ports[0].accept.extend(nets(&["10.64.0.0/16"]));
    check_difference(
        &before,
        &after,
        expect![[r#"
        + ip prefix-list metal-swp1-in seq 139870994 permit 10.64.0.0/16 le 32
    "#]],
    );
}

#[test]
fn the_order_of_ports_and_prefixes_means_nothing() {
    let mut one = leaf();
    one.ports = vec![port("swp1", &["10.1.0.0/16", "10.2.0.0/16"]), port("swp2", &[])];
    let mut other = leaf();
    other.ports =
        vec![port("swp2", &[]), port("swp1", &["10.2.0.0/16", "10.1.0.0/16", "10.2.7.0/16"])];
    assert_eq!(frr(&one), frr(&other));
}

#[test]
fn nobody_takes_what_belongs_to_the_leaf() {
    let mut before = leaf();
    before.ports = vec![port("swp1", &[])];
    before.protected = nets(&["10.0.0.0/28", "192.0.2.0/24"]);
    let mut after = before.clone();
    after.ports[0].accept = nets(&["10.0.0.0/16", "0.0.0.0/0", "::/0"]);
    check_difference(
        &before,
        &after,
        expect![[r#"
        + ip prefix-list metal-swp1-in seq 1 deny 10.0.0.0/28 le 32
        + ip prefix-list metal-swp1-in seq 2 deny 10.0.0.11/32
        + ip prefix-list metal-swp1-in seq 3 deny 10.0.1.0/24 le 32
        + ip prefix-list metal-swp1-in seq 663275940 permit 10.0.0.0/16 le 32
    "#]],
    );
}

#[test]
fn a_firewall_has_its_own_group() {
    let mut leaf = leaf();
    leaf.ports = vec![Port { role: Role::Firewall, ..port("swp3", &["10.1.0.4/32"]) }];
    assert!(frr(&leaf).contains(" neighbor swp3 interface peer-group FIREWALL\n"));
}

#[test]
fn five_hundred_ports_are_rendered() {
    let mut leaf = leaf();
    leaf.ports = (0..512)
        .map(|n| port(&format!("swp{n}"), &["10.128.0.0/22", "203.0.113.7/32", "2001:db8::/64"]))
        .collect();
    let text = frr(&leaf);
    assert!(text.lines().count() > 10_000);
    for n in 0..512 {
        assert!(text.contains(&format!("\n neighbor swp{n} interface peer-group ")), "swp{n}");
    }
}
