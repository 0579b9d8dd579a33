//! `AuditService`: the audit log for owners of a tenant and for operators.

use std::sync::Arc;

use connectrpc::Router;
use proto::{admin, api};
use store::audit::{Entry, Query};

use super::{App, Call, Error, service};
use crate::wire;

/// The window when none is asked for.
const WINDOW_US: i64 = 8 * 3600 * 1_000_000;
/// How many entries when nothing is asked for.
const LIMIT: u32 = 200;

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::AuditServiceExt::register(Arc::clone(&handler), router);
    admin::AuditServiceExt::register(handler, router)
}

service! { api::AuditService {
    get(AuditServiceGetRequest) -> AuditServiceGetResponse = get_of_tenant;
    list(AuditServiceListRequest) -> AuditServiceListResponse = list_of_tenant;
}}

service! { admin::AuditService {
    get(AuditServiceGetRequest) -> AuditServiceGetResponse = get_of_all;
    list(AuditServiceListRequest) -> AuditServiceListResponse = list_of_all;
}}

async fn get_of_tenant(
    call: &Call,
    request: api::AuditServiceGetRequest,
) -> Result<api::AuditServiceGetResponse, Error> {
    let trace = get(call, Some(request.login), request.uuid, request.phase).await?;
    Ok(api::AuditServiceGetResponse { trace: trace.into(), ..Default::default() })
}

async fn get_of_all(
    call: &Call,
    request: admin::AuditServiceGetRequest,
) -> Result<admin::AuditServiceGetResponse, Error> {
    let trace = get(call, None, request.uuid, request.phase).await?;
    Ok(admin::AuditServiceGetResponse { trace: trace.into(), ..Default::default() })
}

async fn list_of_tenant(
    call: &Call,
    request: api::AuditServiceListRequest,
) -> Result<api::AuditServiceListResponse, Error> {
    let query = Query { tenant: Some(request.login), ..query(&request.query, call.now_us())? };
    let traces = find(call, &query).await?;
    Ok(api::AuditServiceListResponse { traces, ..Default::default() })
}

async fn list_of_all(
    call: &Call,
    request: admin::AuditServiceListRequest,
) -> Result<admin::AuditServiceListResponse, Error> {
    let traces = find(call, &query(&request.query, call.now_us())?).await?;
    Ok(admin::AuditServiceListResponse { traces, ..Default::default() })
}

async fn get(
    call: &Call,
    tenant: Option<String>,
    id: String,
    phase: Option<buffa::EnumValue<api::AuditPhase>>,
) -> Result<api::AuditTrace, Error> {
    let phase = asked(phase).unwrap_or(api::AuditPhase::Request as i64);
    let query =
        Query { tenant, call: Some(id.clone()), phase: Some(phase), limit: 1, ..Query::default() };
    let found = find(call, &query).await?.into_iter().next();
    found.ok_or_else(|| Error::not_found("audit trace", &id))
}

async fn find(call: &Call, query: &Query) -> Result<Vec<api::AuditTrace>, Error> {
    // who looks at the log wants to see what they did just now
    call.app.audit.flush().await;
    let entries = store::audit::find(&mut call.read().await?, query).await?;
    Ok(entries.into_iter().map(trace).collect())
}

fn query(query: &api::AuditQuery, now_us: i64) -> Result<Query, Error> {
    let to_us = query.to.as_option().map(wire::micros);
    let from_us = match query.from.as_option().map(wire::micros) {
        Some(from) => Some(from),
        // who knows the id of a call does not know its time
        None if query.uuid.is_some() => None,
        None => Some(to_us.unwrap_or(now_us) - WINDOW_US),
    };
    if let (Some(from), Some(to)) = (from_us, Some(to_us.unwrap_or(now_us)))
        && from > to
    {
        return Err(Error::invalid("query.from is later than query.to"));
    }
    let words = query.body.as_deref().unwrap_or_default().split_whitespace();
    Ok(Query {
        from_us,
        to_us,
        call: query.uuid.clone(),
        phase: asked(query.phase),
        caller: query.user.clone(),
        tenant: None,
        project: query.project.clone(),
        source: query.source_ip.clone(),
        code: query.result_code.map(i64::from),
        method: query.method.clone(),
        words: words.map(str::to_owned).collect(),
        limit: query.limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(LIMIT),
    })
}

fn asked(phase: Option<buffa::EnumValue<api::AuditPhase>>) -> Option<i64> {
    phase.filter(|phase| *phase != api::AuditPhase::Unspecified).map(|p| i64::from(p.to_i32()))
}

fn trace(entry: Entry) -> api::AuditTrace {
    let number = |number: i64| i32::try_from(number).unwrap_or_default();
    api::AuditTrace {
        uuid: entry.call,
        timestamp: wire::timestamp_us(entry.at_us).into(),
        user: entry.caller,
        tenant: entry.tenant,
        project: entry.project,
        method: entry.method,
        body: entry.body,
        source_ip: entry.source,
        result_code: entry.code.map(number),
        phase: number(entry.phase).into(),
        ..Default::default()
    }
}
