//! Talking to the identity provider. Every question has a time limit; what rarely changes is remembered, and what failed is not
//! asked again at once, so that an outage costs a person a sentence and never a hang.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use jsonwebtoken::jwk::JwkSet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use store::login::Login;
use tokio::sync::Mutex;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::claims::{self, Claims, Expected, Problem};
use super::page::Refused;
use super::{Config, Secret};

/// So long one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// So long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// No document of a provider is longer.
const MAX_BODY: u64 = 1 << 20;
/// So long what the provider says about itself is believed.
const FRESH: Duration = Duration::from_secs(3600);
/// So long nothing is asked after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// Keys are fetched at most so often, whatever keys tokens claim to be signed with.
const KEYS_PAUSE: Duration = Duration::from_secs(30);

/// What a provider says about itself (OpenID Connect Discovery §3).
#[derive(Debug, Deserialize)]
#[serde(try_from = "Said")]
pub(super) struct Document {
    issuer: String,
    pub(super) authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    userinfo_endpoint: Option<Url>,
    pub(super) end_session_endpoint: Option<Url>,
    /// How clients may prove themselves; none: as the standard says.
    auth_methods: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Said {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

impl TryFrom<Said> for Document {
    type Error = String;

    fn try_from(said: Said) -> Result<Self, String> {
        let url = |text: &str| {
            Url::parse(text)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https"))
                .ok_or_else(|| format!("'{text}' is no URL"))
        };
        let optional = |text: Option<String>| text.as_deref().map(url).transpose();
        Ok(Self {
            authorization_endpoint: url(&said.authorization_endpoint)?,
            token_endpoint: url(&said.token_endpoint)?,
            jwks_uri: url(&said.jwks_uri)?,
            userinfo_endpoint: optional(said.userinfo_endpoint)?,
            end_session_endpoint: optional(said.end_session_endpoint)?,
            issuer: said.issuer,
            auth_methods: said.token_endpoint_auth_methods_supported,
        })
    }
}

/// The one provider.
#[derive(Debug)]
pub(super) struct Provider {
    discovery_url: Url,
    client_id: String,
    client_secret: Option<Secret>,
    http: ureq::Agent,
    document: Mutex<Remembered<Document>>,
    keys: Mutex<Remembered<JwkSet>>,
}

#[derive(Debug)]
struct Remembered<T> {
    value: Option<Arc<T>>,
    /// When it was asked for last, and how that failed.
    asked: Option<(Instant, Option<Refused>)>,
}

impl<T> Remembered<T> {
    fn empty() -> Self {
        Self { value: None, asked: None }
    }

    /// What is known, unless it is time to ask again.
    fn known(&self, fresh: Duration) -> Option<Result<Arc<T>, Refused>> {
        let (asked, failure) = self.asked.as_ref()?;
        let age = asked.elapsed();
        match (&self.value, failure) {
            (Some(value), None) if age < fresh => Some(Ok(Arc::clone(value))),
            (Some(value), Some(_)) if age < PAUSE => Some(Ok(Arc::clone(value))),
            (None, Some(failure)) if age < PAUSE => Some(Err(failure.clone())),
            _ => None,
        }
    }

    /// Notes an answer. What was known before outlives an outage.
    fn note(&mut self, answer: Result<T, Refused>) -> Result<Arc<T>, Refused> {
        let failure = match answer {
            Ok(value) => {
                self.value = Some(Arc::new(value));
                None
            }
            Err(failure) => Some(failure),
        };
        self.asked = Some((Instant::now(), failure.clone()));
        match (&self.value, failure) {
            (Some(value), _) => Ok(Arc::clone(value)),
            (None, Some(failure)) => Err(failure),
            (None, None) => Err(Refused::defect("nothing was asked")),
        }
    }
}

/// What the provider gives for a code.
#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
    access_token: Option<String>,
}

#[derive(Default, Deserialize)]
struct Failure {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Provider {
    pub(super) fn new(config: &Config, discovery_url: Url) -> Result<Self> {
        if discovery_url.scheme() == "http" {
            tracing::warn!(url = %discovery_url, "the identity provider is asked without TLS: whoever listens can be anybody");
        }
        let mut tls = ureq::tls::TlsConfig::builder();
        if let Some(path) = &config.ca_cert {
            let name = path.display();
            let pem = std::fs::read(path).with_context(|| format!("--oidc-ca-cert: {name}"))?;
            let certificates: Vec<_> = ureq::tls::parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                bail!("--oidc-ca-cert: {name} holds no certificate");
            }
            tls = tls.root_certs(ureq::tls::RootCerts::new_with_certs(&certificates));
        }
        let http = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(CONNECT))
            .tls_config(tls.build())
            .build()
            .into();
        Ok(Self {
            discovery_url,
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            http,
            document: Mutex::new(Remembered::empty()),
            keys: Mutex::new(Remembered::empty()),
        })
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// What the provider says about itself.
    pub(super) async fn document(&self) -> Result<Arc<Document>, Refused> {
        let mut remembered = self.document.lock().await;
        if let Some(known) = remembered.known(FRESH) {
            return known;
        }
        let answer = self.get::<Document>(self.discovery_url.clone(), None).await;
        if let Ok(document) = &answer
            && !matches(&self.discovery_url, &document.issuer)
        {
            tracing::warn!(issuer = document.issuer, url = %self.discovery_url, "the provider calls itself by another address");
        }
        remembered.note(answer)
    }

    /// The provider's keys; fetched again when they lack the one that is wanted.
    async fn keys(&self, document: &Document, kid: Option<&str>) -> Result<Arc<JwkSet>, Refused> {
        let mut remembered = self.keys.lock().await;
        if let Some(known) = remembered.known(FRESH) {
            let keys = known?;
            let lacking = kid.is_some_and(|kid| keys.find(kid).is_none());
            let again = remembered.asked.as_ref().is_none_or(|(at, _)| at.elapsed() >= KEYS_PAUSE);
            if !(lacking && again) {
                return Ok(keys);
            }
        }
        let answer = self.get(document.jwks_uri.clone(), None).await;
        remembered.note(answer)
    }

    /// Who the provider says has logged in: redeems the code and checks everything that it gives for it. `from` is the provider
    /// that the browser was sent back by (RFC 9207).
    pub(super) async fn redeem(
        &self,
        code: &str,
        login: &Login,
        from: Option<&str>,
        back: &str,
    ) -> Result<Claims, Refused> {
        let document = self.document().await?;
        if from.is_some_and(|from| from != document.issuer) {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                "The answer comes from another identity provider than the one that was asked.",
                "Begin the login again.",
            ));
        }
        let tokens = self.exchange(&document, code, &login.verifier, back).await?;
        let id_token =
            tokens.id_token.ok_or_else(|| distrusted("the provider gave no identity token"))?;
        let why =
            |problem: Problem| distrusted(format!("the identity token is refused: {problem}"));
        let kid = claims::key_id(&id_token).map_err(why)?;
        let keys = self.keys(&document, kid.as_deref()).await?;
        let expected =
            Expected { issuer: &document.issuer, client_id: &self.client_id, nonce: &login.nonce };
        let now = jiff::Timestamp::now().as_second();
        let mut claims = claims::verify(&id_token, &keys, &expected, now).map_err(why)?;
        // providers may keep what identity tokens need not hold for those who ask
        if let (Some(url), Some(access)) = (&document.userinfo_endpoint, tokens.access_token) {
            let more: Claims = self.get(url.clone(), Some(access)).await?;
            if more.get("sub") != claims.get("sub") {
                return Err(distrusted("the provider's user info is about somebody else"));
            }
            for (name, value) in more {
                claims.entry(name).or_insert(value);
            }
        }
        Ok(claims)
    }

    async fn exchange(
        &self,
        document: &Document,
        code: &str,
        verifier: &str,
        back: &str,
    ) -> Result<Tokens, Refused> {
        let secret = self.client_secret.as_ref().map(Secret::read).transpose();
        let secret = secret.map_err(Refused::defect)?;
        let (in_header, in_form) = match &secret {
            Some(secret) if basic(document) => (Some(secret), None),
            secret => (None, secret.as_ref()),
        };
        let url = document.token_endpoint.clone();
        let mut post = self.http.post(url.as_str()).header("accept", "application/json");
        if let Some(secret) = in_header {
            // RFC 6749 §2.3.1: both are escaped before they are joined
            let escape = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", escape(&self.client_id), escape(secret));
            post = post.header("authorization", format!("Basic {}", STANDARD.encode(pair)));
        }
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", back),
            ("code_verifier", verifier),
        ];
        if in_header.is_none() {
            fields.push(("client_id", &self.client_id));
        }
        fields.extend(in_form.map(|secret| ("client_secret", secret.as_str())));
        let form = Serializer::new(String::new()).extend_pairs(fields).finish();
        let (status, body) = ask(&url, move || {
            let post = post.header("content-type", "application/x-www-form-urlencoded");
            read(post.send(form)?)
        })
        .await?;
        if status.is_success() {
            return parse(&url, &body);
        }
        if status.is_server_error() {
            return Err(down(&url, &format!("it answered {status}")));
        }
        let failure: Failure = serde_json::from_slice(&body).unwrap_or_default();
        tracing::warn!(%status, failure.error, failure.error_description, "the provider gives nothing for a code");
        Err(match failure.error.as_str() {
            "invalid_grant" => Refused::new(
                StatusCode::BAD_REQUEST,
                "The identity provider does not accept the code: it was used already or has expired.",
                "Begin the login again.",
            ),
            "invalid_client" | "unauthorized_client" => Refused::new(
                StatusCode::BAD_GATEWAY,
                "The identity provider does not accept this server.",
                "Operators: compare --oidc-client-id and the client secret with what the provider knows.",
            ),
            other => Refused::new(
                StatusCode::BAD_GATEWAY,
                format!("The identity provider refused the code ({status}, '{}').", shown(other)),
                "Operators find more in the logs of metal-server and of the provider.",
            ),
        })
    }

    async fn get<T: DeserializeOwned>(
        &self,
        url: Url,
        bearer: Option<String>,
    ) -> Result<T, Refused> {
        let mut get = self.http.get(url.as_str()).header("accept", "application/json");
        if let Some(bearer) = bearer {
            get = get.header("authorization", format!("Bearer {bearer}"));
        }
        let (status, body) = ask(&url, move || read(get.call()?)).await?;
        if status != StatusCode::OK {
            return Err(down(&url, &format!("it answered {status}")));
        }
        parse(&url, &body)
    }
}

fn read(mut response: http::Response<ureq::Body>) -> Result<(StatusCode, Vec<u8>), ureq::Error> {
    let body = response.body_mut().with_config().limit(MAX_BODY).read_to_vec()?;
    Ok((response.status(), body))
}

/// Asks on a thread that may wait.
async fn ask(
    url: &Url,
    question: impl FnOnce() -> Result<(StatusCode, Vec<u8>), ureq::Error> + Send + 'static,
) -> Result<(StatusCode, Vec<u8>), Refused> {
    match tokio::task::spawn_blocking(question).await {
        Ok(answer) => answer.map_err(|error| down(url, &error.to_string())),
        Err(panic) => Err(Refused::defect(panic)),
    }
}

fn parse<T: DeserializeOwned>(url: &Url, body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        down(url, &format!("what it says is no answer of an OpenID provider: {error}"))
    })
}

/// Whether the client proves itself in a header, which is what a provider that says nothing about it accepts.
fn basic(document: &Document) -> bool {
    let methods = document.auth_methods.as_ref();
    methods.is_none_or(|methods| {
        methods.iter().any(|method| method == "client_secret_basic")
            || !methods.iter().any(|method| method == "client_secret_post")
    })
}

/// Whether a provider's document is found where its name says.
fn matches(discovery_url: &Url, issuer: &str) -> bool {
    let url = discovery_url.as_str();
    url.strip_suffix("/.well-known/openid-configuration") == Some(issuer.trim_end_matches('/'))
}

/// The provider does not answer as it should.
fn down(url: &Url, why: &str) -> Refused {
    tracing::warn!(%url, why, "the identity provider does not answer");
    Refused::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The identity provider does not answer.",
        "Try again in a minute. Operators: the log of metal-server names the address and the error (docs/login.md).",
    )
}

/// The provider says something that must not be believed.
fn distrusted(why: impl Into<String>) -> Refused {
    let why = why.into();
    tracing::warn!(why, "a login is refused");
    Refused::new(
        StatusCode::UNAUTHORIZED,
        format!("You are not logged in: {why}."),
        "Begin the login again; if it happens again, tell an operator.",
    )
}

/// The provider sent the browser back with an error.
pub(super) fn refused(error: &str, description: &str) -> Refused {
    let why = if description.is_empty() { error } else { description };
    match error {
        "access_denied" => Refused::new(
            StatusCode::FORBIDDEN,
            format!("The identity provider did not let you in: {}.", shown(why)),
            "Begin the login again, or ask whoever runs the provider.",
        ),
        "temporarily_unavailable" | "server_error" => Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("The identity provider has a problem: {}.", shown(why)),
            "Try again in a minute.",
        ),
        _ => Refused::new(
            StatusCode::BAD_GATEWAY,
            format!("The identity provider refused the login: {} ({}).", shown(why), shown(error)),
            "Operators: compare the client at the provider with docs/login.md.",
        ),
    }
}

/// Text of others, as far as it can be shown.
fn shown(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect::<String>()
        .trim_end_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_not_asked_for_again_at_once_and_never_replace_what_is_known() {
        let mut remembered = Remembered::<u8>::empty();
        assert!(remembered.known(FRESH).is_none());
        let failure = Refused::new(StatusCode::SERVICE_UNAVAILABLE, "a", "b");
        assert_eq!(remembered.note(Err(failure.clone())), Err(failure.clone()));
        assert_eq!(remembered.known(FRESH), Some(Err(failure.clone())));
        assert_eq!(remembered.note(Ok(7)), Ok(Arc::new(7)));
        assert_eq!(remembered.known(FRESH), Some(Ok(Arc::new(7))));
        assert!(remembered.known(Duration::ZERO).is_none());
        assert_eq!(remembered.note(Err(failure)), Ok(Arc::new(7)));
        assert_eq!(remembered.known(Duration::ZERO), Some(Ok(Arc::new(7))));
    }

    #[test]
    fn names_of_providers() {
        let url = Url::parse("https://id.example/realm/.well-known/openid-configuration");
        let url = url.expect("a URL");
        assert!(matches(&url, "https://id.example/realm"));
        assert!(matches(&url, "https://id.example/realm/"));
        assert!(!matches(&url, "https://id.example"));
    }

    #[test]
    fn words_of_providers_cannot_break_a_page() {
        let refused = refused("access_denied", "no\r\nSet-Cookie: x\u{1b}[31m.");
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        let text = refused.to_string();
        assert!(
            text.starts_with(
                "The identity provider did not let you in: noSet-Cookie: x[31m. Begin"
            )
        );
    }

    #[test]
    fn documents_need_their_endpoints() {
        let text = r#"{"issuer": "x", "authorization_endpoint": "https://a/", "token_endpoint": "https://b/",
            "jwks_uri": "https://c/", "token_endpoint_auth_methods_supported": ["client_secret_post"], "more": 1}"#;
        let document: Document = serde_json::from_str(text).expect("a document");
        assert!(!basic(&document));
        assert!(serde_json::from_str::<Document>(r#"{"issuer": "x"}"#).is_err());
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(value["more"], 1);
    }
}
