//! The request path, for unary calls and streams alike: who calls → not too often → recorded → allowed → well formed → handler.

mod source;
mod trail;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use connectrpc::interceptor::{
    Interceptor, Next, NextStream, PayloadStream, StreamRequest, StreamResponse, UnaryRequest,
    UnaryResponse,
};
use connectrpc::{ConnectError, Payload, RequestContext};
use futures::StreamExt;
use proto::method::Method;

use super::error::detail::complete;
use super::{App, Error, Reason};
use crate::auth::{self, Caller, Membership, Refusal, Scope};
use crate::rate::{Exceeded, Subject};
pub(crate) use source::of as source_of;
use trail::Trail;

/// Methods of this package are for users: how often they are called is limited.
const FOR_USERS: &str = "/metalstack.api.v2.";

/// Lets a call through only if the contract's options allow it.
pub(super) struct Gate {
    pub(super) app: Arc<App>,
}

/// A call of a method of the contract on its way in.
struct Arrival {
    method: &'static Method,
    caller: Result<Option<Caller>, ConnectError>,
    subject: String,
    source: Option<IpAddr>,
}

impl Gate {
    /// Who calls what about whom; nothing for reflection and health of gRPC, which stand outside of the contract and are open.
    async fn arrive(
        &self,
        ctx: &RequestContext,
        request: Option<&Payload>,
    ) -> Result<Option<Arrival>, ConnectError> {
        let path = ctx.path().unwrap_or_default().trim_start_matches('/');
        if path.starts_with("grpc.") {
            return Ok(None);
        }
        let path = format!("/{path}");
        let method = Method::find(&path)
            .ok_or_else(|| ConnectError::permission_denied(format!("{path} is not known")))?;
        let forwarded =
            ctx.headers().get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let source =
            source::of(ctx.peer_addr().map(|peer| peer.ip()), forwarded, &self.app.trusted_proxies);
        let subject = request.map_or(Ok(String::new()), |payload| (method.subject)(payload));
        let about = subject.as_deref().unwrap_or_default();
        let caller = self.identify(ctx, (auth::scope(method), about)).await;
        self.count(method, &caller, source).await?;
        Ok(Some(Arrival { method, caller, subject: subject?, source }))
    }

    async fn identify(
        &self,
        ctx: &RequestContext,
        about: (Scope, &str),
    ) -> Result<Option<Caller>, ConnectError> {
        let Some(secret) = bearer(ctx)? else { return Ok(None) };
        let App { db, issuer, proofs, .. } = &*self.app;
        auth::authenticate(db, issuer, proofs, secret, about, jiff::Timestamp::now())
            .await
            .map(Some)
            .map_err(Into::into)
    }

    async fn count(
        &self,
        method: &Method,
        caller: &Result<Option<Caller>, ConnectError>,
        source: Option<IpAddr>,
    ) -> Result<(), ConnectError> {
        if !method.path.starts_with(FOR_USERS) {
            return Ok(());
        }
        let subject = match (caller, source) {
            (Ok(Some(caller)), _) if caller.is_admin() => return Ok(()),
            (Ok(Some(caller)), _) => Subject::Token(&caller.token),
            (_, Some(address)) => Subject::Address(address),
            // only a listener without addresses
            (_, None) => return Ok(()),
        };
        let App { db, rate, .. } = &*self.app;
        rate.count(db, subject, jiff::Timestamp::now()).await.map_err(too_often)
    }

    /// Decides about rights and form, and hands the caller on to the handler.
    async fn admit(
        &self,
        arrival: &Arrival,
        ctx: &mut RequestContext,
        request: Option<&Payload>,
    ) -> Result<(), ConnectError> {
        let Arrival { method, caller, subject, .. } = arrival;
        let caller = caller.as_ref().map_err(Clone::clone)?;
        Self::authorize(method, subject, caller.as_ref())?;
        if let Some(payload) = request {
            (method.validate)(payload)?;
        }
        if let Some(caller) = caller {
            ctx.extensions_mut().insert(caller.clone());
        }
        Ok(())
    }

    fn authorize(
        method: &Method,
        subject: &str,
        caller: Option<&Caller>,
    ) -> Result<(), ConnectError> {
        let membership = caller.map_or_else(Membership::default, |caller| caller.membership);
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

    /// Begins to record a call, and admits it.
    async fn record(
        &self,
        arrival: &Arrival,
        request: Option<&Payload>,
    ) -> Result<Option<Trail>, ConnectError> {
        let caller = arrival.caller.as_ref().ok().and_then(Option::as_ref);
        let Arrival { method, subject, source, .. } = arrival;
        Ok(Trail::begin(&self.app.audit, method, caller, subject, *source, request).await?)
    }
}

#[connectrpc::async_trait]
impl Interceptor for Gate {
    async fn intercept_unary(
        &self,
        req: UnaryRequest,
        next: Next<'_>,
    ) -> Result<UnaryResponse, ConnectError> {
        self.unary(req, next).await.map_err(complete)
    }

    async fn intercept_streaming(
        &self,
        req: StreamRequest,
        inbound: PayloadStream,
        next: NextStream<'_>,
    ) -> Result<StreamResponse, ConnectError> {
        let response = self.stream(req, inbound, next).await.map_err(complete)?;
        Ok(response.map_body(|body| -> PayloadStream {
            Box::pin(body.map(|item| item.map_err(complete)))
        }))
    }
}

impl Gate {
    async fn unary(
        &self,
        mut req: UnaryRequest,
        next: Next<'_>,
    ) -> Result<UnaryResponse, ConnectError> {
        let Some(arrival) = self.arrive(&req.ctx, Some(&req.payload)).await? else {
            return next.run(req).await;
        };
        let trail = self.record(&arrival, Some(&req.payload)).await?;
        let answer = match self.admit(&arrival, &mut req.ctx, Some(&req.payload)).await {
            Ok(()) => next.run(req).await,
            Err(refused) => Err(refused),
        };
        if let Some(trail) = trail {
            let told = answer.as_ref().map(|response| Some(&response.body));
            trail.end(&self.app.audit, arrival.method, told).await;
        }
        answer
    }

    async fn stream(
        &self,
        mut req: StreamRequest,
        mut inbound: PayloadStream,
        next: NextStream<'_>,
    ) -> Result<StreamResponse, ConnectError> {
        // all streams of the contract are opened by exactly one request
        let first = inbound.next().await.transpose()?;
        let Some(arrival) = self.arrive(&req.ctx, first.as_ref()).await? else {
            let inbound = futures::stream::iter(first.map(Ok)).chain(inbound);
            return next.run(req, Box::pin(inbound)).await;
        };
        let trail = self.record(&arrival, first.as_ref()).await?;
        let answer = match self.admit(&arrival, &mut req.ctx, first.as_ref()).await {
            Ok(()) => {
                let inbound = futures::stream::iter(first.map(Ok)).chain(inbound);
                next.run(req, Box::pin(inbound)).await
            }
            Err(refused) => Err(refused),
        };
        if let Some(trail) = trail {
            // recorded is that the stream was opened, not what flows through it
            let told = answer.as_ref().map(|_| None);
            trail.end(&self.app.audit, arrival.method, told).await;
        }
        answer
    }
}

fn too_often(exceeded: Exceeded) -> ConnectError {
    let Exceeded { limit, wait } = exceeded;
    let sentence = format!(
        "you have reached the per-minute API rate limit (limit: {limit}): try again in {wait} s"
    );
    let error = Error::reason(Reason::RateLimited, sentence)
        .with("limit", limit.to_string())
        .retry_in(Duration::from_secs(wait.unsigned_abs()));
    let mut error = ConnectError::from(error);
    error.response_headers_mut().insert(http::header::RETRY_AFTER, wait.into());
    error
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
