//! Calls without generated types: JSON in, JSON out, or bytes.

use buffa::bytes::Bytes;
use connectrpc::client::{ClientTransport, full_body};
use connectrpc::{ConnectError, ErrorCode};
use http::{Request, StatusCode};
use serde_json::Value;

use crate::{Client, MAX_MESSAGE, transport};

impl Client {
    /// Calls a unary method by its path, for instance `/metalstack.api.v2.IPService/List`, with the JSON form of
    /// its messages. For tools that treat all methods alike; others use the typed clients.
    ///
    /// # Errors
    /// What the server answered, or why there is no answer.
    pub async fn call_json(&self, path: &str, request: &Value) -> Result<Value, ConnectError> {
        let body = self.exchange(path, "application/json", request.to_string().into()).await?;
        serde_json::from_slice(&body).map_err(|e| {
            ConnectError::internal(format!("the answer is not the JSON of this API: {e}"))
        })
    }

    /// Calls a unary method by its path with the binary form of its messages.
    ///
    /// # Errors
    /// What the server answered, or why there is no answer.
    pub async fn call_binary(&self, path: &str, request: Vec<u8>) -> Result<Bytes, ConnectError> {
        self.exchange(path, "application/proto", request.into()).await
    }

    async fn exchange(&self, path: &str, kind: &str, body: Bytes) -> Result<Bytes, ConnectError> {
        let base = self.config.base_uri().to_string();
        let request = Request::post(format!("{}{path}", base.trim_end_matches('/')))
            .header("content-type", kind)
            .header("connect-protocol-version", "1")
            .header("user-agent", concat!("metal/", env!("CARGO_PKG_VERSION")))
            .body(full_body(body))
            .map_err(|e| ConnectError::internal(format!("{path} is no path: {e}")))?;
        let response = self.transport.send(request).await?;
        let status = response.status();
        let body = transport::collect(response.into_body(), MAX_MESSAGE).await?;
        if status == StatusCode::OK { Ok(body) } else { Err(refusal(status, &body)) }
    }
}

/// The error in the body; whoever answered without one was no server of this API, but perhaps a proxy.
fn refusal(status: StatusCode, body: &Bytes) -> ConnectError {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let code = match status.as_u16() {
            401 => ErrorCode::Unauthenticated,
            403 => ErrorCode::PermissionDenied,
            404 => ErrorCode::Unimplemented,
            429 | 502 | 503 | 504 => ErrorCode::Unavailable,
            _ => ErrorCode::Unknown,
        };
        ConnectError::new(code, format!("the server answered HTTP {status} without an API error"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_with_and_without_a_body() {
        let body = Bytes::from_static(br#"{"code":"not_found","message":"no ip"}"#);
        let error = refusal(StatusCode::NOT_FOUND, &body);
        assert_eq!((error.code, error.message.as_deref()), (ErrorCode::NotFound, Some("no ip")));
        let error = refusal(StatusCode::BAD_GATEWAY, &Bytes::from_static(b"<html>"));
        assert_eq!(error.code, ErrorCode::Unavailable);
    }
}
