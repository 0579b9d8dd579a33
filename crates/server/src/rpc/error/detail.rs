//! Details of errors, the messages of `google.rpc` that every language has: `ErrorInfo`, `BadRequest`, `RetryInfo`. Connect sends
//! them as JSON, gRPC in the trailer `grpc-status-details-bin`; connectrpc does both from the same bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use buffa::encoding::encode_varint;
use connectrpc::{ConnectError, ErrorDetail};
use protovalidate_buffa::ValidationError;
use serde_json::json;

use super::Reason;

/// Whose reasons these are.
const DOMAIN: &str = "metal-stack.io";
const ERROR_INFO: &str = "google.rpc.ErrorInfo";
/// Rules can be broken more often than is worth telling: an answer stays small.
const MAX_FIELDS: usize = 50;

/// Why, for programs.
pub(super) fn error_info(reason: Reason, metadata: &BTreeMap<&'static str, String>) -> ErrorDetail {
    let mut bytes = Vec::new();
    text(&mut bytes, 1, reason.text());
    text(&mut bytes, 2, DOMAIN);
    for (key, value) in metadata {
        let mut entry = Vec::new();
        text(&mut entry, 1, key);
        text(&mut entry, 2, value);
        embed(&mut bytes, 3, &entry);
    }
    let readable = json!({"reason": reason.text(), "domain": DOMAIN, "metadata": metadata});
    detail(ERROR_INFO, &bytes, readable)
}

/// When it is worth trying again.
pub(super) fn retry_info(delay: Duration) -> ErrorDetail {
    let mut duration = Vec::new();
    number(&mut duration, 1, delay.as_secs());
    number(&mut duration, 2, u64::from(delay.subsec_nanos()));
    let mut bytes = Vec::new();
    embed(&mut bytes, 1, &duration);
    let readable = json!({"retryDelay": format!("{}s", delay.as_secs_f64())});
    detail("google.rpc.RetryInfo", &bytes, readable)
}

/// A field that is wrong.
pub(super) struct Field {
    /// Path in the request, for instance `networks[1].ips`.
    pub(super) path: String,
    /// What is wrong.
    pub(super) description: String,
    /// Id of the broken rule; empty when it is none of the contract's.
    pub(super) rule: String,
}

/// Which fields are wrong.
pub(super) fn bad_request(fields: &[Field]) -> ErrorDetail {
    let mut bytes = Vec::new();
    let mut readable = Vec::new();
    for Field { path, description, rule } in fields.iter().take(MAX_FIELDS) {
        let mut field = Vec::new();
        text(&mut field, 1, path);
        text(&mut field, 2, description);
        text(&mut field, 3, rule);
        embed(&mut bytes, 1, &field);
        readable.push(json!({"field": path, "description": description, "reason": rule}));
    }
    detail("google.rpc.BadRequest", &bytes, json!({"fieldViolations": readable}))
}

/// An error as it leaves the server: with a reason, and with the fields that validation complained about.
pub(crate) fn complete(mut error: ConnectError) -> ConnectError {
    if error.details.iter().any(|detail| detail.type_url == ERROR_INFO) {
        return error;
    }
    let mut reason = Reason::of(error.code);
    if let Some(source) = error.source_arc()
        && let Some(broken) = source.downcast_ref::<ValidationError>()
        && !broken.violations.is_empty()
    {
        reason = Reason::InvalidFields;
        error.details.push(bad_request(&fields(broken)));
    }
    error.details.insert(0, error_info(reason, &BTreeMap::new()));
    error
}

fn fields(broken: &ValidationError) -> Vec<Field> {
    let violations = broken.violations.iter().take(MAX_FIELDS);
    violations
        .map(|violation| Field {
            path: violation.field.to_string(),
            description: violation.message.to_string(),
            rule: violation.rule_id.to_string(),
        })
        .collect()
}

fn detail(kind: &str, bytes: &[u8], readable: serde_json::Value) -> ErrorDetail {
    ErrorDetail {
        type_url: kind.to_owned(),
        value: Some(STANDARD_NO_PAD.encode(bytes)),
        debug: Some(readable),
    }
}

// Four messages of three flat fields: written by hand they are shorter than a second contract to compile.

fn text(out: &mut Vec<u8>, field: u8, content: &str) {
    if !content.is_empty() {
        embed(out, field, content.as_bytes());
    }
}

/// Something with a length: wire type 2.
fn embed(out: &mut Vec<u8>, field: u8, content: &[u8]) {
    out.push(field << 3 | 2);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

/// A number: wire type 0.
fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3);
        encode_varint(value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with what another implementation of protobuf writes.
    #[track_caller]
    fn check(detail: &ErrorDetail, bytes: &[u8]) {
        let value = detail.value.as_deref().expect("a value");
        assert_eq!(STANDARD_NO_PAD.decode(value).expect("base64"), bytes);
    }

    #[test]
    fn the_bytes_are_those_of_protobuf() {
        let metadata = BTreeMap::from([("limit", "100".to_owned())]);
        check(
            &error_info(Reason::RateLimited, &metadata),
            b"\x0a\x0cRATE_LIMITED\x12\x0emetal-stack.io\x1a\x0c\x0a\x05limit\x12\x03100",
        );
        check(
            &retry_info(Duration::from_millis(300_500)),
            b"\x0a\x09\x08\xac\x02\x10\x80\xca\xb5\xee\x01",
        );
        check(&retry_info(Duration::ZERO), b"\x0a\x00");
        let field = Field {
            path: "a[0].b".to_owned(),
            description: "too long".to_owned(),
            rule: String::new(),
        };
        check(&bad_request(&[field]), b"\x0a\x12\x0a\x06a[0].b\x12\x08too long");
    }

    #[test]
    fn an_error_gets_one_reason() {
        let bare = complete(ConnectError::permission_denied("no"));
        assert_eq!(bare.details.len(), 1);
        let debug = bare.details[0].debug.clone().expect("readable");
        assert_eq!(debug["reason"], "PERMISSION_DENIED");
        assert_eq!(complete(bare).details.len(), 1);
    }
}
