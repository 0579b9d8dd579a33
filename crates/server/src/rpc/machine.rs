//! `MachineService` of users and of operators.

mod allocate;
mod distance;
mod elect;
mod encoded;
pub(crate) mod issue;
mod networks;
mod operate;
pub(crate) mod query;
pub(crate) mod record;
pub(crate) mod release;
pub(crate) mod view;

use std::sync::Arc;

use connectrpc::{PreEncoded, Router};
use proto::api::{self, MachineServiceExt};
use proto::method::ProjectRole;

use super::{App, Call, Either, Error, bmc, service};
use crate::wire;

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let router = Arc::new(Handler(Arc::clone(app))).register(router);
    operate::register(app, router)
}

service! { api::MachineService {
    get(MachineServiceGetRequest) -> MachineServiceGetResponse = get;
    create(MachineServiceCreateRequest) -> MachineServiceCreateResponse = allocate::create;
    update(MachineServiceUpdateRequest) -> MachineServiceUpdateResponse = update;
    delete(MachineServiceDeleteRequest) -> MachineServiceDeleteResponse = delete;
    bmc_command(MachineServiceBMCCommandRequest) -> MachineServiceBMCCommandResponse = bmc_command;
    get_bmc(MachineServiceGetBMCRequest) -> MachineServiceGetBMCResponse = get_bmc;
} long {
    list(MachineServiceListRequest) -> MachineServiceListResponse = list;
} }

async fn get(
    call: &Call,
    request: api::MachineServiceGetRequest,
) -> Result<api::MachineServiceGetResponse, Error> {
    let mut tx = call.read().await?;
    let mut machine = view::one(&mut tx, &request.uuid)
        .await?
        .filter(|machine| view::belongs(machine, &request.project))
        .ok_or_else(|| Error::not_found("machine", &request.uuid))?;
    if !may_edit(call, &request.project)? {
        view::hide_secrets(&mut machine);
    }
    Ok(api::MachineServiceGetResponse { machine: machine.into(), ..Default::default() })
}

async fn list(
    call: &Call,
    request: api::MachineServiceListRequest,
) -> Result<Either<api::MachineServiceListResponse>, Error> {
    let mut tx = call.read().await?;
    let query = request.query.into_option().unwrap_or_default();
    let secrets = may_edit(call, &request.project)?;
    if call.binary {
        let machines = query::encoded(&mut tx, &query, Some(&request.project), secrets).await?;
        return Ok(Either::Borrowed(PreEncoded::from_bytes_unchecked(machines)));
    }
    let mut machines = query::run(&mut tx, &query, Some(&request.project)).await?;
    if !secrets {
        machines.iter_mut().for_each(view::hide_secrets);
    }
    Ok(Either::Owned(api::MachineServiceListResponse { machines, ..Default::default() }))
}

fn strong(role: &ProjectRole) -> bool {
    matches!(role, ProjectRole::Owner | ProjectRole::Editor)
}

/// Whether the caller may change the project; who may not does not see user data and keys.
fn may_edit(call: &Call, project: &str) -> Result<bool, Error> {
    let caller = call.caller()?;
    let role = caller.membership.project.and_then(|now| caller.rights.project_role(project, now));
    Ok(caller.is_admin_editor() || role.as_ref().is_some_and(strong))
}

async fn update(
    call: &Call,
    request: api::MachineServiceUpdateRequest,
) -> Result<api::MachineServiceUpdateResponse, Error> {
    let mut tx = call.write().await?;
    let mut record = record::of_project(&mut tx, &request.uuid, &request.project).await?;
    let lock = request.update_meta.as_option().cloned().unwrap_or_default();
    wire::check_lock(&lock, &record.row)?;
    let allocation = record.machine.allocation.get_or_insert_default();
    if let Some(description) = request.description {
        allocation.description = description;
    }
    if !request.ssh_public_keys.is_empty() {
        allocation.ssh_public_keys = request.ssh_public_keys;
    }
    let meta = allocation.meta.get_or_insert_default();
    wire::update_labels(meta, request.labels.as_option());
    meta.updated_at = wire::timestamp_us(call.now_us()).into();
    meta.generation += 1;
    record::save(&mut tx, &mut record, call.now).await?;
    let machine = view::of(&mut tx, record).await?;
    tx.commit().await?;
    Ok(api::MachineServiceUpdateResponse { machine: machine.into(), ..Default::default() })
}

async fn delete(
    call: &Call,
    request: api::MachineServiceDeleteRequest,
) -> Result<api::MachineServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    let record = record::of_project(&mut tx, &request.uuid, &request.project).await?;
    let machine = release::begin(&mut tx, record, call.now).await?;
    tx.commit().await?;
    Ok(api::MachineServiceDeleteResponse { machine: machine.into(), ..Default::default() })
}

async fn bmc_command(
    call: &Call,
    request: api::MachineServiceBMCCommandRequest,
) -> Result<api::MachineServiceBMCCommandResponse, Error> {
    let mut tx = call.write().await?;
    let record = record::of_project(&mut tx, &request.uuid, &request.project).await?;
    let command = request.command.as_known().unwrap_or_default();
    let task_id = bmc::command(&mut tx, &record, command, call.now).await?;
    tx.commit().await?;
    Ok(api::MachineServiceBMCCommandResponse { task_id, ..Default::default() })
}

async fn get_bmc(
    call: &Call,
    request: api::MachineServiceGetBMCRequest,
) -> Result<api::MachineServiceGetBMCResponse, Error> {
    let mut tx = call.read().await?;
    let record = record::get(&mut tx, &request.uuid)
        .await?
        .filter(|record| view::belongs(&record.machine, &request.project))
        .ok_or_else(|| Error::not_found("machine", &request.uuid))?;
    let bmc_details = operate::details(&mut tx, &record).await?;
    Ok(api::MachineServiceGetBMCResponse { bmc_details: bmc_details.into(), ..Default::default() })
}

/// Where a stream with this id stands in the order of the pool.
pub(crate) fn position(stream: &str) -> i64 {
    elect::position(&uuid::Uuid::parse_str(stream).unwrap_or_default())
}
