//! `HealthService`: what the server depends on, asked at the moment of the call.

use std::sync::Arc;

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use proto::api::{
    Health, HealthService, HealthServiceGetRequest, HealthServiceGetResponse, HealthStatus,
    Service, ServiceStatus,
};

use super::App;

pub(super) struct Handler {
    pub(super) app: Arc<App>,
}

impl HealthService for Handler {
    async fn get(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, HealthServiceGetRequest>,
    ) -> ServiceResult<HealthServiceGetResponse> {
        let now = jiff::Timestamp::now().as_microsecond();
        let asked = async {
            let mut tx = self.app.db.begin_read().await?;
            store::signing_key::current(&mut tx, now).await
        };
        let (status, message) = match asked.await {
            Ok(_) => (ServiceStatus::SERVICE_STATUS_HEALTHY, String::new()),
            Err(e) => (ServiceStatus::SERVICE_STATUS_UNHEALTHY, e.to_string()),
        };
        // The contract's name for the place where machines are stored.
        let database = HealthStatus {
            name: Service::SERVICE_MACHINES.into(),
            status: status.into(),
            message,
            ..Default::default()
        };
        let health = Health { services: vec![database], ..Default::default() };
        Response::ok(HealthServiceGetResponse { health: health.into(), ..Default::default() })
    }
}
