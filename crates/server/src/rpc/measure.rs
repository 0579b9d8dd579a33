//! Counts calls for Prometheus, around everything else, refused ones included.

use std::time::Instant;

use connectrpc::interceptor::{
    Interceptor, Next, NextStream, PayloadStream, StreamRequest, StreamResponse, UnaryRequest,
    UnaryResponse,
};
use connectrpc::{ConnectError, RequestContext};
use proto::method::Method;

/// Counts by method and code, and measures how long unary calls take.
pub(super) struct Measure;

/// The method as a label: whatever callers make up is one.
fn name(ctx: &RequestContext) -> &'static str {
    let path = format!("/{}", ctx.path().unwrap_or_default().trim_start_matches('/'));
    Method::find(&path).map_or("other", |method| method.path)
}

fn count<T>(method: &'static str, answer: &Result<T, ConnectError>) {
    let code = answer.as_ref().map_or_else(|error| error.code.as_str(), |_| "ok");
    metrics::counter!("metal_calls_total", "method" => method, "code" => code).increment(1);
}

#[connectrpc::async_trait]
impl Interceptor for Measure {
    async fn intercept_unary(
        &self,
        req: UnaryRequest,
        next: Next<'_>,
    ) -> Result<UnaryResponse, ConnectError> {
        let (method, begin) = (name(&req.ctx), Instant::now());
        let answer = next.run(req).await;
        metrics::histogram!("metal_call_seconds", "method" => method).record(begin.elapsed());
        count(method, &answer);
        answer
    }

    async fn intercept_streaming(
        &self,
        req: StreamRequest,
        inbound: PayloadStream,
        next: NextStream<'_>,
    ) -> Result<StreamResponse, ConnectError> {
        let method = name(&req.ctx);
        let answer = next.run(req, inbound).await;
        count(method, &answer);
        answer
    }
}
