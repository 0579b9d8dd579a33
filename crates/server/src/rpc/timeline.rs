//! `TimelineService`: where the time went between power-on and phoned home.

use std::sync::Arc;

use connectrpc::Router;
use model::provisioning;
use proto::api;
use proto::ext::{self, TimelineServiceExt};
use store::Tx;

use super::event;
use super::machine::record::{self, Record};
use super::{App, Call, Error, service};
use crate::wire;

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

service! { ext::TimelineService {
    get(TimelineServiceGetRequest) -> TimelineServiceGetResponse = get;
    admin_get(TimelineServiceAdminGetRequest) -> TimelineServiceAdminGetResponse = admin_get;
} }

async fn get(
    call: &Call,
    request: ext::TimelineServiceGetRequest,
) -> Result<ext::TimelineServiceGetResponse, Error> {
    let mut tx = call.read().await?;
    let record = record::get(&mut tx, &request.uuid)
        .await?
        .filter(|record| record.allocation().is_some_and(|a| a.project == request.project))
        .ok_or_else(|| Error::not_found("machine", &request.uuid))?;
    let allocation = record.allocation().map(|allocation| allocation.uuid.as_str());
    let phases = phases(&mut tx, &record.row.id, allocation).await?;
    let progress = progress(&mut tx, &record, call.now_us()).await?.into();
    Ok(ext::TimelineServiceGetResponse { phases, progress, ..Default::default() })
}

async fn admin_get(
    call: &Call,
    request: ext::TimelineServiceAdminGetRequest,
) -> Result<ext::TimelineServiceAdminGetResponse, Error> {
    let mut tx = call.read().await?;
    let record = record::get(&mut tx, &request.uuid)
        .await?
        .ok_or_else(|| Error::not_found("machine", &request.uuid))?;
    let phases = phases(&mut tx, &record.row.id, None).await?;
    let progress = progress(&mut tx, &record, call.now_us()).await?.into();
    Ok(ext::TimelineServiceAdminGetResponse { phases, progress, ..Default::default() })
}

async fn phases(
    tx: &mut Tx,
    machine: &str,
    allocation: Option<&str>,
) -> Result<Vec<ext::Phase>, Error> {
    let phases = store::phase::list(tx, machine, allocation).await?;
    Ok(phases
        .into_iter()
        .map(|phase| ext::Phase {
            name: phase.name,
            started_at: wire::timestamp_us(phase.started_at_us).into(),
            duration: wire::duration(phase.duration_us).into(),
            message: phase.message,
            ..Default::default()
        })
        .collect())
}

/// What the machine told last and what comes next.
async fn progress(tx: &mut Tx, record: &Record, now_us: i64) -> Result<ext::Progress, Error> {
    let told = event::newest(tx, &record.row.id).await?;
    let outlook = provisioning::outlook(
        told.as_ref().map(|(event, _)| *event),
        record.allocation().is_some(),
    );
    let Some((newest, at_us)) = told else {
        let waiting_for = outlook.waiting_for.to_owned();
        return Ok(ext::Progress { waiting_for, ..Default::default() });
    };
    let begin_us = begin(at_us, record.allocation().and_then(allocated_at));
    let deadline_us = outlook.within_s.map(|seconds| begin_us + seconds * 1_000_000);
    let overdue = deadline_us.is_some_and(|deadline| deadline < now_us);
    let hint = if overdue { format!("; {}", outlook.hint) } else { String::new() };
    Ok(ext::Progress {
        event: event::to_wire(newest).into(),
        since: wire::timestamp_us(at_us).into(),
        waiting_for: format!("{}{hint}", outlook.waiting_for),
        deadline: deadline_us.map(wire::timestamp_us).into(),
        overdue,
        ..Default::default()
    })
}

/// When that began for which a machine has only some time: with its newest event, or with its allocation if that came later, for a free
/// machine may wait as long as nobody wants it.
fn begin(told_us: i64, allocated_us: Option<i64>) -> i64 {
    allocated_us.map_or(told_us, |allocated_us| told_us.max(allocated_us))
}

fn allocated_at(allocation: &api::MachineAllocation) -> Option<i64> {
    Some(wire::micros(allocation.meta.as_option()?.created_at.as_option()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_waited_for_long_is_not_late_when_it_is_allocated() {
        assert_eq!(begin(10, Some(3_000_000)), 3_000_000);
        assert_eq!(begin(4_000_000, Some(3_000_000)), 4_000_000);
        assert_eq!(begin(10, None), 10);
    }
}
