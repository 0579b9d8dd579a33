//! The configuration of a leaf with tenants as text.

use expect_test::expect;
use ipnet::IpNet;
use netconf::leaf::evpn::{Evpn, Tenant, Vrfs, frr, frr_named};
use netconf::leaf::{Leaf, Liveness, Port, Role};

fn port(name: &str, role: Role, accept: &[&str]) -> Port {
    let accept = accept.iter().map(|prefix| prefix.parse::<IpNet>().unwrap()).collect();
    Port { name: name.into(), role, accept, description: None }
}

fn evpn() -> Evpn {
    let leaf = Leaf {
        hostname: "leaf01".into(),
        asn: 4_200_000_011,
        loopback: [10, 0, 0, 11].into(),
        boot: vec!["10.0.1.0/24".parse().unwrap()],
        protected: Vec::new(),
        uplinks: vec!["up0".into()],
        ports: vec![port("swp3", Role::Firewall, &["10.1.0.4/32"])],
        maximum_prefix: 100,
        liveness: Liveness::default(),
    };
    let machine = |name: &str| port(name, Role::Machine, &["10.128.0.0/22"]);
    Evpn {
        leaf,
        tenants: vec![
            Tenant { vni: 20, ports: vec![machine("swp2")] },
            Tenant { vni: 7, ports: vec![machine("swp4"), machine("swp1")] },
        ],
        firewalls: [("swp3".to_owned(), [7, 104_009].into())].into(),
        vrfs: Vrfs::Kernel,
    }
}

#[test]
fn two_tenants_and_a_firewall() {
    expect![[r#"
        frr defaults datacenter
        hostname leaf01
        no zebra nexthop kernel enable
        !
        vrf vrf7
         vni 7
        exit-vrf
        !
        vrf vrf20
         vni 20
        exit-vrf
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
        interface swp2
         no ipv6 nd suppress-ra
         ipv6 nd ra-interval 1
         ipv6 nd ra-lifetime 0
        exit
        !
        interface swp3
         no ipv6 nd suppress-ra
         ipv6 nd ra-interval 1
         ipv6 nd ra-lifetime 0
        exit
        !
        interface swp4
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
        ip prefix-list metal-swp2-in seq 477664140 permit 10.128.0.0/22 le 32
        ip prefix-list metal-swp3-in seq 487346539 permit 10.1.0.4/32
        ip prefix-list metal-swp4-in seq 477664140 permit 10.128.0.0/22 le 32
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
        route-map metal-swp2-in permit 10
         match ip address prefix-list metal-swp2-in
         set large-community 4200000011:1:1
        exit
        !
        route-map metal-swp2-in permit 20
         match ipv6 address prefix-list metal-swp2-in
         set large-community 4200000011:1:1
        exit
        !
        route-map metal-swp2-in deny 99
        exit
        !
        route-map metal-swp3-in permit 10
         match ip address prefix-list metal-swp3-in
         set large-community 4200000011:1:1
        exit
        !
        route-map metal-swp3-in permit 20
         match ipv6 address prefix-list metal-swp3-in
         set large-community 4200000011:1:1
        exit
        !
        route-map metal-swp3-in deny 99
        exit
        !
        route-map metal-swp4-in permit 10
         match ip address prefix-list metal-swp4-in
         set large-community 4200000011:1:1
        exit
        !
        route-map metal-swp4-in permit 20
         match ipv6 address prefix-list metal-swp4-in
         set large-community 4200000011:1:1
        exit
        !
        route-map metal-swp4-in deny 99
        exit
        !
        route-map metal-all permit 10
        exit
        !
        route-map metal-swp3-vni permit 100
         match evpn vni 7
        exit
        !
        route-map metal-swp3-vni permit 101
         match evpn vni 104009
        exit
        !
        route-map metal-swp3-vni deny 65535
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
         neighbor FIREWALL peer-group
         neighbor FIREWALL remote-as external
         neighbor FIREWALL advertisement-interval 0
         neighbor FIREWALL timers 1 3
         neighbor FIREWALL timers connect 1
         neighbor FIREWALL capability extended-nexthop
         neighbor up0 interface peer-group FABRIC
         neighbor swp3 interface peer-group FIREWALL
         !
         address-family ipv4 unicast
          network 10.0.0.11/32
          network 10.0.1.0/24
          neighbor FABRIC activate
          neighbor FABRIC route-map metal-fabric-in in
          neighbor FABRIC route-map metal-fabric-out out
          neighbor FIREWALL activate
          neighbor FIREWALL maximum-prefix 100 restart 1
          neighbor FIREWALL route-map metal-machine-in in
          neighbor FIREWALL route-map metal-all out
          neighbor swp3 route-map metal-swp3-in in
         exit-address-family
         !
         address-family ipv6 unicast
          neighbor FABRIC activate
          neighbor FABRIC route-map metal-fabric-in in
          neighbor FABRIC route-map metal-fabric-out out
          neighbor FIREWALL activate
          neighbor FIREWALL maximum-prefix 100 restart 1
          neighbor FIREWALL route-map metal-machine-in in
          neighbor FIREWALL route-map metal-all out
          neighbor swp3 route-map metal-swp3-in in
         exit-address-family
         !
         address-family l2vpn evpn
          neighbor FABRIC activate
          neighbor FIREWALL activate
          neighbor swp3 route-map metal-swp3-vni in
          neighbor swp3 route-map metal-swp3-vni out
          advertise-all-vni
         exit-address-family
        exit
        !
        router bgp 4200000011 vrf vrf7
         bgp router-id 10.0.0.11
         no bgp default ipv4-unicast
         bgp bestpath as-path multipath-relax
         coalesce-time 50
         neighbor MACHINE peer-group
         neighbor MACHINE remote-as external
         neighbor MACHINE advertisement-interval 0
         neighbor MACHINE timers 1 3
         neighbor MACHINE timers connect 1
         neighbor MACHINE capability extended-nexthop
         neighbor swp1 interface peer-group MACHINE
         neighbor swp4 interface peer-group MACHINE
         !
         address-family ipv4 unicast
          neighbor MACHINE activate
          neighbor MACHINE maximum-prefix 100 restart 1
          neighbor MACHINE route-map metal-machine-in in
          neighbor MACHINE route-map metal-all out
          neighbor swp1 route-map metal-swp1-in in
          neighbor swp4 route-map metal-swp4-in in
         exit-address-family
         !
         address-family ipv6 unicast
          neighbor MACHINE activate
          neighbor MACHINE maximum-prefix 100 restart 1
          neighbor MACHINE route-map metal-machine-in in
          neighbor MACHINE route-map metal-all out
          neighbor swp1 route-map metal-swp1-in in
          neighbor swp4 route-map metal-swp4-in in
         exit-address-family
         !
         address-family l2vpn evpn
          advertise ipv4 unicast
          advertise ipv6 unicast
         exit-address-family
        exit
        !
        router bgp 4200000011 vrf vrf20
         bgp router-id 10.0.0.11
         no bgp default ipv4-unicast
         bgp bestpath as-path multipath-relax
         coalesce-time 50
         neighbor MACHINE peer-group
         neighbor MACHINE remote-as external
         neighbor MACHINE advertisement-interval 0
         neighbor MACHINE timers 1 3
         neighbor MACHINE timers connect 1
         neighbor MACHINE capability extended-nexthop
         neighbor swp2 interface peer-group MACHINE
         !
         address-family ipv4 unicast
          neighbor MACHINE activate
          neighbor MACHINE maximum-prefix 100 restart 1
          neighbor MACHINE route-map metal-machine-in in
          neighbor MACHINE route-map metal-all out
          neighbor swp2 route-map metal-swp2-in in
         exit-address-family
         !
         address-family ipv6 unicast
          neighbor MACHINE activate
          neighbor MACHINE maximum-prefix 100 restart 1
          neighbor MACHINE route-map metal-machine-in in
          neighbor MACHINE route-map metal-all out
          neighbor swp2 route-map metal-swp2-in in
         exit-address-family
         !
         address-family l2vpn evpn
          advertise ipv4 unicast
          advertise ipv6 unicast
         exit-address-family
        exit
    "#]]
    .assert_eq(&frr(&evpn()));
}

#[test]
fn the_order_of_tenants_and_ports_means_nothing() {
    let mut other = evpn();
    other.tenants.reverse();
    other.tenants.iter_mut().for_each(|tenant| tenant.ports.reverse());
    assert_eq!(frr(&evpn()), frr(&other));
}

#[test]
fn a_firewall_gets_nothing_unless_told() {
    let mut evpn = evpn();
    evpn.firewalls.clear();
    let text = frr(&evpn);
    assert!(text.contains("route-map metal-swp3-vni deny 65535\n"));
    assert!(!text.contains("match evpn vni"));
    for direction in ["in", "out"] {
        assert!(text.contains(&format!("  neighbor swp3 route-map metal-swp3-vni {direction}\n")));
    }
}

#[test]
fn interfaces_in_namespaces_are_named_with_them() {
    let text = frr(&Evpn { vrfs: Vrfs::Namespaces, ..evpn() });
    let interfaces: Vec<_> = text.lines().filter(|line| line.starts_with("interface ")).collect();
    assert_eq!(
        interfaces,
        [
            "interface up0",
            "interface swp1 vrf vrf7",
            "interface swp2 vrf vrf20",
            "interface swp3",
            "interface swp4 vrf vrf7"
        ]
    );
    assert_eq!(
        text.replace(" vrf vrf7\n no ipv6", "\n no ipv6")
            .replace(" vrf vrf20\n no ipv6", "\n no ipv6"),
        frr(&evpn())
    );
}

#[test]
fn without_vrfs_all_ports_are_side_by_side() {
    let mut names: Vec<_> = evpn().flat().ports.into_iter().map(|port| port.name).collect();
    names.sort();
    assert_eq!(names, ["swp1", "swp2", "swp3", "swp4"]);
}

/// SONiC wants a capital letter; nothing else is different.
#[test]
fn vrfs_are_called_as_the_switch_wants_them() {
    let text = frr_named(&evpn(), "Vrf");
    for line in ["vrf Vrf7", "router bgp 4200000011 vrf Vrf7"] {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }
    assert!(!text.contains("vrf vrf"), "{text}");
    let lower = text.replace("vrf Vrf", "vrf vrf");
    assert_eq!(lower, frr(&evpn()));
}
