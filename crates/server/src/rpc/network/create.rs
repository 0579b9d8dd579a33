//! Making networks: all in one transaction, so that a network that was refused took nothing.

use ipnet::IpNet;
use model::network::{self as rules, FIELDS, Lengths, Stack, Type, Wanted};
use model::prefix::{Family, canonicals};
use proto::{admin, api};
use store::Tx;
use store::prefix::{self, Prefix, block};
use uuid::Uuid;

use super::{Call, Error, KIND, Reason, columns, consumption, kind_of, lengths, nets};
use crate::{ipam, wire};

/// How often to begin anew when another transaction was in the way.
const TRIES: u32 = 5;

/// Users make private networks only.
pub(super) async fn private(
    call: &Call,
    request: api::NetworkServiceCreateRequest,
) -> Result<api::NetworkServiceCreateResponse, Error> {
    let request = admin::NetworkServiceCreateRequest {
        name: request.name,
        description: request.description,
        partition: request.partition,
        project: Some(request.project),
        r#type: api::NetworkType::NETWORK_TYPE_CHILD.into(),
        labels: request.labels,
        parent_network: request.parent_network,
        length: request.length,
        address_family: request.address_family,
        ..Default::default()
    };
    let network = retrying(call, &request).await?;
    Ok(api::NetworkServiceCreateResponse { network: network.into(), ..Default::default() })
}

pub(super) async fn any(
    call: &Call,
    request: admin::NetworkServiceCreateRequest,
) -> Result<admin::NetworkServiceCreateResponse, Error> {
    let network = retrying(call, &request).await?;
    Ok(admin::NetworkServiceCreateResponse { network: network.into(), ..Default::default() })
}

async fn retrying(
    call: &Call,
    request: &admin::NetworkServiceCreateRequest,
) -> Result<api::Network, Error> {
    let mut tries = 1;
    loop {
        match once(call, request).await {
            Err(error) if error.code() == connectrpc::ErrorCode::Aborted && tries < TRIES => {
                tries += 1;
            }
            result => return result,
        }
    }
}

async fn once(
    call: &Call,
    request: &admin::NetworkServiceCreateRequest,
) -> Result<api::Network, Error> {
    let mut tx = call.write().await?;
    let network = create(&mut tx, call.now_us(), request).await?;
    tx.commit().await?;
    Ok(network)
}

/// A prefix to be stored, and the pool that it was carved from.
type Piece = (model::prefix::Block, Option<String>);

/// Makes a network.
async fn create(
    tx: &mut Tx,
    now_us: i64,
    request: &admin::NetworkServiceCreateRequest,
) -> Result<api::Network, Error> {
    let kind = Type::from_number(i64::from(request.r#type.to_i32()))
        .ok_or_else(|| Error::invalid("the type of the network must be given"))?;
    check_existence(tx, request).await?;
    let prefixes = canonicals(&request.prefixes).map_err(Error::invalid)?;
    let destinations = canonicals(&request.destination_prefixes).map_err(Error::invalid)?;
    canonicals(&request.additional_announcable_cidrs).map_err(Error::invalid)?;
    check(request, kind, &prefixes, &destinations)?;

    let mut network = api::Network {
        id: request.id.clone().unwrap_or_default(),
        name: request.name.clone(),
        description: request.description.clone(),
        partition: request.partition.clone(),
        project: request.project.clone(),
        r#type: request.r#type,
        nat_type: request.nat_type.unwrap_or_default(),
        ..Default::default()
    };
    if network.nat_type.to_i32() == 0 {
        network.nat_type = api::NATType::NAT_TYPE_NONE.into();
    }
    network.meta.get_or_insert_default().labels = request.labels.clone();
    let pieces = if kind.is_child() {
        child(tx, request, kind, &mut network).await?
    } else {
        root(tx, request, kind, &prefixes, &mut network).await?
    };
    let id = network.id.clone();
    let mut network = KIND.insert(tx, &id, network.clone(), &columns(&network), now_us).await?;
    let namespace = network.namespace.clone().unwrap_or_default();
    for (ordinal, (block, pool)) in (0_i64..).zip(pieces) {
        let prefix = Prefix {
            id: Uuid::now_v7().to_string(),
            network: id.clone(),
            namespace: namespace.clone(),
            ordinal,
            block,
            pool,
        };
        prefix::insert(tx, &prefix, !kind.is_super()).await?;
    }
    consumption::add(tx, &mut network).await?;
    Ok(network)
}

/// What the request refers to must exist, and what it makes must not.
async fn check_existence(
    tx: &mut Tx,
    request: &admin::NetworkServiceCreateRequest,
) -> Result<(), Error> {
    if let Some(id) = &request.id
        && KIND.table.get(tx, id).await?.is_some()
    {
        return Err(Error::exists(format!("network {id} already exists")));
    }
    for (what, table, id) in [
        ("project", store::project::TABLE, &request.project),
        ("partition", store::partition::TABLE, &request.partition),
    ] {
        if let Some(id) = id
            && table.get(tx, id).await?.is_none()
        {
            return Err(Error::precondition(format!("no {what} with id \"{id}\" found")));
        }
    }
    Ok(())
}

/// What the type of the network says about the fields.
fn check(
    request: &admin::NetworkServiceCreateRequest,
    kind: Type,
    prefixes: &[IpNet],
    destinations: &[IpNet],
) -> Result<(), Error> {
    let given = FIELDS.map(|field| match field {
        "id" => request.id.is_some(),
        "project" => request.project.is_some(),
        "partition" => request.partition.is_some(),
        "prefixes" => !request.prefixes.is_empty(),
        "destination_prefixes" => !request.destination_prefixes.is_empty(),
        "default_child_prefix_length" => request.default_child_prefix_length.is_set(),
        "min_child_prefix_length" => request.min_child_prefix_length.is_set(),
        "length" => request.length.is_set(),
        "address_family" => request.address_family.is_some_and(|family| family.to_i32() != 0),
        "additional_announcable_cidrs" => !request.additional_announcable_cidrs.is_empty(),
        "vrf" => request.vrf.is_some(),
        "parent_network" => request.parent_network.is_some(),
        other => unreachable!("{other} is not a field"),
    });
    rules::check(&Wanted {
        kind,
        given,
        prefixes,
        destinations,
        default_length: lengths(request.default_child_prefix_length.as_option()),
        min_length: lengths(request.min_child_prefix_length.as_option()),
        masquerade: request
            .nat_type
            .is_some_and(|nat| nat == api::NATType::NAT_TYPE_IPV4_MASQUERADE),
    })
    .map_err(Error::invalid)
}

/// A network whose prefixes an operator chose.
async fn root(
    tx: &mut Tx,
    request: &admin::NetworkServiceCreateRequest,
    kind: Type,
    prefixes: &[IpNet],
    network: &mut api::Network,
) -> Result<Vec<Piece>, Error> {
    if kind == Type::Super
        && let Some(partition) = &request.partition
    {
        let select =
            KIND.table.select().eq("partition", partition).eq("type", Type::Super.number());
        if let Some(other) = select.one(tx).await? {
            return Err(Error::invalid(format!(
                "partition {partition} has the super network {} already",
                other.id
            )));
        }
    }
    check_overlap(tx, prefixes, prefixes).await?;
    if let Some(vrf) = request.vrf {
        ipam::exact_vrf(tx, vrf).await?;
    }
    network.vrf = request.vrf;
    network.prefixes.clone_from(&request.prefixes);
    network.destination_prefixes.clone_from(&request.destination_prefixes);
    network.additional_announcable_cidrs.clone_from(&request.additional_announcable_cidrs);
    network.default_child_prefix_length = request.default_child_prefix_length.clone();
    network.min_child_prefix_length = request.min_child_prefix_length.clone();
    Ok(prefixes.iter().map(|net| ((*net).into(), None)).collect())
}

/// Refuses prefixes that overlap each other, or `new` ones that overlap those of another network.
pub(super) async fn check_overlap(tx: &mut Tx, all: &[IpNet], new: &[IpNet]) -> Result<(), Error> {
    if let Some((a, b)) = model::prefix::overlapping(all) {
        return Err(Error::exists(format!("{a} overlaps {b}")));
    }
    for net in new {
        if let Some(other) = prefix::overlapping(tx, &(*net).into()).await? {
            return Err(Error::exists(format!(
                "{net} overlaps {} of network {}",
                other.block.net(),
                other.network
            )));
        }
    }
    Ok(())
}

/// A private network: its prefixes and most else come from its parent.
async fn child(
    tx: &mut Tx,
    request: &admin::NetworkServiceCreateRequest,
    kind: Type,
    network: &mut api::Network,
) -> Result<Vec<Piece>, Error> {
    let project = request.project.clone().unwrap_or_default();
    let parent = parent(tx, request, &project).await?;
    let shared = KIND.table.select().eq("project", &project).eq("type", Type::ChildShared.number());
    if kind == Type::ChildShared
        && let Some(other) = shared.one(tx).await?
    {
        return Err(Error::invalid(format!(
            "project {project} has the shared network {} already",
            other.id
        )));
    }
    let asked = request.length.as_option().map(|asked| lengths(Some(asked)));
    let wanted = rules::child_lengths(
        &nets(&parent.prefixes),
        &lengths(parent.default_child_prefix_length.as_option()),
        &lengths(parent.min_child_prefix_length.as_option()),
        asked.filter(|asked| *asked != Lengths::default()),
        stack(request),
    )
    .map_err(Error::invalid)?;
    let namespace = match kind_of(&parent) {
        Type::SuperNamespaced => Some(project),
        _ => None,
    };
    // what fewer wait for comes first: the pool of prefixes is held until the transaction ends
    network.vrf = Some(vrf(tx, request, &parent).await?);
    let mut pieces = Vec::new();
    for (family, length) in wanted {
        let piece =
            carve(tx, &parent, namespace.as_deref().unwrap_or_default(), family, length).await?;
        network.prefixes.push(piece.0.net().to_string());
        pieces.push(piece);
    }
    network.id = Uuid::now_v7().to_string();
    network.namespace = namespace;
    network.partition = request.partition.clone().or_else(|| parent.partition.clone());
    network.parent_network = Some(parent.id.clone());
    network.destination_prefixes = parent.destination_prefixes;
    network.nat_type = parent.nat_type;
    Ok(pieces)
}

fn stack(request: &admin::NetworkServiceCreateRequest) -> Stack {
    use api::NetworkAddressFamily as Asked;
    match request.address_family.and_then(|family| family.as_known()) {
        None | Some(Asked::NETWORK_ADDRESS_FAMILY_UNSPECIFIED) => Stack::Any,
        Some(Asked::NETWORK_ADDRESS_FAMILY_V4) => Stack::Only(Family::V4),
        Some(Asked::NETWORK_ADDRESS_FAMILY_V6) => Stack::Only(Family::V6),
        Some(Asked::NETWORK_ADDRESS_FAMILY_DUAL_STACK) => Stack::Dual,
    }
}

/// The super network that a child comes from: the named one, or the partition's one that belongs to nobody.
async fn parent(
    tx: &mut Tx,
    request: &admin::NetworkServiceCreateRequest,
    project: &str,
) -> Result<api::Network, Error> {
    let missing = |id: &str| Error::precondition(format!("no network with id \"{id}\" found"));
    let row = match (&request.parent_network, &request.partition) {
        (Some(id), _) => KIND.table.get(tx, id).await?.ok_or_else(|| missing(id))?,
        (None, partition) => {
            let partition = partition.clone().unwrap_or_default();
            KIND.table
                .select()
                .eq("partition", &partition)
                .eq("type", Type::Super.number())
                .is_null("project", true)
                .one(tx)
                .await?
                .ok_or_else(|| {
                    Error::precondition(format!(
                        "partition {partition} has no super network to take a child network from"
                    ))
                })?
        }
    };
    let parent: api::Network = wire::decode(&row)?;
    // nobody learns that a network of somebody else exists
    if parent.project.as_ref().is_some_and(|owner| owner != project) {
        return Err(missing(&parent.id));
    }
    if !kind_of(&parent).is_super() {
        return Err(Error::invalid(format!("parent network {} is no super network", parent.id)));
    }
    Ok(parent)
}

/// VRF of a child: its parent's, else the one asked for, else a free one.
async fn vrf(
    tx: &mut Tx,
    request: &admin::NetworkServiceCreateRequest,
    parent: &api::Network,
) -> Result<u32, Error> {
    match (parent.vrf, request.vrf) {
        (Some(_), Some(_)) => Err(Error::invalid(format!(
            "parent network {} has a vrf, which its children share: give none",
            parent.id
        ))),
        (Some(vrf), None) => Ok(vrf),
        (None, Some(vrf)) => ipam::exact_vrf(tx, vrf).await.map(|()| vrf),
        (None, None) => ipam::vrf(tx).await,
    }
}

/// Carves a prefix out of the first one of the parent that has room.
async fn carve(
    tx: &mut Tx,
    parent: &api::Network,
    namespace: &str,
    family: Family,
    length: u8,
) -> Result<Piece, Error> {
    for prefix in prefix::of_network(tx, &parent.id).await? {
        if prefix.block.family == family
            && let Some((pool, block)) = block::carve(tx, &prefix, namespace, length).await?
        {
            return Ok((block, Some(pool)));
        }
    }
    let sentence = format!(
        "network {} has no free {} prefix of length {length} left",
        parent.id,
        rules::name_of(family)
    );
    Err(Error::reason(Reason::NoPrefixAvailable, sentence).with("network", &parent.id))
}
