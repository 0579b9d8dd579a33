//! `InstallerService`: what our installer asks and tells beyond the contract.

use std::sync::Arc;

use connectrpc::Router;
use model::provisioning::Event;
use proto::ext::{self, InstallerServiceExt};
use store::phase::Phase;

use super::machine::record;
use super::{App, Call, Error, event, service};
use crate::wire;

/// Phases older than this belong to another life of the machine.
const KEPT_US: i64 = 30 * 24 * 3600 * 1_000_000;

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

service! { ext::InstallerService {
    allocation(InstallerServiceAllocationRequest) -> InstallerServiceAllocationResponse = allocation;
    report_phase(InstallerServiceReportPhaseRequest) -> InstallerServiceReportPhaseResponse = report_phase;
    report_failure(InstallerServiceReportFailureRequest) -> InstallerServiceReportFailureResponse = report_failure;
} }

async fn allocation(
    call: &Call,
    request: ext::InstallerServiceAllocationRequest,
) -> Result<ext::InstallerServiceAllocationResponse, Error> {
    let mut tx = call.read().await?;
    let record = record::get(&mut tx, &request.uuid)
        .await?
        .ok_or_else(|| Error::not_found("machine", &request.uuid))?;
    let mut answer = ext::InstallerServiceAllocationResponse::default();
    // a machine that is being released has no user any more: its disks are to be wiped
    if !record.is_releasing() {
        answer.allocation = record.machine.allocation;
    }
    Ok(answer)
}

async fn report_phase(
    call: &Call,
    request: ext::InstallerServiceReportPhaseRequest,
) -> Result<ext::InstallerServiceReportPhaseResponse, Error> {
    let mut tx = call.write().await?;
    let record = record::get(&mut tx, &request.uuid)
        .await?
        .ok_or_else(|| Error::not_found("machine", &request.uuid))?;
    let phase = request.phase.as_option().cloned().unwrap_or_default();
    let phase = Phase {
        started_at_us: phase.started_at.as_option().map_or(call.now_us(), wire::micros),
        name: phase.name,
        duration_us: phase.duration.as_option().map_or(0, wire::duration_us),
        message: phase.message,
    };
    store::phase::forget(&mut tx, &record.row.id, call.now_us() - KEPT_US).await?;
    let allocation = record.allocation().map_or("", |allocation| &allocation.uuid);
    store::phase::record(&mut tx, &record.row.id, allocation, &phase).await?;
    tx.commit().await?;
    Ok(ext::InstallerServiceReportPhaseResponse::default())
}

async fn report_failure(
    call: &Call,
    request: ext::InstallerServiceReportFailureRequest,
) -> Result<ext::InstallerServiceReportFailureResponse, Error> {
    let mut tx = call.write().await?;
    let record = record::require_for_update(&mut tx, &request.uuid).await?;
    let message = format!("{}: {}", request.phase, request.reason);
    event::record_event(&mut tx, &record.row.id, Event::Crashed, &message, call.now).await?;
    // whoever cannot go on does not wait, whatever its stream says
    store::waiting::set_electable(&mut tx, &record.row.id, false).await?;
    tx.commit().await?;
    Ok(ext::InstallerServiceReportFailureResponse::default())
}
