//! An agent in this process, and waiting for what it does.
//!
//! Nothing is timed here: a test fails when something never happens, not when a machine that does much else is slow.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::Shutdown;
use switch::agent::Agent;
use switch::backend::Backend;
use switch::backend::device::Device;
use switch::config::Config;
use switch::control::Control;
use tokio::task::JoinHandle;

use crate::fake::Fake;

/// What has not happened by then never will.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Running {
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    /// On the device that the configuration names.
    pub(crate) fn start(config: Arc<Config>) -> Self {
        Self::on(Device::open(&config).unwrap(), config)
    }

    pub(crate) fn on(backend: impl Backend, config: Arc<Config>) -> Self {
        let control = Control::new(Fake::client(&config.api_url), config.id.clone());
        let agent = Arc::new(Agent::new(config, backend, control));
        let shutdown = Shutdown::manual();
        Self { task: tokio::spawn(agent.run(shutdown.clone())), shutdown }
    }

    /// Returns when it has ended.
    pub(crate) async fn stop(self) {
        self.shutdown.set();
        self.task.await.unwrap();
    }
}

/// What the agent of `leaf01` is told. Sections may follow.
pub(crate) fn settings(api_url: &str, state_dir: &Path, backend: &str) -> String {
    format!(
        r#"
        id = "leaf01"
        partition = "lab"
        rack = "rack-01"
        api_url = "{api_url}"
        token_file = "token"
        state_dir = "{}"
        loopback = "10.0.0.11"
        asn = 4200000011
        uplinks = ["up0"]
        boot_bridge = "boot"
        boot_prefix = "10.0.1.0/24"
        ports = "swp*"
        backend = "{backend}"
        "#,
        state_dir.display()
    )
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for the end of `work`.
pub(crate) async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"))
}
