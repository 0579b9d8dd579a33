//! `MethodService`: what the caller may call.

use connectrpc::{ConnectError, RequestContext, Response, ServiceRequest, ServiceResult};
use proto::api::{
    AdminRole, InfraRole, MachineRole, MethodService, MethodServiceListRequest,
    MethodServiceListResponse, MethodServiceTokenScopedListRequest,
    MethodServiceTokenScopedListResponse,
};

use crate::auth::{Caller, Level, decide};

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
            .filter(|method| decide(method, rights, Some("*")).is_ok())
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
        let rights = &caller.rights;
        let admin_role = rights.admin.map(|level| match level {
            Level::Editor => AdminRole::ADMIN_ROLE_EDITOR.into(),
            Level::Viewer => AdminRole::ADMIN_ROLE_VIEWER.into(),
        });
        let infra_role = rights.infra.map(|level| match level {
            Level::Editor => InfraRole::INFRA_ROLE_EDITOR.into(),
            Level::Viewer => InfraRole::INFRA_ROLE_VIEWER.into(),
        });
        let machine_roles = rights
            .machines
            .iter()
            .map(|(machine, level)| {
                let role = match level {
                    Level::Editor => MachineRole::MACHINE_ROLE_EDITOR,
                    Level::Viewer => MachineRole::MACHINE_ROLE_VIEWER,
                };
                (machine.clone(), role.into())
            })
            .collect();
        Response::ok(MethodServiceTokenScopedListResponse {
            admin_role,
            infra_role,
            machine_roles,
            ..Default::default()
        })
    }
}
