//! `IPService` for users and operators.

mod query;
pub(super) mod together;

use std::net::IpAddr;
use std::sync::Arc;

use connectrpc::{ErrorCode, Router};
use model::ip::{MACHINE_LABEL, Refusal, may_take};
use model::prefix::{Family, key};
use proto::{admin, api};
use store::Tx;
use store::ip::Taken;

use super::{App, Call, Error, network, service};
use crate::ipam::{self, Want};
use crate::wire;

/// How often to begin anew when another transaction was in the way.
const TRIES: u32 = 5;

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::IpServiceExt::register(Arc::clone(&handler), router);
    admin::IpServiceExt::register(handler, router)
}

service! { api::IpService {
    get(IPServiceGetRequest) -> IPServiceGetResponse = get;
    create(IPServiceCreateRequest) -> IPServiceCreateResponse = create;
    update(IPServiceUpdateRequest) -> IPServiceUpdateResponse = update;
    list(IPServiceListRequest) -> IPServiceListResponse = list_own;
    delete(IPServiceDeleteRequest) -> IPServiceDeleteResponse = delete;
}}

service! { admin::IpService {
    list(IPServiceListRequest) -> IPServiceListResponse = list_any;
}}

fn parse(ip: &str) -> Result<IpAddr, Error> {
    ip.parse().map_err(|_| Error::invalid(format!("\"{ip}\" is not an ip address")))
}

fn not_found(ip: &str) -> Error {
    Error::not_found("ip", ip)
}

async fn get(
    call: &Call,
    request: api::IPServiceGetRequest,
) -> Result<api::IPServiceGetResponse, Error> {
    let mut tx = call.read().await?;
    // no namespace is the one that all share
    let select = store::ip::TABLE
        .select()
        .eq("address", key(parse(&request.ip)?))
        .eq("namespace", request.namespace.as_deref().unwrap_or_default())
        .eq("project", &request.project);
    let row = select.one(&mut tx).await?.ok_or_else(|| not_found(&request.ip))?;
    let ip: api::IP = wire::decode(&row)?;
    Ok(api::IPServiceGetResponse { ip: ip.into(), ..Default::default() })
}

async fn create(
    call: &Call,
    request: api::IPServiceCreateRequest,
) -> Result<api::IPServiceCreateResponse, Error> {
    let want = want(&request)?;
    let operator = call.caller.as_ref().is_some_and(crate::auth::Caller::is_admin_editor);
    let special = call.is_once()
        || matches!(want, Want::Exactly(_))
        || request.machine.is_some()
        || request.labels.labels.contains_key(MACHINE_LABEL);
    let mut done = None;
    if !special {
        done = together::take(&call.app, &request, want, operator, call.now_us()).await;
    }
    let mut tries = 1;
    while done.is_none() {
        match create_alone(call, &request, want, operator).await {
            Err(error) if error.code() == ErrorCode::Aborted && tries < TRIES => tries += 1,
            outcome => done = Some(outcome),
        }
    }
    let ip = done.transpose()?;
    Ok(api::IPServiceCreateResponse { ip: ip.into(), ..Default::default() })
}

async fn create_alone(
    call: &Call,
    request: &api::IPServiceCreateRequest,
    want: Want,
    operator: bool,
) -> Result<api::IP, Error> {
    let mut tx = call.write().await?;
    let (row, prefixes) = store::prefix::with_network(&mut tx, &request.network)
        .await?
        .ok_or_else(|| Error::not_found("network", &request.network))?;
    check_network(&wire::decode(&row)?, request, operator)?;
    check_machine(&mut tx, request).await?;
    let asked = asked(request, want);
    let ip = ipam::acquire_from(&mut tx, call.now_us(), &asked, &prefixes).await;
    let ip = ip.map_err(|error| match error.code() {
        // the network was read just now: it is the project that the row refers to
        ErrorCode::FailedPrecondition => Error::precondition(format!(
            "no project with id \"{}\" found, or network {} is being deleted",
            request.project, request.network
        )),
        _ => error,
    })?;
    // leaves let machines of the project announce it from now on
    store::switch::nudge_project(&mut tx, &request.project).await?;
    tx.commit().await?;
    Ok(ip)
}

fn asked(request: &api::IPServiceCreateRequest, want: Want) -> ipam::Request<'_> {
    ipam::Request {
        project: &request.project,
        network: &request.network,
        want,
        name: request.name.as_deref().unwrap_or_default(),
        description: request.description.as_deref().unwrap_or_default(),
        kind: request.r#type.and_then(|kind| kind.as_known()).unwrap_or_default(),
        machine: request.machine.as_deref(),
        labels: request.labels.as_option().cloned(),
    }
}

/// Whether the project may take an address from a network.
fn check_network(
    network: &api::Network,
    request: &api::IPServiceCreateRequest,
    operator: bool,
) -> Result<(), Error> {
    let owner = network.project.as_deref();
    let kind = network::kind_of(network);
    // nobody learns that a network of somebody else exists
    if owner.is_some_and(|owner| owner != request.project)
        && kind != model::network::Type::ChildShared
    {
        return Err(Error::not_found("network", &request.network));
    }
    may_take(&network.id, kind, owner, &request.project, operator).map_err(
        |refusal| match refusal {
            Refusal::Invalid(sentence) => Error::invalid(sentence),
            Refusal::Denied(sentence) => Error::denied(sentence),
        },
    )
}

fn want(request: &api::IPServiceCreateRequest) -> Result<Want, Error> {
    use api::IPAddressFamily as Asked;
    let family = match request.address_family.and_then(|family| family.as_known()) {
        Some(Asked::IP_ADDRESS_FAMILY_V4) => Some(Family::V4),
        Some(Asked::IP_ADDRESS_FAMILY_V6) => Some(Family::V6),
        Some(Asked::IP_ADDRESS_FAMILY_UNSPECIFIED) | None => None,
    };
    match (&request.ip, family) {
        (Some(_), Some(_)) => {
            Err(Error::invalid("it is not possible to specify a specificIP and addressfamily"))
        }
        (Some(ip), None) => Ok(Want::Exactly(parse(ip)?)),
        (None, Some(family)) => Ok(Want::Lowest(family)),
        (None, None) => Ok(Want::Any),
    }
}

/// An address can be attached to a machine of the same project only; which one is not said by labels.
async fn check_machine(tx: &mut Tx, request: &api::IPServiceCreateRequest) -> Result<(), Error> {
    let named = request.labels.labels.get(MACHINE_LABEL);
    if named.is_some() && named != request.machine.as_ref() {
        return Err(Error::invalid(format!(
            "the label {MACHINE_LABEL} is kept by the system: name the machine in the field machine"
        )));
    }
    let Some(machine) = &request.machine else { return Ok(()) };
    let select = store::machine::TABLE.select().eq("id", machine).eq("project", &request.project);
    match select.for_update().one(tx).await? {
        Some(_) => Ok(()),
        None => Err(Error::not_found("machine", machine)),
    }
}

async fn update(
    call: &Call,
    request: api::IPServiceUpdateRequest,
) -> Result<api::IPServiceUpdateResponse, Error> {
    let mut tx = call.write().await?;
    let (taken, mut ip) = hold(&mut tx, &request.project, &request.ip).await?;
    wire::check_lock(&request.update_meta, &taken.row)?;
    if let Some(name) = request.name {
        ip.name = name;
    }
    if let Some(description) = request.description {
        ip.description = description;
    }
    if let Some(kind) = request.r#type {
        ip.r#type = match kind.as_known() {
            Some(api::IPType::IP_TYPE_STATIC) => kind,
            Some(api::IPType::IP_TYPE_EPHEMERAL) if ip.r#type == kind => kind,
            Some(api::IPType::IP_TYPE_EPHEMERAL) => {
                return Err(Error::invalid(
                    "cannot change type of ip address from static to ephemeral",
                ));
            }
            _ => return Err(Error::invalid("ip type cannot be unspecified")),
        };
    }
    let machine = ipam::machine_of(&ip).map(str::to_owned);
    wire::update_labels(ip.meta.get_or_insert_default(), request.labels.as_option());
    keep_machine(&mut ip, machine, request.labels.as_option())?;
    let ip = ipam::save(&mut tx, call.now_us(), &taken.row, &ip).await?;
    tx.commit().await?;
    Ok(api::IPServiceUpdateResponse { ip: ip.into(), ..Default::default() })
}

/// Users cannot attach or detach by labels; a set of labels that does not name the machine leaves it as it is.
fn keep_machine(
    ip: &mut api::IP,
    machine: Option<String>,
    update: Option<&api::UpdateLabels>,
) -> Result<(), Error> {
    use api::update_labels::Strategy;
    let named = ipam::machine_of(ip);
    if named == machine.as_deref() {
        return Ok(());
    }
    let forgotten = named.is_none()
        && matches!(update.and_then(|update| update.strategy.as_ref()), Some(Strategy::Replace(_)));
    match machine {
        Some(machine) if forgotten => {
            let labels = &mut ip.meta.get_or_insert_default().labels;
            labels.get_or_insert_default().labels.insert(MACHINE_LABEL.to_owned(), machine);
            Ok(())
        }
        _ => Err(Error::invalid(format!(
            "the label {MACHINE_LABEL} is kept by the system, it follows the machine"
        ))),
    }
}

async fn delete(
    call: &Call,
    request: api::IPServiceDeleteRequest,
) -> Result<api::IPServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    let (taken, ip) = hold(&mut tx, &request.project, &request.ip).await?;
    if let Some(machine) = ipam::machine_of(&ip) {
        return Err(Error::invalid(format!(
            "ip with machine scope cannot be deleted: {} is used by machine {machine}",
            ip.ip
        )));
    }
    ipam::free(&mut tx, &taken).await?;
    store::switch::nudge_project(&mut tx, &request.project).await?;
    tx.commit().await?;
    Ok(api::IPServiceDeleteResponse { ip: ip.into(), ..Default::default() })
}

/// The address of a project, which then stays as it is until the transaction ends. Update and delete name no namespace: the shared
/// one is looked at first, then the project's own.
async fn hold(tx: &mut Tx, project: &str, ip: &str) -> Result<(Taken, api::IP), Error> {
    let address = key(parse(ip)?);
    for namespace in ["", project] {
        if let Some(taken) = store::ip::hold(tx, &address, namespace).await? {
            let ip: api::IP = wire::decode(&taken.row)?;
            if ip.project == project {
                return Ok((taken, ip));
            }
        }
    }
    Err(not_found(ip))
}

async fn list_own(
    call: &Call,
    request: api::IPServiceListRequest,
) -> Result<api::IPServiceListResponse, Error> {
    let select = store::ip::TABLE.select().eq("project", &request.project);
    let ips = query::list(&mut call.read().await?, select, &request.query).await?;
    Ok(api::IPServiceListResponse { ips, ..Default::default() })
}

async fn list_any(
    call: &Call,
    request: admin::IPServiceListRequest,
) -> Result<admin::IPServiceListResponse, Error> {
    let select = store::ip::TABLE.select();
    let ips = query::list(&mut call.read().await?, select, &request.query).await?;
    Ok(admin::IPServiceListResponse { ips, ..Default::default() })
}

/// Sorts addresses, not texts.
fn sort(ips: &mut [api::IP]) {
    ips.sort_by_cached_key(|ip| (ip.ip.parse().map(key).unwrap_or_default(), ip.namespace.clone()));
}
