//! The control plane as the installer sees it: blocking calls that outlive restarts of the server, expired tokens and a
//! dead leaf.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use client::{Client, ConnectError, ErrorCode, TokenSource};
use proto::api::{
    FilesystemLayout, FilesystemServiceListRequest, Image, ImageServiceListRequest,
    MachineAllocation, MachineProvisioningEvent, MachineProvisioningEventType,
};
use proto::ext::{
    FirewallServiceTokenRequest, InstallerServiceAllocationRequest,
    InstallerServiceReportFailureRequest, InstallerServiceReportPhaseRequest, Phase,
};
use proto::infra::{
    BootServiceInstallationSucceededRequest, BootServiceRegisterRequest,
    BootServiceSendEventRequest, BootServiceWaitRequest,
};
use tokio::runtime::Runtime;

use crate::config::{self, Config};
use crate::console::say;
use crate::network::Network;

/// The token lies in memory only; the client reads it again when it changes.
const TOKEN: &str = "/run/token";
/// One attempt of a call.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts of the transport itself, before we try another way.
const PATIENCE: Duration = Duration::from_secs(4);

/// Between two signs of life.
const ALIVE: Duration = Duration::from_secs(30);

/// A call that failed for good.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What kind of refusal.
    pub code: ErrorCode,
    /// What the server says.
    pub message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:?})", self.message, self.code)
    }
}

impl std::error::Error for Refused {}

/// The machine's own view of the API. Clones share everything.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("uuid", &self.shared.uuid).finish_non_exhaustive()
    }
}

struct Shared {
    runtime: Runtime,
    client: Client,
    uuid: String,
    network: Network,
    renewed: Mutex<Option<Instant>>,
}

impl Api {
    /// Makes the client and keeps its token fresh from now on. The first call connects.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(config: &Config, uuid: &str, network: &Network) -> Result<Self> {
        keep_token(Path::new(TOKEN), &config.token).context("the token cannot be kept")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("no asynchronous runtime")?;
        let client = {
            let _inside = runtime.enter();
            Client::new(client::Config {
                url: config.api_url.clone(),
                token: TokenSource::File(TOKEN.into()),
                ca_cert_pem: config.ca_cert.clone(),
            })?
            .with_timeout(TIMEOUT)
            .with_patience(PATIENCE)
        };
        let shared = Shared {
            runtime,
            client,
            uuid: uuid.to_owned(),
            network: network.clone(),
            renewed: Mutex::new(None),
        };
        let api = Self { shared: Arc::new(shared) };
        let (renewing, token) = (api.clone(), config.token.clone());
        thread::spawn(move || renewing.keep_fresh(token));
        Ok(api)
    }

    /// Id of the machine.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.shared.uuid
    }

    /// Tells the control plane what the machine is made of.
    ///
    /// # Errors
    /// When the server refuses, or stays away for the time.
    pub fn register(
        &self,
        request: &BootServiceRegisterRequest,
        patience: Duration,
    ) -> Result<String, Refused> {
        let answer =
            self.call(patience, async |client| client.boot().register(request.clone()).await)?;
        Ok(answer.into_owned().size)
    }

    /// What the machine is allocated for now; `None` while it is free.
    ///
    /// # Errors
    /// When the server refuses, or stays away for the time.
    pub fn allocation(&self, patience: Duration) -> Result<Option<MachineAllocation>, Refused> {
        let request = InstallerServiceAllocationRequest {
            uuid: self.shared.uuid.clone(),
            ..Default::default()
        };
        let answer = self
            .call(patience, async |client| client.installer().allocation(request.clone()).await);
        match answer {
            Ok(answer) => Ok(answer.into_owned().allocation.into_option()),
            // it has never registered
            Err(refused) if refused.code == ErrorCode::NotFound => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// All images of the catalogue.
    ///
    /// # Errors
    /// When the server refuses, or stays away for the time.
    pub fn images(&self, patience: Duration) -> Result<Vec<Image>, Refused> {
        let request = ImageServiceListRequest::default();
        let answer = self.call(patience, async |client| client.image().list(request.clone()).await);
        Ok(answer?.into_owned().images)
    }

    /// All file system layouts of the catalogue.
    ///
    /// # Errors
    /// When the server refuses, or stays away for the time.
    pub fn layouts(&self, patience: Duration) -> Result<Vec<FilesystemLayout>, Refused> {
        let request = FilesystemServiceListRequest::default();
        let answer =
            self.call(patience, async |client| client.filesystem().list(request.clone()).await);
        Ok(answer?.into_owned().filesystem_layouts)
    }

    /// A token for the agent of the firewall that this machine becomes.
    ///
    /// # Errors
    /// When the server refuses, or stays away for the time.
    pub fn firewall_token(&self, patience: Duration) -> Result<String, Refused> {
        let request =
            FirewallServiceTokenRequest { uuid: self.shared.uuid.clone(), ..Default::default() };
        let answer =
            self.call(patience, async |client| client.firewall().token(request.clone()).await)?;
        Ok(answer.into_owned().secret)
    }

    /// Says that the installed system is on the disk.
    ///
    /// # Errors
    /// When the server refuses, or stays away for the time.
    pub fn installed(&self, password: &str, patience: Duration) -> Result<(), Refused> {
        let request = BootServiceInstallationSucceededRequest {
            uuid: self.shared.uuid.clone(),
            console_password: password.to_owned(),
            ..Default::default()
        };
        self.call(patience, async |client| {
            client.boot().installation_succeeded(request.clone()).await
        })
        .map(drop)
    }

    /// Records an event.
    ///
    /// # Errors
    /// When the server refuses, or stays away for the time.
    pub fn event(
        &self,
        kind: MachineProvisioningEventType,
        message: &str,
        patience: Duration,
    ) -> Result<(), Refused> {
        let event = MachineProvisioningEvent {
            event: kind.into(),
            message: message.to_owned(),
            ..Default::default()
        };
        let request = BootServiceSendEventRequest {
            uuid: self.shared.uuid.clone(),
            event: event.into(),
            ..Default::default()
        };
        self.call(patience, async |client| client.boot().send_event(request.clone()).await)
            .map(drop)
    }

    /// Records a finished phase.
    ///
    /// # Errors
    /// When the server refuses, or stays away for the time.
    pub fn phase(&self, phase: &Phase, patience: Duration) -> Result<(), Refused> {
        let request = InstallerServiceReportPhaseRequest {
            uuid: self.shared.uuid.clone(),
            phase: phase.clone().into(),
            ..Default::default()
        };
        self.call(patience, async |client| client.installer().report_phase(request.clone()).await)
            .map(drop)
    }

    /// Records that the machine cannot go on by itself.
    ///
    /// # Errors
    /// When the server refuses, or stays away for the time.
    pub fn failure(&self, phase: &str, reason: &str, patience: Duration) -> Result<(), Refused> {
        let request = InstallerServiceReportFailureRequest {
            uuid: self.shared.uuid.clone(),
            phase: phase.to_owned(),
            reason: reason.chars().take(4000).collect(),
            ..Default::default()
        };
        self.call(patience, async |client| client.installer().report_failure(request.clone()).await)
            .map(drop)
    }

    /// Offers the machine until somebody takes it. A sign of life goes out now and then: it also finds out that a
    /// stream is dead although nobody closed it.
    #[must_use]
    pub fn wait(&self) -> MachineAllocation {
        let mut trouble = Trouble::default();
        loop {
            let pause = match self.shared.runtime.block_on(self.wait_once(&mut trouble)) {
                Ok(Some(allocation)) => return allocation,
                Ok(None) => trouble.happened(self, None),
                Err(error) => trouble.happened(self, Some(error)),
            };
            thread::sleep(pause);
        }
    }

    async fn wait_once(
        &self,
        trouble: &mut Trouble,
    ) -> Result<Option<MachineAllocation>, ConnectError> {
        let uuid = &self.shared.uuid;
        let request = BootServiceWaitRequest { uuid: uuid.clone(), ..Default::default() };
        let boot = self.shared.client.boot();
        let mut stream = boot.wait(request).await?;
        if trouble.over() {
            say("wait      the stream is open again");
        }
        loop {
            match tokio::time::timeout(ALIVE, stream.message()).await {
                Ok(message) => match message? {
                    None => return Ok(None),
                    Some(message) => {
                        if let Some(allocation) =
                            message.to_owned_message().allocation.into_option()
                        {
                            return Ok(Some(allocation));
                        }
                    }
                },
                Err(_) => {
                    let event = MachineProvisioningEvent {
                        event: MachineProvisioningEventType::Alive.into(),
                        ..Default::default()
                    };
                    let request = BootServiceSendEventRequest {
                        uuid: uuid.clone(),
                        event: event.into(),
                        ..Default::default()
                    };
                    boot.send_event(request).await?;
                }
            }
        }
    }

    /// Calls until there is an answer: tries the other leaf and a fresh token where that may help.
    fn call<T>(
        &self,
        patience: Duration,
        request: impl AsyncFn(Client) -> Result<T, ConnectError>,
    ) -> Result<T, Refused> {
        let deadline = Instant::now() + patience;
        let mut trouble = Trouble::default();
        loop {
            let error = match self.shared.runtime.block_on(request(self.shared.client.clone())) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let refused = Refused {
                code: error.code,
                message: error.message.clone().unwrap_or_else(|| "without a reason".into()),
            };
            let renewable = error.code == ErrorCode::Unauthenticated && !trouble.renewed;
            if !renewable && !is_away(error.code) {
                return Err(refused);
            }
            let pause = trouble.happened(self, Some(error));
            if Instant::now() + pause > deadline {
                return Err(refused);
            }
            thread::sleep(pause);
        }
    }

    /// Gets a new token, at most every two seconds: the boot service makes one for each question.
    fn renew(&self) {
        let mut renewed = self.shared.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        if renewed.is_some_and(|at| at.elapsed() < Duration::from_secs(2)) {
            return;
        }
        *renewed = Some(Instant::now());
        if let Some(config) = fetch_config(&self.shared.network)
            && let Err(error) = keep_token(Path::new(TOKEN), &config.token)
        {
            say(&format!("api       the new token cannot be kept: {error}"));
        }
    }

    fn keep_fresh(&self, mut token: String) {
        loop {
            thread::sleep(config::refresh_after(&token, jiff::Timestamp::now()));
            self.renew();
            token = fs::read_to_string(TOKEN).unwrap_or(token);
        }
    }
}

/// Whether the server may come back.
fn is_away(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Unavailable
            | ErrorCode::DeadlineExceeded
            | ErrorCode::Unknown
            | ErrorCode::Internal
            | ErrorCode::Aborted
            | ErrorCode::ResourceExhausted
            | ErrorCode::Canceled
    )
}

/// The configuration from the first boot service that gives one.
#[must_use]
pub fn fetch_config(network: &Network) -> Option<Config> {
    network.leases().iter().find_map(|(nic, lease)| {
        let url = lease.config_url.as_deref()?;
        config::fetch(url)
            .inspect_err(|error| say(&format!("config    {}: {error:#}", nic.name)))
            .ok()
    })
}

/// A run of failures: said once, tried by other ways, with growing pauses.
#[derive(Debug, Default)]
struct Trouble {
    attempts: u32,
    said: String,
    renewed: bool,
}

impl Trouble {
    /// Does what may help and tells how long to wait.
    fn happened(&mut self, api: &Api, error: Option<ConnectError>) -> Duration {
        self.attempts += 1;
        if let Some(error) = error {
            let text = format!(
                "api       {:?}: {}",
                error.code,
                error.message.as_deref().unwrap_or("no reason given")
            );
            if text != self.said {
                say(&text);
                self.said = text;
            }
            if error.code == ErrorCode::Unauthenticated {
                self.renewed = true;
                api.renew();
            } else if self.attempts >= 2
                && let Some(name) = api.shared.network.fail_over()
            {
                say(&format!("network   trying {name}"));
            }
        }
        crate::image::pause(self.attempts - 1)
    }

    /// Says whether there was trouble, which is over now.
    fn over(&mut self) -> bool {
        let was = self.attempts > 0;
        *self = Self::default();
        was
    }
}

/// Replaces the token in one step: whoever reads sees the old or the new one.
fn keep_token(path: &Path, token: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(token.as_bytes())?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn nobody_else_reads_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        keep_token(&path, "one").unwrap();
        keep_token(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn refusals_are_final() {
        assert!(is_away(ErrorCode::Unavailable) && is_away(ErrorCode::DeadlineExceeded));
        assert!(!is_away(ErrorCode::PermissionDenied) && !is_away(ErrorCode::FailedPrecondition));
    }
}
