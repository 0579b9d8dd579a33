//! The request path: authenticate → authorize → handler, for unary calls and streams alike.

mod audit;
mod bmc;
mod boot;
mod call;
mod component;
mod entity;
mod error;
mod event;
mod filesystem;
mod health;
mod image;
mod ip;
mod machine;
mod method;
mod network;
mod partition;
mod project;
mod size;
mod size_image_constraint;
mod size_reservation;
mod switch;
mod task;
mod tenant;
mod timeline;
mod token;
mod user;
mod version;
mod vpn;

use std::sync::Arc;

use connectrpc::interceptor::{
    Interceptor, Next, NextStream, PayloadStream, StreamRequest, StreamResponse, UnaryRequest,
    UnaryResponse,
};
use connectrpc::{ConnectError, ConnectRpcService, Payload, RequestContext, Router};
use futures::StreamExt;
use proto::api::{HealthServiceExt, MethodServiceExt, VersionServiceExt};
use proto::method::Method;
use store::Db;

pub use call::Call;
pub(crate) use call::service;
pub use error::Error;

use crate::auth::{self, Caller, Membership, Refusal, Scope};

/// What every handler may use.
#[derive(Debug)]
pub struct App {
    /// The one database.
    pub db: Db,
    /// Issuer and audience of tokens: the public URL of the server.
    pub issuer: String,
}

/// Everything that the server answers. A method that is not built answers `Unimplemented`.
///
/// # Errors
/// The embedded contract is unreadable.
pub fn service(app: &Arc<App>) -> anyhow::Result<ConnectRpcService> {
    let router = Router::new();
    let router = Arc::new(version::Handler).register(router);
    let router = Arc::new(health::Handler { app: Arc::clone(app) }).register(router);
    let router = Arc::new(method::Handler).register(router);
    let modules: &[fn(&Arc<App>, Router) -> Router] = &[
        audit::register,
        bmc::register,
        boot::register,
        component::register,
        event::register,
        filesystem::register,
        image::register,
        ip::register,
        machine::register,
        network::register,
        partition::register,
        project::register,
        size::register,
        size_image_constraint::register,
        size_reservation::register,
        switch::register,
        task::register,
        tenant::register,
        timeline::register,
        token::register,
        user::register,
        vpn::register,
    ];
    let router = modules.iter().fold(router, |router, register| register(app, router));
    let reflector =
        connectrpc_reflection::Reflector::from_descriptor_set_bytes(proto::DESCRIPTOR_SET)
            .map_err(|e| anyhow::anyhow!("embedded contract: {e:?}"))?;
    let router = connectrpc_reflection::install(router, reflector);
    let (router, _) = connectrpc_health::install_static(router, service_names());
    Ok(ConnectRpcService::new(router).with_interceptor(Gate { app: Arc::clone(app) }))
}

fn service_names() -> Vec<&'static str> {
    let mut names: Vec<_> = proto::method::METHODS
        .iter()
        .filter_map(|m| m.path.trim_start_matches('/').split('/').next())
        .collect();
    names.dedup();
    names
}

/// Lets a call through only if the contract's options allow it.
struct Gate {
    app: Arc<App>,
}

impl Gate {
    /// Authenticates and authorizes; what is returned is the method's row, if the contract has one.
    async fn admit(
        &self,
        ctx: &mut RequestContext,
        request: Option<&Payload>,
    ) -> Result<Option<&'static Method>, ConnectError> {
        let path = ctx.path().unwrap_or_default().to_owned();
        // reflection and health of gRPC stand outside of the contract and are open
        if path.trim_start_matches('/').starts_with("grpc.") {
            return Ok(None);
        }
        let path = format!("/{}", path.trim_start_matches('/'));
        let method = Method::find(&path)
            .ok_or_else(|| ConnectError::permission_denied(format!("{path} is not known")))?;
        let caller = match bearer(ctx)? {
            Some(secret) => Some(
                auth::authenticate(&self.app.db, &self.app.issuer, secret, jiff::Timestamp::now())
                    .await
                    .map_err(ConnectError::unauthenticated)?,
            ),
            None => None,
        };
        let subject = match request {
            Some(payload) => (method.subject)(payload)?,
            None => String::new(),
        };
        self.authorize(method, &subject, caller.as_ref()).await?;
        if let Some(payload) = request {
            (method.validate)(payload)?;
        }
        if let Some(caller) = caller {
            ctx.extensions_mut().insert(caller);
        }
        Ok(Some(method))
    }

    async fn authorize(
        &self,
        method: &Method,
        subject: &str,
        caller: Option<&Caller>,
    ) -> Result<(), ConnectError> {
        let scope = auth::scope(method);
        let membership = match caller {
            Some(caller) if scope != Scope::Global && !caller.is_admin_editor() => {
                let mut tx = self.app.db.begin_read().await.map_err(Error::from)?;
                auth::membership(&mut tx, &caller.user, scope, subject)
                    .await
                    .map_err(Error::from)?
            }
            _ => Membership::default(),
        };
        auth::decide(method, subject, caller.map(|c| &c.rights), membership).map_err(|refusal| {
            match refusal {
                Refusal::Unauthenticated => ConnectError::unauthenticated(
                    "a token is needed: send the header 'Authorization: Bearer TOKEN'".to_owned(),
                ),
                Refusal::Denied if subject.is_empty() => ConnectError::permission_denied(format!(
                    "the token does not allow {}",
                    method.path
                )),
                Refusal::Denied => ConnectError::permission_denied(format!(
                    "the token does not allow {} for \"{subject}\"",
                    method.path
                )),
            }
        })
    }
}

fn bearer(ctx: &RequestContext) -> Result<Option<&str>, ConnectError> {
    let Some(value) = ctx.header(http::header::AUTHORIZATION) else { return Ok(None) };
    let text = value
        .to_str()
        .map_err(|_| ConnectError::unauthenticated("malformed authorization header"))?;
    match text.split_once(' ') {
        Some((_, secret)) if !secret.trim().is_empty() => Ok(Some(secret.trim())),
        _ => Ok(None),
    }
}

#[connectrpc::async_trait]
impl Interceptor for Gate {
    async fn intercept_unary(
        &self,
        mut req: UnaryRequest,
        next: Next<'_>,
    ) -> Result<UnaryResponse, ConnectError> {
        self.admit(&mut req.ctx, Some(&req.payload)).await?;
        next.run(req).await
    }

    async fn intercept_streaming(
        &self,
        mut req: StreamRequest,
        mut inbound: PayloadStream,
        next: NextStream<'_>,
    ) -> Result<StreamResponse, ConnectError> {
        // all streams of the contract are opened by exactly one request
        let first = inbound.next().await.transpose()?;
        self.admit(&mut req.ctx, first.as_ref()).await?;
        let inbound = futures::stream::iter(first.map(Ok)).chain(inbound);
        next.run(req, Box::pin(inbound)).await
    }
}
