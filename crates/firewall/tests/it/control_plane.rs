//! A control plane of one firewall.

use std::sync::{Arc, Mutex};

use connectrpc::{
    ConnectError, ErrorCode, RequestContext, Response, Router, Server, ServiceRequest,
    ServiceResult, ServiceStream,
};
use firewall::wish::Wish;
use futures::StreamExt as _;
use proto::ext::{self, FirewallServiceExt};

use crate::row::{MID, Row};

/// Says one wish and hears what is reported.
pub(crate) struct ControlPlane {
    wish: Wish,
    reports: Mutex<Vec<ext::FirewallServiceReportRequest>>,
}

impl ControlPlane {
    /// Starts one on the firewall itself, as long as the test lasts. Tells its address.
    pub(crate) fn start(row: &Row, wish: Wish) -> (Arc<Self>, String) {
        let this = Arc::new(Self { wish, reports: Mutex::default() });
        let router = this.clone().register(Router::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bound = row.at(MID, || runtime.block_on(Server::bind("127.0.0.1:0")).unwrap());
        let url = format!("http://{}", bound.local_addr().unwrap());
        std::thread::spawn(move || runtime.block_on(bound.serve(router)));
        (this, url)
    }

    /// All that was reported.
    pub(crate) fn reports(&self) -> Vec<ext::FirewallServiceReportRequest> {
        self.reports.lock().unwrap().clone()
    }
}

fn not_here<T>() -> ServiceResult<T> {
    Err(ConnectError::new(ErrorCode::Unimplemented, "nobody asks this here"))
}

impl ext::FirewallService for ControlPlane {
    async fn get(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, ext::FirewallServiceGetRequest>,
    ) -> ServiceResult<ext::FirewallServiceGetResponse> {
        not_here()
    }

    async fn update(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, ext::FirewallServiceUpdateRequest>,
    ) -> ServiceResult<ext::FirewallServiceUpdateResponse> {
        not_here()
    }

    async fn status(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, ext::FirewallServiceStatusRequest>,
    ) -> ServiceResult<ext::FirewallServiceStatusResponse> {
        not_here()
    }

    async fn token(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, ext::FirewallServiceTokenRequest>,
    ) -> ServiceResult<ext::FirewallServiceTokenResponse> {
        not_here()
    }

    async fn watch(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, ext::FirewallServiceWatchRequest>,
    ) -> ServiceResult<ServiceStream<ext::FirewallServiceWatchResponse>> {
        let said = futures::stream::iter([Ok(self.wish.clone())]);
        Response::stream_ok(said.chain(futures::stream::pending()))
    }

    async fn report(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, ext::FirewallServiceReportRequest>,
    ) -> ServiceResult<ext::FirewallServiceReportResponse> {
        self.reports.lock().unwrap().push(request.to_owned_message());
        Response::ok(ext::FirewallServiceReportResponse::default())
    }
}
