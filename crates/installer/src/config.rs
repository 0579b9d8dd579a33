//! What the boot service tells the installer. It is the only way in for a credential: the kernel command line,
//! which everybody can read, never holds one.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use serde::Deserialize;

/// The answer of `GET /config`. Fields that are not known are ignored: a boot service may be newer than an installer.
#[derive(Clone, Deserialize, PartialEq, Eq)]
pub struct Config {
    /// Version of this format.
    pub version: u32,
    /// The machine that the boot service takes us for.
    pub uuid: String,
    /// Partition of the machine.
    pub partition: String,
    /// Where the API is.
    pub api_url: String,
    /// The machine's own short-lived credential.
    pub token: String,
    /// Time servers of the partition.
    #[serde(default)]
    pub ntp_servers: Vec<String>,
    /// Certificate authority of the API in PEM.
    #[serde(default)]
    pub ca_cert: Option<String>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("uuid", &self.uuid)
            .field("partition", &self.partition)
            .field("api_url", &self.api_url)
            .field("token", &"…")
            .finish_non_exhaustive()
    }
}

/// Longest configuration that is read.
const MAX_LENGTH: u64 = 256 << 10;

/// Reads a configuration.
///
/// # Errors
/// A sentence that names what is missing.
pub fn parse(text: &str) -> Result<Config> {
    let config: Config = serde_json::from_str(text)
        .context("the boot service's configuration is not what we expect")?;
    if config.version != 1 {
        bail!(
            "the boot service speaks configuration version {}, this installer only 1: update the initrd",
            config.version
        );
    }
    if config.token.is_empty() || config.api_url.is_empty() {
        bail!("the boot service's configuration lacks the API's URL or the token");
    }
    Ok(config)
}

/// Fetches the configuration.
///
/// # Errors
/// When the boot service does not answer or says nonsense.
pub fn fetch(url: &str) -> Result<Config> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(5)))
        .user_agent(concat!("metal-installer/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut response = agent
        .get(url)
        .call()
        .with_context(|| format!("the boot service at {url} gives no configuration"))?;
    let mut text = String::new();
    response
        .body_mut()
        .as_reader()
        .take(MAX_LENGTH)
        .read_to_string(&mut text)
        .context("reading the configuration")?;
    parse(&text)
}

/// How long until a token should be replaced: at half of its remaining life, asked of its `exp` without checking it,
/// which is the server's business. A token that does not say is replaced every five minutes.
#[must_use]
pub fn refresh_after(token: &str, now: jiff::Timestamp) -> Duration {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let expires = token
        .split('.')
        .nth(1)
        .and_then(|part| {
            base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()
        })
        .and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
    let left = expires.map_or(600, |claims| claims.exp - now.as_second());
    Duration::from_secs(u64::try_from(left / 2).unwrap_or(0).clamp(10, 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"version":1,"uuid":"00112233-4455-6677-8899-aabbccddeeff","partition":"lab",
        "api_url":"http://10.255.0.1:8080","token":"secret","ntp_servers":[],"ca_cert":null,"new":1}"#;

    #[test]
    fn a_configuration_is_read_and_never_shown() {
        let config = parse(TEXT).unwrap();
        assert_eq!((config.partition.as_str(), config.token.as_str()), ("lab", "secret"));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn nonsense_is_explained() {
        for (text, why) in [
            ("{}", "not what we expect"),
            (&TEXT.replace("\"version\":1", "\"version\":2"), "update the initrd"),
            (&TEXT.replace("secret", ""), "lacks"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn tokens_are_replaced_at_half_of_their_life() {
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let token = |exp: i64| {
            let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
                .encode(format!(r#"{{"exp":{exp}}}"#));
            format!("header.{claims}.signature")
        };
        assert_eq!(refresh_after(&token(1_800_003_600), now), Duration::from_secs(1800));
        assert_eq!(refresh_after(&token(1_700_000_000), now), Duration::from_secs(10));
        assert_eq!(refresh_after("opaque", now), Duration::from_secs(300));
    }
}
