//! The packet filter of a firewall as text, and that the real `nft` takes it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use expect_test::expect;
use netconf::firewall::rules::{Management, Protocol, Rule, Rules, Wish, drop_all, nft, table};
use netconf::firewall::{Kind, Network};

fn network(vni: u32, kind: Kind, addresses: &[&str], prefixes: &[&str]) -> Network {
    Network {
        vni,
        kind,
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        destinations: Vec::new(),
        masquerade: kind == Kind::External,
    }
}

fn rule(protocol: Protocol, ports: &[u16], from: &[&str], to: &[&str], comment: &str) -> Rule {
    let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Rule {
        protocol,
        ports: ports.to_vec(),
        from: prefixes(from),
        to: prefixes(to),
        comment: comment.to_owned(),
    }
}

fn networks() -> Vec<Network> {
    vec![
        network(7, Kind::Private, &["10.0.0.1"], &["10.0.0.0/22", "fd00:7::/64"]),
        network(20, Kind::Shared, &["10.9.0.1"], &["10.9.0.0/24"]),
        network(
            104_009,
            Kind::External,
            &["203.0.113.1", "203.0.113.9", "2001:db8::1"],
            &["203.0.113.0/24"],
        ),
    ]
}

fn rules() -> Rules {
    Rules {
        egress: vec![
            rule(Protocol::Tcp, &[443, 8001, 8000, 8002], &[], &["0.0.0.0/0"], "web"),
            rule(Protocol::Tcp, &[443], &[], &["::/0"], ""),
            rule(Protocol::Udp, &[], &[], &["10.9.0.0/25", "10.9.0.128/25"], "shared"),
        ],
        ingress: vec![rule(Protocol::Tcp, &[22], &["198.51.100.0/24"], &[], "")],
    }
}

/// Whether the real `nft` takes a text, in a network of its own; nothing where that cannot be asked.
fn taken(text: &str) -> Option<Result<(), String>> {
    let mut child = Command::new("unshare")
        .args(["--net", "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(text.as_bytes()).ok()?;
    let done = child.wait_with_output().ok()?;
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    if told.contains("Operation not permitted") || told.contains("failed to execute") {
        eprintln!("not run: {told}");
        return None;
    }
    Some(if done.status.success() { Ok(()) } else { Err(told) })
}

#[test]
fn a_private_a_shared_and_an_external_network() {
    let (networks, rules, management) = (networks(), rules(), Management::default());
    let underlay = ["10.253.0.0/24".parse().unwrap()];
    let wish = Wish {
        generation: 5,
        underlay: &underlay,
        networks: &networks,
        rules: &rules,
        management: &management,
    };
    let table = table(&wish).unwrap();
    expect![[r#"
        table inet metal {
        	counter drop_bgp {
        	}
        	counter drop_connections {
        	}
        	counter drop_input {
        	}
        	counter drop_invalid {
        	}
        	counter drop_rule {
        	}
        	counter drop_spoofed {
        	}
        	counter egress_40244e07f0a0a5c5 {
        	}
        	counter egress_b00086af75cfa0c6 {
        	}
        	counter egress_fd204c731782fb89 {
        	}
        	counter ingress_e14e7510dff3fbdc {
        	}
        	set connections4 {
        		type ipv4_addr
        		size 65535
        		flags dynamic
        	}
        	set connections6 {
        		type ipv6_addr
        		size 65535
        		flags dynamic
        	}
        	chain refuse {
        		counter name "drop_rule"
        		limit rate 10/minute burst 20 packets log prefix "metal-firewall-dropped: "
        		drop
        	}
        	chain connection_limit {
        		add @connections4 { ip saddr ct count over 16384 } counter name "drop_connections" drop
        		add @connections6 { ip6 saddr ct count over 16384 } counter name "drop_connections" drop
        	}
        	chain egress_rules {
        		meta l4proto tcp ct original proto-dst { 443, 8000-8002 } ct original ip daddr { 0.0.0.0/0 } counter name "egress_b00086af75cfa0c6" ct mark set 0x00001401 accept comment "web"
        		meta l4proto tcp ct original proto-dst { 443 } ct original ip6 daddr { ::/0 } counter name "egress_40244e07f0a0a5c5" ct mark set 0x00001402 accept
        		meta l4proto udp ct original ip daddr { 10.9.0.0/24 } counter name "egress_fd204c731782fb89" ct mark set 0x00001403 accept comment "shared"
        	}
        	chain ingress_rules {
        		meta l4proto tcp ct original proto-dst { 22 } ct original ip saddr { 198.51.100.0/24 } counter name "ingress_e14e7510dff3fbdc" ct mark set 0x00001404 accept
        	}
        	chain forward {
        		type filter hook forward priority filter; policy drop;
        		ct state invalid counter name "drop_invalid" drop
        		ct mark { 0x00001401, 0x00001402, 0x00001403, 0x00001404 } counter name ct mark map { 0x00001401 : "egress_b00086af75cfa0c6", 0x00001402 : "egress_40244e07f0a0a5c5", 0x00001403 : "egress_fd204c731782fb89", 0x00001404 : "ingress_e14e7510dff3fbdc" } accept
        		iifname { "vrf20", "vlan20", "vni20", "vrf104009", "vlan104009", "vni104009" } ip saddr { 10.0.0.0/22 } counter name "drop_spoofed" drop
        		iifname { "vrf20", "vlan20", "vni20", "vrf104009", "vlan104009", "vni104009" } ip6 saddr { fd00:7::/64 } counter name "drop_spoofed" drop
        		meta l4proto tcp ct original proto-dst 179 counter name "drop_bgp" drop
        		ct state new jump connection_limit
        		ct direction original iifname { "vrf7", "vlan7", "vni7" } oifname { "vrf20", "vlan20", "vni20", "vrf104009", "vlan104009", "vni104009" } jump egress_rules
        		ct direction reply iifname { "vrf20", "vlan20", "vni20", "vrf104009", "vlan104009", "vni104009" } oifname { "vrf7", "vlan7", "vni7" } jump egress_rules
        		ct direction original iifname { "vrf20", "vlan20", "vni20", "vrf104009", "vlan104009", "vni104009" } oifname { "vrf7", "vlan7", "vni7" } jump ingress_rules
        		ct direction reply iifname { "vrf7", "vlan7", "vni7" } oifname { "vrf20", "vlan20", "vni20", "vrf104009", "vlan104009", "vni104009" } jump ingress_rules
        		goto refuse
        	}
        	chain input {
        		type filter hook input priority filter; policy drop;
        		iif "lo" accept
        		ct state established,related accept
        		ct state invalid counter name "drop_invalid" drop
        		ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept
        		icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept
        		iifname "lan*" ip6 saddr fe80::/64 tcp dport 179 accept
        		iifname "lan*" ip6 saddr fe80::/64 udp dport 3784 accept
        		iifname "lan*" ip saddr { 10.253.0.0/24 } udp dport 4789 accept
        		iifname "lan*" tcp dport 22 accept
        		iifname "tailscale*" tcp dport 22 accept
        		iifname "vrf7" icmp type echo-request limit rate 20/second accept
        		iifname "vrf7" icmpv6 type echo-request limit rate 20/second accept
        		iifname "lan*" icmp type echo-request limit rate 20/second accept
        		iifname "lan*" icmpv6 type echo-request limit rate 20/second accept
        		counter name "drop_input"
        		limit rate 10/minute burst 20 packets log prefix "metal-firewall-dropped: "
        	}
        	chain postrouting {
        		type nat hook postrouting priority srcnat; policy accept;
        		oifname { "vrf104009", "vlan104009", "vni104009" } ip saddr { 10.0.0.0/22 } snat ip to jhash ip saddr . ip daddr mod 2 seed 0x1 map { 0 : 203.0.113.1, 1 : 203.0.113.9 }
        	}
        }
    "#]].assert_eq(&table.text);
    if let Some(taken) = taken(&table.fresh()) {
        taken.unwrap();
    }
    let text = format!(
        "{}{}{}",
        table.fresh(),
        drop_all(&management).replacing(&[]),
        table.replacing(&["chain extra".to_owned()])
    );
    // a chain that is not there cannot go, and then nothing else happens
    if let Some(taken) = taken(&text) {
        assert!(taken.unwrap_err().contains("extra"));
    }
}

#[test]
fn nothing_passes_before_anything_is_known() {
    let narrow = Management {
        interfaces: vec!["lan*".into()],
        prefixes: vec!["10.255.0.0/16".parse().unwrap(), "fd99::/64".parse().unwrap()],
    };
    let table = drop_all(&narrow);
    expect![[r#"
        table inet metal {
        	counter drop_bgp {
        	}
        	counter drop_connections {
        	}
        	counter drop_input {
        	}
        	counter drop_invalid {
        	}
        	counter drop_rule {
        	}
        	counter drop_spoofed {
        	}
        	set connections4 {
        		type ipv4_addr
        		size 65535
        		flags dynamic
        	}
        	set connections6 {
        		type ipv6_addr
        		size 65535
        		flags dynamic
        	}
        	chain refuse {
        		counter name "drop_rule"
        		limit rate 10/minute burst 20 packets log prefix "metal-firewall-dropped: "
        		drop
        	}
        	chain connection_limit {
        		add @connections4 { ip saddr ct count over 16384 } counter name "drop_connections" drop
        		add @connections6 { ip6 saddr ct count over 16384 } counter name "drop_connections" drop
        	}
        	chain egress_rules {
        	}
        	chain ingress_rules {
        	}
        	chain forward {
        		type filter hook forward priority filter; policy drop;
        		ct state invalid counter name "drop_invalid" drop
        		goto refuse
        	}
        	chain input {
        		type filter hook input priority filter; policy drop;
        		iif "lo" accept
        		ct state established,related accept
        		ct state invalid counter name "drop_invalid" drop
        		ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept
        		icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept
        		iifname "lan*" ip6 saddr fe80::/64 tcp dport 179 accept
        		iifname "lan*" ip6 saddr fe80::/64 udp dport 3784 accept
        		iifname "lan*" udp dport 4789 accept
        		iifname "lan*" ip saddr { 10.255.0.0/16 } tcp dport 22 accept
        		iifname "lan*" ip6 saddr { fd99::/64 } tcp dport 22 accept
        		iifname "lan*" icmp type echo-request limit rate 20/second accept
        		iifname "lan*" icmpv6 type echo-request limit rate 20/second accept
        		counter name "drop_input"
        		limit rate 10/minute burst 20 packets log prefix "metal-firewall-dropped: "
        	}
        	chain postrouting {
        		type nat hook postrouting priority srcnat; policy accept;
        	}
        }
    "#]].assert_eq(&table.text);
    if let Some(taken) = taken(&table.fresh()) {
        taken.unwrap();
    }
    // a wrong configuration opens nothing
    let wrong = Management { interfaces: vec!["\" accept".into()], prefixes: Vec::new() };
    assert!(!drop_all(&wrong).text.contains("dport 22"));
}

#[test]
fn counters_stay_with_what_the_rule_says() {
    let (networks, management) = (networks(), Management::default());
    let names = |rules: &Rules| -> Vec<String> {
        let wish = Wish {
            generation: 1,
            underlay: &[],
            networks: &networks,
            rules,
            management: &management,
        };
        table(&wish).unwrap().rules.into_iter().map(|counter| counter.name).collect()
    };
    let one = names(&rules());
    let mut turned = rules();
    turned.egress.reverse();
    turned.egress[2].comment = "other".to_owned();
    turned.egress[2].ports.reverse();
    let two = names(&turned);
    assert_eq!((&one[0], &one[2], &one[3]), (&two[2], &two[0], &two[3]));
}

#[test]
fn what_cannot_be_written_down_is_refused() {
    let (networks, management) = (networks(), Management::default());
    let refused = |rule: Rule| {
        let rules = Rules { egress: vec![rule], ingress: Vec::new() };
        nft(&Wish {
            generation: 1,
            underlay: &[],
            networks: &networks,
            rules: &rules,
            management: &management,
        })
        .unwrap_err()
    };
    let mixed = rule(Protocol::Tcp, &[1], &[], &["10.0.0.0/8", "fd00::/8"], "");
    assert!(refused(mixed).contains("IPv4 and IPv6"));
    assert!(refused(rule(Protocol::Tcp, &[1], &[], &[], "a\" accept")).contains("comment"));
    let many =
        Rules { egress: vec![rule(Protocol::Tcp, &[1], &[], &[], ""); 1024], ingress: Vec::new() };
    let wish = Wish {
        generation: 1,
        underlay: &[],
        networks: &networks,
        rules: &many,
        management: &management,
    };
    assert!(nft(&wish).unwrap_err().contains("1024 rules"));
}
