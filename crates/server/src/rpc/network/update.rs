//! Changing networks. Type, project, partition, parent and VRF never change.

use ipnet::IpNet;
use model::network::{self as rules, Type};
use model::prefix::{Family, canonicals, families};
use proto::{admin, api};
use store::Tx;
use store::prefix::{self, Prefix};
use uuid::Uuid;

use super::{Call, Error, KIND, check_owner, columns, consumption, create, kind_of, lengths, nets};
use crate::wire;

pub(super) async fn own(
    call: &Call,
    request: api::NetworkServiceUpdateRequest,
) -> Result<api::NetworkServiceUpdateResponse, Error> {
    let mut tx = call.write().await?;
    let (row, mut network) = KIND.get_for_update::<api::Network>(&mut tx, &request.id).await?;
    check_owner(&network, &request.project)?;
    wire::check_lock(&request.update_meta, &row)?;
    network.name = request.name.or(network.name);
    network.description = request.description.or(network.description);
    wire::update_labels(network.meta.get_or_insert_default(), request.labels.as_option());
    let columns = columns(&network);
    let mut network = KIND.update(&mut tx, &row, &network, &columns, call.now_us()).await?;
    consumption::add(&mut tx, &mut network).await?;
    tx.commit().await?;
    Ok(api::NetworkServiceUpdateResponse { network: network.into(), ..Default::default() })
}

pub(super) async fn any(
    call: &Call,
    request: admin::NetworkServiceUpdateRequest,
) -> Result<admin::NetworkServiceUpdateResponse, Error> {
    let mut tx = call.write().await?;
    let (row, mut network) = KIND.get_for_update::<api::Network>(&mut tx, &request.id).await?;
    wire::check_lock(&request.update_meta, &row)?;
    apply(&mut network, &request)?;
    if !request.prefixes.is_empty() {
        set_prefixes(&mut tx, &network).await?;
    }
    wire::update_labels(network.meta.get_or_insert_default(), request.labels.as_option());
    let columns = columns(&network);
    let mut network = KIND.update(&mut tx, &row, &network, &columns, call.now_us()).await?;
    consumption::add(&mut tx, &mut network).await?;
    tx.commit().await?;
    Ok(admin::NetworkServiceUpdateResponse { network: network.into(), ..Default::default() })
}

/// Changes the network and judges the whole that comes out.
fn apply(
    network: &mut api::Network,
    request: &admin::NetworkServiceUpdateRequest,
) -> Result<(), Error> {
    let kind = kind_of(network);
    let supers_only = [
        ("default_child_prefix_length", request.default_child_prefix_length.is_set()),
        ("min_child_prefix_length", request.min_child_prefix_length.is_set()),
        ("additional_announcable_cidrs", !request.additional_announcable_cidrs.is_empty()),
    ];
    for (field, given) in supers_only {
        if given && !kind.is_super() {
            return Err(Error::invalid(format!("{field} can only be set on super networks")));
        }
    }
    network.name = request.name.clone().or_else(|| network.name.take());
    network.description = request.description.clone().or_else(|| network.description.take());
    if !request.prefixes.is_empty() {
        if kind.is_child() {
            return Err(Error::invalid("the prefixes of a child network cannot be changed"));
        }
        canonicals(&request.prefixes).map_err(Error::invalid)?;
        network.prefixes.clone_from(&request.prefixes);
    }
    if !request.destination_prefixes.is_empty() {
        if kind == Type::Underlay {
            return Err(Error::invalid("an underlay network has no destination_prefixes"));
        }
        canonicals(&request.destination_prefixes).map_err(Error::invalid)?;
        network.destination_prefixes.clone_from(&request.destination_prefixes);
    }
    if request.default_child_prefix_length.is_set() {
        network.default_child_prefix_length = request.default_child_prefix_length.clone();
    }
    if request.min_child_prefix_length.is_set() {
        network.min_child_prefix_length = request.min_child_prefix_length.clone();
    }
    if let Some(nat) = request.nat_type.filter(|nat| nat.to_i32() != 0) {
        if kind == Type::Underlay && nat != api::NATType::NAT_TYPE_NONE {
            return Err(Error::invalid("an underlay network does no nat"));
        }
        network.nat_type = nat;
    }
    announcable(network, &request.additional_announcable_cidrs, request.force)?;
    check(network, kind)
}

/// Dropping what machines may announce right now needs `force`.
fn announcable(network: &mut api::Network, cidrs: &[String], force: bool) -> Result<(), Error> {
    if cidrs.is_empty() {
        return Ok(());
    }
    canonicals(cidrs).map_err(Error::invalid)?;
    let dropped = network.additional_announcable_cidrs.iter().find(|old| !cidrs.contains(old));
    if let Some(dropped) = dropped.filter(|_| !force) {
        return Err(Error::invalid(format!(
            "additional_announcable_cidrs lacks {dropped}, which machines may announce: repeat it or set force"
        )));
    }
    network.additional_announcable_cidrs = cidrs.to_vec();
    Ok(())
}

fn check(network: &api::Network, kind: Type) -> Result<(), Error> {
    let (prefixes, destinations) = (nets(&network.prefixes), nets(&network.destination_prefixes));
    rules::check_destinations(&prefixes, &destinations).map_err(Error::invalid)?;
    if kind == Type::Underlay && families(&prefixes).contains(&Family::V6) {
        return Err(Error::invalid("an underlay network has ipv4 prefixes only"));
    }
    if kind.is_super() {
        let default = lengths(network.default_child_prefix_length.as_option());
        let min = lengths(network.min_child_prefix_length.as_option());
        rules::check_lengths("default", &prefixes, &default).map_err(Error::invalid)?;
        rules::check_lengths("min", &prefixes, &min).map_err(Error::invalid)?;
        rules::check_default(&default, &min).map_err(Error::invalid)?;
        if let Some(family) =
            families(&prefixes).into_iter().find(|family| default.of(*family).is_none())
        {
            return Err(Error::invalid(format!(
                "default_child_prefix_length must be given for {}, too",
                rules::name_of(family)
            )));
        }
    }
    Ok(())
}

/// Makes the stored prefixes those of the network, in its order.
async fn set_prefixes(tx: &mut Tx, network: &api::Network) -> Result<(), Error> {
    let wanted = nets(&network.prefixes);
    let have = prefix::of_network(tx, &network.id).await?;
    for old in have.iter().filter(|old| !wanted.contains(&old.block.net())) {
        remove(tx, old).await?;
    }
    let is_new = |net: &&IpNet| have.iter().all(|old| old.block.net() != **net);
    let new: Vec<IpNet> = wanted.iter().filter(is_new).copied().collect();
    create::check_overlap(tx, &wanted, &new).await?;
    for (ordinal, net) in (0_i64..).zip(&wanted) {
        match have.iter().find(|old| old.block.net() == *net) {
            Some(old) if old.ordinal == ordinal => {}
            Some(old) => prefix::set_ordinal(tx, &old.id, ordinal).await?,
            None => {
                let prefix = Prefix {
                    id: Uuid::now_v7().to_string(),
                    network: network.id.clone(),
                    namespace: String::new(),
                    ordinal,
                    block: (*net).into(),
                    pool: None,
                };
                prefix::insert(tx, &prefix, !kind_of(network).is_super()).await?;
            }
        }
    }
    Ok(())
}

async fn remove(tx: &mut Tx, old: &Prefix) -> Result<(), Error> {
    let net = old.block.net();
    let ips = store::ip::TABLE.select().eq("prefix", &old.id).count(tx).await?;
    if ips > 0 {
        return Err(Error::in_use(format!("there are still {ips} ips present in prefix: {net}")));
    }
    prefix::delete(tx, old).await.map_err(|error| match error {
        store::Error::ForeignKey(_) => {
            Error::in_use(format!("there are still child networks or ips present in prefix: {net}"))
        }
        other => other.into(),
    })
}
