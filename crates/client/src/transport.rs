//! What happens to each call on its way: token, idempotency key, time limit, next attempt.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use buffa::bytes::Bytes;
use connectrpc::client::{BoxFuture, ClientBody, ClientTransport, full_body};
use connectrpc::http_body::Body;
use connectrpc::{ConnectError, ErrorCode};
use http::{HeaderValue, Request, Response, StatusCode, header, request};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::token::{Token, TokenSource};
use crate::wire::{Lost, ResponseBody, Wire};

const PATIENCE: Duration = Duration::from_secs(30);
/// The header that lets the server know a call again.
const KEY: &str = "idempotency-key";
const TIMEOUT: Duration = Duration::from_secs(60);

/// Carries the calls of the generated clients: adds the token, tries unary calls again while the server is
/// away. Streams are opened once and never time out; [`crate::follow`] opens them again.
#[derive(Clone)]
pub struct Transport {
    wire: Arc<Wire>,
    token: Arc<Token>,
    patience: Duration,
    timeout: Duration,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("patience", &self.patience)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What may be done with a call that got no good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Opened once; no time limit.
    Stream,
    /// Doing it twice is doing it once.
    Repeatable,
    /// Must not be sent again once the server may have seen it.
    Once,
}

impl Transport {
    pub(crate) fn new(wire: Wire, token: TokenSource) -> Self {
        Self {
            wire: Arc::new(wire),
            token: Arc::new(Token::new(token)),
            patience: PATIENCE,
            timeout: TIMEOUT,
        }
    }

    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(crate) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    async fn run(
        self,
        request: Request<ClientBody>,
    ) -> Result<Response<ResponseBody>, ConnectError> {
        let (mut parts, body) = request.into_parts();
        if makes(parts.uri.path()) && !parts.headers.contains_key(KEY) {
            let key = uuid::Uuid::new_v4().to_string();
            parts.headers.insert(
                KEY,
                HeaderValue::try_from(key).map_err(|e| ConnectError::internal(e.to_string()))?,
            );
        }
        let call = Call::of(&parts);
        let body = collect(body, usize::MAX).await?;
        let end = Instant::now() + self.patience;
        let mut backoff = Backoff::new();
        let mut renewed = false;
        loop {
            let token = self.token.header().map_err(unauthenticated)?;
            let answer = self.attempt(&parts, &body, token.as_ref(), call).await;
            if refused(&answer) && !renewed && self.token.refused(token.as_ref()) {
                renewed = true;
                continue;
            }
            let delay = backoff.next_delay();
            if !again(call, &answer) || Instant::now() + delay > end {
                return answer.map_err(|lost| lost.error);
            }
            tracing::debug!(path = parts.uri.path(), ?delay, "the server is away; trying again");
            tokio::time::sleep(delay).await;
        }
    }

    async fn attempt(
        &self,
        parts: &request::Parts,
        body: &Bytes,
        token: Option<&HeaderValue>,
        call: Call,
    ) -> Result<Response<ResponseBody>, Lost> {
        let mut request = Request::from_parts(parts.clone(), full_body(body.clone()));
        if let Some(token) = token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        let sending = self.wire.send(request);
        if call == Call::Stream {
            return sending.await;
        }
        tokio::time::timeout(self.timeout, sending).await.unwrap_or_else(|_| {
            let sentence = format!("the server did not answer within {} s", self.timeout.as_secs());
            Err(Lost {
                error: ConnectError::new(ErrorCode::DeadlineExceeded, sentence),
                maybe_seen: true,
            })
        })
    }
}

impl ClientTransport for Transport {
    type ResponseBody = ResponseBody;
    type Error = ConnectError;

    fn send(
        &self,
        request: Request<ClientBody>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, ConnectError>> {
        Box::pin(self.clone().run(request))
    }
}

impl Call {
    fn of(parts: &request::Parts) -> Self {
        let kind = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if kind.starts_with("application/connect+") {
            Self::Stream
        } else if repeatable(parts.uri.path()) || parts.headers.contains_key(KEY) {
            Self::Repeatable
        } else {
            Self::Once
        }
    }
}

/// Whether a method makes something: sent with a key, it is done once, however often it is sent (docs/errors.md).
fn makes(path: &str) -> bool {
    let Some((service, method)) = path.rsplit_once('/') else { return false };
    let service = service.rsplit('/').next().unwrap_or_default();
    let ours = ["metalstack.api.v2.", "metalstack.admin.v2."];
    ours.iter().any(|package| service.starts_with(package))
        && ["Create", "Invite", "BMCCommand", "Refresh"].contains(&method)
}

/// Agents report facts and users look things up: both may be done twice. Creating may not.
fn repeatable(path: &str) -> bool {
    let Some((service, method)) = path.rsplit_once('/') else { return false };
    let service = service.rsplit('/').next().unwrap_or_default();
    service.starts_with("metalstack.infra.v2.")
        || service.starts_with("metal.v1.")
        || only_reads(method)
}

/// Whether a method of users or operators changes nothing. The contract does not say; its names do.
#[must_use]
pub fn only_reads(method: &str) -> bool {
    const LOOKS: [&str; 8] =
        ["Capacity", "ConnectedMachines", "Issues", "Latest", "Match", "Queues", "Try", "Usage"];
    LOOKS.contains(&method)
        || method.starts_with("Get")
        || method.ends_with("Get")
        || method.starts_with("List")
        || method.ends_with("List")
}

fn refused(answer: &Result<Response<ResponseBody>, Lost>) -> bool {
    matches!(answer, Ok(response) if response.status() == StatusCode::UNAUTHORIZED)
}

/// Whether another attempt may succeed and does no harm. 503 is the status of `unavailable`: nothing was done.
/// 502 and 504 come from proxies, which do not know whether it was.
fn again(call: Call, answer: &Result<Response<ResponseBody>, Lost>) -> bool {
    let (away, maybe_seen) = match answer {
        Ok(response) => match response.status() {
            StatusCode::SERVICE_UNAVAILABLE => (true, false),
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => (true, true),
            _ => (false, true),
        },
        Err(lost) => (lost.error.code == ErrorCode::Unavailable, lost.maybe_seen),
    };
    match call {
        Call::Stream => false,
        Call::Repeatable => away,
        Call::Once => away && !maybe_seen,
    }
}

fn unauthenticated(sentence: String) -> ConnectError {
    ConnectError::new(ErrorCode::Unauthenticated, sentence)
}

/// A whole body of at most `limit` bytes. Requests are kept for the next attempt; no method of the contract
/// streams its request.
pub(crate) async fn collect<B>(body: B, limit: usize) -> Result<Bytes, ConnectError>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = pin!(body);
    let mut parts = Vec::new();
    let mut length = 0;
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let frame = frame.map_err(|e| ConnectError::unavailable(format!("the body broke: {e}")))?;
        if let Ok(data) = frame.into_data() {
            length += data.len();
            if length > limit {
                let sentence = format!("the answer is longer than {limit} bytes; ask for less");
                return Err(ConnectError::resource_exhausted(sentence));
            }
            parts.push(data);
        }
    }
    Ok(match parts.as_slice() {
        [whole] => whole.clone(),
        _ => parts.concat().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_sent_twice() {
        for path in [
            "/metalstack.api.v2.MachineService/Get",
            "/prefix/metalstack.api.v2.MachineService/List",
            "/metalstack.api.v2.NetworkService/ListBaseNetworks",
            "/metalstack.admin.v2.PartitionService/Capacity",
            "/metalstack.infra.v2.SwitchService/Heartbeat",
            "/metal.v1.InstallerService/ReportPhase",
        ] {
            assert!(repeatable(path), "{path}");
        }
        for path in [
            "/metalstack.api.v2.MachineService/Create",
            "/metalstack.api.v2.IPService/Delete",
            "/metalstack.api.v2.TokenService/Refresh",
            "/metalstack.api.v2.NetworkService/Update",
            "/metalstack.admin.v2.MachineService/BMCCommand",
            "nonsense",
        ] {
            assert!(!repeatable(path), "{path}");
        }
    }

    #[test]
    fn what_makes_something_is_sent_with_a_key() {
        let parts = |path: &str, key: bool| {
            let mut request = Request::post(path);
            if key {
                request = request.header(KEY, "8e03978e-40d5-43e8-bc93-6894a57f9324");
            }
            request.body(()).expect("a request").into_parts().0
        };
        for path in [
            "/metalstack.api.v2.MachineService/Create",
            "/x/metalstack.admin.v2.SizeService/Create",
        ] {
            assert!(makes(path), "{path}");
            assert_eq!(Call::of(&parts(path, false)), Call::Once);
            assert_eq!(Call::of(&parts(path, true)), Call::Repeatable);
        }
        for path in
            ["/metalstack.api.v2.MachineService/Delete", "/other.v1.Service/Create", "Create"]
        {
            assert!(!makes(path), "{path}");
        }
    }

    #[test]
    fn another_attempt_does_no_harm() {
        let lost = |code, maybe_seen| Err(Lost { error: ConnectError::new(code, ""), maybe_seen });
        let unseen = lost(ErrorCode::Unavailable, false);
        let seen = lost(ErrorCode::Unavailable, true);
        let late = lost(ErrorCode::DeadlineExceeded, true);
        let wanted = [
            (Call::Stream, [false; 3]),
            (Call::Repeatable, [true, true, false]),
            (Call::Once, [true, false, false]),
        ];
        for (call, expected) in wanted {
            assert_eq!(
                [&unseen, &seen, &late].map(|answer| again(call, answer)),
                expected,
                "{call:?}"
            );
        }
    }
}
