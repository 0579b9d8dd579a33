//! Typed client of the API: token, retry, resumed streams.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use client::{Client, Config, TokenSource};
//!
//! let client = Client::new(Config {
//!     url: "http://[::1]:8080".into(),
//!     token: TokenSource::File("/etc/metal/token".into()),
//!     ca_cert_pem: None,
//! })?;
//! let version = client.version().get(Default::default()).await?.into_owned();
//! # Ok(()) }
//! ```
//!
//! [`Client`] has one accessor per service. [`Transport`] adds the token and tries unary calls again;
//! [`follow`] keeps a server stream open for ever.

mod backoff;
mod follow;
mod json;
mod reason;
mod services;
mod tls;
mod token;
mod transport;
mod wire;

use std::path::Path;
use std::time::Duration;

use connectrpc::client::ClientConfig;

pub use backoff::Backoff;
pub use connectrpc::client::CallOptions;
pub use connectrpc::{ConnectError, ErrorCode};
pub use follow::follow;
pub use reason::reason;
pub use token::TokenSource;
pub use transport::{Transport, only_reads};

/// Largest answer that is accepted. Lists of a whole partition do not fit into the usual 4 MiB.
const MAX_MESSAGE: usize = 64 << 20;

/// Where the API is and who calls it.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http://` (HTTP/2 without TLS, HTTP/1.1 when the server knows nothing else) or `https://`.
    pub url: String,
    /// Who calls.
    pub token: TokenSource,
    /// Certificate authorities in PEM that are trusted instead of the system's.
    pub ca_cert_pem: Option<String>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot be used.
    #[error(
        "the API URL {url:?} cannot be used: {reason}; write it like http://HOST:PORT or https://HOST"
    )]
    Url { url: String, reason: String },
    /// The file with the certificate authorities cannot be read.
    #[error("ca_cert_file: {path} cannot be read")]
    CaCertFile { path: String, source: std::io::Error },
    /// The certificate authorities cannot be used.
    #[error("the CA certificate cannot be used: {0}")]
    CaCert(String),
    /// The system brings no certificate authorities.
    #[error(
        "this system trusts no certificate authority; give the API's CA certificate explicitly"
    )]
    NoCaCert,
}

/// The API. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    config: ClientConfig,
}

impl Client {
    /// Makes a client; the first call connects.
    ///
    /// # Errors
    /// When the URL is malformed or no certificate authority can be read.
    pub fn new(config: Config) -> Result<Self, Error> {
        let uri = base_uri(&config.url)?;
        let tls = match uri.scheme_str() {
            Some("https") => Some(tls::config(config.ca_cert_pem.as_deref())?),
            _ => None,
        };
        let transport = Transport::new(wire::Wire::new(uri.clone(), tls), config.token);
        let config = ClientConfig::new(uri)
            .with_default_max_message_size(MAX_MESSAGE)
            .with_default_header("user-agent", concat!("metal/", env!("CARGO_PKG_VERSION")));
        Ok(Self { transport, config })
    }

    /// The client of an agent: its token is in a file, and perhaps the certificate authorities are.
    ///
    /// # Errors
    /// When the URL is malformed or no certificate authority can be read.
    pub fn of_agent(
        url: &str,
        token_file: &Path,
        ca_cert_file: Option<&Path>,
    ) -> Result<Self, Error> {
        let read = |path: &Path| {
            let path_text = path.display().to_string();
            std::fs::read_to_string(path)
                .map_err(|source| Error::CaCertFile { path: path_text, source })
        };
        Self::new(Config {
            url: url.to_owned(),
            token: TokenSource::File(token_file.to_owned()),
            ca_cert_pem: ca_cert_file.map(read).transpose()?,
        })
    }

    /// How long unary calls are tried again while the server is away; 30 s unless told.
    /// A human at a terminal wants less.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.transport = self.transport.with_patience(patience);
        self
    }

    /// How long one attempt of a unary call may take until its answer begins; 60 s unless told.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.transport = self.transport.with_timeout(timeout);
        self
    }
}

/// The URL without the slash that people like to add.
fn base_uri(url: &str) -> Result<http::Uri, Error> {
    let bad = |reason: &str| Error::Url { url: url.to_owned(), reason: reason.to_owned() };
    let uri: http::Uri = url
        .trim()
        .trim_end_matches('/')
        .parse()
        .map_err(|e: http::uri::InvalidUri| bad(&e.to_string()))?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.query().is_none() => Ok(uri),
        Some("http" | "https") => Err(bad("it has a query")),
        Some(other) => Err(bad(&format!("the scheme {other} is unknown"))),
        None => Err(bad("the scheme is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<Client, Error> {
        Client::new(Config { url: url.into(), token: TokenSource::None, ca_cert_pem: None })
    }

    #[test]
    fn urls() {
        assert!(client("http://[::1]:8080/").is_ok());
        assert!(client("http://api.example/prefix").is_ok());
        for bad in [
            "",
            "api.example",
            "localhost:8080",
            "ftp://api.example",
            "http://api.example?x=1",
            "http://a b",
        ] {
            let error = client(bad).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{bad}: {error}");
        }
    }

    #[test]
    fn ca_certificates() {
        let with = |pem: &str| {
            Client::new(Config {
                url: "https://api.example".into(),
                token: TokenSource::None,
                ca_cert_pem: Some(pem.into()),
            })
        };
        let file =
            Client::of_agent("https://api.example", Path::new("t"), Some(Path::new("no.pem")));
        assert_eq!(file.unwrap_err().to_string(), "ca_cert_file: no.pem cannot be read");
        assert!(matches!(with("nothing"), Err(Error::CaCert(_))));
        assert!(matches!(
            with("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
            Err(Error::CaCert(_))
        ));
    }
}
