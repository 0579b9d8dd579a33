//! A browser without a window: cookies, redirections, and the forms of the provider.

use std::collections::BTreeMap;

use super::certificate;

/// Remembers the cookies of each server.
pub(crate) struct Browser {
    agent: ureq::Agent,
    jar: BTreeMap<(String, String), String>,
}

/// What a page said.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) url: String,
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) text: String,
}

impl Browser {
    pub(crate) fn new() -> Self {
        Self { agent: certificate::agent(), jar: BTreeMap::new() }
    }

    /// Loads a page, without going where it sends to.
    pub(crate) fn get(&mut self, url: &str) -> Seen {
        let request = self.agent.get(url).header("cookie", self.cookies(url));
        let response = request.call().expect("an answer");
        self.saw(url, response)
    }

    fn post(&mut self, url: &str, form: &[(&str, &str)]) -> Seen {
        let request = self.agent.post(url).header("cookie", self.cookies(url));
        let response = request.send_form(form.iter().copied()).expect("an answer");
        self.saw(url, response)
    }

    fn cookies(&self, url: &str) -> String {
        let origin = origin(url);
        let own = self.jar.iter().filter(|((of, _), _)| *of == origin);
        own.map(|((_, name), value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn saw(&mut self, url: &str, mut response: ureq::http::Response<ureq::Body>) -> Seen {
        for cookie in response.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().expect("text");
            let (name, value) =
                cookie.split(';').next().unwrap_or_default().split_once('=').expect("a cookie");
            let key = (origin(url), name.trim().to_owned());
            if value.is_empty() {
                self.jar.remove(&key);
            } else {
                self.jar.insert(key, value.to_owned());
            }
        }
        let location =
            response.headers().get("location").map(|l| absolute(url, l.to_str().expect("text")));
        Seen {
            url: url.to_owned(),
            status: response.status().as_u16(),
            location,
            text: response.body_mut().read_to_string().expect("text"),
        }
    }

    /// Goes where pages send to and fills in the provider's forms, until somebody is to be called who is not at `between`.
    /// Returns the last page, or the address outside.
    pub(crate) fn log_in(
        &mut self,
        start: &str,
        name: &str,
        between: &[&str],
    ) -> Result<String, Seen> {
        let mut seen = self.get(start);
        for _ in 0..20 {
            if let Some(location) = seen.location.take() {
                if !between.iter().any(|known| location.starts_with(known)) {
                    return Ok(location);
                }
                seen = self.get(&location);
            } else if let Some(action) = between_texts(&seen.text, "action=\"", "\"") {
                let action = absolute(&seen.url, &action);
                let form: &[(&str, &str)] = if seen.text.contains("name=\"login\"") {
                    &[("prompt", "login"), ("login", name), ("password", "any")]
                } else {
                    &[("prompt", "consent")]
                };
                seen = self.post(&action, form);
            } else {
                return Err(seen);
            }
        }
        panic!("pages send to each other for ever: {seen:?}");
    }

    /// As [`Self::log_in`], up to the address at `stop`, which is not loaded.
    pub(crate) fn until(&mut self, start: &str, name: &str, provider: &str) -> String {
        let first = self.get(start).location.expect("the server sends to the provider");
        self.log_in(&first, name, &[provider]).expect("the provider sends back")
    }
}

fn origin(url: &str) -> String {
    url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

fn absolute(base: &str, url: &str) -> String {
    if url.starts_with('/') { format!("{}{url}", origin(base)) } else { url.to_owned() }
}

fn between_texts(text: &str, before: &str, after: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0.to_owned())
}

/// A parameter of an address.
pub(crate) fn parameter(url: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(url).expect("a URL");
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
