//! `ComponentService`: programs report themselves, operators look at them.

use std::sync::Arc;

use connectrpc::Router;
use proto::{admin, api, infra};
use store::{Entity, Tx};
use uuid::Uuid;

use super::entity::{self, Kind};
use super::{App, Call, Error, service};
use crate::wire;

const KIND: Kind = Kind { table: store::component::TABLE, name: "component" };
/// Who was silent for longer is forgotten.
const FORGET_AFTER_US: i64 = 24 * 3600 * 1_000_000;

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = infra::ComponentServiceExt::register(Arc::clone(&handler), router);
    admin::ComponentServiceExt::register(handler, router)
}

service! { infra::ComponentService {
    ping(ComponentServicePingRequest) -> ComponentServicePingResponse = ping;
}}

service! { admin::ComponentService {
    get(ComponentServiceGetRequest) -> ComponentServiceGetResponse = get_component;
    delete(ComponentServiceDeleteRequest) -> ComponentServiceDeleteResponse = delete_component;
    list(ComponentServiceListRequest) -> ComponentServiceListResponse = list_components;
}}

async fn ping(
    call: &Call,
    request: infra::ComponentServicePingRequest,
) -> Result<infra::ComponentServicePingResponse, Error> {
    if !request.r#type.is_known() || request.r#type == api::ComponentType::Unspecified {
        return Err(Error::invalid("type is missing: say what kind of program this is"));
    }
    let kind = i64::from(request.r#type.to_i32());
    // the record of a token holds no secret
    let token = (*call.caller()?.record).clone();
    let mut component = api::Component {
        uuid: Uuid::now_v7().to_string(),
        r#type: request.r#type,
        identifier: request.identifier.clone(),
        started_at: request.started_at,
        interval: request.interval,
        version: request.version,
        token: token.into(),
        ..Default::default()
    };
    let id = component.uuid.clone();
    let row = entity::new_row(&id, &mut component, call.now_us())?;
    let mut tx = call.write().await?;
    store::component::delete_silent(&mut tx, call.now_us() - FORGET_AFTER_US).await?;
    store::component::report(&mut tx, &row, kind, &request.identifier).await?;
    tx.commit().await?;
    Ok(infra::ComponentServicePingResponse::default())
}

async fn get_component(
    call: &Call,
    request: admin::ComponentServiceGetRequest,
) -> Result<admin::ComponentServiceGetResponse, Error> {
    let component = get(call, &mut call.read().await?, &request.uuid).await?;
    Ok(admin::ComponentServiceGetResponse { component: component.into(), ..Default::default() })
}

async fn delete_component(
    call: &Call,
    request: admin::ComponentServiceDeleteRequest,
) -> Result<admin::ComponentServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    let component = get(call, &mut tx, &request.uuid).await?;
    KIND.table.delete(&mut tx, &request.uuid).await?;
    tx.commit().await?;
    Ok(admin::ComponentServiceDeleteResponse { component: component.into(), ..Default::default() })
}

async fn list_components(
    call: &Call,
    request: admin::ComponentServiceListRequest,
) -> Result<admin::ComponentServiceListResponse, Error> {
    let query = request.query;
    let kind = query.r#type.filter(|kind| *kind != api::ComponentType::Unspecified);
    let select = KIND
        .table
        .select()
        .eq_opt("id", query.uuid.as_deref())
        .eq_opt("type", kind.map(|kind| i64::from(kind.to_i32())))
        .eq_opt("identifier", query.identifier.as_deref());
    let rows = select.all(&mut call.read().await?).await?;
    let components =
        rows.iter().filter(|row| reports(call, row)).map(decode).collect::<Result<_, _>>()?;
    Ok(admin::ComponentServiceListResponse { components, ..Default::default() })
}

async fn get(call: &Call, tx: &mut Tx, id: &str) -> Result<api::Component, Error> {
    let row = KIND.table.get(tx, id).await?.filter(|row| reports(call, row));
    decode(&row.ok_or_else(|| Error::not_found(KIND.name, id))?)
}

fn reports(call: &Call, row: &Entity) -> bool {
    row.updated_at_us > call.now_us() - FORGET_AFTER_US
}

/// The body is what the program told last; its id stays that of its first report.
fn decode(row: &Entity) -> Result<api::Component, Error> {
    let mut component: api::Component = wire::decode(row)?;
    component.uuid.clone_from(&row.id);
    component.reported_at = wire::timestamp_us(row.updated_at_us).into();
    Ok(component)
}
