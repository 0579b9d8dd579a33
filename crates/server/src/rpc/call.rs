//! What a handler gets beside the request, and the table from methods to handlers.

use std::sync::Arc;

use connectrpc::RequestContext;
use jiff::Timestamp;
use store::Tx;

use super::{App, Error};
use crate::auth::Caller;

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// What every handler may use.
    pub app: Arc<App>,
    /// Who calls; nobody for public methods without a token.
    pub caller: Option<Caller>,
    /// When the call began.
    pub now: Timestamp,
}

impl Call {
    /// From what the gate left in the request.
    #[must_use]
    pub fn new(app: &Arc<App>, ctx: &RequestContext) -> Self {
        Self {
            app: Arc::clone(app),
            caller: ctx.extensions().get::<Caller>().cloned(),
            now: Timestamp::now(),
        }
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
        Ok(self.app.db.begin_write().await?)
    }

    /// Begins a transaction that only reads.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn read(&self) -> Result<Tx, Error> {
        Ok(self.app.db.begin_read().await?)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        self.now.as_microsecond()
    }
}

/// Writes the `impl` of a service: each line names the method, its messages and the function that handles it,
/// `async fn(&Call, Request) -> Result<Response, Error>`; below `streams`, those whose function returns
/// `Result<ServiceStream<Response>, Error>`.
macro_rules! service {
    (
        $package:ident :: $service:ident { $($method:ident ( $request:ident ) -> $response:ident = $handler:path;)* }
        $(streams { $($stream:ident ( $opening:ident ) -> $item:ident = $opener:path;)* })?
    ) => {
        impl proto::$package::$service for Handler {
            $(async fn $method(
                &self,
                ctx: connectrpc::RequestContext,
                request: connectrpc::ServiceRequest<'_, proto::$package::$request>,
            ) -> connectrpc::ServiceResult<proto::$package::$response> {
                let call = $crate::rpc::Call::new(&self.0, &ctx);
                connectrpc::Response::ok($handler(&call, request.to_owned_message()).await?)
            })*
            $($(async fn $stream(
                &self,
                ctx: connectrpc::RequestContext,
                request: connectrpc::ServiceRequest<'_, proto::$package::$opening>,
            ) -> connectrpc::ServiceResult<connectrpc::ServiceStream<proto::$package::$item>> {
                let call = $crate::rpc::Call::new(&self.0, &ctx);
                connectrpc::Response::ok($opener(&call, request.to_owned_message()).await?)
            })*)?
        }
    };
}
pub(crate) use service;
