//! Which addresses a query asks for.

use std::net::IpAddr;

use ipnet::IpNet;
use model::prefix::key;
use proto::api;
use store::{Select, Tx};

use super::{Error, sort};
use crate::{ipam, wire};

/// The addresses of a selection that a query asks for, sorted by address.
pub(super) async fn list(
    tx: &mut Tx,
    select: Select,
    query: &api::IPQuery,
) -> Result<Vec<api::IP>, Error> {
    let wanted = Wanted::new(query)?;
    let rows = narrow(select, query, &wanted).all(tx).await?;
    let mut ips = rows.iter().map(wire::decode).collect::<Result<Vec<api::IP>, _>>()?;
    ips.retain(|ip| wanted.matches(ip));
    sort(&mut ips);
    Ok(ips)
}

/// What columns can answer.
fn narrow(select: Select, query: &api::IPQuery, wanted: &Wanted<'_>) -> Select {
    select
        .eq_opt("id", query.uuid.as_deref())
        .eq_opt("address", wanted.address.map(key))
        .eq_opt("project", query.project.as_deref())
        .eq_opt("network", query.network.as_deref())
        .eq_opt("namespace", query.namespace.as_deref())
        .eq_opt("machine", query.machine.as_deref())
}

/// A query whose addresses were read.
struct Wanted<'a> {
    query: &'a api::IPQuery,
    address: Option<IpAddr>,
    prefix: Option<IpNet>,
}

impl<'a> Wanted<'a> {
    fn new(query: &'a api::IPQuery) -> Result<Self, Error> {
        let address = query.ip.as_deref().map(super::parse).transpose()?;
        let prefix = query
            .parent_prefix_cidr
            .as_deref()
            .map(|text| {
                text.parse::<IpNet>()
                    .map(|net| net.trunc())
                    .map_err(|_| Error::invalid(format!("\"{text}\" is not a prefix")))
            })
            .transpose()?;
        Ok(Self { query, address, prefix })
    }

    fn matches(&self, ip: &api::IP) -> bool {
        use api::IPAddressFamily as Asked;
        let query = self.query;
        let Ok(address) = ip.ip.parse::<IpAddr>() else { return false };
        let family = match query.address_family.and_then(|family| family.as_known()) {
            None | Some(Asked::IP_ADDRESS_FAMILY_UNSPECIFIED) => true,
            Some(Asked::IP_ADDRESS_FAMILY_V4) => address.is_ipv4(),
            Some(Asked::IP_ADDRESS_FAMILY_V6) => address.is_ipv6(),
        };
        let kind = query.r#type.map_or(0, |kind| kind.to_i32());
        let text = |asked: &Option<String>, have: &String| asked.as_ref().is_none_or(|a| a == have);
        family
            && self.address.is_none_or(|wanted| wanted == address)
            && self.prefix.is_none_or(|prefix| prefix.contains(&address))
            && text(&query.uuid, &ip.uuid)
            && text(&query.name, &ip.name)
            && text(&query.network, &ip.network)
            && text(&query.project, &ip.project)
            && (query.namespace.is_none() || query.namespace == ip.namespace)
            && (query.machine.is_none() || query.machine.as_deref() == ipam::machine_of(ip))
            && (kind == 0 || kind == ip.r#type.to_i32())
            && wire::has_labels(ip.meta.as_option(), query.labels.as_option())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip() -> api::IP {
        let mut ip = api::IP {
            uuid: "u".into(),
            ip: "fd00::a".into(),
            name: "name".into(),
            network: "n".into(),
            project: "p".into(),
            r#type: api::IPType::IP_TYPE_STATIC.into(),
            namespace: Some("p".into()),
            ..Default::default()
        };
        let labels = &mut ip.meta.get_or_insert_default().labels.get_or_insert_default().labels;
        labels.insert(model::ip::MACHINE_LABEL.into(), "m".into());
        ip
    }

    #[test]
    fn every_field_must_match_and_absent_ones_do() {
        use api::{IPAddressFamily as Asked, IPType};
        type Set = fn(&mut api::IPQuery);
        let hits: &[Set] = &[
            |_| {},
            |q| q.ip = Some("FD00:0::A".into()),
            |q| q.uuid = Some("u".into()),
            |q| q.name = Some("name".into()),
            |q| q.network = Some("n".into()),
            |q| q.project = Some("p".into()),
            |q| q.namespace = Some("p".into()),
            |q| q.machine = Some("m".into()),
            |q| q.parent_prefix_cidr = Some("fd00::/64".into()),
            |q| q.r#type = Some(IPType::IP_TYPE_STATIC.into()),
            |q| q.r#type = Some(IPType::IP_TYPE_UNSPECIFIED.into()),
            |q| q.address_family = Some(Asked::IP_ADDRESS_FAMILY_V6.into()),
        ];
        let misses: &[Set] = &[
            |q| q.ip = Some("fd00::b".into()),
            |q| q.uuid = Some("v".into()),
            |q| q.name = Some(String::new()),
            |q| q.network = Some("m".into()),
            |q| q.project = Some("q".into()),
            |q| q.namespace = Some("q".into()),
            |q| q.machine = Some("x".into()),
            |q| q.parent_prefix_cidr = Some("fd01::/64".into()),
            |q| q.parent_prefix_cidr = Some("10.0.0.0/8".into()),
            |q| q.r#type = Some(IPType::IP_TYPE_EPHEMERAL.into()),
            |q| q.address_family = Some(Asked::IP_ADDRESS_FAMILY_V4.into()),
        ];
        for (list, expected) in [(hits, true), (misses, false)] {
            for (i, set) in list.iter().enumerate() {
                let mut query = api::IPQuery::default();
                set(&mut query);
                let matches = Wanted::new(&query).expect("query").matches(&ip());
                assert_eq!(matches, expected, "{i}: {query:?}");
            }
        }
    }
}
