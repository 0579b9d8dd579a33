//! Network of an installed machine: every address on the loopback, two or more unnumbered links to the
//! leaves, and BGP that announces the addresses and learns the default route from all leaves at once.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::leaf::{Bfd, COALESCE, NEXT_HOPS};

/// What the files are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Name that the routing daemon shows to its neighbours.
    pub hostname: String,
    /// Autonomous system of this machine.
    pub asn: u32,
    /// Addresses that the machine owns and announces, those of its primary private network first.
    pub addresses: Vec<IpAddr>,
    /// Hardware addresses of the links to the leaves; the first becomes `lan0`, the next `lan1`, and so on.
    pub links: Vec<String>,
    /// Largest packet on the links, in bytes.
    pub mtu: u32,
}

/// A file of the installed system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Content.
    pub text: String,
}

/// All files: systemd-networkd's links and networks, and the complete FRR configuration.
#[must_use]
pub fn files(machine: &Machine) -> Vec<File> {
    let mut files = vec![file("/etc/systemd/network/00-lo.network", loopback(&machine.addresses))];
    for (index, mac) in machine.links.iter().enumerate() {
        let path = format!("/etc/systemd/network/10-lan{index}");
        files.push(file(&format!("{path}.link"), link(index, mac, machine.mtu)));
        files.push(file(&format!("{path}.network"), network(index)));
    }
    files.push(file("/etc/frr/frr.conf", frr(machine)));
    files
}

fn file(path: &str, text: String) -> File {
    File { path: path.to_owned(), text }
}

/// Every address is a host route of the loopback, so that it does not depend on any one link.
pub(crate) fn loopback(addresses: &[IpAddr]) -> String {
    let mut text = "[Match]\nName=lo\n\n[Address]\nAddress=127.0.0.1/8\n".to_owned();
    for address in addresses {
        let _ = write!(text, "\n[Address]\nAddress={}\n", IpNet::from(*address));
    }
    text
}

/// Bound to the burnt-in address: names of the kernel depend on the order of probing.
pub(crate) fn link(index: usize, mac: &str, mtu: u32) -> String {
    format!(
        "[Match]\nPermanentMACAddress={mac}\n\n[Link]\nName=lan{index}\nNamePolicy=\nMTUBytes={mtu}\n"
    )
}

/// No address but the IPv6 link-local one, which BGP uses to find its neighbour. The leaf is alone on the wire: nobody else can have
/// the address, and two seconds pass until the kernel is sure of that. FRR answers and sends router advertisements itself.
pub(crate) fn network(index: usize) -> String {
    format!(
        "[Match]\nName=lan{index}\n\n[Network]\nIPv6AcceptRA=no\nLinkLocalAddressing=ipv6\nIPv6DuplicateAddressDetection=0\n"
    )
}

fn frr(machine: &Machine) -> String {
    let mut text = String::new();
    let _ = frr_lines(&mut text, machine);
    text
}

fn frr_lines(text: &mut String, machine: &Machine) -> std::fmt::Result {
    let links = 0..machine.links.len();
    writeln!(text, "frr defaults datacenter")?;
    writeln!(text, "hostname {}", machine.hostname)?;
    writeln!(text, "log syslog informational")?;
    writeln!(text, "service integrated-vtysh-config")?;
    writeln!(text, "{NEXT_HOPS}")?;
    writeln!(text, "!")?;
    // A leaf that does not answer to it loses nothing by it. In front and without `exit`: each daemon reads the file by
    // itself, and `exit` out of what it does not know ends its reading.
    write!(text, "{}", Bfd::default().profile())?;
    writeln!(text, "!")?;
    for index in links.clone() {
        writeln!(text, "interface lan{index}")?;
        // an unnumbered neighbour knows the other end by its advertisement: nobody should wait for it
        writeln!(text, " ipv6 nd ra-interval 1")?;
        writeln!(text, " ipv6 nd ra-lifetime 0")?;
        writeln!(text, " no ipv6 nd suppress-ra")?;
        writeln!(text, "exit")?;
        writeln!(text, "!")?;
    }
    writeln!(text, "router bgp {}", machine.asn)?;
    writeln!(text, " bgp router-id {}", router_id(&machine.addresses))?;
    writeln!(text, " bgp bestpath as-path multipath-relax")?;
    writeln!(text, " coalesce-time {COALESCE}")?;
    writeln!(text, " no bgp ebgp-requires-policy")?;
    writeln!(text, " neighbor TOR peer-group")?;
    writeln!(text, " neighbor TOR remote-as external")?;
    writeln!(text, " neighbor TOR timers 2 8")?;
    writeln!(text, " neighbor TOR timers connect 1")?;
    write!(text, "{}", Bfd::neighbour("TOR"))?;
    for index in links {
        writeln!(text, " neighbor lan{index} interface peer-group TOR")?;
    }
    writeln!(text, " neighbor LOCAL peer-group")?;
    writeln!(text, " neighbor LOCAL remote-as internal")?;
    writeln!(text, " neighbor LOCAL timers 2 8")?;
    for address in &machine.addresses {
        writeln!(text, " bgp listen range {} peer-group LOCAL", IpNet::from(*address))?;
    }
    for family in ["ipv4", "ipv6"] {
        writeln!(text, " !")?;
        writeln!(text, " address-family {family} unicast")?;
        writeln!(text, "  redistribute connected route-map loopback")?;
        writeln!(text, "  neighbor TOR activate")?;
        writeln!(text, "  neighbor TOR route-map only-self-out out")?;
        writeln!(text, "  neighbor LOCAL activate")?;
        writeln!(text, "  neighbor LOCAL route-map local-in in")?;
        writeln!(text, " exit-address-family")?;
    }
    writeln!(text, "exit")?;
    writeln!(text, "!")?;
    // a path that began here is empty: what one leaf says never reaches the other through this machine
    writeln!(text, "bgp as-path access-list self permit ^$")?;
    writeln!(text, "!")?;
    writeln!(text, "route-map only-self-out permit 10")?;
    writeln!(text, " match as-path self")?;
    writeln!(text, "exit")?;
    writeln!(text, "!")?;
    writeln!(text, "route-map loopback permit 10")?;
    writeln!(text, " match interface lo")?;
    writeln!(text, "exit")?;
    writeln!(text, "!")?;
    // what a speaker on this machine announces (service addresses) wins over the fabric's opinion
    writeln!(text, "route-map local-in permit 10")?;
    writeln!(text, " set weight 32768")?;
    writeln!(text, "exit")?;
    writeln!(text, "!")
}

/// The first IPv4 address. A machine without one takes an address that is never routed; router ids only
/// meet on the link to a leaf, which has another one.
fn router_id(addresses: &[IpAddr]) -> IpAddr {
    addresses.iter().copied().find(IpAddr::is_ipv4).unwrap_or_else(|| [169, 254, 255, 255].into())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn machine(addresses: &[&str]) -> Machine {
        Machine {
            hostname: "web-1".into(),
            asn: 4_210_000_001,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            links: vec!["52:54:00:00:01:01".into(), "52:54:00:00:01:02".into()],
            mtu: 9000,
        }
    }

    fn text(machine: &Machine, path: &str) -> String {
        files(machine).into_iter().find(|f| f.path == path).unwrap().text
    }

    #[test]
    fn paths() {
        let paths: Vec<_> = files(&machine(&["10.0.16.2"])).into_iter().map(|f| f.path).collect();
        expect![[r#"
            [
                "/etc/systemd/network/00-lo.network",
                "/etc/systemd/network/10-lan0.link",
                "/etc/systemd/network/10-lan0.network",
                "/etc/systemd/network/10-lan1.link",
                "/etc/systemd/network/10-lan1.network",
                "/etc/frr/frr.conf",
            ]
        "#]]
        .assert_debug_eq(&paths);
    }

    #[test]
    fn networkd() {
        let machine = machine(&["10.0.16.2", "2001:db8::2"]);
        let all = ["00-lo.network", "10-lan1.link", "10-lan1.network"]
            .map(|name| text(&machine, &format!("/etc/systemd/network/{name}")))
            .join("----\n");
        expect![[r#"
            [Match]
            Name=lo

            [Address]
            Address=127.0.0.1/8

            [Address]
            Address=10.0.16.2/32

            [Address]
            Address=2001:db8::2/128
            ----
            [Match]
            PermanentMACAddress=52:54:00:00:01:02

            [Link]
            Name=lan1
            NamePolicy=
            MTUBytes=9000
            ----
            [Match]
            Name=lan1

            [Network]
            IPv6AcceptRA=no
            LinkLocalAddressing=ipv6
            IPv6DuplicateAddressDetection=0
        "#]]
        .assert_eq(&all);
    }

    #[test]
    fn routing() {
        expect![[r#"
            frr defaults datacenter
            hostname web-1
            log syslog informational
            service integrated-vtysh-config
            no zebra nexthop kernel enable
            !
            bfd
             profile metal
              transmit-interval 100
              receive-interval 100
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
            router bgp 4210000001
             bgp router-id 10.0.16.2
             bgp bestpath as-path multipath-relax
             coalesce-time 50
             no bgp ebgp-requires-policy
             neighbor TOR peer-group
             neighbor TOR remote-as external
             neighbor TOR timers 2 8
             neighbor TOR timers connect 1
             neighbor TOR bfd
             neighbor TOR bfd profile metal
             neighbor lan0 interface peer-group TOR
             neighbor lan1 interface peer-group TOR
             neighbor LOCAL peer-group
             neighbor LOCAL remote-as internal
             neighbor LOCAL timers 2 8
             bgp listen range 10.0.16.2/32 peer-group LOCAL
             bgp listen range 2001:db8::2/128 peer-group LOCAL
             !
             address-family ipv4 unicast
              redistribute connected route-map loopback
              neighbor TOR activate
              neighbor TOR route-map only-self-out out
              neighbor LOCAL activate
              neighbor LOCAL route-map local-in in
             exit-address-family
             !
             address-family ipv6 unicast
              redistribute connected route-map loopback
              neighbor TOR activate
              neighbor TOR route-map only-self-out out
              neighbor LOCAL activate
              neighbor LOCAL route-map local-in in
             exit-address-family
            exit
            !
            bgp as-path access-list self permit ^$
            !
            route-map only-self-out permit 10
             match as-path self
            exit
            !
            route-map loopback permit 10
             match interface lo
            exit
            !
            route-map local-in permit 10
             set weight 32768
            exit
            !
        "#]]
        .assert_eq(&text(&machine(&["10.0.16.2", "2001:db8::2"]), "/etc/frr/frr.conf"));
    }

    #[test]
    fn without_an_ipv4_address_the_router_id_is_never_routed() {
        let text = text(&machine(&["2001:db8::2"]), "/etc/frr/frr.conf");
        assert!(text.contains("bgp router-id 169.254.255.255\n"), "{text}");
    }
}
