//! Why a call was refused, for programs (docs/errors.md).

use connectrpc::ConnectError;

const ERROR_INFO: &str = "google.rpc.ErrorInfo";

/// The reason of an error, such as `NO_MACHINE_AVAILABLE`; none when it did not come from the API.
#[must_use]
pub fn reason(error: &ConnectError) -> Option<&str> {
    let info = error.details.iter().find(|detail| detail.type_url.ends_with(ERROR_INFO))?;
    // servers of ours send the readable form, too
    info.debug.as_ref()?.get("reason")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_stands_in_the_details() {
        let text = r#"{"code": "resource_exhausted", "message": "none", "details": [
            {"type": "google.rpc.RetryInfo", "value": ""},
            {"type": "google.rpc.ErrorInfo", "value": "", "debug": {"reason": "RESERVED"}}]}"#;
        let error: ConnectError = serde_json::from_str(text).expect("an error");
        assert_eq!(reason(&error), Some("RESERVED"));
        assert_eq!(reason(&ConnectError::unavailable("away")), None);
    }
}
