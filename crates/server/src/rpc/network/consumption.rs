//! How much of networks is used.

use std::collections::HashMap;

use model::network::Type;
use model::prefix::{Block, Family};
use proto::api;
use store::Tx;
use store::prefix::{self, Usage, Usages};

use super::{Error, kind_of};

/// Adds the consumption of one network.
pub(super) async fn add(tx: &mut Tx, network: &mut api::Network) -> Result<(), Error> {
    let usages = prefix::usage(tx, Usages::Network(&network.id)).await?;
    set(network, &usages);
    Ok(())
}

/// Adds the consumption of the networks of a project, or of all.
pub(super) async fn add_all(
    tx: &mut Tx,
    networks: &mut [api::Network],
    project: Option<&str>,
) -> Result<(), Error> {
    let of = match project {
        // the networks of nobody are asked for by operators
        None | Some("") => Usages::All,
        Some(project) => Usages::Project(project),
    };
    let usages = match networks {
        [] => return Ok(()),
        [only] => prefix::usage(tx, Usages::Network(&only.id)).await?,
        _ => prefix::usage(tx, of).await?,
    };
    let mut by_network: HashMap<String, Vec<Usage>> = HashMap::new();
    for usage in usages {
        by_network.entry(usage.network.clone()).or_default().push(usage);
    }
    for network in networks {
        let own = project.is_none_or(|project| network.project.as_deref().unwrap_or("") == project);
        if own {
            set(network, by_network.get(&network.id).map_or(&[], Vec::as_slice));
        }
    }
    Ok(())
}

/// Sums up the prefixes of each family. What projects take from a namespaced super network is each one's own, so that there is
/// nothing to sum up.
fn set(network: &mut api::Network, usages: &[Usage]) {
    let mut consumption = api::NetworkConsumption::default();
    if kind_of(network) != Type::SuperNamespaced {
        for usage in usages {
            let sum = match usage.block.family {
                Family::V4 => consumption.ipv4.get_or_insert_default(),
                Family::V6 => consumption.ipv6.get_or_insert_default(),
            };
            count(sum, usage);
        }
    }
    network.consumption = consumption.into();
}

fn count(sum: &mut api::NetworkUsage, usage: &Usage) {
    let positive = |count: i64| u64::try_from(count).unwrap_or_default();
    let block: &Block = &usage.block;
    sum.available_ips = sum.available_ips.saturating_add(block.addresses());
    sum.used_ips += block.reserved() + positive(usage.addresses);
    sum.used_prefixes += positive(usage.children);
    // nothing carved: the whole prefix is one free block, if children of four addresses fit
    let whole = u64::from(block.length + 2 <= block.family.bits());
    sum.available_prefixes += if usage.children == 0 { whole } else { positive(usage.free_blocks) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_a_family_are_summed_up() {
        let usage = |net: &str, addresses, children, free_blocks| {
            let net: ipnet::IpNet = net.parse().expect("prefix");
            Usage {
                prefix: String::new(),
                network: "n".into(),
                block: net.into(),
                addresses,
                children,
                free_blocks,
            }
        };
        let mut network = api::Network::default();
        set(
            &mut network,
            &[
                usage("10.0.0.0/24", 3, 0, 0),
                usage("10.0.1.0/30", 0, 0, 0),
                usage("10.1.0.0/16", 0, 2, 5),
                usage("10.2.0.0/31", 1, 0, 0),
                usage("fd00::/64", 1, 0, 0),
            ],
        );
        let v4 = network.consumption.ipv4.as_option().expect("ipv4");
        assert_eq!(v4.available_ips, 256 + 4 + 65536 + 2);
        assert_eq!(v4.used_ips, (2 + 3) + 2 + 2 + 1);
        assert_eq!((v4.available_prefixes, v4.used_prefixes), (1 + 1 + 5, 2));
        let v6 = network.consumption.ipv6.as_option().expect("ipv6");
        assert_eq!((v6.available_ips, v6.used_ips), (u64::MAX, 2));
        network.r#type = api::NetworkType::NETWORK_TYPE_SUPER_NAMESPACED.into();
        set(&mut network, &[usage("10.0.0.0/24", 0, 0, 0)]);
        assert!(network.consumption.ipv4.is_unset());
    }
}
