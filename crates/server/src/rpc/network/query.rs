//! Which networks a query asks for.

use model::prefix::{Family, families};
use proto::api;
use store::{Entity, Select};

use super::{Error, nets};
use crate::wire;

/// What columns can answer.
pub(super) fn narrow(select: Select, query: &api::NetworkQuery) -> Select {
    let number = |number: i32| Some(i64::from(number)).filter(|number| *number != 0);
    select
        .eq_opt("id", query.id.as_deref())
        .eq_opt("partition", query.partition.as_deref())
        .eq_opt("project", query.project.as_deref())
        .eq_opt("parent", query.parent_network.as_deref())
        .eq_opt("vrf", query.vrf.map(i64::from))
        .eq_opt("type", query.r#type.as_ref().and_then(|kind| number(kind.to_i32())))
}

/// The networks of some rows that a query asks for.
pub(super) fn matching(
    rows: &[Entity],
    query: &api::NetworkQuery,
) -> Result<Vec<api::Network>, Error> {
    let mut networks = rows.iter().map(wire::decode).collect::<Result<Vec<api::Network>, _>>()?;
    networks.retain(|network| matches(network, query));
    Ok(networks)
}

fn matches(network: &api::Network, query: &api::NetworkQuery) -> bool {
    use api::NetworkAddressFamily as Asked;
    let text = |asked: &Option<String>, have: &Option<String>| asked.is_none() || asked == have;
    let families = families(&nets(&network.prefixes));
    let has = |family| families.contains(&family);
    let family = match query.address_family.as_ref().and_then(|family| family.as_known()) {
        None | Some(Asked::NETWORK_ADDRESS_FAMILY_UNSPECIFIED) => true,
        Some(Asked::NETWORK_ADDRESS_FAMILY_V4) => has(Family::V4),
        Some(Asked::NETWORK_ADDRESS_FAMILY_V6) => has(Family::V6),
        Some(Asked::NETWORK_ADDRESS_FAMILY_DUAL_STACK) => has(Family::V4) && has(Family::V6),
    };
    let kind = query.r#type.as_ref().map_or(0, buffa::EnumValue::to_i32);
    let nat = query.nat_type.as_ref().map_or(0, buffa::EnumValue::to_i32);
    family
        && query.id.as_ref().is_none_or(|id| *id == network.id)
        && text(&query.name, &network.name)
        && text(&query.description, &network.description)
        && text(&query.partition, &network.partition)
        && text(&query.project, &network.project)
        && text(&query.namespace, &network.namespace)
        && text(&query.parent_network, &network.parent_network)
        && (query.vrf.is_none() || query.vrf == network.vrf)
        && (kind == 0 || kind == network.r#type.to_i32())
        && (nat == 0 || nat == network.nat_type.to_i32())
        && query.prefixes.iter().all(|prefix| network.prefixes.contains(prefix))
        && query
            .destination_prefixes
            .iter()
            .all(|prefix| network.destination_prefixes.contains(prefix))
        && wire::has_labels(network.meta.as_option(), query.labels.as_option())
}

#[cfg(test)]
mod tests {
    use api::{NATType, NetworkAddressFamily as Asked, NetworkType};

    use super::*;

    fn network() -> api::Network {
        let mut network = api::Network {
            id: "n".into(),
            name: Some("name".into()),
            description: Some("text".into()),
            partition: Some("p1".into()),
            project: Some("a".into()),
            namespace: Some("a".into()),
            prefixes: vec!["10.0.0.0/8".into(), "10.0.0.0/16".into()],
            destination_prefixes: vec!["0.0.0.0/0".into()],
            r#type: NetworkType::NETWORK_TYPE_CHILD.into(),
            nat_type: NATType::NAT_TYPE_NONE.into(),
            vrf: Some(7),
            parent_network: Some("s".into()),
            ..Default::default()
        };
        let labels =
            &mut network.meta.get_or_insert_default().labels.get_or_insert_default().labels;
        labels.insert("k".into(), "v".into());
        network
    }

    #[test]
    fn every_field_must_match_and_absent_ones_do() {
        let labels = |value: &str| {
            let mut labels = api::Labels::default();
            labels.labels.insert("k".into(), value.into());
            labels
        };
        type Set = fn(&mut api::NetworkQuery);
        let hits: &[Set] = &[
            |_| {},
            |q| q.id = Some("n".into()),
            |q| q.name = Some("name".into()),
            |q| q.description = Some("text".into()),
            |q| q.partition = Some("p1".into()),
            |q| q.project = Some("a".into()),
            |q| q.namespace = Some("a".into()),
            |q| q.prefixes = vec!["10.0.0.0/16".into()],
            |q| q.destination_prefixes = vec!["0.0.0.0/0".into()],
            |q| q.vrf = Some(7),
            |q| q.parent_network = Some("s".into()),
            |q| q.address_family = Some(Asked::NETWORK_ADDRESS_FAMILY_V4.into()),
            |q| q.address_family = Some(Asked::NETWORK_ADDRESS_FAMILY_UNSPECIFIED.into()),
            |q| q.r#type = Some(NetworkType::NETWORK_TYPE_CHILD.into()),
            |q| q.nat_type = Some(NATType::NAT_TYPE_NONE.into()),
        ];
        let misses: &[Set] = &[
            |q| q.id = Some("x".into()),
            |q| q.name = Some("nam".into()),
            |q| q.description = Some(String::new()),
            |q| q.partition = Some("p2".into()),
            |q| q.project = Some("b".into()),
            |q| q.namespace = Some("b".into()),
            |q| q.prefixes = vec!["10.0.0.0/8".into(), "10.0.0.0/24".into()],
            |q| q.destination_prefixes = vec!["::/0".into()],
            |q| q.vrf = Some(8),
            |q| q.parent_network = Some("t".into()),
            |q| q.address_family = Some(Asked::NETWORK_ADDRESS_FAMILY_V6.into()),
            |q| q.address_family = Some(Asked::NETWORK_ADDRESS_FAMILY_DUAL_STACK.into()),
            |q| q.r#type = Some(NetworkType::NETWORK_TYPE_SUPER.into()),
            |q| q.nat_type = Some(NATType::NAT_TYPE_IPV4_MASQUERADE.into()),
        ];
        let network = network();
        for (list, expected) in [(hits, true), (misses, false)] {
            for (i, set) in list.iter().enumerate() {
                let mut query = api::NetworkQuery::default();
                set(&mut query);
                assert_eq!(matches(&network, &query), expected, "{i}: {query:?}");
            }
        }
        let query =
            |value| api::NetworkQuery { labels: labels(value).into(), ..Default::default() };
        assert!(matches(&network, &query("v")));
        assert!(!matches(&network, &query("w")));
    }
}
