//! Networks as the control plane tells them, in text, for whoever makes files or rules from them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Kind, Network};

/// A network of the allocation that was not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Its id, for sentences about what is wrong.
    pub id: &'a str,
    /// What it is to the firewall; nothing when it is none of these.
    pub kind: Option<Kind>,
    /// Number of its VRF.
    pub vrf: u64,
    /// Addresses of the firewall in it.
    pub addresses: &'a [String],
    /// Address ranges of the network.
    pub prefixes: &'a [String],
    /// What can be reached through it.
    pub destinations: &'a [String],
    /// Whether packets from private networks leave through it with the firewall's IPv4 address.
    pub masquerade: bool,
}

impl Told<'_> {
    /// Reads it.
    ///
    /// # Errors
    /// A sentence about what cannot be used.
    pub fn read(self) -> Result<Network, String> {
        let Self { id, vrf, .. } = self;
        let kind = self.kind.ok_or_else(|| {
            format!("a firewall cannot join the network {id}: it is neither private nor shared nor external")
        })?;
        let vni = u32::try_from(vrf).ok().filter(|vni| (1..1 << 24).contains(vni));
        let address = |ip: &String| {
            ip.parse::<IpAddr>()
                .map_err(|_| format!("the address {ip:?} in the network {id} is none"))
        };
        let prefix = |prefix: &String| {
            prefix
                .parse::<IpNet>()
                .map(|prefix| prefix.trunc())
                .map_err(|_| format!("the prefix {prefix:?} of the network {id} is none"))
        };
        Ok(Network {
            vni: vni.ok_or_else(|| format!("the network {id} has no VXLAN id: {vrf}"))?,
            kind,
            addresses: self.addresses.iter().map(address).collect::<Result<_, _>>()?,
            prefixes: self.prefixes.iter().map(prefix).collect::<Result<_, _>>()?,
            destinations: self.destinations.iter().map(prefix).collect::<Result<_, _>>()?,
            masquerade: self.masquerade,
        })
    }
}
