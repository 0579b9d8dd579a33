//! `MethodService`: what the caller may call.

use connectrpc::{ConnectError, RequestContext, Response, ServiceRequest, ServiceResult};
use proto::api::{
    MethodService, MethodServiceListRequest, MethodServiceListResponse,
    MethodServiceTokenScopedListRequest, MethodServiceTokenScopedListResponse,
};

use crate::auth::Caller;
use crate::auth::rights::decide_somewhere;

pub(super) struct Handler;

impl MethodService for Handler {
    async fn list(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, MethodServiceListRequest>,
    ) -> ServiceResult<MethodServiceListResponse> {
        let rights = ctx.extensions().get::<Caller>().map(|caller| &caller.rights);
        let methods = proto::method::METHODS
            .iter()
            .filter(|method| decide_somewhere(method, rights))
            .map(|method| method.path.to_owned())
            .collect();
        Response::ok(MethodServiceListResponse { methods, ..Default::default() })
    }

    async fn token_scoped_list(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, MethodServiceTokenScopedListRequest>,
    ) -> ServiceResult<MethodServiceTokenScopedListResponse> {
        let caller =
            ctx.extensions().get::<Caller>().ok_or_else(|| ConnectError::internal("no caller"))?;
        let token = &caller.record;
        Response::ok(MethodServiceTokenScopedListResponse {
            permissions: token.permissions.clone(),
            project_roles: token.project_roles.clone(),
            tenant_roles: token.tenant_roles.clone(),
            machine_roles: token.machine_roles.clone(),
            admin_role: token.admin_role,
            infra_role: token.infra_role,
            ..Default::default()
        })
    }
}
