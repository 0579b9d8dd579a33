//! `SwitchService` of agents and of operators. What a switch should be and what its agent tells live in different tables, so
//! that a heartbeat can never overwrite a wish.

pub(crate) mod connect;
mod names;
mod operate;
mod replace;
pub(crate) mod view;
pub(super) mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;

use connectrpc::Router;
use jiff::Timestamp;
use proto::api;
use proto::infra::{self, SwitchServiceExt};
use store::switch::{Status, TABLE};
use store::{Entity, Tx};

use super::machine::release;
use super::{App, Call, Error, service};
use crate::wire;
use view::{Ports, sync};

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let router = Arc::new(Handler(Arc::clone(app))).register(router);
    operate::register(app, router)
}

service! { infra::SwitchService {
    get(SwitchServiceGetRequest) -> SwitchServiceGetResponse = get;
    register(SwitchServiceRegisterRequest) -> SwitchServiceRegisterResponse = enrol;
    heartbeat(SwitchServiceHeartbeatRequest) -> SwitchServiceHeartbeatResponse = heartbeat;
} }

/// The switch and its row, which stay as they are until the transaction ends.
async fn hold(tx: &mut Tx, id: &str) -> Result<(api::Switch, Entity), Error> {
    let row = TABLE.get_for_update(tx, id).await?.ok_or_else(|| Error::not_found("switch", id))?;
    Ok((wire::decode(&row)?, row))
}

/// Stores what a switch should be, and wakes its agent.
async fn save(
    tx: &mut Tx,
    row: &Entity,
    switch: &api::Switch,
    now: Timestamp,
) -> Result<Entity, Error> {
    let stored = strip(switch.clone());
    let next = row.next(wire::encode(&stored)?, now.as_microsecond());
    let rack = stored.rack.clone().unwrap_or_default();
    if !TABLE.update(tx, &next, &[(&stored.partition).into(), rack.into()]).await? {
        return Err(Error::aborted(format!("switch {} was changed meanwhile: retry", row.id)));
    }
    store::switch::nudge(tx, &row.id);
    Ok(next)
}

/// Only what a switch should be.
fn strip(mut switch: api::Switch) -> api::Switch {
    switch.machine_connections.clear();
    switch.last_sync = None.into();
    switch.last_sync_error = None.into();
    for nic in &mut switch.nics {
        nic.bgp_filter = None.into();
        nic.bgp_port_state = None.into();
        if let Some(state) = nic.state.as_option_mut() {
            state.actual = api::SwitchPortStatus::Unknown.into();
        }
    }
    switch.nics.sort_by(|a, b| a.identifier.cmp(&b.identifier));
    switch
}

async fn get(
    call: &Call,
    request: infra::SwitchServiceGetRequest,
) -> Result<infra::SwitchServiceGetResponse, Error> {
    let mut tx = call.read().await?;
    let row = TABLE
        .get(&mut tx, &request.id)
        .await?
        .ok_or_else(|| Error::not_found("switch", &request.id))?;
    let switch = view::view(&mut tx, &row).await?;
    let read = store::switch::peek_status(&mut tx, &request.id).await?;
    drop(tx);
    // agents that know nothing of generations read, apply and then send a heartbeat: remember what they read
    if read.as_ref().is_none_or(|status| status.read_generation < row.generation) {
        let mut tx = call.write().await?;
        let mut status = store::switch::status(&mut tx, &request.id).await?.unwrap_or_default();
        status.switch = request.id;
        status.read_generation = row.generation;
        store::switch::put_status(&mut tx, &status).await?;
        tx.commit().await?;
    }
    Ok(infra::SwitchServiceGetResponse { switch: switch.into(), ..Default::default() })
}

async fn enrol(
    call: &Call,
    request: infra::SwitchServiceRegisterRequest,
) -> Result<infra::SwitchServiceRegisterResponse, Error> {
    let Some(told) = request.switch.as_option().cloned() else {
        return Err(Error::invalid("switch is missing"));
    };
    if told.os.as_option().is_none() {
        return Err(Error::invalid("the operating system of the switch is missing"));
    }
    distinct(&told.nics)?;
    let mut tx = call.write().await?;
    let row = match TABLE.get_for_update(&mut tx, &told.id).await? {
        None => create(&mut tx, told, call.now).await?,
        Some(row) => {
            let known: api::Switch = wire::decode(&row)?;
            if known.replace_mode == api::SwitchReplaceMode::Replace {
                replace::replace(&mut tx, &row, &known, told, call.now).await?
            } else {
                update(&mut tx, &row, known, told, call.now).await?
            }
        }
    };
    let switch = view::view(&mut tx, &row).await?;
    tx.commit().await?;
    Ok(infra::SwitchServiceRegisterResponse { switch: switch.into(), ..Default::default() })
}

/// Ports have names and identifiers of their own.
fn distinct(nics: &[api::SwitchNic]) -> Result<(), Error> {
    let (mut names, mut identifiers) = (BTreeSet::new(), BTreeSet::new());
    for nic in nics {
        if !names.insert(&nic.name) {
            return Err(Error::invalid(format!("port name {} is given twice", nic.name)));
        }
        if !identifiers.insert(&nic.identifier) {
            return Err(Error::invalid(format!(
                "port identifier {} is given twice",
                nic.identifier
            )));
        }
    }
    Ok(())
}

async fn create(tx: &mut Tx, mut told: api::Switch, now: Timestamp) -> Result<Entity, Error> {
    if store::partition::TABLE.keep(tx, &told.partition).await?.is_none() {
        return Err(Error::precondition(format!(
            "partition \"{}\" does not exist: an operator must create it before its switches register",
            told.partition
        )));
    }
    for nic in &mut told.nics {
        nic.vrf = None;
        nic.state.get_or_insert_default().desired = None;
    }
    if told.replace_mode == api::SwitchReplaceMode::Unspecified {
        told.replace_mode = api::SwitchReplaceMode::Operational.into();
    }
    let told = strip(told);
    let row = Entity::new(&told.id, wire::encode(&told)?, now.as_microsecond());
    let rack = told.rack.clone().unwrap_or_default();
    TABLE.insert(tx, &row, &[(&told.partition).into(), rack.into()]).await?;
    store::switch::nudge(tx, &told.id);
    tracing::info!(switch = told.id, partition = told.partition, "switch registered");
    Ok(row)
}

/// What an agent tells of a known switch.
async fn update(
    tx: &mut Tx,
    row: &Entity,
    known: api::Switch,
    told: api::Switch,
    now: Timestamp,
) -> Result<Entity, Error> {
    let mut switch = known.clone();
    if !told.description.is_empty() {
        switch.description = told.description;
    }
    if !told.management_ip.is_empty() {
        switch.management_ip = told.management_ip;
    }
    if told.management_user.is_some() {
        switch.management_user = told.management_user;
    }
    if told.console_command.is_some() {
        switch.console_command = told.console_command;
    }
    if told.replace_mode != api::SwitchReplaceMode::Unspecified {
        switch.replace_mode = told.replace_mode;
    }
    set_os(&mut switch, told.os.as_option())?;
    switch.nics = merge_nics(tx, &known, told.nics).await?;
    if strip(switch.clone()) == strip(known) {
        return Ok(row.clone());
    }
    save(tx, row, &switch, now).await
}

fn set_os(switch: &mut api::Switch, told: Option<&api::SwitchOS>) -> Result<(), Error> {
    let Some(told) = told else { return Ok(()) };
    let os = switch.os.get_or_insert_default();
    if os.vendor != told.vendor {
        return Err(Error::invalid(format!(
            "switch {} runs another operating system than before: set it to replace mode first",
            switch.id
        )));
    }
    if !told.version.is_empty() {
        os.version.clone_from(&told.version);
    }
    if !told.metal_core_version.is_empty() {
        os.metal_core_version.clone_from(&told.metal_core_version);
    }
    Ok(())
}

/// The ports of a known switch after it told which it has: wishes stay, and what a machine hangs on neither goes nor changes its name.
async fn merge_nics(
    tx: &mut Tx,
    known: &api::Switch,
    told: Vec<api::SwitchNic>,
) -> Result<Vec<api::SwitchNic>, Error> {
    let mut nics = Vec::new();
    for new in told {
        let mut nic =
            api::SwitchNic { name: new.name, identifier: new.identifier, ..Default::default() };
        if let Some(old) = known.nics.iter().find(|old| old.identifier == nic.identifier) {
            nic.vrf.clone_from(&old.vrf);
            nic.state = old.state.clone();
        }
        nics.push(nic);
    }
    for cable in store::switch::connections_of_switch(tx, &known.id).await? {
        let identifier = known.nics.iter().find(|n| n.name == cable.nic).map(|n| &n.identifier);
        let stays =
            nics.iter().any(|nic| nic.name == cable.nic && Some(&nic.identifier) == identifier);
        if !stays {
            return Err(Error::invalid(format!(
                "machine {} hangs on port {} of switch {}, which can neither go nor be renamed",
                cable.machine, cable.nic, known.id
            )));
        }
    }
    Ok(nics)
}

async fn heartbeat(
    call: &Call,
    request: infra::SwitchServiceHeartbeatRequest,
) -> Result<infra::SwitchServiceHeartbeatResponse, Error> {
    let mut tx = call.write().await?;
    let row = TABLE
        .get(&mut tx, &request.id)
        .await?
        .ok_or_else(|| Error::not_found("switch", &request.id))?;
    let switch: api::Switch = wire::decode(&row)?;
    let mut status = store::switch::status(&mut tx, &request.id).await?.unwrap_or_default();
    status.switch.clone_from(&request.id);
    status.heartbeat_at_us = call.now_us();
    let attempt = api::SwitchSync {
        time: wire::timestamp_us(call.now_us()).into(),
        duration: request.duration,
        error: request.error.clone(),
        ..Default::default()
    };
    let before = status.confirmed_generation;
    if request.error.is_none() {
        status.last_sync = wire::encode(&attempt)?;
        status.confirmed_generation = status.confirmed_generation.max(status.read_generation);
    } else {
        status.last_sync_error = wire::encode(&attempt)?;
    }
    let mut ports = Ports::of(&status)?;
    if !request.port_states.is_empty() {
        if let Some(nic) = switch.nics.iter().find(|n| !request.port_states.contains_key(&n.name)) {
            return Err(Error::invalid(format!(
                "the state of port {} of switch {} is missing: name all ports, or register again",
                nic.name, request.id
            )));
        }
        ports.states = request
            .port_states
            .iter()
            .map(|(name, state)| (name.clone(), state.to_i32()))
            .collect();
    }
    if !request.bgp_port_states.is_empty() {
        ports.sessions = request.bgp_port_states.into_iter().collect();
    }
    status.ports = wire::encode(&ports)?;
    store::switch::put_status(&mut tx, &status).await?;
    fulfil(&mut tx, &row, switch, &ports, call.now).await?;
    if status.confirmed_generation > before {
        release::hurry(&mut tx, call.now).await?;
    }
    tx.commit().await?;
    answer(&status)
}

fn answer(status: &Status) -> Result<infra::SwitchServiceHeartbeatResponse, Error> {
    Ok(infra::SwitchServiceHeartbeatResponse {
        id: status.switch.clone(),
        last_sync: sync(&status.last_sync)?.into(),
        last_sync_error: sync(&status.last_sync_error)?.into(),
        ..Default::default()
    })
}

/// Takes back the wishes that have come true.
async fn fulfil(
    tx: &mut Tx,
    row: &Entity,
    switch: api::Switch,
    ports: &Ports,
    now: Timestamp,
) -> Result<(), Error> {
    let came_true = |nic: &api::SwitchNic| {
        let desired = nic.state.as_option().and_then(|state| state.desired);
        desired.is_some_and(|desired| ports.states.get(&nic.name) == Some(&desired.to_i32()))
    };
    if !switch.nics.iter().any(came_true) {
        return Ok(());
    }
    // read again, now held: a wish may have come in between
    let (mut switch, row) = hold(tx, &row.id).await?;
    for nic in &mut switch.nics {
        if came_true(nic) {
            nic.state.get_or_insert_default().desired = None;
        }
    }
    save(tx, &row, &switch, now).await?;
    Ok(())
}

/// The VRF into which the ports of a machine belong.
pub(crate) fn vrf_of(allocation: &api::MachineAllocation) -> Result<String, Error> {
    if allocation.allocation_type == api::MachineAllocationType::Firewall {
        return Ok("default".to_owned());
    }
    match view::private(allocation) {
        Some(network) if network.vrf != 0 => Ok(format!("vrf{}", network.vrf)),
        Some(network) => Err(Error::internal(format!("network {} has no VRF", network.network))),
        None => Err(Error::precondition("the allocation has no private network")),
    }
}

/// Moves the ports of a machine into a VRF, or into the boot network. Returns the generation of each of its switches that has this.
pub(crate) async fn set_vrf(
    tx: &mut Tx,
    machine: &str,
    vrf: Option<&str>,
    now: Timestamp,
) -> Result<Vec<(String, i64)>, Error> {
    let cables = store::switch::connections_of_machine(tx, machine).await?;
    let switches: BTreeSet<&str> = cables.iter().map(|cable| cable.switch.as_str()).collect();
    let mut generations = Vec::new();
    for id in switches {
        let (mut switch, row) = hold(tx, id).await?;
        let mut changed = false;
        for nic in &mut switch.nics {
            let connected = cables.iter().any(|c| c.switch == id && c.nic == nic.name);
            if connected && nic.vrf.as_deref() != vrf {
                nic.vrf = vrf.map(str::to_owned);
                changed = true;
            }
        }
        let generation =
            if changed { save(tx, &row, &switch, now).await?.generation } else { row.generation };
        generations.push((id.to_owned(), generation));
    }
    Ok(generations)
}
