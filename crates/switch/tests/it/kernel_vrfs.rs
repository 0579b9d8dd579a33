//! An agent on VRFs of the kernel, with a machine on a wire: who reaches whom, what a restart keeps, what is healed.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use switch::config::Config;

use crate::fake::{Fake, nic};
use crate::in_guest;
use crate::running::{Running, eventually};

const FILTER: &[&str] = &["10.128.0.0/22", "2001:db8:1::/64"];

/// The other end of `swp1`: a namespace with routing daemons and two addresses.
const MACHINE: &str = r"
ip netns add m1
ip link set swp1-peer netns m1 name lan0
ip -n m1 link set lo up
ip -n m1 link set lan0 up
ip -n m1 addr add 10.128.0.1/32 dev lo
ip -n m1 addr add 2001:db8:1::1/128 dev lo
mkdir -p /run/frr/m1 /etc/frr/m1
chown frr:frr /run/frr/m1
for daemon in zebra bgpd; do
    ip netns exec m1 /usr/lib/frr/$daemon -d -N m1 -F datacenter -A 127.0.0.1
done
vtysh -N m1 -c 'configure terminal' -c 'route-map loopback permit 10' -c 'match interface lo' -c exit \
    -c 'router bgp 4210000001' -c 'bgp router-id 10.128.0.1' -c 'no bgp ebgp-requires-policy' -c 'timers bgp 60 180' \
    -c 'neighbor lan0 interface remote-as external' -c 'address-family ipv4 unicast' \
    -c 'redistribute connected route-map loopback' -c exit-address-family -c 'address-family ipv6 unicast' \
    -c 'redistribute connected route-map loopback' -c 'neighbor lan0 activate'
";

#[test]
fn an_agent_on_vrfs_of_the_kernel() {
    let name = "kernel_vrfs::an_agent_on_vrfs_of_the_kernel";
    in_guest::run(name, "kernel", |image| image.start(MACHINE), live);
}

pub(crate) fn start(url: &str, config: &Config) -> Running {
    Running::start(Arc::new(Config { api_url: url.to_owned(), ..config.clone() }))
}

pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Whether the machine gets a connection to bgpd at the loopback of the leaf.
fn reaches_the_leaf() -> bool {
    let script = "ip netns exec m1 timeout 10 bash -c '</dev/tcp/10.0.0.11/179'";
    Command::new("sh").args(["-c", script]).output().unwrap().status.success()
}

/// How often the machine's session with the leaf came up, by its own words.
fn sessions() -> u64 {
    let text = sh("vtysh -N m1 -c 'show bgp neighbors lan0 json'");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["lan0"]["connectionsEstablished"].as_u64().unwrap()
}

/// VLAN of the bridge's interface in the tenant's VRF.
fn vlan() -> String {
    let text = sh("ip -d link show svi7");
    text.split_once("protocol 802.1Q id ").unwrap().1.split(' ').next().unwrap().to_owned()
}

async fn live(config: Arc<Config>) {
    let (fake, url) = Fake::start(true).await;
    let ports = |vrf| vec![nic("swp1", vrf, FILTER), nic("swp2", None, &[])];
    let since = fake.say(1, ports(Some("vrf7")), &[]);
    let agent = start(&url, &config);
    fake.heartbeat(since, |h| h.error.is_none()).await;
    for (family, prefix) in [("-4", "10.128.0.1 "), ("-6", "2001:db8:1::1 ")] {
        let routed =
            || sh(&format!("ip {family} route show vrf vrf7")).contains(prefix).then_some(());
        eventually("route of the machine", routed).await;
    }
    assert!(!sh("ip route").contains("10.128.0.1"), "it is in the underlay, too");
    eprintln!("a machine's routes are there after {:.1?}", since.elapsed());

    // As far as the machine can find a way: the leaf is not part of its network.
    let address = sh("ip -6 -o addr show dev swp1 scope link");
    let address = address.split_whitespace().skip_while(|word| *word != "inet6").nth(1).unwrap();
    let address = address.split('/').next().unwrap();
    sh(&format!("ip -n m1 route replace 10.0.0.11/32 via inet6 {address} dev lan0 src 10.128.0.1"));
    assert!(!reaches_the_leaf());

    // Without an agent all goes on, and somebody opens the way that the kernel would leave open.
    let (established, number) = (sessions(), vlan());
    agent.stop().await;
    sh("ip rule add pref 0 table local");
    // Else the test would prove nothing.
    eventually("way that is open", || reaches_the_leaf().then_some(())).await;
    let since = Instant::now();
    let agent = start(&url, &config);
    let closed = || sh("ip rule").lines().all(|line| !line.starts_with("0:")).then_some(());
    eventually("end of the way into the leaf", closed).await;
    eprintln!("drift in rules is healed {:.1?} after the start", since.elapsed());
    fake.heartbeat(Instant::now(), |h| h.error.is_none()).await;
    assert!(!reaches_the_leaf());
    assert_eq!((sessions(), vlan()), (established, number), "a restart is not noticed");

    // A device that somebody takes away comes back with the same VLAN.
    let number = vlan();
    sh("ip link del vni7");
    let whole =
        || sh("bridge vlan show dev vni7 2>/dev/null || true").contains(&number).then_some(());
    eventually("VXLAN interface", whole).await;
    assert_eq!(vlan(), number);

    // Two tenants are two tables, and nothing is left of one that goes.
    let since = fake.say(2, ports(Some("vrf8")), &[]);
    fake.heartbeat(since, |h| h.error.is_none()).await;
    let moved = || sh("ip route show vrf vrf8").contains("10.128.0.1 ").then_some(());
    eventually("route in the other VRF", moved).await;
    fake.say(3, ports(None), &[]);
    let gone = || {
        let links = sh("ip -br link");
        let mut kinds = ["vrf", "vni", "svi"].into_iter();
        let vlans = sh("bridge vlan show dev tenants");
        let free = sh("bridge -d link show dev swp1").contains("master boot");
        (kinds.all(|kind| !links.contains(kind)) && !vlans.contains("100") && free).then_some(())
    };
    eventually("end of the VRFs", gone).await;
    agent.stop().await;
}
