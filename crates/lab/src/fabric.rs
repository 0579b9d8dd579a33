//! The cables: namespaces, links, bridges and ports of the lab.
//!
//! [`plan`] is the whole fabric as text for `ip -batch`, one batch per namespace; [`apply`] feeds it.

mod cables;

pub use cables::{TO_EXIT, end};

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use crate::names;
use crate::netns;
use crate::shell;
use crate::topology::{
    EXIT, EXIT_ADDRESS, EXIT_HOST_LINK, EXIT_LOOPBACK, Fabric, HOST_ADDRESS, HOST_LINK, INTERNET,
    LEAVES, Leaf, Machine, SERVICE_ADDRESS, TENANT_PREFIXES, THIEF,
};

/// Commands for one namespace.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// `None` is the host's.
    pub namespace: Option<String>,
    /// Switches of the kernel, `path=value` below `/proc/sys/net`, set before the commands run.
    pub switches: Vec<(&'static str, &'static str)>,
    /// One command per line, as `ip -batch` reads them.
    pub commands: String,
}

/// Machines send long packets, and between leaves, and between leaves and firewalls, they travel inside others.
const PORT_MTU: u32 = 9000;
pub const UNDERLAY_MTU: u32 = 9216;

/// Routers forward, spread over equal paths, and accept what comes another way than they would send.
pub const ROUTER: [(&str, &str); 6] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/fib_multipath_hash_policy", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
];

/// The fabric with so many ports on each leaf, as far as it is the host's.
pub fn plan(fabric: Fabric, ports: u8) -> Vec<Batch> {
    let mut batches = match fabric {
        Fabric::Plain | Fabric::Netns => vec![host(), exit()],
        Fabric::Vm => vec![cables::host(), cables::control()],
    };
    batches.extend(LEAVES.map(|leaf| match fabric {
        Fabric::Plain | Fabric::Netns => leaf_batch(leaf, ports),
        Fabric::Vm => cables::of(leaf, ports),
    }));
    batches.push(routes());
    batches
}

fn host() -> Batch {
    let mut commands = format!("netns add {EXIT}\n");
    for leaf in LEAVES {
        let (name, namespace) = (leaf.name(), leaf.namespace());
        writeln!(commands, "netns add {namespace}").expect("text");
        writeln!(
            commands,
            "link add {name} netns {EXIT} type veth peer name up0 netns {namespace}"
        )
        .expect("text");
    }
    commands.push_str(&host_link());
    Batch { namespace: None, switches: Vec::new(), commands }
}

fn host_link() -> String {
    format!(
        "link add {HOST_LINK} type veth peer name {EXIT_HOST_LINK} netns {EXIT}\n\
         address add {HOST_ADDRESS}/30 dev {HOST_LINK}\n\
         link set {HOST_LINK} up\n"
    )
}

fn exit() -> Batch {
    let mut commands = format!(
        "link set lo up\n\
         address add {EXIT_LOOPBACK}/32 dev lo\n\
         address add {SERVICE_ADDRESS}/32 dev lo\n\
         address add {EXIT_ADDRESS}/30 dev {EXIT_HOST_LINK}\n\
         link set {EXIT_HOST_LINK} up\n"
    );
    for leaf in LEAVES {
        writeln!(commands, "link set {} mtu {UNDERLAY_MTU} up", leaf.name()).expect("text");
    }
    Batch { namespace: Some(EXIT.to_owned()), switches: ROUTER.to_vec(), commands }
}

/// Ports are persistent taps: they exist while a machine is off, without carrier, as on a real switch.
fn leaf_batch(leaf: Leaf, ports: u8) -> Batch {
    let mut commands = String::new();
    for machine in Machine::all(ports) {
        writeln!(commands, "tuntap add dev {} mode tap vnet_hdr", machine.port()).expect("text");
    }
    commands.push_str(&inside_leaf(leaf, ports));
    Batch { namespace: Some(leaf.namespace()), switches: ROUTER.to_vec(), commands }
}

/// What a leaf makes of its cards.
pub fn inside_leaf(leaf: Leaf, ports: u8) -> String {
    let mut commands = format!(
        "link set lo up\n\
         address add {}/32 dev lo\n\
         link set up0 mtu {UNDERLAY_MTU} up\n\
         link add boot type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
         address add {}/24 dev boot\n\
         address add {}/64 dev boot nodad\n\
         link set boot up\n",
        leaf.loopback(),
        leaf.boot_address(),
        leaf.boot_address6()
    );
    for machine in Machine::all(ports) {
        let port = machine.port();
        write!(
            commands,
            "link set {port} mtu {UNDERLAY_MTU}\n\
             link set {port} master boot\n\
             link set {port} up\n"
        )
        .expect("text");
    }
    commands
}

/// A namespace that plays a machine. What was on its ports is unplugged.
pub fn stand_in(fabric: Fabric, machine: Machine) -> Vec<Batch> {
    match fabric {
        Fabric::Plain | Fabric::Netns => linked(machine),
        Fabric::Vm => cables::stand_in(machine),
    }
}

/// Its cards are links to its ports, which are no taps any more.
fn linked(machine: Machine) -> Vec<Batch> {
    let (namespace, port) = (machine.namespace(), machine.port());
    let mut host = format!("netns add {namespace}\n");
    let mut own = "link set lo up\n".to_owned();
    let mut ports = Vec::new();
    for leaf in LEAVES {
        let (card, there) = (card(leaf), leaf.namespace());
        writeln!(
            host,
            "link add {card} netns {namespace} address {} type veth peer name {port} netns {there}",
            machine.mac(leaf)
        )
        .expect("text");
        writeln!(own, "link set {card} mtu {PORT_MTU} up").expect("text");
        ports.push(Batch {
            namespace: Some(there),
            switches: Vec::new(),
            commands: format!("link set {port} mtu {PORT_MTU}\nlink set {port} up\n"),
        });
    }
    let unplug = LEAVES.map(|leaf| Batch {
        namespace: Some(leaf.namespace()),
        switches: Vec::new(),
        commands: format!("link del {port}\n"),
    });
    let host = Batch { namespace: None, switches: Vec::new(), commands: host };
    let own = Batch { namespace: Some(namespace), switches: ROUTER.to_vec(), commands: own };
    unplug.into_iter().chain([host, own]).chain(ports).collect()
}

/// Name of a stand-in's card towards a leaf.
pub fn card(leaf: Leaf) -> String {
    format!("lan{}", leaf.number - 1)
}

/// A namespace that hangs on a leaf's boot network by its link `port0`. Where ports have cables it has that of this machine,
/// which nobody else may have.
pub fn thief(fabric: Fabric, leaf: Leaf, machine: Machine) -> Vec<Batch> {
    let namespace = leaf.namespace();
    let make = batch(None, format!("netns add {THIEF}\n"));
    let plug = match fabric {
        Fabric::Plain | Fabric::Netns => vec![
            batch(
                None,
                format!(
                    "link add port0 netns {THIEF} type veth peer name thief0 netns {namespace}\n"
                ),
            ),
            batch(Some(&namespace), "link set thief0 master boot\nlink set thief0 up\n".to_owned()),
        ],
        Fabric::Vm => vec![cables::lend(leaf, machine, THIEF, "port0")],
    };
    let own = batch(Some(THIEF), "link set lo up\nlink set port0 up\n".to_owned());
    std::iter::once(make).chain(plug).chain([own]).collect()
}

/// Takes that away again.
pub fn without_thief(fabric: Fabric, leaf: Leaf, machine: Machine) -> Vec<Batch> {
    let mut batches = match fabric {
        Fabric::Plain | Fabric::Netns => Vec::new(),
        Fabric::Vm => cables::give_back(leaf, machine, THIEF, "port0"),
    };
    batches.push(batch(None, format!("netns del {THIEF}\n")));
    batches
}

fn batch(namespace: Option<&str>, commands: String) -> Batch {
    Batch { namespace: namespace.map(str::to_owned), switches: Vec::new(), commands }
}

/// The host reaches tenants' machines and the control plane.
fn routes() -> Batch {
    let service = format!("{SERVICE_ADDRESS}/32");
    let mut commands = String::new();
    for prefix in TENANT_PREFIXES.into_iter().chain([service.as_str()]) {
        writeln!(commands, "route replace {prefix} via {EXIT_ADDRESS} dev {HOST_LINK}")
            .expect("text");
    }
    Batch { namespace: None, switches: Vec::new(), commands }
}

/// Makes the fabric.
///
/// # Errors
/// Not root, or a link of the same name is there: `lab down` removes it.
pub fn apply(batches: &[Batch]) -> Result<()> {
    for batch in batches {
        let place = batch.namespace.as_deref().unwrap_or("the host");
        one(batch).with_context(|| format!("cannot make the network of {place}"))?;
    }
    Ok(())
}

fn one(batch: &Batch) -> Result<()> {
    let feed =
        || shell::feed(&mut shell::command("ip", ["-batch", "-"]), &batch.commands).map(drop);
    let Some(namespace) = &batch.namespace else { return feed() };
    netns::within(namespace, || {
        for (switch, value) in &batch.switches {
            let path = Path::new("/proc/sys/net").join(switch);
            fs::write(&path, value).with_context(|| format!("cannot set {}", path.display()))?;
        }
        feed()
    })
}

/// Names of the lab's namespaces.
pub fn namespaces() -> Vec<String> {
    let mut all = vec![EXIT.to_owned(), INTERNET.to_owned(), THIEF.to_owned()];
    all.extend(Machine::every().map(Machine::namespace));
    all.extend(LEAVES.map(Leaf::namespace));
    all
}

/// What is there of the fabric: namespaces and the link of the host.
pub fn leftovers() -> Vec<String> {
    let mut left: Vec<_> =
        namespaces().into_iter().filter(|namespace| netns::file(namespace).exists()).collect();
    if Path::new("/sys/class/net").join(HOST_LINK).exists() {
        left.push(HOST_LINK.to_owned());
    }
    if names::there() {
        left.push(names::FOLDER.to_owned());
    }
    left
}

/// Removes the fabric as far as it is there. Links, bridges and ports go with their namespace, routes with their
/// link. The folder of namespaces goes, too, when nobody else has one.
///
/// # Errors
/// A namespace cannot be removed.
pub fn remove() -> Result<()> {
    names::remove()?;
    for name in leftovers() {
        let kind = if name == HOST_LINK { ["link", "del"] } else { ["netns", "del"] };
        let result = shell::run(&mut shell::command("ip", [kind[0], kind[1], &name]));
        // the link may have gone with its namespace in the meantime
        if leftovers().contains(&name) {
            result.with_context(|| format!("cannot remove {name}"))?;
        }
    }
    remove_empty_folder();
    Ok(())
}

/// `ip netns add` makes `/run/netns` and mounts it over itself; nobody needs that when it is empty.
fn remove_empty_folder() {
    let folder = Path::new(netns::FOLDER);
    let empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    // busy or not mounted: somebody else's
    if empty && nix::mount::umount(folder).is_ok() {
        let removed: io::Result<()> = fs::remove_dir(folder);
        removed.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(batches: &[Batch]) -> String {
        let mut text = String::new();
        for batch in batches {
            writeln!(text, "[{}]", batch.namespace.as_deref().unwrap_or("host")).expect("text");
            text.push_str(&batch.commands);
        }
        text
    }

    #[test]
    fn the_plan_is_readable() {
        let text = text(&plan(Fabric::Netns, 1));
        expect_test::expect![[r#"
            [host]
            netns add mlab-exit
            netns add mlab-leaf01
            link add leaf01 netns mlab-exit type veth peer name up0 netns mlab-leaf01
            netns add mlab-leaf02
            link add leaf02 netns mlab-exit type veth peer name up0 netns mlab-leaf02
            link add mlab-host type veth peer name host0 netns mlab-exit
            address add 169.254.77.1/30 dev mlab-host
            link set mlab-host up
            [mlab-exit]
            link set lo up
            address add 10.0.0.21/32 dev lo
            address add 10.255.0.1/32 dev lo
            address add 169.254.77.2/30 dev host0
            link set host0 up
            link set leaf01 mtu 9216 up
            link set leaf02 mtu 9216 up
            [mlab-leaf01]
            tuntap add dev swp1 mode tap vnet_hdr
            link set lo up
            address add 10.0.0.11/32 dev lo
            link set up0 mtu 9216 up
            link add boot type bridge forward_delay 0 stp_state 0 mcast_snooping 0
            address add 10.0.1.1/24 dev boot
            address add fd99:0:0:1::1/64 dev boot nodad
            link set boot up
            link set swp1 mtu 9216
            link set swp1 master boot
            link set swp1 up
            [mlab-leaf02]
            tuntap add dev swp1 mode tap vnet_hdr
            link set lo up
            address add 10.0.0.12/32 dev lo
            link set up0 mtu 9216 up
            link add boot type bridge forward_delay 0 stp_state 0 mcast_snooping 0
            address add 10.0.2.1/24 dev boot
            address add fd99:0:0:2::1/64 dev boot nodad
            link set boot up
            link set swp1 mtu 9216
            link set swp1 master boot
            link set swp1 up
            [host]
            route replace 10.100.0.0/14 via 169.254.77.2 dev mlab-host
            route replace 10.254.0.0/16 via 169.254.77.2 dev mlab-host
            route replace 10.255.0.1/32 via 169.254.77.2 dev mlab-host
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn the_host_has_the_cables_of_guests() {
        let machine = Machine { number: 1 };
        let stand_in = text(&stand_in(Fabric::Vm, machine));
        let thief = [thief, without_thief].map(|of| text(&of(Fabric::Vm, LEAVES[0], machine)));
        let text = [text(&plan(Fabric::Vm, 1)), stand_in].into_iter().chain(thief);
        let text = text.collect::<Vec<_>>().join("----\n");
        expect_test::expect![[r#"
            [host]
            netns add mlab-exit
            netns add mlab-leaf01
            netns add mlab-leaf02
            link add mlab-host type veth peer name host0 netns mlab-exit
            address add 169.254.77.1/30 dev mlab-host
            link set mlab-host up
            [mlab-exit]
            link set lo up
            address add 10.255.0.1/32 dev lo
            address add 169.254.77.2/30 dev host0
            link set host0 up
            tuntap add dev exit mode tap vnet_hdr
            address add 169.254.78.1/30 dev exit
            link set exit up
            route add 10.100.0.0/14 via 169.254.78.2 dev exit
            route add 10.254.0.0/16 via 169.254.78.2 dev exit
            route add 10.0.0.0/16 via 169.254.78.2 dev exit
            [mlab-leaf01]
            link set lo up
            link add cable1 type bridge forward_delay 0 stp_state 0 mcast_snooping 0 group_fwd_mask 0x4000
            tuntap add dev end1 mode tap vnet_hdr
            link set end1 mtu 9216
            link set end1 master cable1
            link set end1 up
            tuntap add dev swp1 mode tap vnet_hdr
            link set swp1 mtu 9216
            link set swp1 master cable1
            link set swp1 up
            link set cable1 mtu 9216 up
            [mlab-leaf02]
            link set lo up
            link add cable1 type bridge forward_delay 0 stp_state 0 mcast_snooping 0 group_fwd_mask 0x4000
            tuntap add dev end1 mode tap vnet_hdr
            link set end1 mtu 9216
            link set end1 master cable1
            link set end1 up
            tuntap add dev swp1 mode tap vnet_hdr
            link set swp1 mtu 9216
            link set swp1 master cable1
            link set swp1 up
            link set cable1 mtu 9216 up
            [host]
            route replace 10.100.0.0/14 via 169.254.77.2 dev mlab-host
            route replace 10.254.0.0/16 via 169.254.77.2 dev mlab-host
            route replace 10.255.0.1/32 via 169.254.77.2 dev mlab-host
            ----
            [host]
            netns add mlab-m1
            [mlab-leaf01]
            link set end1 down
            link set end1 nomaster
            link set end1 netns mlab-m1 name lan0
            [mlab-leaf02]
            link set end1 down
            link set end1 nomaster
            link set end1 netns mlab-m1 name lan1
            [mlab-m1]
            link set lo up
            link set lan0 address 52:54:00:6d:01:01 mtu 9000 up
            link set lan1 address 52:54:00:6d:01:02 mtu 9000 up
            ----
            [host]
            netns add mlab-thief
            [mlab-leaf01]
            link set end1 down
            link set end1 nomaster
            link set end1 netns mlab-thief name port0
            [mlab-thief]
            link set lo up
            link set port0 up
            ----
            [mlab-thief]
            link set port0 down
            link set port0 netns mlab-leaf01 name end1
            [mlab-leaf01]
            link set end1 master cable1
            link set end1 up
            [host]
            netns del mlab-thief
        "#]].assert_eq(&text);
    }
}
