//! Network of an installed firewall: a router that is part of the fabric's underlay and has one VRF for each network of its
//! allocation, joined to the fabric by EVPN.
//!
//! What can be reached through which network is decided here, by the routes that one VRF takes from another; which packets
//! may really pass is decided by rules on top of it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::machine::File;

mod frr;
mod import;
mod networkd;
pub mod rules;
mod told;

pub use frr::frr;
pub use import::{Import, imports};
pub use told::Told;

/// What the files are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// Name that the routing daemon shows to its neighbours.
    pub hostname: String,
    /// Autonomous system of this machine, in the underlay and in all its networks.
    pub asn: u32,
    /// Of several firewalls of a network the fabric uses the one with the smallest distance; those with equal ones share the traffic.
    pub distance: u8,
    /// Addresses in the underlay. The first IPv4 address is router id and end of all tunnels.
    pub underlay: Vec<IpAddr>,
    /// Networks that it joins, without the underlay.
    pub networks: Vec<Network>,
    /// Hardware addresses of the links to the leaves; the first becomes `lan0`, the next `lan1`, and so on.
    pub links: Vec<String>,
}

/// A network that the firewall joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// VXLAN id, which is the number of the VRF, too.
    pub vni: u32,
    /// What it is to the firewall.
    pub kind: Kind,
    /// Addresses of the firewall in it.
    pub addresses: Vec<IpAddr>,
    /// Address ranges of the network.
    pub prefixes: Vec<IpNet>,
    /// What can be reached through it.
    pub destinations: Vec<IpNet>,
    /// Whether packets from private networks leave through it with the firewall's IPv4 address.
    pub masquerade: bool,
}

/// What a network is to the firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A network of the firewall's own project.
    Private,
    /// A network of another project that is open to others.
    Shared,
    /// The outside, for instance the internet.
    External,
}

impl Network {
    /// Its VRF, which has the firewall's addresses; forwarded packets come in by this name.
    #[must_use]
    pub fn vrf(&self) -> String {
        format!("vrf{}", self.vni)
    }

    /// Its bridge; forwarded packets go out by this name. Tools of existing images look for it.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("vlan{}", self.vni)
    }

    /// Its way into the fabric.
    #[must_use]
    pub fn vxlan(&self) -> String {
        format!("vni{}", self.vni)
    }
}

/// Largest packet on the links, in bytes: tenants' packets travel inside others.
pub const LINK_MTU: u32 = 9216;
/// Largest packet of a tenant, in bytes.
pub const TENANT_MTU: u32 = 9000;

impl Firewall {
    /// Router id and source of all tunnels.
    #[must_use]
    pub fn tunnel(&self) -> Option<IpAddr> {
        self.underlay.iter().copied().find(IpAddr::is_ipv4)
    }
}

/// All files: systemd-networkd's devices and addresses, settings of the kernel, and the complete FRR configuration.
///
/// # Errors
/// A sentence about what the allocation lacks.
pub fn files(firewall: &Firewall) -> Result<Vec<File>, String> {
    let tunnel = firewall
        .tunnel()
        .ok_or("the firewall has no IPv4 address in the underlay: nobody could send it a packet")?;
    let mut files = networkd::files(firewall, tunnel);
    files.push(File { path: "/etc/frr/frr.conf".into(), text: frr(firewall) });
    files.push(File {
        path: "/etc/modules-load.d/metal-firewall.conf".into(),
        text: MODULES.into(),
    });
    files.push(File { path: "/etc/sysctl.d/90-metal-firewall.conf".into(), text: SETTINGS.into() });
    Ok(files)
}

/// Settings below `net.netfilter` are there only once their module is.
const MODULES: &str = "nf_conntrack\nvrf\nvxlan\n";

/// A daemon of this machine that listens everywhere listens in the underlay only, not in tenants' VRFs. Nothing is forwarded,
/// whatever the image says: the agent switches it on when its filter is in place.
const SETTINGS: &str = "net.ipv4.ip_forward = 0
net.ipv6.conf.all.forwarding = 0
net.ipv4.conf.all.rp_filter = 0
net.ipv4.conf.default.rp_filter = 0
net.ipv4.conf.all.accept_redirects = 0
net.ipv4.conf.all.send_redirects = 0
net.ipv6.conf.all.accept_redirects = 0
net.ipv4.fib_multipath_hash_policy = 1
net.ipv6.fib_multipath_hash_policy = 1
net.ipv4.tcp_l3mdev_accept = 0
net.ipv4.udp_l3mdev_accept = 0
net.ipv6.conf.all.keep_addr_on_down = 1
net.netfilter.nf_conntrack_max = 262144
net.netfilter.nf_conntrack_tcp_loose = 0
net.netfilter.nf_conntrack_tcp_timeout_established = 86400
";

#[cfg(test)]
mod tests;
