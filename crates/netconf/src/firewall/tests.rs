use expect_test::expect;

use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn network(
    vni: u32,
    kind: Kind,
    addresses: &[&str],
    prefixes: &[&str],
    destinations: &[&str],
) -> Network {
    Network {
        vni,
        kind,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        prefixes: nets(prefixes),
        destinations: nets(destinations),
        masquerade: kind == Kind::External,
    }
}

fn private() -> Network {
    network(
        7,
        Kind::Private,
        &["10.0.16.1", "2001:db8:16::1"],
        &["10.0.16.0/22", "2001:db8:16::/64"],
        &[],
    )
}

fn internet() -> Network {
    network(
        104_009,
        Kind::External,
        &["203.0.113.2", "2001:db8:113::2"],
        &["203.0.113.0/24", "2001:db8:113::/48"],
        &["0.0.0.0/0", "::/0"],
    )
}

fn shared(destinations: &[&str]) -> Network {
    network(8, Kind::Shared, &["10.0.20.9"], &["10.0.20.0/22"], destinations)
}

fn firewall(networks: Vec<Network>) -> Firewall {
    Firewall {
        hostname: "fw-1".into(),
        asn: 4_210_000_007,
        distance: 0,
        underlay: vec!["10.254.0.1".parse().unwrap()],
        networks,
        links: vec!["52:54:00:00:01:01".into(), "52:54:00:00:01:02".into()],
    }
}

/// One line for each import.
fn table(networks: &[Network]) -> String {
    let text =
        |prefixes: &[IpNet]| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut lines = String::new();
    for (to, imports) in imports(networks).iter().enumerate() {
        for import in imports {
            let (to, from) = (&networks[to], &networks[import.from]);
            lines += &format!(
                "{:?} takes from {:?}: {}; hidden: {}; never: {}\n",
                to.kind,
                from.kind,
                text(&import.open),
                text(&import.hidden),
                text(&import.refused)
            );
        }
    }
    lines
}

#[test]
fn who_takes_what_from_whom() {
    expect![[r#"
        Private takes from External: 0.0.0.0/0 ::/0 203.0.113.0/24 2001:db8:113::/48; hidden: ; never: 203.0.113.2/32 2001:db8:113::2/128
        External takes from Private: 203.0.113.0/24 2001:db8:113::/48; hidden: 10.0.16.0/22 2001:db8:16::/64; never: 
    "#]].assert_eq(&table(&[private(), internet()]));
    expect![[r#"
        Private takes from Shared: 10.0.20.0/22; hidden: ; never: 
        Private takes from External: 0.0.0.0/0 ::/0 203.0.113.0/24 2001:db8:113::/48; hidden: ; never: 203.0.113.2/32 2001:db8:113::2/128
        Shared takes from Private: 10.0.16.0/22 2001:db8:16::/64 10.0.20.0/22; hidden: ; never: 
        External takes from Private: 203.0.113.0/24 2001:db8:113::/48; hidden: 10.0.16.0/22 2001:db8:16::/64; never: 
    "#]].assert_eq(&table(&[private(), shared(&[]), internet()]));
    expect![[r#"
        Shared takes from External: 0.0.0.0/0 203.0.113.0/24 2001:db8:113::/48; hidden: ; never: 203.0.113.2/32 2001:db8:113::2/128
        External takes from Shared: 203.0.113.0/24 2001:db8:113::/48; hidden: 10.0.20.0/22; never: 
    "#]].assert_eq(&table(&[shared(&["0.0.0.0/0"]), internet()]));
    assert_eq!(table(&[private(), private()]), "");
}

#[test]
fn devices() {
    let files = files(&firewall(vec![private(), internet()])).unwrap();
    let text: String = files
        .iter()
        .filter(|file| file.path.starts_with("/etc/systemd/") && !file.path.contains("lan1"))
        .map(|file| format!("# {}\n{}\n", file.path.rsplit('/').next().unwrap(), file.text))
        .collect();
    expect![[r#"
        # 00-lo.network
        [Match]
        Name=lo

        [Address]
        Address=127.0.0.1/8

        [Address]
        Address=10.254.0.1/32

        # 10-lan0.link
        [Match]
        PermanentMACAddress=52:54:00:00:01:01

        [Link]
        Name=lan0
        NamePolicy=
        MTUBytes=9216

        # 10-lan0.network
        [Match]
        Name=lan0

        [Network]
        IPv6AcceptRA=no
        LinkLocalAddressing=ipv6
        IPv6DuplicateAddressDetection=0

        # 200-vrf7.netdev
        [NetDev]
        Name=vrf7
        Kind=vrf

        [VRF]
        Table=1000

        # 200-vrf7.network
        [Match]
        Name=vrf7

        [Network]
        LinkLocalAddressing=no

        [Address]
        Address=10.0.16.1/32

        [Address]
        Address=2001:db8:16::1/128

        # 300-vlan7.netdev
        [NetDev]
        Name=vlan7
        Kind=bridge
        MTUBytes=9000

        [Bridge]
        STP=no
        ForwardDelaySec=0
        MulticastSnooping=no

        # 300-vlan7.network
        [Match]
        Name=vlan7

        [Link]
        RequiredForOnline=no

        [Network]
        VRF=vrf7
        LinkLocalAddressing=no
        IPv6AcceptRA=no
        ConfigureWithoutCarrier=yes

        # 400-vni7.netdev
        [NetDev]
        Name=vni7
        Kind=vxlan
        MTUBytes=9000

        [VXLAN]
        VNI=7
        Local=10.254.0.1
        DestinationPort=4789
        MacLearning=no
        UDPChecksum=yes
        Independent=yes

        # 400-vni7.network
        [Match]
        Name=vni7

        [Network]
        Bridge=vlan7
        LinkLocalAddressing=no

        [Bridge]
        Learning=no
        NeighborSuppression=yes

        # 201-vrf104009.netdev
        [NetDev]
        Name=vrf104009
        Kind=vrf

        [VRF]
        Table=1001

        # 201-vrf104009.network
        [Match]
        Name=vrf104009

        [Network]
        LinkLocalAddressing=no

        [Address]
        Address=203.0.113.2/32

        [Address]
        Address=2001:db8:113::2/128

        # 401-vni104009.netdev
        [NetDev]
        Name=vni104009
        Kind=vxlan
        MTUBytes=9000

        [VXLAN]
        VNI=104009
        Local=10.254.0.1
        DestinationPort=4789
        MacLearning=no
        UDPChecksum=yes
        Independent=yes

        # 401-vni104009.network
        [Match]
        Name=vni104009

        [Network]
        Bridge=vlan104009
        LinkLocalAddressing=no

        [Bridge]
        Learning=no
        NeighborSuppression=yes

    "#]]
    .assert_eq(&text);
}

#[test]
fn routing() {
    expect![[r#"
        frr defaults datacenter
        hostname fw-1
        log syslog informational
        service integrated-vtysh-config
        no zebra nexthop kernel enable
        !
        bfd
         profile metal
          transmit-interval 100
          receive-interval 100
        !
        vrf vrf7
         vni 7
        exit-vrf
        !
        vrf vrf104009
         vni 104009
        exit-vrf
        !
        interface lan0
         ipv6 nd ra-interval 1
         ipv6 nd ra-lifetime 0
         no ipv6 nd suppress-ra
        exit
        !
        interface lan1
         ipv6 nd ra-interval 1
         ipv6 nd ra-lifetime 0
         no ipv6 nd suppress-ra
        exit
        !
        router bgp 4210000007
         bgp router-id 10.254.0.1
         coalesce-time 50
         no bgp default ipv4-unicast
         bgp bestpath as-path multipath-relax
         no bgp ebgp-requires-policy
         neighbor FABRIC peer-group
         neighbor FABRIC remote-as external
         neighbor FABRIC advertisement-interval 0
         neighbor FABRIC timers 2 8
         neighbor FABRIC timers connect 1
         neighbor FABRIC capability extended-nexthop
         neighbor FABRIC bfd
         neighbor FABRIC bfd profile metal
         neighbor lan0 interface peer-group FABRIC
         neighbor lan1 interface peer-group FABRIC
         !
         address-family ipv4 unicast
          redistribute connected route-map loopback
          neighbor FABRIC activate
          neighbor FABRIC route-map only-self-out out
         exit-address-family
         !
         address-family ipv6 unicast
          redistribute connected route-map loopback
          neighbor FABRIC activate
          neighbor FABRIC route-map only-self-out out
         exit-address-family
         !
         address-family l2vpn evpn
          neighbor FABRIC activate
          neighbor FABRIC route-map evpn-in in
          neighbor FABRIC route-map evpn-out out
          advertise-all-vni
         exit-address-family
        exit
        !
        router bgp 4210000007 vrf vrf7
         bgp router-id 10.254.0.1
         coalesce-time 50
         no bgp ebgp-requires-policy
         bgp bestpath as-path multipath-relax
         !
         address-family ipv4 unicast
          redistribute connected
          import vrf vrf104009
          import vrf route-map vrf7-import
         exit-address-family
         !
         address-family ipv6 unicast
          redistribute connected
          import vrf vrf104009
          import vrf route-map vrf7-import
         exit-address-family
         !
         address-family l2vpn evpn
          advertise ipv4 unicast
          advertise ipv6 unicast
         exit-address-family
        exit
        !
        router bgp 4210000007 vrf vrf104009
         bgp router-id 10.254.0.1
         coalesce-time 50
         no bgp ebgp-requires-policy
         bgp bestpath as-path multipath-relax
         !
         address-family ipv4 unicast
          redistribute connected
          import vrf vrf7
          import vrf route-map vrf104009-import
         exit-address-family
         !
         address-family ipv6 unicast
          redistribute connected
          import vrf vrf7
          import vrf route-map vrf104009-import
         exit-address-family
         !
         address-family l2vpn evpn
          advertise ipv4 unicast
          advertise ipv6 unicast
         exit-address-family
        exit
        !
        bgp as-path access-list self permit ^$
        !
        bgp large-community-list standard fabric seq 5 permit 4210000007:1:1
        !
        route-map only-self-out permit 10
         match as-path self
        exit
        !
        route-map loopback permit 10
         match interface lo
        exit
        !
        route-map evpn-in permit 10
         set large-community 4210000007:1:1 additive
        exit
        !
        route-map evpn-out deny 10
         match large-community fabric
        exit
        !
        route-map evpn-out permit 20
         set as-path replace any
        exit
        !
        ip prefix-list vrf7-import-vrf104009 seq 5 deny 203.0.113.2/32
        ip prefix-list vrf7-import-vrf104009 seq 10 permit 0.0.0.0/0
        ip prefix-list vrf7-import-vrf104009 seq 15 permit 203.0.113.0/24 le 32
        !
        ipv6 prefix-list vrf7-import-vrf104009 seq 5 deny 2001:db8:113::2/128
        ipv6 prefix-list vrf7-import-vrf104009 seq 10 permit ::/0
        ipv6 prefix-list vrf7-import-vrf104009 seq 15 permit 2001:db8:113::/48 le 128
        !
        route-map vrf7-import permit 10
         match ip address prefix-list vrf7-import-vrf104009
         match source-vrf vrf104009
         set large-community none
        exit
        !
        route-map vrf7-import permit 20
         match ipv6 address prefix-list vrf7-import-vrf104009
         match source-vrf vrf104009
         set large-community none
        exit
        !
        route-map vrf7-import deny 65535
        exit
        !
        ip prefix-list vrf104009-import-vrf7 seq 5 permit 203.0.113.0/24 le 32
        !
        ipv6 prefix-list vrf104009-import-vrf7 seq 5 permit 2001:db8:113::/48 le 128
        !
        ip prefix-list vrf104009-import-vrf7-hidden seq 5 permit 10.0.16.0/22 le 32
        !
        ipv6 prefix-list vrf104009-import-vrf7-hidden seq 5 permit 2001:db8:16::/64 le 128
        !
        route-map vrf104009-import permit 10
         match ip address prefix-list vrf104009-import-vrf7
         match source-vrf vrf7
         set large-community none
        exit
        !
        route-map vrf104009-import permit 20
         match ipv6 address prefix-list vrf104009-import-vrf7
         match source-vrf vrf7
         set large-community none
        exit
        !
        route-map vrf104009-import permit 30
         match ip address prefix-list vrf104009-import-vrf7-hidden
         match source-vrf vrf7
         set community no-export additive
         set large-community none
        exit
        !
        route-map vrf104009-import permit 40
         match ipv6 address prefix-list vrf104009-import-vrf7-hidden
         match source-vrf vrf7
         set community no-export additive
         set large-community none
        exit
        !
        route-map vrf104009-import deny 65535
        exit
        !
    "#]]
    .assert_eq(&frr(&firewall(vec![private(), internet()])));
}

#[test]
fn a_firewall_without_an_end_for_tunnels_is_refused() {
    let mut firewall = firewall(vec![private(), internet()]);
    firewall.underlay = vec!["2001:db8::1".parse().unwrap()];
    assert!(files(&firewall).unwrap_err().contains("underlay"));
}

#[test]
fn a_farther_firewall_has_longer_paths() {
    let near = firewall(vec![private(), internet()]);
    let far = Firewall { distance: 2, ..near.clone() };
    let (near, far) = (frr(&near), frr(&far));
    let more: Vec<_> = far.lines().filter(|line| !near.contains(line)).collect();
    let [line] = more[..] else { panic!("{more:?}") };
    assert_eq!(line, format!(" set as-path prepend{}", " 4210000007".repeat(8)));
    assert!(far.contains(&format!(" set as-path replace any\n{line}\nexit\n")));
}

#[test]
fn frr_understands_it() {
    let all = [
        firewall(vec![private(), internet()]),
        Firewall { distance: 7, ..firewall(vec![private(), internet()]) },
        firewall(vec![private(), shared(&["0.0.0.0/0"]), internet()]),
    ];
    for (number, firewall) in all.iter().enumerate() {
        let path = std::env::temp_dir()
            .join(format!("metal-firewall-{}-{number}.conf", std::process::id()));
        std::fs::write(&path, frr(firewall)).unwrap();
        let output =
            std::process::Command::new("vtysh").arg("--dryrun").arg("-f").arg(&path).output();
        std::fs::remove_file(&path).unwrap();
        let Ok(output) = output else {
            eprintln!("not run: there is no vtysh");
            return;
        };
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("Unknown command"), "{said}");
    }
}
