//! Devices and addresses of a firewall, for systemd-networkd.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Firewall, LINK_MTU, Network, TENANT_MTU};
use crate::machine::{File, link, loopback, network};

/// Loopback, links, and for each network a VRF, a bridge in it, and a VXLAN interface in that.
///
/// Each network has a bridge of its own: a bridge that tells networks apart by VLAN would need ids that mean nothing
/// outside of it.
pub(super) fn files(firewall: &Firewall, tunnel: IpAddr) -> Vec<File> {
    let folder = "/etc/systemd/network";
    let mut files = Vec::new();
    let mut file = |name: String, text| files.push(File { path: format!("{folder}/{name}"), text });
    file("00-lo.network".into(), loopback(&firewall.underlay));
    for (index, mac) in firewall.links.iter().enumerate() {
        file(format!("10-lan{index}.link"), link(index, mac, LINK_MTU));
        file(format!("10-lan{index}.network"), network(index));
    }
    // A number in the order of the allocation, so that VRFs are there before what is in them.
    for (index, network) in firewall.networks.iter().enumerate() {
        let (vrf, bridge, vxlan) = (network.vrf(), network.bridge(), network.vxlan());
        let place = |first: usize, name: &str| format!("{}-{name}", first + index.min(99));
        file(place(200, &vrf) + ".netdev", vrf_device(network, table(index)));
        file(place(200, &vrf) + ".network", vrf_network(network));
        file(place(300, &bridge) + ".netdev", netdev(&bridge, "bridge", BRIDGE));
        file(place(300, &bridge) + ".network", bridge_network(&bridge, &vrf));
        file(place(400, &vxlan) + ".netdev", vxlan_device(network, tunnel));
        file(place(400, &vxlan) + ".network", port_network(&vxlan, &bridge));
    }
    files
}

/// Number of a VRF's routing table.
fn table(index: usize) -> usize {
    1000 + index
}

const BRIDGE: &str = "[Bridge]\nSTP=no\nForwardDelaySec=0\nMulticastSnooping=no\n";

fn netdev(name: &str, kind: &str, rest: &str) -> String {
    format!("[NetDev]\nName={name}\nKind={kind}\nMTUBytes={TENANT_MTU}\n\n{rest}")
}

fn vrf_device(network: &Network, table: usize) -> String {
    format!("[NetDev]\nName={}\nKind=vrf\n\n[VRF]\nTable={table}\n", network.vrf())
}

/// The addresses are on the VRF itself, which is up as long as it is there.
fn vrf_network(network: &Network) -> String {
    let mut text =
        format!("[Match]\nName={}\n\n[Network]\nLinkLocalAddressing=no\n", network.vrf());
    for address in &network.addresses {
        let _ = write!(text, "\n[Address]\nAddress={}\n", IpNet::from(*address));
    }
    text
}

/// Nobody but the fabric's routers is on this wire.
fn bridge_network(bridge: &str, vrf: &str) -> String {
    format!(
        "[Match]\nName={bridge}\n\n[Link]\nRequiredForOnline=no\n\n[Network]\nVRF={vrf}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nConfigureWithoutCarrier=yes\n"
    )
}

/// Which addresses are behind which tunnel is what EVPN says, never what a packet says.
fn vxlan_device(network: &Network, tunnel: IpAddr) -> String {
    let rest = format!(
        "[VXLAN]\nVNI={}\nLocal={tunnel}\nDestinationPort=4789\nMacLearning=no\nUDPChecksum=yes\nIndependent=yes\n",
        network.vni
    );
    netdev(&network.vxlan(), "vxlan", &rest)
}

fn port_network(vxlan: &str, bridge: &str) -> String {
    format!(
        "[Match]\nName={vxlan}\n\n[Network]\nBridge={bridge}\nLinkLocalAddressing=no\n\n[Bridge]\nLearning=no\nNeighborSuppression=yes\n"
    )
}
