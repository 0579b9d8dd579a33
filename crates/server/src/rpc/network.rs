//! `NetworkService` for users and operators, and what machines may use of networks.

mod consumption;
mod create;
mod delete;
mod query;
mod update;

use std::sync::Arc;

use connectrpc::Router;
use ipnet::IpNet;
use model::network::{Lengths, Type};
use proto::{admin, api};
use store::{Select, Tx, Value};

use super::entity::Kind;
use super::{App, Call, Error, Reason, service};
use crate::wire;

const KIND: Kind = Kind { table: store::network::TABLE, name: "network" };

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::NetworkServiceExt::register(Arc::clone(&handler), router);
    admin::NetworkServiceExt::register(handler, router)
}

service! { api::NetworkService {
    get(NetworkServiceGetRequest) -> NetworkServiceGetResponse = get_own;
    create(NetworkServiceCreateRequest) -> NetworkServiceCreateResponse = create::private;
    update(NetworkServiceUpdateRequest) -> NetworkServiceUpdateResponse = update::own;
    list(NetworkServiceListRequest) -> NetworkServiceListResponse = list_own;
    list_base_networks(NetworkServiceListBaseNetworksRequest) -> NetworkServiceListBaseNetworksResponse = list_base;
    delete(NetworkServiceDeleteRequest) -> NetworkServiceDeleteResponse = delete::own;
}}

service! { admin::NetworkService {
    get(NetworkServiceGetRequest) -> NetworkServiceGetResponse = get_any;
    create(NetworkServiceCreateRequest) -> NetworkServiceCreateResponse = create::any;
    update(NetworkServiceUpdateRequest) -> NetworkServiceUpdateResponse = update::any;
    delete(NetworkServiceDeleteRequest) -> NetworkServiceDeleteResponse = delete::any;
    list(NetworkServiceListRequest) -> NetworkServiceListResponse = list_any;
}}

/// The network with this id, whoever owns it, without its consumption.
///
/// # Errors
/// `not_found`.
pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<api::Network, Error> {
    KIND.get(tx, id).await
}

/// A network to which a machine of a project in a partition may be attached: an own one, one that others share, or a global one.
///
/// # Errors
/// `not_found` when there is none, `invalid_argument` when it is somebody else's or in another partition.
pub(crate) async fn for_allocation(
    tx: &mut Tx,
    project: &str,
    partition: &str,
    id: &str,
) -> Result<api::Network, Error> {
    let network = get(tx, id).await?;
    if !model::network::attachable(kind_of(&network), network.project.as_deref(), project) {
        // nobody learns that a network of somebody else exists
        return Err(Error::not_found(KIND.name, id));
    }
    if let Some(other) = network.partition.as_deref().filter(|other| *other != partition) {
        return Err(Error::invalid(format!(
            "network {id} is in partition {other}, but the machine is in {partition}"
        )));
    }
    if network.prefixes.is_empty() {
        return Err(Error::invalid(format!("network {id} has no prefixes")));
    }
    Ok(network)
}

/// The one underlay network of a partition.
///
/// # Errors
/// `not_found` when there is none, `invalid_argument` when there are several.
pub(crate) async fn underlay(tx: &mut Tx, partition: &str) -> Result<api::Network, Error> {
    let select = KIND.table.select().eq("partition", partition).eq("type", Type::Underlay.number());
    match select.all(tx).await?.as_slice() {
        [row] => wire::decode(row),
        [] => Err(Error::missing(format!("no underlay network in partition {partition} found"))),
        _ => {
            Err(Error::invalid(format!("partition {partition} has more than one underlay network")))
        }
    }
}

/// What a network is for.
pub(crate) fn kind_of(network: &api::Network) -> Type {
    // a stored network always has a known type
    Type::from_number(i64::from(network.r#type.to_i32())).unwrap_or(Type::Child)
}

/// Prefixes as values; what is stored is canonical.
pub(crate) fn nets(texts: &[String]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn lengths(lengths: Option<&api::ChildPrefixLength>) -> Lengths {
    let small = |length: Option<u32>| length.and_then(|length| u8::try_from(length).ok());
    match lengths {
        Some(lengths) => Lengths { v4: small(lengths.ipv4), v6: small(lengths.ipv6) },
        None => Lengths::default(),
    }
}

/// The columns of a network.
fn columns(network: &api::Network) -> [Value; 5] {
    [
        network.project.as_deref().into(),
        network.partition.as_deref().into(),
        i64::from(network.r#type.to_i32()).into(),
        network.parent_network.as_deref().into(),
        network.vrf.map(i64::from).into(),
    ]
}

/// Networks of a project; an empty one stands for those that belong to nobody.
fn of_project(project: &str) -> Select {
    let select = KIND.table.select();
    if project.is_empty() { select.is_null("project", true) } else { select.eq("project", project) }
}

/// Refuses a network of another project as if it did not exist.
fn check_owner(network: &api::Network, project: &str) -> Result<(), Error> {
    if network.project.as_deref().unwrap_or_default() == project {
        Ok(())
    } else {
        Err(Error::not_found(KIND.name, &network.id))
    }
}

async fn get_own(
    call: &Call,
    request: api::NetworkServiceGetRequest,
) -> Result<api::NetworkServiceGetResponse, Error> {
    let mut tx = call.read().await?;
    let mut network = get(&mut tx, &request.id).await?;
    check_owner(&network, &request.project)?;
    consumption::add(&mut tx, &mut network).await?;
    Ok(api::NetworkServiceGetResponse { network: network.into(), ..Default::default() })
}

async fn get_any(
    call: &Call,
    request: admin::NetworkServiceGetRequest,
) -> Result<admin::NetworkServiceGetResponse, Error> {
    let mut tx = call.read().await?;
    let mut network = get(&mut tx, &request.id).await?;
    consumption::add(&mut tx, &mut network).await?;
    Ok(admin::NetworkServiceGetResponse { network: network.into(), ..Default::default() })
}

async fn list_own(
    call: &Call,
    request: api::NetworkServiceListRequest,
) -> Result<api::NetworkServiceListResponse, Error> {
    let mut tx = call.read().await?;
    let select = query::narrow(of_project(&request.project), &request.query);
    let mut networks = query::matching(&select.all(&mut tx).await?, &request.query)?;
    consumption::add_all(&mut tx, &mut networks, Some(&request.project)).await?;
    Ok(api::NetworkServiceListResponse { networks, ..Default::default() })
}

async fn list_base(
    call: &Call,
    request: api::NetworkServiceListBaseNetworksRequest,
) -> Result<api::NetworkServiceListBaseNetworksResponse, Error> {
    let mut tx = call.read().await?;
    let rows = store::network::base(&mut tx, &request.project).await?;
    let mut networks = query::matching(&rows, &request.query)?;
    // how much others use is nobody's business
    if !request.project.is_empty() {
        consumption::add_all(&mut tx, &mut networks, Some(&request.project)).await?;
    }
    Ok(api::NetworkServiceListBaseNetworksResponse { networks, ..Default::default() })
}

async fn list_any(
    call: &Call,
    request: admin::NetworkServiceListRequest,
) -> Result<admin::NetworkServiceListResponse, Error> {
    let mut tx = call.read().await?;
    let select = query::narrow(KIND.table.select(), &request.query);
    let mut networks = query::matching(&select.all(&mut tx).await?, &request.query)?;
    consumption::add_all(&mut tx, &mut networks, None).await?;
    Ok(admin::NetworkServiceListResponse { networks, ..Default::default() })
}
