//! `SwitchService` of operators.

use std::sync::Arc;

use connectrpc::Router;
use proto::admin::{self, SwitchServiceExt};
use proto::api;
use store::switch::TABLE;

use super::view::{self, view};
use super::{distinct, hold, merge_nics, replace, save, set_os};
use crate::rpc::machine::{query, view as machine_view};
use crate::rpc::{App, Call, Error, bmc, service};
use crate::wire::{self, asks};

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

service! { admin::SwitchService {
    get(SwitchServiceGetRequest) -> SwitchServiceGetResponse = get;
    list(SwitchServiceListRequest) -> SwitchServiceListResponse = list;
    update(SwitchServiceUpdateRequest) -> SwitchServiceUpdateResponse = update;
    delete(SwitchServiceDeleteRequest) -> SwitchServiceDeleteResponse = delete;
    migrate(SwitchServiceMigrateRequest) -> SwitchServiceMigrateResponse = migrate;
    port(SwitchServicePortRequest) -> SwitchServicePortResponse = port;
    connected_machines(SwitchServiceConnectedMachinesRequest) -> SwitchServiceConnectedMachinesResponse = connected_machines;
} }

async fn get(
    call: &Call,
    request: admin::SwitchServiceGetRequest,
) -> Result<admin::SwitchServiceGetResponse, Error> {
    let mut tx = call.read().await?;
    let row = TABLE
        .get(&mut tx, &request.id)
        .await?
        .ok_or_else(|| Error::not_found("switch", &request.id))?;
    let switch = view(&mut tx, &row).await?;
    Ok(admin::SwitchServiceGetResponse { switch: switch.into(), ..Default::default() })
}

async fn list(
    call: &Call,
    request: admin::SwitchServiceListRequest,
) -> Result<admin::SwitchServiceListResponse, Error> {
    let switches = matching(call, request.query.as_option()).await?;
    Ok(admin::SwitchServiceListResponse { switches, ..Default::default() })
}

async fn matching(
    call: &Call,
    query: Option<&api::SwitchQuery>,
) -> Result<Vec<api::Switch>, Error> {
    let default = api::SwitchQuery::default();
    let query = query.unwrap_or(&default);
    let mut tx = call.read().await?;
    let rows = TABLE
        .select()
        .eq_opt("id", query.id.as_deref())
        .eq_opt("partition", query.partition.as_deref())
        .eq_opt("rack", query.rack.as_deref())
        .all(&mut tx)
        .await?;
    let mut switches = Vec::new();
    for row in rows {
        let switch = view(&mut tx, &row).await?;
        let os = switch.os.as_option();
        let vendor = query.os.as_option().and_then(|os| os.vendor);
        let version = query.os.as_option().and_then(|os| os.version.as_ref());
        let machine = query.connected_machine_id.as_deref();
        let wanted = asks::<str, _>(query.room.as_ref(), switch.room.as_deref().unwrap_or(""))
            && vendor.is_none_or(|vendor| os.is_some_and(|os| os.vendor == vendor))
            && version.is_none_or(|version| os.is_some_and(|os| os.version == *version))
            && machine.is_none_or(|machine| {
                switch.machine_connections.iter().any(|c| c.machine_id == machine)
            });
        if wanted {
            switches.push(switch);
        }
    }
    Ok(switches)
}

async fn update(
    call: &Call,
    request: admin::SwitchServiceUpdateRequest,
) -> Result<admin::SwitchServiceUpdateResponse, Error> {
    let mut tx = call.write().await?;
    let (mut switch, row) = hold(&mut tx, &request.id).await?;
    let lock = request.update_meta.as_option().cloned().unwrap_or_default();
    wire::check_lock(&lock, &row)?;
    if let Some(description) = request.description {
        switch.description = description;
    }
    if let Some(mode) = request.replace_mode {
        switch.replace_mode = mode;
    }
    if let Some(ip) = request.management_ip {
        switch.management_ip = ip;
    }
    if request.management_user.is_some() {
        switch.management_user = request.management_user;
    }
    if request.console_command.is_some() {
        switch.console_command = request.console_command;
    }
    set_os(&mut switch, request.os.as_option())?;
    if !request.nics.is_empty() {
        distinct(&request.nics)?;
        let known = switch.clone();
        switch.nics = merge_nics(&mut tx, &known, request.nics).await?;
    }
    let row = save(&mut tx, &row, &switch, call.now).await?;
    let switch = view(&mut tx, &row).await?;
    tx.commit().await?;
    Ok(admin::SwitchServiceUpdateResponse { switch: switch.into(), ..Default::default() })
}

async fn delete(
    call: &Call,
    request: admin::SwitchServiceDeleteRequest,
) -> Result<admin::SwitchServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    let (_, row) = hold(&mut tx, &request.id).await?;
    let cables = store::switch::connections_of_switch(&mut tx, &request.id).await?;
    if !cables.is_empty() && !request.force {
        return Err(Error::in_use(format!(
            "{} cables of machines end at switch {}: migrate it to another switch, or use force",
            cables.len(),
            request.id
        )));
    }
    let switch = view(&mut tx, &row).await?;
    TABLE.delete(&mut tx, &request.id).await?;
    store::switch::nudge(&mut tx, &request.id);
    // whoever waits for this switch waits no longer
    crate::rpc::machine::release::hurry(&mut tx, call.now).await?;
    tx.commit().await?;
    Ok(admin::SwitchServiceDeleteResponse { switch: switch.into(), ..Default::default() })
}

async fn migrate(
    call: &Call,
    request: admin::SwitchServiceMigrateRequest,
) -> Result<admin::SwitchServiceMigrateResponse, Error> {
    if request.old_switch == request.new_switch {
        return Err(Error::invalid("old and new switch are the same"));
    }
    let mut tx = call.write().await?;
    // held in the order of their ids, so that two migrations do not stand in each other's way
    let (first, second) = if request.old_switch < request.new_switch {
        (&request.old_switch, &request.new_switch)
    } else {
        (&request.new_switch, &request.old_switch)
    };
    let (one, two) = (hold(&mut tx, first).await?, hold(&mut tx, second).await?);
    let (old, new) = if one.0.id == request.old_switch { (one, two) } else { (two, one) };
    let row = replace::migrate(&mut tx, old, new, call.now).await?;
    let switch = view(&mut tx, &row).await?;
    tx.commit().await?;
    Ok(admin::SwitchServiceMigrateResponse { switch: switch.into(), ..Default::default() })
}

async fn port(
    call: &Call,
    request: admin::SwitchServicePortRequest,
) -> Result<admin::SwitchServicePortResponse, Error> {
    if !matches!(
        request.status.as_known(),
        Some(api::SwitchPortStatus::Up | api::SwitchPortStatus::Down)
    ) {
        return Err(Error::invalid("a port can be set up or down, nothing else"));
    }
    let mut tx = call.write().await?;
    let (mut switch, row) = hold(&mut tx, &request.id).await?;
    let Some(nic) = switch.nics.iter_mut().find(|nic| nic.name == request.nic_name) else {
        return Err(Error::invalid(format!(
            "switch {} has no port {}",
            request.id, request.nic_name
        )));
    };
    nic.state.get_or_insert_default().desired = Some(request.status);
    save(&mut tx, &row, &switch, call.now).await?;
    tx.commit().await?;
    // many can read at once, but SQLite has one writer
    let switch = view::of(&mut call.read().await?, switch).await?;
    Ok(admin::SwitchServicePortResponse { switch: switch.into(), ..Default::default() })
}

async fn connected_machines(
    call: &Call,
    request: admin::SwitchServiceConnectedMachinesRequest,
) -> Result<admin::SwitchServiceConnectedMachinesResponse, Error> {
    let switches = matching(call, request.query.as_option()).await?;
    let mut tx = call.read().await?;
    let asked = request.machine_query.as_option();
    let mut answer = admin::SwitchServiceConnectedMachinesResponse::default();
    for switch in switches {
        let mut found = api::SwitchWithMachines {
            id: switch.id,
            partition: switch.partition,
            rack: switch.rack.unwrap_or_default(),
            ..Default::default()
        };
        for connection in switch.machine_connections {
            let Some(machine) = machine_view::one(&mut tx, &connection.machine_id).await? else {
                continue;
            };
            let (report, _) = bmc::report(&mut tx, &connection.machine_id).await?;
            let waiting = store::waiting::get(&mut tx, &connection.machine_id).await?.is_some();
            if asked.is_none_or(|query| query::matches(query, &machine, &report, waiting)) {
                found.connections.push(api::SwitchNicWithMachine {
                    nic: connection.nic,
                    machine: machine.into(),
                    fru: report.fru,
                    ..Default::default()
                });
            }
        }
        if asked.is_none() || !found.connections.is_empty() {
            answer.switches_with_machines.push(found);
        }
    }
    Ok(answer)
}
