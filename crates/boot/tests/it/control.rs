//! A control plane that remembers what it was asked.

use std::sync::{Arc, Mutex};

use connectrpc::{
    ConnectError, ErrorCode, RequestContext, Response, Router, Server, ServiceRequest,
    ServiceResult, ServiceStream,
};
use proto::ext::{
    IdentityService, IdentityServiceClaimRequest, IdentityServiceClaimResponse, IdentityServiceExt,
};
use proto::infra::*;
use tokio::runtime::Runtime;

/// What was asked, in order, as text; and what to answer.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) kernel: String,
    pub(crate) initrd: String,
    pub(crate) cmdline: String,
    /// UUID that is refused.
    pub(crate) refused: Mutex<Option<String>>,
    /// Network cards of machines that registered.
    pub(crate) cards: Mutex<Vec<String>>,
}

impl Fake {
    fn note(&self, text: String) {
        self.asked.lock().unwrap().push(text);
    }

    pub(crate) fn was_asked(&self, text: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked == text)
    }

    /// Answers on an address as seen from the calling thread's network, until the runtime is dropped.
    pub(crate) fn serve(self: &Arc<Self>, address: &str) -> Runtime {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let router = BootServiceExt::register(self.clone(), Router::new());
        let router = IdentityServiceExt::register(self.clone(), router);
        let bound = runtime.block_on(Server::bind(address)).unwrap();
        runtime.spawn(async move { bound.serve(router).await.unwrap() });
        runtime
    }
}

impl IdentityService for Fake {
    async fn claim(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, IdentityServiceClaimRequest>,
    ) -> ServiceResult<IdentityServiceClaimResponse> {
        self.note(format!(
            "claim {} {} {} {}",
            request.uuid, request.mac, request.switch, request.port
        ));
        if self.refused.lock().unwrap().as_deref() == Some(request.uuid) {
            return Err(ConnectError::new(
                ErrorCode::FailedPrecondition,
                "another network card holds this identity",
            ));
        }
        let unknown = !self.cards.lock().unwrap().iter().any(|card| card == request.mac);
        Response::ok(IdentityServiceClaimResponse { unknown, ..Default::default() })
    }
}

fn unused<T>() -> ServiceResult<T> {
    Err(ConnectError::new(ErrorCode::Unimplemented, "not asked by the boot service"))
}

impl BootService for Fake {
    async fn dhcp(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, BootServiceDhcpRequest>,
    ) -> ServiceResult<BootServiceDhcpResponse> {
        self.note(format!("dhcp {} {}", request.uuid, request.partition));
        Response::ok(BootServiceDhcpResponse::default())
    }

    async fn boot(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, BootServiceBootRequest>,
    ) -> ServiceResult<BootServiceBootResponse> {
        let token = ctx
            .headers()
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        self.note(format!("boot {token}"));
        Response::ok(BootServiceBootResponse {
            kernel: self.kernel.clone(),
            init_ram_disks: vec![self.initrd.clone()],
            cmdline: Some(self.cmdline.clone()),
            ..Default::default()
        })
    }

    async fn machine_token(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, BootServiceMachineTokenRequest>,
    ) -> ServiceResult<BootServiceMachineTokenResponse> {
        self.note(format!("token {} {}", request.uuid, request.user));
        let secret = format!("token-of-{}", request.uuid);
        Response::ok(BootServiceMachineTokenResponse { secret, ..Default::default() })
    }

    async fn super_user_password(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, BootServiceSuperUserPasswordRequest>,
    ) -> ServiceResult<BootServiceSuperUserPasswordResponse> {
        unused()
    }

    async fn register(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, BootServiceRegisterRequest>,
    ) -> ServiceResult<BootServiceRegisterResponse> {
        unused()
    }

    async fn wait(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, BootServiceWaitRequest>,
    ) -> ServiceResult<ServiceStream<BootServiceWaitResponse>> {
        unused()
    }

    async fn installation_succeeded(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, BootServiceInstallationSucceededRequest>,
    ) -> ServiceResult<BootServiceInstallationSucceededResponse> {
        unused()
    }

    async fn send_event(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, BootServiceSendEventRequest>,
    ) -> ServiceResult<BootServiceSendEventResponse> {
        unused()
    }
}
