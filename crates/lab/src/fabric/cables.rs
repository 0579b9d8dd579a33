//! Cables of leaves that are guests: a tap for the leaf's end, one for the machine's end, and a bridge that joins them and
//! lets everything through, neighbour discovery, too. They lie in a namespace for each leaf. A stand-in gets the leaf's end
//! itself for a card, so that it sees when the leaf loses power.

use std::fmt::Write as _;

use super::{Batch, PORT_MTU, ROUTER, UNDERLAY_MTU, batch, card, host_link};
use crate::topology::{
    CONTROL_LINK, EXIT, EXIT_ADDRESS, EXIT_HOST_LINK, LEAVES, Leaf, Machine, SERVICE_ADDRESS,
    TENANT_PREFIXES,
};

/// Name of the tap between the control plane and the exit.
pub const TO_EXIT: &str = "exit";
/// Routers of the fabric and its boot networks.
const FABRIC_PREFIX: &str = "10.0.0.0/16";
/// A bridge keeps neighbour discovery to itself unless it is told otherwise: 01:80:c2:00:00:0e is bit 14.
const LLDP: &str = "0x4000";
/// Nothing of the host may speak on a cable.
const SILENT: [(&str, &str); 1] = [("ipv6/conf/default/disable_ipv6", "1")];

/// Name of a cable's end in the leaf.
pub fn end(machine: Machine) -> String {
    format!("end{}", machine.number)
}

pub(super) fn host() -> Batch {
    let mut commands = format!("netns add {EXIT}\n");
    for leaf in LEAVES {
        writeln!(commands, "netns add {}", leaf.namespace()).expect("text");
    }
    commands.push_str(&host_link());
    Batch { namespace: None, switches: Vec::new(), commands }
}

/// The place of the control plane; the exit is its way into the fabric.
pub(super) fn control() -> Batch {
    let [own, exit] = CONTROL_LINK;
    let mut commands = format!(
        "link set lo up\n\
         address add {SERVICE_ADDRESS}/32 dev lo\n\
         address add {EXIT_ADDRESS}/30 dev {EXIT_HOST_LINK}\n\
         link set {EXIT_HOST_LINK} up\n\
         tuntap add dev {TO_EXIT} mode tap vnet_hdr\n\
         address add {own}/30 dev {TO_EXIT}\n\
         link set {TO_EXIT} up\n"
    );
    for prefix in TENANT_PREFIXES.into_iter().chain([FABRIC_PREFIX]) {
        writeln!(commands, "route add {prefix} via {exit} dev {TO_EXIT}").expect("text");
    }
    Batch { namespace: Some(EXIT.to_owned()), switches: ROUTER.to_vec(), commands }
}

/// All cables of a leaf.
pub(super) fn of(leaf: Leaf, ports: u8) -> Batch {
    let mut commands = "link set lo up\n".to_owned();
    for machine in Machine::all(ports) {
        let bridge = format!("cable{}", machine.number);
        writeln!(
            commands,
            "link add {bridge} type bridge forward_delay 0 stp_state 0 mcast_snooping 0 group_fwd_mask {LLDP}"
        )
        .expect("text");
        for tap in [end(machine), machine.port()] {
            write!(
                commands,
                "tuntap add dev {tap} mode tap vnet_hdr\n\
                 link set {tap} mtu {UNDERLAY_MTU}\n\
                 link set {tap} master {bridge}\n\
                 link set {tap} up\n"
            )
            .expect("text");
        }
        writeln!(commands, "link set {bridge} mtu {UNDERLAY_MTU} up").expect("text");
    }
    Batch { namespace: Some(leaf.namespace()), switches: SILENT.to_vec(), commands }
}

/// The leaf's end of a machine's cable becomes a card of somebody else.
pub(super) fn lend(leaf: Leaf, machine: Machine, to: &str, card: &str) -> Batch {
    let end = end(machine);
    let commands = format!(
        "link set {end} down\n\
         link set {end} nomaster\n\
         link set {end} netns {to} name {card}\n"
    );
    batch(Some(&leaf.namespace()), commands)
}

/// The end of [`lend`].
pub(super) fn give_back(leaf: Leaf, machine: Machine, from: &str, card: &str) -> Vec<Batch> {
    let (end, home) = (end(machine), leaf.namespace());
    let unplug = format!("link set {card} down\nlink set {card} netns {home} name {end}\n");
    let plug = format!("link set {end} master cable{}\nlink set {end} up\n", machine.number);
    vec![batch(Some(from), unplug), batch(Some(&home), plug)]
}

/// A namespace that plays a machine.
pub(super) fn stand_in(machine: Machine) -> Vec<Batch> {
    let namespace = machine.namespace();
    let mut own = "link set lo up\n".to_owned();
    let mut plug = Vec::new();
    for leaf in LEAVES {
        let card = card(leaf);
        plug.push(lend(leaf, machine, &namespace, &card));
        let mac = machine.mac(leaf);
        writeln!(own, "link set {card} address {mac} mtu {PORT_MTU} up").expect("text");
    }
    let host = Batch {
        namespace: None,
        switches: Vec::new(),
        commands: format!("netns add {namespace}\n"),
    };
    let own = Batch { namespace: Some(namespace), switches: ROUTER.to_vec(), commands: own };
    [host].into_iter().chain(plug).chain([own]).collect()
}
