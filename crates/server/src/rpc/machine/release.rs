//! Release of a machine: its ports leave the tenant at once, its addresses are free only when the switches have confirmed that,
//! then its BMC sends it to the network again.

use jiff::Timestamp;
use model::provisioning::Event;
use proto::api;
use serde::{Deserialize, Serialize};
use store::Tx;
use store::job::{self, Job, State};

use super::record::{self, Record};
use super::view;
use crate::rpc::{App, Error, Reason, bmc, event, switch};
use crate::{ipam, wire};

/// Queue and kind of the jobs.
pub(crate) const QUEUE: &str = "machine";
const KIND: &str = "machine:delete";
/// A release that waits looks that often, also when no switch wakes it.
const PAUSE_US: i64 = 5 * 1_000_000;
/// A release is never given up: this is only what operators see as its deadline.
const DEADLINE_US: i64 = 365 * 24 * 3600 * 1_000_000;

#[derive(Serialize, Deserialize)]
struct Payload {
    machine: String,
    allocation: String,
    /// What each switch must have applied.
    switches: Vec<(String, i64)>,
}

/// Begins the release and returns the machine as it was, with the id of the task.
pub(crate) async fn begin(
    tx: &mut Tx,
    mut record: Record,
    now: Timestamp,
) -> Result<api::Machine, Error> {
    let uuid = record.row.id.clone();
    let Some(allocation) = record.allocation().map(|allocation| allocation.uuid.clone()) else {
        return Err(Error::reason(
            Reason::NotAllocated,
            format!("machine {uuid} is not allocated"),
        ));
    };
    if record.state() == api::MachineState::Locked {
        return Err(Error::reason(
            Reason::Locked,
            format!(
                "machine {uuid} is locked: an operator must unlock it before it can be released"
            ),
        ));
    }
    // asked twice, it is done once
    if record.is_releasing() {
        return view::of(tx, record).await;
    }
    let mut machine = view::of(tx, record.clone()).await?;
    let switches = switch::set_vrf(tx, &uuid, None, now).await?;
    store::firewall::release(tx, &uuid).await?;
    let payload = Payload { machine: uuid.clone(), allocation, switches };
    let now_us = now.as_microsecond();
    let job = Job::new(
        uuid::Uuid::now_v7().to_string(),
        QUEUE.to_owned(),
        uuid.clone(),
        KIND,
        wire::encode(&payload)?,
        now_us,
        now_us + DEADLINE_US,
    );
    job::add(tx, &job).await?;
    record.machine.meta.get_or_insert_default().deletion_task_id = Some(job.id.clone());
    record::save(tx, &mut record, now).await?;
    event::record_event(tx, &uuid, Event::MachineReclaim, "the machine is released", now).await?;
    machine.meta.get_or_insert_default().deletion_task_id = Some(job.id);
    Ok(machine)
}

/// Lets releases look at once, because a switch has confirmed something.
pub(crate) async fn hurry(tx: &mut Tx, now: Timestamp) -> Result<(), Error> {
    Ok(job::hurry(tx, QUEUE, now.as_microsecond()).await?)
}

/// Does the next release that is due; false when there is none.
pub(crate) async fn work(app: &App, now: Timestamp) -> Result<bool, Error> {
    let now_us = now.as_microsecond();
    let mut tx = app.db.begin_write().await?;
    // leased and finished in one transaction: the lease is never seen by anybody
    let Some(mut job) = job::claim(&mut tx, QUEUE, &app.replica, now_us, now_us + PAUSE_US).await?
    else {
        return Ok(false);
    };
    let payload: Payload = serde_json::from_str(&job.payload)
        .map_err(|e| Error::internal(format!("job {} is damaged: {e}", job.id)))?;
    match unconfirmed(&mut tx, &payload, now_us).await? {
        Some(why) => {
            if job.last_error != why {
                tracing::info!(machine = payload.machine, why, "release waits");
            }
            job.state = State::Pending;
            job.run_at_us = now_us + PAUSE_US;
            job.last_error = why;
        }
        None => {
            finish(&mut tx, &payload, now).await?;
            job.state = State::Completed;
            job.completed_at_us = Some(now_us);
            job.last_error.clear();
        }
    }
    job::update(&mut tx, &job).await?;
    tx.commit().await?;
    Ok(true)
}

/// Why the addresses cannot be free yet.
async fn unconfirmed(tx: &mut Tx, payload: &Payload, now_us: i64) -> Result<Option<String>, Error> {
    for (id, generation) in &payload.switches {
        // a switch that was removed carries nothing any more
        if store::switch::TABLE.get(tx, id).await?.is_none() {
            continue;
        }
        let status = store::switch::peek_status(tx, id).await?.unwrap_or_default();
        if status.confirmed_generation < *generation {
            let heard = match status.heartbeat_at_us {
                0 => "its agent was never heard".to_owned(),
                at => format!("its agent was heard {} s ago", (now_us - at) / 1_000_000),
            };
            return Ok(Some(format!(
                "waits for switch {id} to confirm that the ports have left the tenant (generation {generation}, confirmed {}); {heard}",
                status.confirmed_generation
            )));
        }
    }
    Ok(None)
}

/// Gives back everything that the allocation held.
async fn finish(tx: &mut Tx, payload: &Payload, now: Timestamp) -> Result<(), Error> {
    let Some(mut record) = record::get_for_update(tx, &payload.machine).await? else {
        return Ok(());
    };
    let Some(allocation) = record.allocation().cloned() else { return Ok(()) };
    if allocation.uuid != payload.allocation {
        return Ok(());
    }
    let id = record.row.id.clone();
    ipam::release_machine(tx, &id, now.as_microsecond()).await?;
    let asns: std::collections::BTreeSet<u32> =
        allocation.networks.iter().map(|network| network.asn).filter(|asn| *asn != 0).collect();
    for asn in asns {
        ipam::release_asn(tx, asn).await?;
    }
    store::machine::set_console_password(tx, &id, None).await?;
    store::vpn::release(tx, &allocation.uuid).await?;
    record.machine.allocation = None.into();
    record.machine.meta.get_or_insert_default().deletion_task_id = None;
    record.set_label(super::allocate::ASN_LABEL, None);
    record::save(tx, &mut record, now).await?;
    bmc::enqueue(tx, &record, api::MachineBMCCommand::MachineDeleted, now).await?;
    store::switch::nudge_project(tx, &allocation.project).await?;
    tracing::info!(machine = id, project = allocation.project, "released");
    Ok(())
}
