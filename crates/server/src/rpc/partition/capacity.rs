//! How many machines of which size are there, in use, free or faulty.

use std::collections::{BTreeMap, BTreeSet};

use model::partition::{Doing, Machine};
use proto::{admin, api};
use store::Tx;
use store::event::Events;

use super::KIND;
use crate::rpc::machine::issue;
use crate::rpc::{Call, Error, entity, size_reservation};

/// Name of the size of machines that fit none or several.
const UNKNOWN: &str = "unknown";

pub(super) async fn capacity(
    call: &Call,
    request: admin::PartitionServiceCapacityRequest,
) -> Result<admin::PartitionServiceCapacityResponse, Error> {
    // before the transaction: who holds one and waits for another can wait for ever
    let faulty = faulty(call).await?;
    let mut tx = call.read().await?;
    if let Some(id) = &request.id {
        super::get(&mut tx, id).await?;
    }
    let select = KIND.table.select().eq_opt("id", request.id.as_deref());
    let waiting: BTreeSet<String> = store::waiting::all(&mut tx).await?.into_iter().collect();
    let events: BTreeMap<String, Events> = store::event::all(&mut tx)
        .await?
        .into_iter()
        .map(|events| (events.machine.clone(), events))
        .collect();
    let mut partition_capacity = Vec::new();
    for partition in entity::list::<api::Partition>(&mut tx, select).await? {
        let mut machines = Vec::new();
        let select = store::machine::TABLE.select().eq("partition", partition.id.as_str());
        for machine in entity::list::<api::Machine>(&mut tx, select).await? {
            let events = events.get(&machine.uuid);
            let (waits, faulty) = (waiting.contains(&machine.uuid), faulty.contains(&machine.uuid));
            machines.push(counted(&machine, events, waits, faulty)?);
        }
        machines.retain(|machine| request.size.as_ref().is_none_or(|size| machine.size == *size));
        let reserved = reserved(&mut tx, &partition.id, &machines).await?;
        let sizes = model::partition::capacity(&machines, &reserved, request.project.as_deref());
        partition_capacity.push(admin::PartitionCapacity {
            partition: partition.id,
            machine_size_capacities: sizes.into_iter().map(|(size, c)| answer(size, c)).collect(),
            ..Default::default()
        });
    }
    Ok(admin::PartitionServiceCapacityResponse { partition_capacity, ..Default::default() })
}

/// The reservations of each size of which there are machines.
async fn reserved(
    tx: &mut Tx,
    partition: &str,
    machines: &[Machine],
) -> Result<BTreeMap<String, Vec<model::size_reservation::Reserved>>, Error> {
    let mut reserved = BTreeMap::new();
    for size in machines.iter().map(|machine| &machine.size) {
        if !reserved.contains_key(size) {
            let of = size_reservation::reserved(tx, partition, size).await?;
            reserved.insert(size.clone(), of);
        }
    }
    Ok(reserved)
}

fn counted(
    machine: &api::Machine,
    events: Option<&Events>,
    waiting: bool,
    faulty: bool,
) -> Result<Machine, Error> {
    use api::MachineProvisioningEventType as Event;
    let recent: api::MachineRecentProvisioningEvents = match events {
        Some(events) => serde_json::from_str(&events.body).map_err(|e| {
            Error::internal(format!("stored events of {} are damaged: {e}", machine.uuid))
        })?,
        None => Default::default(),
    };
    let newest = recent.events.first().and_then(|event| event.event.as_known());
    let doing = match newest {
        Some(Event::MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME) => Doing::PhonedHome,
        Some(Event::MACHINE_PROVISIONING_EVENT_TYPE_WAITING) => Doing::Waiting,
        _ => Doing::Other,
    };
    let allocated = machine.allocation.is_set();
    let alive = events.is_some_and(|e| e.liveliness == api::MachineLiveliness::Alive as i64);
    let held = !matches!(
        machine.status.condition.state.as_known(),
        Some(
            api::MachineState::MACHINE_STATE_AVAILABLE
                | api::MachineState::MACHINE_STATE_UNSPECIFIED
        )
    );
    Ok(Machine {
        id: machine.uuid.clone(),
        size: if machine.size.id.is_empty() { UNKNOWN.to_owned() } else { machine.size.id.clone() },
        project: allocated.then(|| machine.allocation.project.clone()),
        doing,
        electable: !allocated && waiting && alive && !held,
        faulty,
    })
}

/// Ids of the machines with an issue that is more than an unexpected last event.
async fn faulty(call: &Call) -> Result<BTreeSet<String>, Error> {
    let query = api::MachineIssuesQuery {
        omit: vec![api::MachineIssueType::LastEventError.into()],
        ..Default::default()
    };
    let request = admin::MachineServiceIssuesRequest { query: query.into(), ..Default::default() };
    let answer = issue::issues(call, request).await?;
    Ok(answer.issues.into_iter().map(|machine| machine.uuid).collect())
}

fn answer(size: String, counted: model::partition::Capacity) -> admin::MachineSizeCapacity {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    admin::MachineSizeCapacity {
        size,
        total: number(counted.total),
        phoned_home: number(counted.phoned_home),
        waiting: number(counted.waiting),
        other: number(counted.other.len() as u64),
        other_machines: counted.other,
        allocated: number(counted.allocated),
        allocatable: number(counted.allocatable),
        free: number(counted.free),
        unavailable: number(counted.unavailable),
        faulty: number(counted.faulty.len() as u64),
        faulty_machines: counted.faulty,
        reservations: number(counted.reserved),
        used_reservations: number(counted.reserved_used),
        remaining_reservations: number(counted.reserved - counted.reserved_used),
        ..Default::default()
    }
}
