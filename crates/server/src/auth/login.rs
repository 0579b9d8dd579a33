//! Login of people at an OpenID provider: authorization code with PKCE, a token of ours at the end (docs/adr/0008-login.md,
//! docs/login.md). Browsers come here beside the RPCs, below `/auth/`.

mod account;
mod claims;
mod page;
mod provider;
mod redirect;

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use jiff::Timestamp;
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use store::login::Taken;
use url::Url;

use page::Refused;
pub(crate) use page::{Page, cookie};
use provider::Provider;

use crate::rate::Subject;
use crate::rpc::App;

/// What comes behind `/auth/` for logins at the one provider; the name that the official command line uses.
const PROVIDER: &str = "openid-connect";
/// So long a person may take at the provider.
const PATIENCE_US: i64 = 10 * 60 * 1_000_000;
/// So long a browser can log out what it logged in, in seconds; as long as its cookie lives.
const MEMORY_S: i64 = 30 * 24 * 3600;

/// How people log in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The provider's discovery document, usually `https://…/.well-known/openid-configuration`.
    pub discovery_url: String,
    /// How the provider calls this server.
    pub client_id: String,
    /// What this server proves that with; none for a public client.
    pub client_secret: Option<Secret>,
    /// Where a browser goes that logs out; none: what the provider says about itself.
    pub end_session_url: Option<String>,
    /// The claim that tells people apart.
    pub unique_user_key: String,
    /// Where tokens may be sent besides the loopback addresses of command lines: an origin, or an address with its path.
    pub redirect_urls: Vec<String>,
    /// The web console: people who come without saying where to go are sent to `login/auth` there.
    pub front_end_url: Option<String>,
    /// PEM file with the authorities that vouch for the provider, instead of the public ones.
    pub ca_cert: Option<PathBuf>,
}

/// A secret that no log shows.
#[derive(Clone)]
pub enum Secret {
    /// The text itself.
    Text(String),
    /// A file that is read at each use, so that it can be changed without a restart.
    File(PathBuf),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Secret(…)"),
            Self::File(path) => write!(f, "Secret({})", path.display()),
        }
    }
}

impl Secret {
    fn read(&self) -> Result<String> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::File(path) => std::fs::read_to_string(path).with_context(|| {
                format!("the OIDC client secret {} cannot be read", path.display())
            })?,
        };
        let text = text.trim();
        if text.len() < 2 {
            bail!("the OIDC client secret is empty");
        }
        Ok(text.to_owned())
    }
}

/// A browser that asks for something below `/auth/`.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    /// Path of the URL.
    pub(crate) path: &'a str,
    /// What stands behind the question mark.
    pub(crate) query: &'a str,
    /// The cookie of this page, if the browser has one.
    pub(crate) cookie: Option<String>,
    /// Where it calls from.
    pub(crate) source: Option<IpAddr>,
}

/// The way in for people.
#[derive(Debug)]
pub(crate) struct Login {
    provider: Provider,
    allowed: redirect::Allowed,
    front_end: Option<Url>,
    end_session: Option<Url>,
    unique_user_key: String,
    /// Where the provider sends browsers back to.
    back: String,
    /// Whether cookies are for TLS only.
    secure: bool,
}

impl Login {
    /// Checks what was configured. The provider is not asked: it may come up later.
    pub(crate) fn new(config: &Config, issuer: &str) -> Result<Self> {
        let url = |name: &str, text: &str| {
            Url::parse(text)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                .with_context(|| format!("{name}: '{text}' is no URL: write https://HOST/PATH"))
        };
        if config.client_id.is_empty() {
            bail!(
                "--oidc-client-id is empty: register this server at the provider, docs/login.md tells how"
            );
        }
        if let Some(secret) = &config.client_secret {
            secret.read()?;
        }
        let front_end =
            config.front_end_url.as_deref().map(|text| url("--front-end-url", text)).transpose()?;
        let mut allowed = redirect::Allowed::new();
        for text in &config.redirect_urls {
            allowed.add(url("--redirect-url", text)?);
        }
        if let Some(front_end) = &front_end {
            allowed.add(redirect::console(front_end));
        }
        let issuer = url("--url", issuer)?;
        let back = format!("{}/auth/{PROVIDER}/callback", issuer.as_str().trim_end_matches('/'));
        Ok(Self {
            provider: Provider::new(config, url("--oidc-discovery-url", &config.discovery_url)?)?,
            allowed,
            front_end,
            end_session: config
                .end_session_url
                .as_deref()
                .map(|text| url("--oidc-end-session-url", text))
                .transpose()?,
            unique_user_key: config.unique_user_key.clone(),
            back,
            secure: issuer.scheme() == "https",
        })
    }

    /// Where the provider sends browsers back to: its administrator must allow exactly this.
    pub(crate) fn back(&self) -> &str {
        &self.back
    }

    /// First half: sends the browser to the provider.
    async fn begin(&self, app: &App, visit: &Visit<'_>) -> Result<Page, Refused> {
        // before anything else: nobody learns or stores anything on behalf of a target that gets no token
        let target = match parameter(visit.query, "redirect-url") {
            Some(text) => self.allowed.check(&text)?,
            None => redirect::console(self.front_end.as_ref().ok_or_else(|| {
                Refused::new(
                    StatusCode::BAD_REQUEST,
                    "It is not known where you want to go after the login.",
                    "Begin at the command line (`metalctl login`) or at the web console.",
                )
            })?),
        };
        let document = self.provider.document().await?;
        let (state, nonce, verifier) = (random()?, random()?, random()?);
        let cookie = match &visit.cookie {
            Some(cookie) => cookie.clone(),
            None => random()?,
        };
        let now_us = Timestamp::now().as_microsecond();
        let login = store::login::Login {
            id: digest(&state),
            browser: digest(&cookie),
            nonce: nonce.clone(),
            verifier: verifier.clone(),
            redirect: target.into(),
            expires_at_us: now_us + PATIENCE_US,
        };
        let mut tx = app.db.begin_write().await?;
        store::login::insert(&mut tx, &login, now_us).await?;
        tx.commit().await?;
        let mut url = document.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", self.provider.client_id())
            .append_pair("redirect_uri", &self.back)
            .append_pair("scope", "openid email profile")
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &digest(&verifier))
            .append_pair("code_challenge_method", "S256");
        Ok(Page::to(&url).remember(&cookie, MEMORY_S, self.secure))
    }

    /// Second half: the browser is back from the provider with a code.
    async fn finish(&self, app: &App, visit: &Visit<'_>) -> Result<Page, Refused> {
        let begun = self.recall(app, visit).await?;
        // the list may have become shorter meanwhile
        let mut target = self.allowed.check(&begun.redirect)?;
        if let Some(error) = parameter(visit.query, "error") {
            let why = parameter(visit.query, "error_description").unwrap_or_default();
            return Err(provider::refused(&error, &why));
        }
        let code = parameter(visit.query, "code").ok_or_else(|| {
            Refused::new(
                StatusCode::BAD_REQUEST,
                "The identity provider sent you back without a code.",
                "Begin the login again; if it happens again, the log of the provider says why.",
            )
        })?;
        let from = parameter(visit.query, "iss");
        let claims = self.provider.redeem(&code, &begun, from.as_deref(), &self.back).await?;
        let person = account::Person::from_claims(&claims, &self.unique_user_key)?;
        let memory_us = MEMORY_S * 1_000_000;
        let secret = account::admit(app, &person, &begun.id, visit.source, memory_us).await?;
        target.set_query(Some(&format!("token={secret}")));
        tracing::info!(login = person.login, "logged in");
        Ok(Page::to(&target))
    }

    /// What was begun with the state that a browser brings back. It is used up, whatever happens afterwards.
    async fn recall(&self, app: &App, visit: &Visit<'_>) -> Result<store::login::Login, Refused> {
        let again = |sentence: &str| {
            Refused::new(
                StatusCode::BAD_REQUEST,
                sentence,
                "Begin the login again, for instance with `metalctl login`.",
            )
        };
        let state = parameter(visit.query, "state")
            .ok_or_else(|| again("This address belongs to no login."))?;
        let mut tx = app.db.begin_write().await?;
        let now_us = Timestamp::now().as_microsecond();
        let taken = store::login::take(&mut tx, &digest(&state), now_us).await?;
        tx.commit().await?;
        let login = match taken {
            Taken::Fresh(login) => login,
            Taken::Used => return Err(again("This login was used already.")),
            Taken::Expired => return Err(again("This login took more than 10 minutes.")),
            Taken::Unknown => return Err(again("This login is not known, or was long ago.")),
        };
        // who began the login must end it: else somebody could make others use a token of theirs
        if visit.cookie.as_deref().map(digest).as_ref() != Some(&login.browser) {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                "This login was begun in another browser.",
                "Begin again in this browser and allow cookies of this page.",
            ));
        }
        Ok(login)
    }

    /// Revokes all tokens that this browser's logins have led to, then leaves the provider, too.
    async fn end(&self, app: &App, visit: &Visit<'_>) -> Result<Page, Refused> {
        let mut revoked = 0;
        if let Some(cookie) = &visit.cookie {
            revoked = account::leave(app, &digest(cookie), visit.source).await?;
        }
        let next = match &self.end_session {
            Some(url) => Some(url.clone()),
            // a provider that is down keeps nobody from logging out here
            None => self.provider.document().await.ok().and_then(|document| {
                let mut url = document.end_session_endpoint.clone()?;
                url.query_pairs_mut().append_pair("client_id", self.provider.client_id());
                Some(url)
            }),
        };
        let page = match next {
            Some(url) => Page::to(&url),
            None if revoked > 0 => Page::text("You are logged out."),
            None => Page::text("Nobody was logged in with this browser."),
        };
        Ok(page.forget(self.secure))
    }
}

/// Answers a browser; `login` is none where nothing is configured.
pub(crate) async fn answer(app: &App, login: Option<&Login>, visit: &Visit<'_>) -> Page {
    let Some(login) = login else {
        return Refused::new(
            StatusCode::NOT_FOUND,
            "Login is not configured.",
            "Operators: give metal-server an OpenID provider with --oidc-discovery-url and --oidc-client-id (docs/login.md). \
             Others: ask an operator for a token and use `metalctl login --token-stdin`.",
        )
        .into();
    };
    if let Some(source) = visit.source
        && let Err(exceeded) =
            app.rate.count(&app.db, Subject::Address(source), Timestamp::now()).await
    {
        let page: Page = Refused::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many logins come from your address.",
            "Wait a minute.",
        )
        .into();
        return page.retry_after(exceeded.wait);
    }
    let path: Vec<&str> = visit.path.trim_matches('/').split('/').collect();
    let result = match path.as_slice() {
        ["auth", PROVIDER] => login.begin(app, visit).await,
        ["auth", PROVIDER, "callback"] => login.finish(app, visit).await,
        ["auth", "logout", PROVIDER] => login.end(app, visit).await,
        _ => Err(Refused::new(
            StatusCode::NOT_FOUND,
            "There is no such page.",
            "Logins are at /auth/openid-connect, the only provider is 'openid-connect'.",
        )),
    };
    match result {
        Ok(page) => page,
        Err(refused) => {
            if visit.path.ends_with("/callback") {
                account::refused(app, &refused, visit.source).await;
            }
            tracing::info!(path = visit.path, source = ?visit.source, %refused, "no login");
            refused.into()
        }
    }
}

/// The only value of a parameter; nothing when it stands there twice, because who reads the other one might be deceived.
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut values = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    let value = values.next()?.1.into_owned();
    (values.next().is_none() && !value.is_empty()).then_some(value)
}

/// 256 bits that nobody guesses.
fn random() -> Result<String, Refused> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Refused::defect("no randomness"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What is stored of secrets that browsers carry; also the code challenge of PKCE (RFC 7636).
fn digest(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_is_that_of_the_rfc() {
        let challenge = digest("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_parameter_that_stands_twice_is_none() {
        assert_eq!(parameter("a=1&b=%2f&c=", "b").as_deref(), Some("/"));
        assert_eq!(parameter("a=1&a=2", "a"), None);
        assert_eq!(parameter("c=", "c"), None);
    }

    #[test]
    fn wrong_configuration_is_said_at_once() {
        let config = Config {
            discovery_url: "https://id.example/.well-known/openid-configuration".to_owned(),
            client_id: "metal".to_owned(),
            client_secret: Some(Secret::Text("secret".to_owned())),
            end_session_url: None,
            unique_user_key: "email".to_owned(),
            redirect_urls: Vec::new(),
            front_end_url: None,
            ca_cert: None,
        };
        let issuer = "https://api.example/";
        let login = Login::new(&config, issuer).expect("fine");
        assert_eq!(login.back(), "https://api.example/auth/openid-connect/callback");
        assert!(login.secure && !format!("{config:?}").contains("\"secret\""));
        let error =
            |config: &Config| format!("{:#}", Login::new(config, issuer).expect_err("wrong"));
        let wrong = Config { redirect_urls: vec!["console.example".to_owned()], ..config.clone() };
        assert!(error(&wrong).contains("--redirect-url: 'console.example' is no URL"));
        let wrong = Config { client_id: String::new(), ..config.clone() };
        assert!(error(&wrong).contains("--oidc-client-id"));
        let wrong = Config { client_secret: Some(Secret::File("nowhere".into())), ..config };
        assert!(error(&wrong).contains("nowhere cannot be read"));
    }
}
