//! `TimelineService`: where the time went between power-on and phoned home.

use std::sync::Arc;

use connectrpc::Router;
use proto::ext::{self, TimelineServiceExt};
use store::Tx;

use super::machine::record;
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
    Ok(ext::TimelineServiceGetResponse { phases, ..Default::default() })
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
    Ok(ext::TimelineServiceAdminGetResponse { phases, ..Default::default() })
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
