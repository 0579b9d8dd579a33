//! `HealthService`: whether each part of the control plane answers, asked at most every few seconds however many ask.

use std::sync::Arc;
use std::time::Duration;

use connectrpc::Router;
use proto::api::{self, Service, ServiceStatus};
use store::Tx;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{App, Call, Error, service};

/// Anybody may ask without a token, so an answer is good for a while.
const FRESH: Duration = Duration::from_secs(5);
/// A part that needs longer to answer does not work.
const PATIENCE: Duration = Duration::from_secs(10);

/// The contract's names for places where things are stored. Here all of them are tables of one database; each is read.
const PARTS: &[Service] = &[
    Service::SERVICE_IPAM,
    Service::SERVICE_RETHINK,
    Service::SERVICE_TENANT_APISERVER,
    Service::SERVICE_MACHINES,
    Service::SERVICE_AUDIT,
    Service::SERVICE_REDIS,
    Service::SERVICE_TASKS,
];

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    api::HealthServiceExt::register(Arc::new(Handler(Arc::clone(app))), router)
}

service! { api::HealthService {
    get(HealthServiceGetRequest) -> HealthServiceGetResponse = get;
}}

/// The last answer and when it was found.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Option<(Instant, api::Health)>>);

async fn get(
    call: &Call,
    _: api::HealthServiceGetRequest,
) -> Result<api::HealthServiceGetResponse, Error> {
    // who comes while somebody asks waits for the same answer
    let mut last = call.app.health.0.lock().await;
    let health = match &*last {
        Some((asked, health)) if asked.elapsed() < FRESH => health.clone(),
        _ => {
            let health = check(&call.app).await;
            *last = Some((Instant::now(), health.clone()));
            health
        }
    };
    Ok(api::HealthServiceGetResponse { health: health.into(), ..Default::default() })
}

async fn check(app: &App) -> api::Health {
    let mut services = Vec::new();
    let vpn = app.vpn.as_ref().map(|_| &Service::SERVICE_VPN);
    for part in PARTS.iter().chain(vpn) {
        let asked = tokio::time::timeout(PATIENCE, ask(app, *part)).await;
        let message = match asked {
            Ok(Ok(())) => String::new(),
            Ok(Err(_)) if *part == Service::SERVICE_VPN => {
                "the coordination server of the VPN does not answer".to_owned()
            }
            Ok(Err(error)) => {
                tracing::error!(%error, ?part, "health check failed");
                "the database does not answer".to_owned()
            }
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let status = if message.is_empty() {
            ServiceStatus::SERVICE_STATUS_HEALTHY
        } else {
            ServiceStatus::SERVICE_STATUS_UNHEALTHY
        };
        services.push(api::HealthStatus {
            name: (*part).into(),
            status: status.into(),
            message,
            ..Default::default()
        });
    }
    api::Health { services, ..Default::default() }
}

async fn ask(app: &App, part: Service) -> Result<(), Error> {
    if let (Service::SERVICE_VPN, Some(vpn)) = (part, &app.vpn) {
        return vpn.check().await;
    }
    let mut tx = app.db.begin_read().await?;
    Ok(read(&mut tx, part).await?)
}

/// Reads one row of the part.
async fn read(tx: &mut Tx, part: Service) -> Result<(), store::Error> {
    let table = match part {
        Service::SERVICE_IPAM => store::network::TABLE,
        Service::SERVICE_TENANT_APISERVER => store::tenant::TABLE,
        Service::SERVICE_MACHINES => store::machine::TABLE,
        Service::SERVICE_REDIS => store::token::TABLE,
        Service::SERVICE_AUDIT => {
            store::audit::find(tx, &store::audit::Query { limit: 1, ..Default::default() }).await?;
            return Ok(());
        }
        Service::SERVICE_TASKS => {
            store::job::get(tx, "").await?;
            return Ok(());
        }
        _ => store::partition::TABLE,
    };
    table.select().one(tx).await?;
    Ok(())
}
