//! What every backend must do.

use std::collections::BTreeSet;
use std::process::Command;

use guest::Image;
use netconf::leaf::evpn::{Evpn, Tenant, Vrfs};
use netconf::leaf::{Leaf, Liveness, Port, Role};
use switch::backend::plain::Plain;
use switch::backend::simulated::Simulated;
use switch::backend::vrf::Vrf;
use switch::backend::vrf::cumulus::Cumulus;
use switch::backend::vrf::kernel::Kernel;
use switch::backend::vrf::netns::Namespaces;
use switch::backend::{Backend, Observed, Place, Routing, Step};
use switch::frr::{Change, Config};

use crate::in_guest;
use crate::world::World;

/// What ports are called.
pub(crate) struct Ports {
    pub(crate) machine: &'static str,
    pub(crate) firewall: &'static str,
    pub(crate) uplink: &'static str,
}

const LINUX: Ports = Ports { machine: "swp1", firewall: "swp2", uplink: "up0" };

async fn contract(device: &impl Backend, vrfs: bool) {
    contract_of(device, vrfs, &LINUX).await;
}

/// A device with these ports.
pub(crate) async fn contract_of(device: &impl Backend, vrfs: bool, names: &Ports) {
    let Ports { machine, firewall, uplink } = names;
    let port = (*machine).to_owned();
    let leaf = |ports: &[&str]| leaf(ports, names);
    let peered: BTreeSet<_> = [port.clone()].into();

    device.apply(&Step::Forward).await.unwrap();
    assert!(look(device).await.forwards);

    // Each step twice: done already is no error.
    for _ in 0..2 {
        device.apply(&Step::Boot(port.clone())).await.unwrap();
        assert_eq!(look(device).await.ports[*machine].place, Place::Boot);
    }
    let tenant = |vni: u32| vrfs.then_some(vni);
    if vrfs {
        for _ in 0..2 {
            device.apply(&Step::Prepare(7)).await.unwrap();
            assert_eq!(look(device).await.tenants, [(7, true)].into());
        }
        let nowhere = Step::Route(port.clone(), Some(9));
        assert!(device.apply(&nowhere).await.is_err(), "{nowhere}");
    }
    for vni in [None, tenant(7)] {
        for _ in 0..2 {
            device.apply(&Step::Route(port.clone(), vni)).await.unwrap();
            assert_eq!(look(device).await.ports[*machine].place, Place::Routed(vni));
        }
    }
    for _ in 0..2 {
        device.apply(&Step::Leave(port.clone())).await.unwrap();
        assert_eq!(look(device).await.ports[*machine].place, Place::Routed(None));
    }
    device.apply(&Step::Route(port.clone(), tenant(7))).await.unwrap();
    for up in [false, false, true, true] {
        device.apply(&Step::Admin(port.clone(), up)).await.unwrap();
        assert_eq!(look(device).await.ports[*machine].up, up);
    }

    // Routing becomes what is wanted, whatever was before, and the same again is nothing.
    for leaf in [
        leaf(&[]),
        leaf(&[machine]),
        leaf(&[machine, firewall]),
        leaf(&[firewall]),
        leaf(&[machine]),
    ] {
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
        assert!(!peers.contains_key(*machine) && peers.contains_key(*uplink));
    }

    for step in [
        Step::Boot("swp9".into()),
        Step::Route("swp9".into(), None),
        Step::Admin("swp9".into(), true),
    ] {
        assert!(device.apply(&step).await.is_err(), "{step}");
    }
    device.sessions().await.unwrap();

    // Back from wherever it is, as up as it was.
    for _ in 0..2 {
        device.apply(&Step::Boot(port.clone())).await.unwrap();
        let now = &look(device).await.ports[*machine];
        assert_eq!((&now.place, now.up), (&Place::Boot, true));
    }
    if vrfs {
        let nobody = Config::parse(&device.routing(&leaf(&[])));
        device.apply(&routing(&nobody)).await.unwrap();
        for _ in 0..2 {
            device.apply(&Step::CleanUp(7)).await.unwrap();
            assert!(look(device).await.tenants.is_empty());
        }
        // The same tenant comes again, and a VRF with a port in it stays.
        device.apply(&Step::Prepare(7)).await.unwrap();
        device.apply(&Step::Route(port.clone(), Some(7))).await.unwrap();
        assert_eq!(look(device).await.tenants, [(7, true)].into());
    }
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

/// With a tenant's machine and a firewall, as far as they are among `ports`.
pub(crate) fn leaf(ports: &[&str], names: &Ports) -> Evpn {
    let port = |name: &&str| Port {
        name: (*name).to_owned(),
        role: if *name == names.firewall { Role::Firewall } else { Role::Machine },
        accept: ["10.128.0.0/22", "2001:db8:1::/64"].map(|prefix| prefix.parse().unwrap()).into(),
        description: Some(format!("vrf{} machine", ports.len())),
    };
    let (machines, firewalls): (Vec<_>, Vec<_>) =
        ports.iter().map(port).partition(|port| port.role == Role::Machine);
    let leaf = Leaf {
        hostname: "leaf01".into(),
        asn: 4_200_000_011,
        loopback: [10, 0, 0, 11].into(),
        boot: vec!["10.0.1.0/24".parse().unwrap(), "fd99:0:0:1::/64".parse().unwrap()],
        protected: vec!["10.255.0.0/24".parse().unwrap()],
        uplinks: vec![names.uplink.into()],
        ports: firewalls,
        maximum_prefix: 100,
        liveness: Liveness::default(),
    };
    let tenants = match machines.is_empty() {
        true => Vec::new(),
        false => vec![Tenant { vni: 7, ports: machines }],
    };
    let firewalls = [(names.firewall.to_owned(), [7].into())].into();
    Evpn { leaf, tenants, firewalls, vrfs: Vrfs::Kernel }
}

#[tokio::test]
async fn in_memory() {
    contract(&Simulated::new(&["swp1", "swp2"]), false).await;
    contract(&Simulated::with_vrfs(&["swp1", "swp2"]), true).await;
}

#[test]
fn plain_linux() {
    let Some(world) = World::new() else { return };
    world.within("leaf", async || {
        let device = Plain::new(world.config("http://127.0.0.1:1")).unwrap();
        contract(&device, false).await;
    });
}

#[test]
fn network_namespaces_as_vrfs() {
    let Some(world) = World::with_vrfs() else { return };
    world.within("leaf", async || {
        let config = world.config("http://127.0.0.1:1");
        let device = Vrf::new(config.clone(), Namespaces::new(config).unwrap());
        contract(&device, true).await;
    });
}

#[test]
fn vrfs_of_the_kernel() {
    in_guest::run(
        "contract::vrfs_of_the_kernel",
        "kernel",
        |image| image,
        async |config| {
            let device = Vrf::new(config.clone(), Kernel::new(config).unwrap());
            contract(&device, true).await;
        },
    );
}

/// What an operator has beside our file, see docs/switch.md.
const INTERFACES: &str = r"
source /etc/network/interfaces.d/*.intf
auto lo
iface lo inet loopback
    address 10.0.0.11/32
auto up0
iface up0
    mtu 9216
auto boot
iface boot
    address 10.0.1.1/24
    bridge-ports none
    bridge-ports-condone-regex ^swp
";

/// With ifupdown2, which is not installed on the host: it would take over the host's own interfaces.
fn ifupdown2(image: Image) -> Image {
    let package = guest::package::files(&in_guest::cache(), "ifupdown2").unwrap();
    let program = package.join("usr/share/ifupdown2");
    let compile = ["-m", "compileall", "-q"];
    Command::new("/usr/bin/python3").args(compile).arg(&program).status().unwrap();
    image
        .program("/usr/bin/python3")
        .tree("/usr/lib/python3.11")
        .tree_at(program, "/usr/share/ifupdown2")
        .tree_at(package.join("etc/network/ifupdown2"), "/etc/network/ifupdown2")
        .link("/sbin/ifup", "/usr/share/ifupdown2/ifupdown2")
        .link("/sbin/ifreload", "/usr/share/ifupdown2/ifupdown2")
        .text("/etc/network/interfaces", 0o644, INTERFACES)
        .text("/etc/network/interfaces.d/other.intf", 0o644, "")
        .start("mkdir -p /run/network; chmod +x /usr/share/ifupdown2/__main__.py; ifup -a")
}

#[test]
#[ignore = "minutes: a dozen reloads of ifupdown2, which is Python, in software emulation"]
fn vrfs_of_the_kernel_by_ifupdown2() {
    let inside = in_guest::inside("cumulus", async |config| {
        let device = Cumulus::new(config).unwrap();
        contract(&device, true).await;
        // What ifupdown2 refuses changes nothing.
        let (file, other) =
            ("/etc/network/interfaces.d/metal.intf", "/etc/network/interfaces.d/other.intf");
        let before = std::fs::read_to_string(file).unwrap();
        std::fs::write(other, "auto vrf9\niface vrf9\n    vrf-table 9\n").unwrap();
        let error = device.apply(&Step::Prepare(8)).await.unwrap_err().to_string();
        assert!(error.contains("out of reserved range"), "{error}");
        assert_eq!(std::fs::read_to_string(file).unwrap(), before);
        assert_eq!(look(&device).await.tenants, [(7, true)].into());
        std::fs::write(other, "").unwrap();
    });
    if inside {
        return;
    }
    let Some(leaf) = in_guest::Leaf::start(ifupdown2) else { return };
    leaf.pass("contract::vrfs_of_the_kernel_by_ifupdown2");
    leaf.guest.reboot().unwrap();
    for (device, wanted) in [
        ("swp1", "master vrf7"),
        ("svi7", "master vrf7"),
        ("vni7", "master tenants"),
        ("swp2", "state UP"),
    ] {
        let said = leaf.guest.ok(&["ip", "link", "show", device]).unwrap();
        assert!(said.contains(wanted), "after a reboot: {said}");
    }
}
