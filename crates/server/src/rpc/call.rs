//! What a handler gets beside the request, and the table from methods to handlers.

use std::sync::Arc;

use connectrpc::{MaybeBorrowed, PreEncoded, RequestContext, Response, ServiceResult};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::Tx;

use super::{App, Error};
use crate::auth::Caller;
use crate::idempotency::{self, Once};

/// An answer as a message, or in binary form already for those who speak it.
pub(crate) type Either<M> = MaybeBorrowed<M, PreEncoded<M>>;

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// What every handler may use.
    pub app: Arc<App>,
    /// Who calls; nobody for public methods without a token.
    pub caller: Option<Caller>,
    /// When the call began.
    pub now: Timestamp,
    /// The caller speaks protobuf, not JSON.
    pub binary: bool,
    /// It is to be done once, however often it is sent.
    once: Option<Arc<Once>>,
    /// Digest of its request, then.
    request: String,
}

impl Call {
    /// From what the gate left in the request.
    ///
    /// # Errors
    /// The idempotency key is malformed.
    pub fn new(
        app: &Arc<App>,
        ctx: &RequestContext,
        request: &impl Serialize,
    ) -> Result<Self, Error> {
        let caller = ctx.extensions().get::<Caller>().cloned();
        let once = Once::of(ctx, caller.as_ref().map(|caller| caller.user.as_str()))?;
        let request = once.as_ref().map(|_| idempotency::digest_of(request)).transpose()?;
        Ok(Self {
            app: Arc::clone(app),
            caller,
            now: Timestamp::now(),
            binary: speaks_binary(ctx.header(http::header::CONTENT_TYPE)),
            once: once.map(Arc::new),
            request: request.unwrap_or_default(),
        })
    }

    /// The answer that an earlier call with the same idempotency key got.
    ///
    /// # Errors
    /// That was another request.
    pub async fn answered<M: DeserializeOwned>(&self) -> Result<Option<M>, Error> {
        match &self.once {
            Some(once) => once.answer(&self.app.db, &self.request, self.now_us()).await,
            None => Ok(None),
        }
    }

    /// Makes durable what a call with an idempotency key did, with its answer; other calls have done so themselves.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn end<M: Serialize + DeserializeOwned>(
        &self,
        outcome: Result<M, Error>,
    ) -> ServiceResult<M> {
        let Some(once) = &self.once else { return Response::ok(outcome?) };
        if let Ok(response) = &outcome {
            once.end(&self.request, response).await?;
        } else if once.is_done()
            && let Some(answer) = self.answered().await?
        {
            return Self::again(answer);
        }
        Response::ok(outcome?)
    }

    /// An answer that was given before.
    ///
    /// # Errors
    /// None.
    pub fn again<M>(answer: M) -> ServiceResult<M> {
        Ok(Response::new(answer).with_header(idempotency::REPLAYED, "true"))
    }

    /// Who calls.
    ///
    /// # Errors
    /// Nobody does.
    pub fn caller(&self) -> Result<&Caller, Error> {
        self.caller.as_ref().ok_or_else(|| Error::unauthenticated("a token is needed"))
    }

    /// Begins a transaction that may write.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn write(&self) -> Result<Tx, Error> {
        let Some(once) = &self.once else { return Ok(self.app.db.begin_write().await?) };
        if let Some(tx) = once.waiting() {
            return Ok(tx);
        }
        let mut tx = self.app.db.begin_write().await?;
        once.begin(&mut tx, &self.request, self.now_us()).await?;
        Ok(tx)
    }

    /// Begins a transaction that only reads.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn read(&self) -> Result<Tx, Error> {
        Ok(self.app.db.begin_read().await?)
    }

    /// Whether it is to be done once, however often it is sent: then its transaction is its own.
    #[must_use]
    pub fn is_once(&self) -> bool {
        self.once.is_some()
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        self.now.as_microsecond()
    }
}

/// The type of a request tells the codec of its answer: `application/proto`, `application/grpc`, `application/grpc-web+proto`.
fn speaks_binary(kind: Option<&http::HeaderValue>) -> bool {
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("json");
    !kind.to_ascii_lowercase().contains("json")
}

/// Writes the `impl` of a service: each line names the method, its messages and the function that handles it,
/// `async fn(&Call, Request) -> Result<Response, Error>`; below `long`, those that only read and whose function returns
/// `Result<Either<Response>, Error>`; below `streams`, those whose function returns `Result<ServiceStream<Response>, Error>`.
macro_rules! service {
    (
        $package:ident :: $service:ident { $($method:ident ( $request:ident ) -> $response:ident = $handler:path;)* }
        $(long { $($list:ident ( $asking:ident ) -> $listing:ident = $lister:path;)* })?
        $(streams { $($stream:ident ( $opening:ident ) -> $item:ident = $opener:path;)* })?
    ) => {
        impl proto::$package::$service for Handler {
            $(async fn $method(
                &self,
                ctx: connectrpc::RequestContext,
                request: connectrpc::ServiceRequest<'_, proto::$package::$request>,
            ) -> connectrpc::ServiceResult<proto::$package::$response> {
                let request = request.to_owned_message();
                let call = $crate::rpc::Call::new(&self.0, &ctx, &request)?;
                match call.answered().await? {
                    Some(answer) => $crate::rpc::Call::again(answer),
                    None => call.end($handler(&call, request).await).await,
                }
            })*
            $($(async fn $list(
                &self,
                ctx: connectrpc::RequestContext,
                request: connectrpc::ServiceRequest<'_, proto::$package::$asking>,
            ) -> connectrpc::ServiceResult<$crate::rpc::Either<proto::$package::$listing>> {
                let request = request.to_owned_message();
                let call = $crate::rpc::Call::new(&self.0, &ctx, &request)?;
                connectrpc::Response::ok($lister(&call, request).await?)
            })*)?
            $($(async fn $stream(
                &self,
                ctx: connectrpc::RequestContext,
                request: connectrpc::ServiceRequest<'_, proto::$package::$opening>,
            ) -> connectrpc::ServiceResult<connectrpc::ServiceStream<proto::$package::$item>> {
                let request = request.to_owned_message();
                let call = $crate::rpc::Call::new(&self.0, &ctx, &request)?;
                connectrpc::Response::ok($opener(&call, request).await?)
            })*)?
        }
    };
}
pub(crate) use service;
