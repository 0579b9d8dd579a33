//! `FirewallService`: rules of allocated firewalls, how they get there, and what they let pass.

use std::sync::Arc;
use std::time::Duration;

use connectrpc::{Router, ServiceStream};
use model::firewall::{self as rules, Rule};
use proto::api;
use proto::ext::{self, FirewallServiceExt};
use serde::{Deserialize, Serialize};
use store::Tx;
use store::firewall::Status;

use super::machine::record::{self, Record};
use super::{App, Call, Error, service, stream};
use crate::{auth, wire};

/// A firewall that was off for longer cannot speak any more; it is renewed every day.
const TOKEN_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// All that a token of a firewall may do, and only about itself.
const METHODS: [&str; 3] = [
    "/metal.v1.FirewallService/Report",
    "/metal.v1.FirewallService/Token",
    "/metal.v1.FirewallService/Watch",
];

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

service! { ext::FirewallService {
    get(FirewallServiceGetRequest) -> FirewallServiceGetResponse = get;
    update(FirewallServiceUpdateRequest) -> FirewallServiceUpdateResponse = update;
    status(FirewallServiceStatusRequest) -> FirewallServiceStatusResponse = status;
    report(FirewallServiceReportRequest) -> FirewallServiceReportResponse = report;
    token(FirewallServiceTokenRequest) -> FirewallServiceTokenResponse = token;
} streams {
    watch(FirewallServiceWatchRequest) -> FirewallServiceWatchResponse = watch;
} }

/// Checks all rules of a firewall.
pub(super) fn check(wish: &api::FirewallRules) -> Result<(), Error> {
    rules::check_count("egress", wish.egress.len()).map_err(Error::invalid)?;
    rules::check_count("ingress", wish.ingress.len()).map_err(Error::invalid)?;
    for (i, rule) in wish.egress.iter().enumerate() {
        let name = format!("egress rule {}", i + 1);
        let has_protocol = rule.protocol != api::IPProtocol::Unspecified;
        let (ports, cidrs, comment) = (&rule.ports[..], &rule.to[..], &rule.comment[..]);
        rules::check(&Rule { name: &name, has_protocol, ports, cidrs, comment })
            .map_err(Error::invalid)?;
    }
    for (i, rule) in wish.ingress.iter().enumerate() {
        let name = format!("ingress rule {}", i + 1);
        let has_protocol = rule.protocol != api::IPProtocol::Unspecified;
        let cidrs: Vec<String> = rule.from.iter().chain(&rule.to).cloned().collect();
        let (ports, comment) = (&rule.ports[..], &rule.comment[..]);
        rules::check(&Rule { name: &name, has_protocol, ports, cidrs: &cidrs, comment })
            .map_err(Error::invalid)?;
    }
    Ok(())
}

/// The allocation, if the machine is allocated as a firewall.
fn allocation(record: &Record) -> Option<&api::MachineAllocation> {
    record
        .allocation()
        .filter(|allocation| allocation.allocation_type == api::MachineAllocationType::Firewall)
}

/// The allocation of a firewall that is not being released.
fn alive(record: &Record) -> Result<&api::MachineAllocation, Error> {
    allocation(record).filter(|_| !record.is_releasing()).ok_or_else(|| {
        Error::precondition(format!("machine {} is not allocated as a firewall", record.row.id))
    })
}

/// The firewall of a project; those of others do not exist for the caller.
async fn of_project(tx: &mut Tx, uuid: &str, project: &str) -> Result<Record, Error> {
    record::get(tx, uuid)
        .await?
        .filter(|record| allocation(record).is_some_and(|a| a.project == project))
        .ok_or_else(|| Error::not_found("firewall", uuid))
}

fn generation(allocation: &api::MachineAllocation) -> u64 {
    allocation.meta.as_option().map_or(0, |meta| meta.generation)
}

/// The firewall as people see it.
fn view(record: &Record) -> ext::Firewall {
    let Some(allocation) = allocation(record) else { return ext::Firewall::default() };
    let meta = api::Meta {
        created_at: wire::timestamp_us(record.row.created_at_us).into(),
        updated_at: wire::timestamp_us(record.row.updated_at_us).into(),
        generation: u64::try_from(record.row.generation).unwrap_or_default(),
        ..Default::default()
    };
    ext::Firewall {
        uuid: record.row.id.clone(),
        meta: meta.into(),
        project: allocation.project.clone(),
        name: allocation.name.clone(),
        generation: generation(allocation),
        rules: allocation.firewall_rules.clone(),
        ..Default::default()
    }
}

async fn get(
    call: &Call,
    request: ext::FirewallServiceGetRequest,
) -> Result<ext::FirewallServiceGetResponse, Error> {
    let mut tx = call.read().await?;
    let record = of_project(&mut tx, &request.uuid, &request.project).await?;
    Ok(ext::FirewallServiceGetResponse { firewall: view(&record).into(), ..Default::default() })
}

async fn update(
    call: &Call,
    request: ext::FirewallServiceUpdateRequest,
) -> Result<ext::FirewallServiceUpdateResponse, Error> {
    let mut tx = call.write().await?;
    let mut record = record::get_for_update(&mut tx, &request.uuid)
        .await?
        .filter(|record| allocation(record).is_some_and(|a| a.project == request.project))
        .ok_or_else(|| Error::not_found("firewall", &request.uuid))?;
    alive(&record)?;
    let lock = request.update_meta.as_option().cloned().unwrap_or_default();
    wire::check_lock(&lock, &record.row)?;
    let rules = request.rules.into_option().unwrap_or_default();
    check(&rules)?;
    let allocation = record.machine.allocation.get_or_insert_default();
    // the same rules again are no change: no connection is looked at anew
    if allocation.firewall_rules.as_option() != Some(&rules) {
        allocation.firewall_rules = rules.into();
        let meta = allocation.meta.get_or_insert_default();
        meta.updated_at = wire::timestamp_us(call.now_us()).into();
        meta.generation += 1;
        record::save(&mut tx, &mut record, call.now).await?;
    }
    tx.commit().await?;
    Ok(ext::FirewallServiceUpdateResponse { firewall: view(&record).into(), ..Default::default() })
}

/// What is kept of a report beside the columns.
#[derive(Default, Serialize, Deserialize)]
struct Counters {
    rules: Vec<ext::FirewallCounter>,
    drops: Vec<ext::FirewallCounter>,
    connections: u64,
    connections_max: u64,
    version: String,
}

async fn status(
    call: &Call,
    request: ext::FirewallServiceStatusRequest,
) -> Result<ext::FirewallServiceStatusResponse, Error> {
    let mut tx = call.read().await?;
    let record = of_project(&mut tx, &request.uuid, &request.project).await?;
    let allocation = alive(&record)?;
    let mut status =
        ext::FirewallStatus { generation: generation(allocation), ..Default::default() };
    if let Some(told) = store::firewall::status(&mut tx, &record.row.id, &allocation.uuid).await? {
        let counters: Counters = serde_json::from_str(&told.counters).map_err(|e| {
            Error::internal(format!("counters of {} are damaged: {e}", told.machine))
        })?;
        status.applied_generation = u64::try_from(told.applied_generation).unwrap_or_default();
        status.applied_at = wire::timestamp_us(told.applied_at_us).into();
        status.reported_at = wire::timestamp_us(told.reported_at_us).into();
        status.error = told.error;
        status.rules = counters.rules;
        status.drops = counters.drops;
        status.connections = counters.connections;
        status.connections_max = counters.connections_max;
        status.version = counters.version;
    }
    Ok(ext::FirewallServiceStatusResponse { status: status.into(), ..Default::default() })
}

async fn watch(
    call: &Call,
    request: ext::FirewallServiceWatchRequest,
) -> Result<ServiceStream<ext::FirewallServiceWatchResponse>, Error> {
    let app = Arc::clone(&call.app);
    let uuid = request.uuid.to_lowercase();
    // watched before the first look, so that nothing is missed between
    let watcher = app.db.watch(&format!("machine/{uuid}"));
    let state = wish(&app, &uuid).await?;
    let allocation = state.allocation.clone();
    let read = move || {
        let (app, uuid, allocation) = (Arc::clone(&app), uuid.clone(), allocation.clone());
        async move {
            let now = wish(&app, &uuid).await?;
            // whoever opened the stream did so for an allocation that is over
            if now.allocation != allocation {
                return Err(Error::precondition("the allocation of this firewall has ended"));
            }
            Ok(now)
        }
    };
    Ok(stream::follow(&call.app, watcher, state, |now, before| now != before, read))
}

async fn wish(app: &App, uuid: &str) -> Result<ext::FirewallServiceWatchResponse, Error> {
    let mut tx = app.db.begin_read().await?;
    let record =
        record::get(&mut tx, uuid).await?.ok_or_else(|| Error::not_found("firewall", uuid))?;
    let allocation = alive(&record)?;
    Ok(ext::FirewallServiceWatchResponse {
        allocation: allocation.uuid.clone(),
        generation: generation(allocation),
        project: allocation.project.clone(),
        networks: allocation.networks.clone(),
        rules: allocation.firewall_rules.clone(),
        ..Default::default()
    })
}

async fn report(
    call: &Call,
    request: ext::FirewallServiceReportRequest,
) -> Result<ext::FirewallServiceReportResponse, Error> {
    let mut tx = call.write().await?;
    let record = record::get(&mut tx, &request.uuid)
        .await?
        .ok_or_else(|| Error::not_found("firewall", &request.uuid))?;
    let allocation = alive(&record)?;
    if allocation.uuid != request.allocation {
        return Err(Error::precondition(format!(
            "machine {} is not in allocation {} any more",
            record.row.id, request.allocation
        )));
    }
    let counters = Counters {
        rules: request.rules,
        drops: request.drops,
        connections: request.connections,
        connections_max: request.connections_max,
        version: request.version,
    };
    let status = Status {
        machine: record.row.id.clone(),
        allocation: request.allocation,
        applied_generation: i64::try_from(request.generation).unwrap_or_default(),
        applied_at_us: call.now_us(),
        reported_at_us: call.now_us(),
        error: request.error,
        counters: wire::encode(&counters)?,
    };
    store::firewall::put_status(&mut tx, &status).await?;
    store::firewall::end_older_tokens(&mut tx, &status.machine, &call.caller()?.token).await?;
    tx.commit().await?;
    Ok(ext::FirewallServiceReportResponse::default())
}

async fn token(
    call: &Call,
    request: ext::FirewallServiceTokenRequest,
) -> Result<ext::FirewallServiceTokenResponse, Error> {
    let caller = call.caller()?;
    let mut tx = call.write().await?;
    // held, so that a release that begins now ends this token, too
    let record = record::require_for_update(&mut tx, &request.uuid).await?;
    alive(&record)?;
    let about = api::MethodPermission {
        subject: record.row.id.clone(),
        methods: METHODS.map(str::to_owned).to_vec(),
        ..Default::default()
    };
    let mut token = api::Token {
        user: caller.user.clone(),
        description: format!("firewall {}", record.row.id),
        token_type: api::TokenType::Api.into(),
        permissions: vec![about],
        ..Default::default()
    };
    let secret =
        auth::create_token(&mut tx, &call.app.issuer, &mut token, TOKEN_LIFE, call.now).await?;
    store::firewall::add_token(&mut tx, &record.row.id, &token.uuid, &caller.token).await?;
    tx.commit().await?;
    Ok(ext::FirewallServiceTokenResponse { secret, expires: token.expires, ..Default::default() })
}
