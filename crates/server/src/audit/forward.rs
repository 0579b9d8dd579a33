//! Entries of the audit log on their way to somebody else: an HTTP event collector as Splunk has it, which Vector, Fluent Bit and
//! the collector of OpenTelemetry understand, too. The database is the log; this is a copy, sent after an entry was stored.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use store::audit::Entry;
use tokio::sync::mpsc;

/// Batches that wait to be sent; who collects may be away for a while.
const QUEUE: usize = 1_000;
/// A batch is given up after so many tries.
const TRIES: u32 = 5;
/// The first pause between them.
const PAUSE: Duration = Duration::from_secs(1);
/// Who takes longer to answer is away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where copies go.
#[derive(Clone, Debug)]
pub struct Config {
    /// URL of the collector, for instance `https://splunk:8088/services/collector/event`.
    pub url: String,
    /// File with its token, read for each batch; none: no token is sent.
    pub token_file: Option<PathBuf>,
}

/// The way to the collector.
#[derive(Debug)]
pub(super) struct Forwarder(mpsc::Sender<String>);

impl Forwarder {
    pub(super) fn start(config: Config) -> Self {
        let (queue, batches) = mpsc::channel(QUEUE);
        tokio::spawn(run(config, batches));
        Self(queue)
    }

    /// Sends copies when it can; nobody waits for that.
    pub(super) fn send(&self, entries: &[Entry]) {
        let text: String = entries.iter().map(|entry| event(entry).to_string()).collect();
        if self.0.try_send(text).is_err() {
            lost("the collector was away for too long");
        }
    }
}

/// An entry as collectors want it.
fn event(entry: &Entry) -> Value {
    let body: Option<Value> = entry
        .body
        .as_deref()
        .map(|body| serde_json::from_str(body).unwrap_or_else(|_| body.into()));
    let phase = if entry.code.is_some() { "response" } else { "request" };
    json!({
        "time": entry.at_us as f64 / 1e6,
        "source": "metal-server",
        "sourcetype": "metal:audit",
        "event": {
            "uuid": entry.call, "phase": phase, "user": entry.caller, "tenant": entry.tenant, "project": entry.project,
            "method": entry.method, "source_ip": entry.source, "result_code": entry.code, "body": body,
        },
    })
}

async fn run(config: Config, mut batches: mpsc::Receiver<String>) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    while let Some(batch) = batches.recv().await {
        let mut pause = PAUSE;
        for attempt in 1..=TRIES {
            let (agent, config, text) = (agent.clone(), config.clone(), batch.clone());
            let sent = tokio::task::spawn_blocking(move || post(&agent, &config, text)).await;
            match sent.unwrap_or_else(|e| Err(e.to_string())) {
                Ok(()) => break,
                Err(why) if attempt == TRIES => lost(&why),
                Err(why) => {
                    tracing::debug!(why, attempt, "the audit log is forwarded again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }
}

fn post(agent: &ureq::Agent, config: &Config, text: String) -> Result<(), String> {
    let mut request = agent.post(&config.url).header("content-type", "application/json");
    if let Some(file) = &config.token_file {
        let token =
            std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        request = request.header("authorization", format!("Splunk {}", token.trim()));
    }
    request.send(text).map(drop).map_err(|e| e.to_string())
}

fn lost(why: &str) {
    metrics::counter!("metal_audit_batches_not_forwarded").increment(1);
    tracing::error!(why, "entries of the audit log were not forwarded; they are in the database");
}
