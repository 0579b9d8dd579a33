//! What a browser gets: a redirection, or a sentence and what to do next.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE,
};
use http::{HeaderValue, Response, StatusCode};
use url::Url;

/// Name of the cookie by which a browser that comes back is known again.
pub(crate) const COOKIE: &str = "metal-login";

/// An answer to a browser.
#[derive(Debug)]
pub(crate) struct Page {
    status: StatusCode,
    text: String,
    location: Option<String>,
    cookie: Option<String>,
    retry_after: Option<i64>,
}

impl Page {
    /// Sends the browser elsewhere.
    pub(super) fn to(url: &Url) -> Self {
        let location = Some(url.to_string());
        Self { status: StatusCode::SEE_OTHER, location, ..Self::text("") }
    }

    /// Tells a person something.
    pub(super) fn text(text: &str) -> Self {
        Self {
            status: StatusCode::OK,
            text: format!("{text}\n"),
            location: None,
            cookie: None,
            retry_after: None,
        }
    }

    /// Gives the browser a cookie.
    pub(super) fn remember(mut self, value: &str, seconds: i64, secure: bool) -> Self {
        let secure = if secure { "; Secure" } else { "" };
        self.cookie = Some(format!(
            "{COOKIE}={value}; Path=/auth/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
        ));
        self
    }

    /// Takes the cookie away.
    pub(super) fn forget(self, secure: bool) -> Self {
        self.remember("", 0, secure)
    }

    /// Says when to come again, in seconds.
    pub(super) fn retry_after(mut self, seconds: i64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// As it goes over the wire.
    pub(crate) fn response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        // addresses here carry codes and tokens
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        let optional = [
            (LOCATION, self.location),
            (SET_COOKIE, self.cookie),
            (RETRY_AFTER, self.retry_after.map(|seconds| seconds.to_string())),
        ];
        for (name, value) in optional {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// The value of our cookie among those that a browser sends; only one that we could have given.
pub(crate) fn cookie<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<String> {
    headers
        .into_iter()
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
        .filter(|value| {
            value.len() == 43
                && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
        .map(str::to_owned)
}

/// Why there is no login: a sentence, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    status: StatusCode,
    sentence: String,
    hint: String,
}

impl Refused {
    pub(super) fn new(
        status: StatusCode,
        sentence: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { status, sentence: sentence.into(), hint: hint.into() }
    }

    /// Something that should not happen; the log knows more.
    pub(super) fn defect(why: impl std::fmt::Display) -> Self {
        tracing::error!(%why, "login failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The server failed.",
            "Its log says why; try again.",
        )
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.sentence, self.hint)
    }
}

impl From<Refused> for Page {
    fn from(refused: Refused) -> Self {
        let page = Self {
            status: refused.status,
            ..Self::text(&format!("{}\n{}", refused.sentence, refused.hint))
        };
        match refused.status {
            StatusCode::SERVICE_UNAVAILABLE => page.retry_after(10),
            _ => page,
        }
    }
}

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        tracing::error!(%error, "database failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The database does not answer.",
            "Try again; operators find more in the log of metal-server.",
        )
    }
}

impl From<crate::rpc::Error> for Refused {
    fn from(error: crate::rpc::Error) -> Self {
        match error.code() {
            connectrpc::ErrorCode::Unavailable => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The server cannot do that now.",
                "Try again; operators find more in the log of metal-server.",
            ),
            _ => Self::defect(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies() {
        let value = "a".repeat(43);
        let mine = format!("{COOKIE}={value}");
        assert_eq!(cookie([mine.as_str()]), Some(value.clone()));
        assert_eq!(cookie([&*format!("x=1; {mine}; y=2")]), Some(value.clone()));
        assert_eq!(cookie(["x=1", &*mine]), Some(value));
        assert_eq!(cookie(["metal-login=short", "other=1"]), None);
        assert_eq!(cookie([&*format!("{COOKIE}={}", "ä".repeat(43))]), None);
    }

    #[test]
    fn nothing_of_a_login_is_kept_by_caches() {
        let url = Url::parse("https://id.example/a?b=c").expect("a URL");
        let response = Page::to(&url).remember("v", 5, true).response();
        assert_eq!(response.status(), 303);
        let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(header("location"), "https://id.example/a?b=c");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(
            header("set-cookie"),
            "metal-login=v; Path=/auth/; Max-Age=5; HttpOnly; SameSite=Lax; Secure"
        );
        let refused = Refused::new(StatusCode::SERVICE_UNAVAILABLE, "Down.", "Wait.");
        let response = Page::from(refused).response();
        assert_eq!(response.headers()["retry-after"], "10");
        assert_eq!(response.body(), "Down.\nWait.\n");
    }
}
