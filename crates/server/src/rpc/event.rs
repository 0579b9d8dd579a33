//! `EventService`, and what becomes of events.

use std::sync::Arc;

use connectrpc::Router;
use jiff::Timestamp;
use model::provisioning::{self, Event, History, Keep};
use proto::api::{self, MachineProvisioningEventType as Type};
use proto::infra::{self, EventServiceExt};
use store::Tx;
use store::event::Events;
use store::phase::Phase;

use super::machine::record;
use super::{App, Call, Error, service};
use crate::wire;

/// So many events of a machine are kept.
const KEPT: usize = 100;

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

service! { infra::EventService {
    send(EventServiceSendRequest) -> EventServiceSendResponse = send;
} }

async fn send(
    call: &Call,
    request: infra::EventServiceSendRequest,
) -> Result<infra::EventServiceSendResponse, Error> {
    let mut answer = infra::EventServiceSendResponse::default();
    let mut events: Vec<_> = request.events.into_iter().collect();
    events.sort_by(|a, b| a.0.cmp(&b.0));
    // one transaction each, so that a bad one costs nobody else its event
    for (uuid, event) in events {
        match send_one(call, &uuid, &event).await {
            Ok(()) => answer.events += 1,
            Err(error) => {
                tracing::warn!(machine = uuid, %error, "event was not recorded");
                answer.failed.push(uuid);
            }
        }
    }
    Ok(answer)
}

async fn send_one(
    call: &Call,
    uuid: &str,
    event: &api::MachineProvisioningEvent,
) -> Result<(), Error> {
    let kind = from_wire(event)?;
    let mut tx = call.write().await?;
    record::ensure(&mut tx, uuid, None, call.now).await?;
    record_event(&mut tx, uuid, kind, &event.message, call.now).await?;
    tx.commit().await?;
    Ok(())
}

/// The kind of an event of the contract.
pub(crate) fn from_wire(event: &api::MachineProvisioningEvent) -> Result<Event, Error> {
    kind(event).ok_or_else(|| Error::invalid("the event has no type"))
}

fn kind(event: &api::MachineProvisioningEvent) -> Option<Event> {
    Some(match event.event.as_known()? {
        Type::Unspecified => return None,
        Type::Alive => Event::Alive,
        Type::Crashed => Event::Crashed,
        Type::PxeBooting => Event::PxeBooting,
        Type::PlannedReboot => Event::PlannedReboot,
        Type::Preparing => Event::Preparing,
        Type::Registering => Event::Registering,
        Type::Waiting => Event::Waiting,
        Type::Installing => Event::Installing,
        Type::BootingNewKernel => Event::BootingNewKernel,
        Type::PhonedHome => Event::PhonedHome,
        Type::MachineReclaim => Event::MachineReclaim,
    })
}

/// The contract's kind of an event.
pub(super) fn to_wire(event: Event) -> Type {
    match event {
        Event::Alive => Type::Alive,
        Event::Crashed => Type::Crashed,
        Event::PxeBooting => Type::PxeBooting,
        Event::PlannedReboot => Type::PlannedReboot,
        Event::Preparing => Type::Preparing,
        Event::Registering => Type::Registering,
        Event::Waiting => Type::Waiting,
        Event::Installing => Type::Installing,
        Event::BootingNewKernel => Type::BootingNewKernel,
        Event::PhonedHome => Type::PhonedHome,
        Event::MachineReclaim => Type::MachineReclaim,
    }
}

/// The newest stored event of a machine and its time in microseconds.
pub(super) async fn newest(tx: &mut Tx, uuid: &str) -> Result<Option<(Event, i64)>, Error> {
    let Some(row) = store::event::get(tx, uuid).await? else { return Ok(None) };
    let recent = decode(&row)?;
    Ok(recent.events.first().and_then(|told| {
        let at_us = told.time.as_option().map_or(row.last_event_at_us, wire::micros);
        Some((kind(told)?, at_us))
    }))
}

/// Records an event of a machine that exists.
pub(crate) async fn record_event(
    tx: &mut Tx,
    uuid: &str,
    event: Event,
    message: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let uuid = uuid.to_lowercase();
    let old = store::event::get_for_update(tx, &uuid).await?;
    let mut recent = match &old {
        Some(old) => decode(old)?,
        None => api::MachineRecentProvisioningEvents::default(),
    };
    let newest = recent.events.first().and_then(kind);
    let history = History {
        newest,
        last_event_at_us: old.as_ref().map_or(0, |old| old.last_event_at_us),
        crash_loop: old.as_ref().is_some_and(|old| old.crash_loop),
        failed_reclaim: old.as_ref().is_some_and(|old| old.failed_reclaim),
    };
    let step = provisioning::step(history, event, now.as_microsecond());
    if step.keep == Keep::Ignore {
        return Ok(());
    }
    let unexpected = matches!(step.keep, Keep::Unexpected | Keep::UnexpectedTime);
    let told = api::MachineProvisioningEvent {
        time: wire::timestamp_us(now.as_microsecond()).into(),
        event: to_wire(event).into(),
        message: if unexpected {
            provisioning::unexpected_message(newest, message)
        } else {
            message.to_owned()
        },
        ..Default::default()
    };
    if step.error {
        recent.last_error_event = told.clone().into();
    }
    if matches!(step.keep, Keep::Store | Keep::Unexpected) {
        if event == Event::PhonedHome && newest == Some(Event::BootingNewKernel) {
            record_boot(tx, &uuid, recent.events.first(), now).await?;
        }
        recent.events.insert(0, told);
        recent.events.truncate(KEPT);
    }
    tracing::info!(machine = uuid, event = event.name(), message, unexpected, "event");
    let events = Events {
        machine: uuid,
        body: wire::encode(&recent)?,
        last_event_at_us: now.as_microsecond(),
        liveliness: api::MachineLiveliness::Alive as i64,
        crash_loop: step.crash_loop,
        failed_reclaim: step.failed_reclaim,
    };
    store::event::put(tx, &events).await?;
    Ok(())
}

/// The time that the installed system took from its kernel to its first sign of life.
async fn record_boot(
    tx: &mut Tx,
    uuid: &str,
    kernel: Option<&api::MachineProvisioningEvent>,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(since) = kernel.and_then(|event| event.time.as_option()) else { return Ok(()) };
    let started_at_us = wire::micros(since);
    let phase = Phase {
        started_at_us,
        name: "boot".to_owned(),
        duration_us: now.as_microsecond() - started_at_us,
        message: "the installed system starts and phones home".to_owned(),
    };
    let record = record::get(tx, uuid).await?;
    let allocation = record.as_ref().and_then(|record| record.allocation());
    let allocation = allocation.map_or("", |allocation| &allocation.uuid);
    Ok(store::phase::record(tx, uuid, allocation, &phase).await?)
}

fn decode(events: &Events) -> Result<api::MachineRecentProvisioningEvents, Error> {
    serde_json::from_str(&events.body).map_err(|e| {
        Error::internal(format!("stored events of {} are damaged: {e}", events.machine))
    })
}

/// The events as users see them.
pub(crate) fn view(events: &Events) -> Result<api::MachineRecentProvisioningEvents, Error> {
    let mut recent = decode(events)?;
    recent.last_event_time = wire::timestamp_us(events.last_event_at_us).into();
    recent.state = match (events.failed_reclaim, events.crash_loop) {
        (true, _) => api::MachineProvisioningEventState::FailedReclaim,
        (false, true) => api::MachineProvisioningEventState::Crashloop,
        (false, false) => api::MachineProvisioningEventState::Unspecified,
    }
    .into();
    Ok(recent)
}
