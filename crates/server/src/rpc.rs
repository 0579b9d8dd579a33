//! The request path: authenticate → authorize → handler, for unary calls and streams alike.

mod health;
mod method;
mod version;

use std::sync::Arc;

use connectrpc::interceptor::{
    Interceptor, Next, NextStream, PayloadStream, StreamRequest, StreamResponse, UnaryRequest,
    UnaryResponse,
};
use connectrpc::{ConnectError, ConnectRpcService, RequestContext, Router};
use proto::api::{HealthServiceExt, MethodServiceExt, VersionServiceExt};
use proto::method::Method;
use store::Db;

use crate::auth::{self, Refusal};

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
    async fn admit(&self, ctx: &mut RequestContext) -> Result<(), ConnectError> {
        let path = ctx.path().unwrap_or_default().to_owned();
        // reflection and health of gRPC stand outside of the contract and are open
        if path.trim_start_matches('/').starts_with("grpc.") {
            return Ok(());
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
        auth::decide(method, caller.as_ref().map(|c| &c.rights), None).map_err(|refusal| {
            match refusal {
                Refusal::Unauthenticated => ConnectError::unauthenticated(
                    "a token is needed: send the header 'Authorization: Bearer TOKEN'".to_owned(),
                ),
                Refusal::Denied => {
                    ConnectError::permission_denied(format!("the token does not allow {path}"))
                }
            }
        })?;
        if let Some(caller) = caller {
            ctx.extensions_mut().insert(caller);
        }
        Ok(())
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
        self.admit(&mut req.ctx).await?;
        next.run(req).await
    }

    async fn intercept_streaming(
        &self,
        mut req: StreamRequest,
        inbound: PayloadStream,
        next: NextStream<'_>,
    ) -> Result<StreamResponse, ConnectError> {
        self.admit(&mut req.ctx).await?;
        next.run(req, inbound).await
    }
}
