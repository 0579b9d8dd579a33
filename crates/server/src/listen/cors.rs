//! Pages of any origin may call (<https://fetch.spec.whatwg.org/#http-cors-protocol>). Nothing is given away by that: who calls is told by
//! the header `Authorization`, which a page must have a token for, and never by a cookie.

use connectrpc::ConnectRpcBody;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;

/// So many seconds a browser remembers that it may call: the most that Chromium does.
const REMEMBERED: &str = "7200";
const ANY: &str = "*";

/// The answer to a browser that asks whether a page may call; nothing for a call.
pub(super) fn preflight<B>(request: &Request<B>) -> Option<Response<ConnectRpcBody>> {
    let headers = request.headers();
    let asks = request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asks {
        return None;
    }
    let mut response = Response::new(ConnectRpcBody::Full(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static(ANY));
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    // an asterisk does not mean `Authorization`
    if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED));
    Some(response)
}

/// Lets the page that called read the answer, with its headers: those of gRPC carry the error.
pub(super) fn allow(answer: &mut HeaderMap) {
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static(ANY));
    answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(ANY));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    #[test]
    fn a_browser_is_told_that_it_may_send_the_token() {
        let asked = request(
            Method::OPTIONS,
            &[
                ("origin", "https://ui.example.com"),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "authorization,connect-protocol-version"),
            ],
        );
        let answer = preflight(&asked).expect("an answer");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let headers = answer.headers();
        assert_eq!(
            headers["access-control-allow-headers"],
            "authorization,connect-protocol-version"
        );
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert!(!headers.contains_key("access-control-allow-credentials"), "no cookies");
    }

    #[test]
    fn other_requests_go_on() {
        let origin = ("origin", "https://ui.example.com");
        assert!(preflight(&request(Method::OPTIONS, &[origin])).is_none());
        let call = [origin, ("access-control-request-method", "POST")];
        assert!(preflight(&request(Method::POST, &call)).is_none());
    }
}
