//! `SwitchWatchService`: pushes the desired state of a switch to its agent, and hears when it is applied.

use std::sync::Arc;

use connectrpc::{Router, ServiceStream};
use proto::ext::{self, SwitchWatchServiceExt};
use store::switch::TABLE;

use super::view;
use crate::rpc::machine::release;
use crate::rpc::{App, Call, Error, service, stream};

struct Handler(Arc<App>);

pub(in crate::rpc) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

service! { ext::SwitchWatchService {
    confirm(SwitchWatchServiceConfirmRequest) -> SwitchWatchServiceConfirmResponse = confirm;
} streams {
    watch(SwitchWatchServiceWatchRequest) -> SwitchWatchServiceWatchResponse = watch;
} }

async fn watch(
    call: &Call,
    request: ext::SwitchWatchServiceWatchRequest,
) -> Result<ServiceStream<ext::SwitchWatchServiceWatchResponse>, Error> {
    let id = request.id;
    let app = Arc::clone(&call.app);
    // watched before the first look, so that nothing is missed between
    let watcher = app.db.watch(&format!("switch/{id}"));
    let state = desired(&app, &id).await?;
    let read = move || {
        let (app, id) = (Arc::clone(&app), id.clone());
        async move { desired(&app, &id).await }
    };
    Ok(stream::follow(&call.app, watcher, state, differ, read))
}

async fn desired(app: &App, id: &str) -> Result<ext::SwitchWatchServiceWatchResponse, Error> {
    let mut tx = app.db.begin_read().await?;
    let (switch, generation) = view::whole(&mut tx, id).await?;
    Ok(ext::SwitchWatchServiceWatchResponse {
        switch: switch.into(),
        generation: u64::try_from(generation).unwrap_or_default(),
        ..Default::default()
    })
}

/// Whether an agent has something to do: what it told itself does not count.
fn differ(
    a: &ext::SwitchWatchServiceWatchResponse,
    b: &ext::SwitchWatchServiceWatchResponse,
) -> bool {
    let strip = |response: &ext::SwitchWatchServiceWatchResponse| {
        let mut switch = response.switch.as_option().cloned().unwrap_or_default();
        switch.last_sync = None.into();
        switch.last_sync_error = None.into();
        switch.machine_connections.clear();
        for nic in &mut switch.nics {
            nic.bgp_port_state = None.into();
            if let Some(state) = nic.state.as_option_mut() {
                state.actual = Default::default();
            }
        }
        switch
    };
    a.generation != b.generation || strip(a) != strip(b)
}

async fn confirm(
    call: &Call,
    request: ext::SwitchWatchServiceConfirmRequest,
) -> Result<ext::SwitchWatchServiceConfirmResponse, Error> {
    let mut tx = call.write().await?;
    if TABLE.get(&mut tx, &request.id).await?.is_none() {
        return Err(Error::not_found("switch", &request.id));
    }
    let mut status = store::switch::status(&mut tx, &request.id).await?.unwrap_or_default();
    let generation = i64::try_from(request.generation).unwrap_or_default();
    if status.switch.is_empty() || status.confirmed_generation < generation {
        status.switch = request.id;
        status.confirmed_generation = generation;
        store::switch::put_status(&mut tx, &status).await?;
        release::hurry(&mut tx, call.now).await?;
    }
    tx.commit().await?;
    Ok(ext::SwitchWatchServiceConfirmResponse::default())
}
