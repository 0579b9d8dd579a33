//! `MachineService` of operators.

use std::sync::Arc;

use connectrpc::{PreEncoded, Router};
use proto::admin::{self, MachineServiceExt};
use proto::api;
use store::Tx;

use super::record::{self, Record};
use super::{issue, query, view};
use crate::rpc::{App, Call, Either, Error, Reason, bmc, service};

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

service! { admin::MachineService {
    get(MachineServiceGetRequest) -> MachineServiceGetResponse = get;
    delete(MachineServiceDeleteRequest) -> MachineServiceDeleteResponse = delete;
    bmc_command(MachineServiceBMCCommandRequest) -> MachineServiceBMCCommandResponse = bmc_command;
    get_bmc(MachineServiceGetBMCRequest) -> MachineServiceGetBMCResponse = get_bmc;
    list_bmc(MachineServiceListBMCRequest) -> MachineServiceListBMCResponse = list_bmc;
    console_password(MachineServiceConsolePasswordRequest) -> MachineServiceConsolePasswordResponse = console_password;
    set_state(MachineServiceSetStateRequest) -> MachineServiceSetStateResponse = set_state;
    issues(MachineServiceIssuesRequest) -> MachineServiceIssuesResponse = issue::issues;
} long {
    list(MachineServiceListRequest) -> MachineServiceListResponse = list;
} }

async fn get(
    call: &Call,
    request: admin::MachineServiceGetRequest,
) -> Result<admin::MachineServiceGetResponse, Error> {
    let mut machine = view::require(&mut call.read().await?, &request.uuid).await?;
    if !call.caller()?.is_admin_editor() {
        view::hide_secrets(&mut machine);
    }
    Ok(admin::MachineServiceGetResponse { machine: machine.into(), ..Default::default() })
}

async fn list(
    call: &Call,
    request: admin::MachineServiceListRequest,
) -> Result<Either<admin::MachineServiceListResponse>, Error> {
    let mut tx = call.read().await?;
    let query = request.query.into_option().unwrap_or_default();
    let secrets = call.caller()?.is_admin_editor();
    if call.binary {
        let machines = query::encoded(&mut tx, &query, None, secrets).await?;
        return Ok(Either::Borrowed(PreEncoded::from_bytes_unchecked(machines)));
    }
    let mut machines = query::run(&mut tx, &query, None).await?;
    if !secrets {
        machines.iter_mut().for_each(view::hide_secrets);
    }
    Ok(Either::Owned(admin::MachineServiceListResponse { machines, ..Default::default() }))
}

/// Forgets a machine that is gone for good.
async fn delete(
    call: &Call,
    request: admin::MachineServiceDeleteRequest,
) -> Result<admin::MachineServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    let record = record::require_for_update(&mut tx, &request.uuid).await?;
    let id = record.row.id.clone();
    if record.allocation().is_some() {
        return Err(Error::invalid(format!("machine {id} is allocated: release it first")));
    }
    let events = store::event::get(&mut tx, &id).await?;
    let dead = events.is_none_or(|e| e.liveliness == api::MachineLiveliness::Dead as i64);
    if !dead || store::waiting::get(&mut tx, &id).await?.is_some() {
        return Err(Error::invalid(format!(
            "can only delete dead machines: {id} was heard lately, turn it off and wait some minutes"
        )));
    }
    let machine = view::of(&mut tx, record).await?;
    for cable in store::switch::connections_of_machine(&mut tx, &id).await? {
        store::switch::nudge(&mut tx, &cable.switch);
    }
    store::machine::TABLE.delete(&mut tx, &id).await?;
    tx.commit().await?;
    Ok(admin::MachineServiceDeleteResponse { machine: machine.into(), ..Default::default() })
}

async fn bmc_command(
    call: &Call,
    request: admin::MachineServiceBMCCommandRequest,
) -> Result<admin::MachineServiceBMCCommandResponse, Error> {
    let mut tx = call.write().await?;
    let record = record::require_for_update(&mut tx, &request.uuid).await?;
    let command = request.command.as_known().unwrap_or_default();
    let task_id = bmc::command(&mut tx, &record, command, call.now).await?;
    tx.commit().await?;
    Ok(admin::MachineServiceBMCCommandResponse { task_id, ..Default::default() })
}

/// Everything about the BMC of a machine.
pub(super) async fn details(tx: &mut Tx, record: &Record) -> Result<api::MachineBMCDetails, Error> {
    let (report, _) = bmc::report(tx, &record.row.id).await?;
    Ok(api::MachineBMCDetails {
        uuid: record.row.id.clone(),
        partition: record.partition().to_owned(),
        rack: record.machine.rack.clone(),
        room: record.machine.room.clone(),
        size: record.size().to_owned(),
        bmc_report: report.into(),
        ..Default::default()
    })
}

async fn get_bmc(
    call: &Call,
    request: admin::MachineServiceGetBMCRequest,
) -> Result<admin::MachineServiceGetBMCResponse, Error> {
    let mut tx = call.read().await?;
    let record = record::get(&mut tx, &request.uuid)
        .await?
        .ok_or_else(|| Error::not_found("machine", &request.uuid))?;
    let bmc_details = details(&mut tx, &record).await?;
    Ok(admin::MachineServiceGetBMCResponse {
        bmc_details: bmc_details.into(),
        ..Default::default()
    })
}

async fn list_bmc(
    call: &Call,
    request: admin::MachineServiceListBMCRequest,
) -> Result<admin::MachineServiceListBMCResponse, Error> {
    let mut tx = call.read().await?;
    let query = request.query.into_option().unwrap_or_default();
    let mut answer = admin::MachineServiceListBMCResponse::default();
    for (machine, whole) in query::find(&mut tx, &query, None).await? {
        let report = match &whole.bmc {
            Some(row) => bmc::decode(row)?,
            None => bmc::unknown(&machine.uuid),
        };
        answer.bmc_details.push(api::MachineBMCDetails {
            partition: machine.partition.as_option().map(|p| p.id.clone()).unwrap_or_default(),
            size: machine.size.as_option().map(|s| s.id.clone()).unwrap_or_default(),
            uuid: machine.uuid,
            rack: machine.rack,
            room: machine.room,
            bmc_report: report.into(),
            ..Default::default()
        });
    }
    Ok(answer)
}

async fn console_password(
    call: &Call,
    request: admin::MachineServiceConsolePasswordRequest,
) -> Result<admin::MachineServiceConsolePasswordResponse, Error> {
    let mut tx = call.read().await?;
    let record = record::get(&mut tx, &request.uuid)
        .await?
        .ok_or_else(|| Error::not_found("machine", &request.uuid))?;
    if record.allocation().is_none() {
        return Err(Error::reason(
            Reason::NotAllocated,
            format!("machine {} is not allocated", request.uuid),
        ));
    }
    let Some(password) = store::machine::console_password(&mut tx, &record.row.id).await? else {
        return Err(Error::precondition(format!(
            "machine {} has not finished its installation, it has no console password yet",
            request.uuid
        )));
    };
    tracing::info!(
        machine = record.row.id,
        user = call.caller()?.user,
        reason = request.reason,
        "console password was read"
    );
    Ok(admin::MachineServiceConsolePasswordResponse {
        uuid: record.row.id,
        password,
        ..Default::default()
    })
}

async fn set_state(
    call: &Call,
    request: admin::MachineServiceSetStateRequest,
) -> Result<admin::MachineServiceSetStateResponse, Error> {
    use api::MachineState as State;
    let mut tx = call.write().await?;
    let mut record = record::require_for_update(&mut tx, &request.uuid).await?;
    let asked = request.state.as_known().unwrap_or_default();
    match (record.state(), asked) {
        (_, State::Unspecified) => return Err(Error::invalid("the state is missing")),
        (_, State::Available) if !request.description.is_empty() => {
            return Err(Error::invalid("an available machine needs no description: leave it out"));
        }
        (now, State::Locked | State::Tainted) if now != State::Available => {
            return Err(Error::precondition(format!(
                "machine {} is held back already: make it available first",
                request.uuid
            )));
        }
        _ => {}
    }
    let condition = record.machine.status.get_or_insert_default().condition.get_or_insert_default();
    condition.state = asked.into();
    condition.description = request.description;
    condition.issuer =
        if asked == State::Available { String::new() } else { call.caller()?.user.clone() };
    record::save(&mut tx, &mut record, call.now).await?;
    let electable = asked == State::Available
        && record.allocation().is_none()
        && !matches!(record.size(), "" | record::UNKNOWN_SIZE);
    store::waiting::set_electable(&mut tx, &record.row.id, electable).await?;
    let machine = view::of(&mut tx, record).await?;
    tx.commit().await?;
    Ok(admin::MachineServiceSetStateResponse { machine: machine.into(), ..Default::default() })
}
