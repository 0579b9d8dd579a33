//! What the agent says to the control plane. Only this file calls it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use client::Client;
use daemon::Shutdown;
use proto::ext;

use crate::config::Config;
use crate::wish::Wish;

/// Late news is no news: what is not delivered within this time is said again with the next report.
const PATIENCE: Duration = Duration::from_secs(5);
/// A token is renewed when its file is older than this; the server lets it live for 30 days.
const RENEW_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The control plane.
#[derive(Clone, Debug)]
pub struct Control {
    client: Client,
    machine: String,
    token_file: PathBuf,
}

impl Control {
    /// For the firewall of this configuration.
    ///
    /// # Errors
    /// The URL or the certificate authorities cannot be used.
    pub fn new(config: &Config) -> Result<Self> {
        let ca_cert = config.ca_cert_file.as_deref();
        let client = Client::of_agent(&config.api_url, &config.token_file, ca_cert)?
            .with_patience(PATIENCE)
            .with_timeout(PATIENCE);
        let (machine, token_file) = (config.machine.clone(), config.token_file.clone());
        Ok(Self { client, machine, token_file })
    }

    /// Hands every wish to `item`, until the process ends.
    pub async fn follow(&self, shutdown: Shutdown, item: impl Fn(Wish)) {
        let service = self.client.firewall();
        let request = self.request();
        client::follow(
            "rules",
            shutdown.wait(),
            || service.watch(request.clone()),
            |wish| {
                item(wish);
                std::future::ready(())
            },
        )
        .await;
    }

    /// The wish of this moment.
    ///
    /// # Errors
    /// The control plane does not answer in time or refuses.
    pub async fn first(&self) -> Result<Wish> {
        let service = self.client.firewall();
        let ask = async {
            let mut stream = service.watch(self.request()).await?;
            let wish = stream.message().await?.context("the stream ended")?;
            Ok(wish.to_owned_message())
        };
        tokio::time::timeout(PATIENCE, ask).await.context("it took too long")?
    }

    fn request(&self) -> ext::FirewallServiceWatchRequest {
        ext::FirewallServiceWatchRequest { uuid: self.machine.clone(), ..Default::default() }
    }

    /// Tells how it went.
    ///
    /// # Errors
    /// It was not heard.
    pub async fn report(&self, mut report: ext::FirewallServiceReportRequest) -> Result<()> {
        report.uuid.clone_from(&self.machine);
        self.client.firewall().report(report).await?;
        Ok(())
    }

    /// Renews the token when it is a day old; the former one ends when the new one is heard.
    ///
    /// # Errors
    /// There is no new one; the former one goes on.
    pub async fn renew(&self) -> Result<()> {
        let written = fs::metadata(&self.token_file).and_then(|meta| meta.modified());
        let age = written.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        if age.is_ok_and(|age| age < RENEW_AFTER) {
            return Ok(());
        }
        let request =
            ext::FirewallServiceTokenRequest { uuid: self.machine.clone(), ..Default::default() };
        let answer = self.client.firewall().token(request).await?.into_owned();
        self.keep(&answer.secret)
            .with_context(|| format!("{} cannot be written", self.token_file.display()))?;
        tracing::info!("the token was renewed");
        Ok(())
    }

    fn keep(&self, secret: &str) -> Result<()> {
        let next = self.token_file.with_extension("next");
        // one that was left behind by a power cut
        fs::remove_file(&next).ok();
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        fs::rename(next, &self.token_file)?;
        Ok(())
    }
}
