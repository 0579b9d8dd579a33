//! A boot network that crosses the fabric: whoever makes the boot bridge gave it a VXLAN interface, and the routing text
//! does the rest.

use std::sync::Arc;

use switch::config::Config;

use crate::fake::{Fake, nic};
use crate::in_guest;
use crate::kernel_vrfs::{sh, start};
use crate::running::eventually;

/// Two machines at the ports, and another leaf behind the uplink.
const FABRIC: &str = r"
ip link add vni4000 type vxlan id 4000 local 10.0.0.11 dstport 4789 nolearning
ip link set vni4000 master boot up
for number in 1 2; do
    ip netns add m$number
    ip link set swp$number-peer netns m$number name lan0
    ip -n m$number link set lan0 up
    ip -n m$number addr add 10.0.1.5$number/24 dev lan0
done
ip netns add leaf02
ip link set up0-peer netns leaf02 name up0
ip -n leaf02 link set lo up
ip -n leaf02 link set up0 up
ip -n leaf02 addr add 10.0.0.12/32 dev lo
ip -n leaf02 link add boot type bridge forward_delay 0
ip -n leaf02 link set boot up
ip -n leaf02 addr add 10.0.1.2/24 dev boot
ip -n leaf02 link add vni4000 type vxlan id 4000 local 10.0.0.12 dstport 4789 nolearning
ip -n leaf02 link set vni4000 master boot up
mkdir -p /run/frr/leaf02 /etc/frr/leaf02
chown frr:frr /run/frr/leaf02
for daemon in zebra bgpd; do
    ip netns exec leaf02 /usr/lib/frr/$daemon -d -N leaf02 -F datacenter -A 127.0.0.1
done
vtysh -N leaf02 -c 'configure terminal' -c 'router bgp 4200000012' -c 'bgp router-id 10.0.0.12' \
    -c 'no bgp ebgp-requires-policy' -c 'timers bgp 60 180' -c 'neighbor up0 interface remote-as external' \
    -c 'address-family ipv4 unicast' -c 'network 10.0.0.12/32' -c exit-address-family \
    -c 'address-family l2vpn evpn' -c 'neighbor up0 activate' -c advertise-all-vni
";

#[test]
fn a_boot_network_crosses_the_fabric() {
    let name = "boot_network::a_boot_network_crosses_the_fabric";
    in_guest::run(name, "kernel", |image| image.start(FABRIC), live);
}

/// Whether a machine gets a connection to bgpd of the other leaf in the boot network.
fn reaches_the_other_leaf(machine: &str) -> bool {
    let words = format!("ip netns exec {machine} timeout 10 bash -c '</dev/tcp/10.0.1.2/179'");
    std::process::Command::new("sh").args(["-c", &words]).output().unwrap().status.success()
}

fn address(machine: &str) -> String {
    let text = sh(&format!("ip -n {machine} -br link show dev lan0"));
    text.split_whitespace().nth(2).unwrap().to_owned()
}

async fn live(config: Arc<Config>) {
    let (fake, url) = Fake::start(true).await;
    let since = fake.say(1, vec![nic("swp1", None, &[]), nic("swp2", None, &[])], &[]);
    let agent = start(&url, &config);
    fake.heartbeat(since, |h| h.error.is_none()).await;

    // Type 3: who has the network gets what everybody gets.
    let flooded = || sh("bridge fdb show dev vni4000").contains("dst 10.0.0.12").then_some(());
    eventually("the other leaf in the boot network", flooded).await;
    for machine in ["m1", "m2"] {
        eventually("way over the fabric", || reaches_the_other_leaf(machine).then_some(())).await;
        // Type 2: where this machine is.
        let mac = address(machine);
        let there = || {
            let text = sh("ip netns exec leaf02 bridge fdb show dev vni4000");
            let of = |line: &str| line.starts_with(&mac) && line.contains("dst 10.0.0.11");
            text.lines().any(of).then_some(())
        };
        eventually("machine's address at the other leaf", there).await;
    }
    let text = sh("vtysh -c 'show bgp l2vpn evpn route type macip'");
    assert!(text.contains(&address("m1")), "{text}");
    // Neighbours are as strange to each other as in any boot network: m2 is not even heard.
    let script = "ip netns exec m1 timeout 5 bash -c '</dev/tcp/10.0.1.52/179' 2>/dev/null; ip -n m1 neigh show 10.0.1.52";
    let neighbour = sh(script);
    assert!(!neighbour.contains("lladdr"), "{neighbour}");
    agent.stop().await;
}
