//! Where a token may be sent. URLs are compared part by part as they were parsed: texts deceive.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::StatusCode;
use url::{Host, Url};

use super::page::Refused;

/// Targets that may get a token: command lines on the person's own machine, and what was configured.
#[derive(Debug)]
pub(super) struct Allowed(Vec<Url>);

impl Allowed {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Allows an origin, or when it has a path, only that one.
    pub(super) fn add(&mut self, url: Url) {
        self.0.push(url);
    }

    /// The target, if it may get a token.
    pub(super) fn check(&self, text: &str) -> Result<Url, Refused> {
        let refused = || {
            Refused::new(
                StatusCode::BAD_REQUEST,
                "This login would send its token to an address that is not allowed.",
                "If you trust where you came from, an operator can allow it with --redirect-url of metal-server.",
            )
        };
        let url = Url::parse(text).map_err(|_| refused())?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none();
        if plain && (is_loopback(&url) || self.0.iter().any(|allowed| covers(allowed, &url))) {
            Ok(url)
        } else {
            Err(refused())
        }
    }
}

/// A literal address of this very machine (RFC 8252): a name, also `localhost`, may be resolved to something else.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address == Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(address)) => address == Ipv6Addr::LOCALHOST,
        _ => false,
    }
}

fn covers(allowed: &Url, url: &Url) -> bool {
    allowed.origin() == url.origin() && (allowed.path() == "/" || allowed.path() == url.path())
}

/// Where the web console takes tokens.
pub(super) fn console(front_end: &Url) -> Url {
    let mut url = front_end.clone();
    url.set_path(&format!("{}/login/auth", front_end.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_persons_own_machine_and_what_was_configured() {
        let mut allowed = Allowed::new();
        for text in ["https://console.example", "https://other.example:8443/auth/callback"] {
            allowed.add(Url::parse(text).expect("a URL"));
        }
        allowed.add(console(&Url::parse("https://front.example/ui/?x#y").expect("a URL")));
        for good in [
            "http://127.0.0.1:1234/callback",
            "http://[::1]:80/",
            "https://127.0.0.1/any",
            // the same address in another form
            "http://0x7f.1:9/callback",
            "https://console.example/any/path",
            "https://CONSOLE.example:443/",
            "https://other.example:8443/auth/callback",
            "https://front.example/ui/login/auth",
        ] {
            assert!(allowed.check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/relative",
            "//console.example/",
            "http://localhost:1/",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1@evil.example/",
            "http://user:pw@127.0.0.1/",
            "http://127.0.0.2/",
            "http://127.0.0.1/#part",
            "ftp://127.0.0.1/",
            "javascript:alert(1)",
            "http://console.example/",
            "https://console.example:444/",
            "https://console.example.evil.example/",
            "https://evil.example/https://console.example/",
            "https://evil.example\\@console.example/",
            "https://other.example/auth/callback",
            "https://other.example:8443/auth/callback/more",
            "https://other.example:8443/",
            "https://front.example/",
        ] {
            assert!(allowed.check(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_judged(text in ".*") {
            let mut allowed = Allowed::new();
            allowed.add(Url::parse("https://console.example").expect("a URL"));
            if let Ok(url) = allowed.check(&text) {
                let host = url.host_str().unwrap_or_default();
                assert!(matches!(host, "127.0.0.1" | "[::1]" | "console.example"), "{text}");
            }
        }
    }
}
