//! Which routes a network of a firewall takes from another one.
//!
//! The inside learns how to get out, and the outside learns the addresses of its own range that live inside. Prefixes of the
//! inside are known outside only to this firewall, so that answers find their way back: nobody else is told.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Kind, Network};

/// What one network takes from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Index of the network that they are taken from.
    pub from: usize,
    /// Never taken, although a prefix below holds them.
    pub refused: Vec<IpNet>,
    /// Taken, and told to the fabric.
    pub open: Vec<IpNet>,
    /// Taken for this firewall alone.
    pub hidden: Vec<IpNet>,
}

/// What each network takes, in the order of the networks.
#[must_use]
pub fn imports(networks: &[Network]) -> Vec<Vec<Import>> {
    (0..networks.len())
        .map(|to| {
            (0..networks.len())
                .filter(|from| *from != to)
                .filter_map(|from| import(networks, to, from))
                .collect()
        })
        .collect()
}

fn import(networks: &[Network], to: usize, from: usize) -> Option<Import> {
    let (target, source) = (&networks[to], &networks[from]);
    let nothing = Import { from, refused: Vec::new(), open: Vec::new(), hidden: Vec::new() };
    let import = match (target.kind, source.kind) {
        (Kind::Private, Kind::External) | (Kind::Shared, Kind::External) => {
            // a shared network has a way out only if it says so, and says the same
            let wanted = |prefix: &&IpNet| {
                target.kind == Kind::Private || target.destinations.contains(prefix)
            };
            let destinations: Vec<_> = source.destinations.iter().filter(wanted).copied().collect();
            if target.kind == Kind::Shared && destinations.is_empty() {
                return None;
            }
            Import {
                refused: hosts(&source.addresses),
                open: joined(&[&destinations, &source.prefixes]),
                ..nothing
            }
        }
        (Kind::Private, Kind::Shared) => {
            // its way out may be another firewall: taken as it is told
            Import { open: joined(&[&source.prefixes, &source.destinations]), ..nothing }
        }
        (Kind::Shared, Kind::Private) => {
            Import { open: joined(&[&source.prefixes, &target.prefixes]), ..nothing }
        }
        (Kind::External, Kind::Private) => {
            Import { open: target.prefixes.clone(), hidden: source.prefixes.clone(), ..nothing }
        }
        (Kind::External, Kind::Shared) => {
            let way_out = source.destinations.iter().any(|d| target.destinations.contains(d));
            if !way_out {
                return None;
            }
            Import { open: target.prefixes.clone(), hidden: source.prefixes.clone(), ..nothing }
        }
        // two private networks of one project are apart unless they are shared, the outside is no way from one outside to another
        (Kind::Private, Kind::Private)
        | (Kind::Shared, Kind::Shared)
        | (Kind::External, Kind::External) => return None,
    };
    (!import.open.is_empty() || !import.hidden.is_empty()).then_some(import)
}

fn hosts(addresses: &[IpAddr]) -> Vec<IpNet> {
    addresses.iter().copied().map(IpNet::from).collect()
}

/// Each prefix once, in the order of the parts.
fn joined(parts: &[&[IpNet]]) -> Vec<IpNet> {
    let mut seen = BTreeSet::new();
    parts.iter().flat_map(|part| part.iter()).copied().filter(|p| seen.insert(*p)).collect()
}
