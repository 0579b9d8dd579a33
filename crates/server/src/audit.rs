//! The audit log: entries go through a bounded queue to one writer, which stores them in batches. Nobody waits for the
//! database, and when the queue is full, calls that must be recorded are refused instead of done unseen.

pub mod forward;
mod redact;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use store::Db;
use store::audit::Entry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use redact::{HARMLESS, SECRETS, redact};

use crate::rpc::Error;

/// Entries that wait to be written.
const QUEUE: usize = 4096;
/// Entries of one transaction.
const BATCH: usize = 500;
/// So long the writer waits for more before it begins a transaction, which on SQLite keeps all other writers out.
const GATHER: Duration = Duration::from_millis(50);
/// So long a call waits for a place in the queue.
const PATIENCE: Duration = Duration::from_secs(2);
/// So often old entries are removed.
const CLEANING: Duration = Duration::from_secs(3600);
/// Longer bodies are left out: a list of all machines is no news.
const MAX_BODY: usize = 128 * 1024;
/// So many projects are remembered with their tenants.
const MAX_TENANTS: usize = 10_000;

/// How the audit log is kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// Older entries are removed.
    pub retention: Duration,
    /// Who gets a copy.
    pub forward: Option<forward::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self { retention: Duration::from_secs(14 * 24 * 3600), forward: None }
    }
}

/// The way into the log.
#[derive(Debug)]
pub struct Audit {
    queue: mpsc::Sender<Message>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Tenants of projects, which never change.
    tenants: Mutex<HashMap<String, String>>,
    db: Db,
}

#[derive(Debug)]
enum Message {
    Entry(Box<Entry>),
    /// All entries before this one are written when it is answered.
    Flush(oneshot::Sender<()>),
    /// Nothing comes after this one.
    Stop,
}

impl Audit {
    /// Starts the writer.
    #[must_use]
    pub fn start(db: &Db, config: Config) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        let writer = Writer {
            db: db.clone(),
            retention: config.retention,
            forwarder: config.forward.map(forward::Forwarder::start),
            batch: Vec::new(),
            waiting: Vec::new(),
        };
        let task = tokio::spawn(writer.run(entries));
        Self { queue, writer: Mutex::new(Some(task)), tenants: Mutex::default(), db: db.clone() }
    }

    /// Records an entry.
    ///
    /// # Errors
    /// `unavailable` when the queue stays full.
    pub async fn record(&self, entry: Entry) -> Result<(), Error> {
        let message = Message::Entry(Box::new(entry));
        match self.queue.send_timeout(message, PATIENCE).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::unavailable("the audit log takes no entries, try again later")),
        }
    }

    /// Waits until everything that was recorded before is stored.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send_timeout(Message::Flush(done), PATIENCE).await.is_ok() {
            // the writer ended: nothing is left to wait for
            let _ = tokio::time::timeout(PATIENCE, written).await;
        }
    }

    /// Stores what was recorded and ends the writer.
    pub async fn stop(&self) {
        let task = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // a closed queue means that the writer has ended already
            let _ = self.queue.send(Message::Stop).await;
            if task.await.is_err() {
                tracing::error!("the writer of the audit log has panicked");
            }
        }
    }

    /// The tenant of a project; empty when there is no such project.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tenant_of(&self, project: &str) -> Result<String, Error> {
        if let Some(tenant) = self.tenants().get(project) {
            return Ok(tenant.clone());
        }
        let mut tx = self.db.begin_read().await?;
        let Some(row) = store::project::TABLE.get(&mut tx, project).await? else {
            return Ok(String::new());
        };
        let tenant = crate::wire::decode::<proto::api::Project>(&row)?.tenant;
        let mut tenants = self.tenants();
        if tenants.len() >= MAX_TENANTS {
            tenants.clear();
        }
        tenants.insert(project.to_owned(), tenant.clone());
        Ok(tenant)
    }

    fn tenants(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message as the log keeps it: without secrets, and not too long.
#[must_use]
pub fn body(message: Option<Value>) -> Option<String> {
    let mut message = message?;
    redact(&mut message);
    let text = message.to_string();
    if text.len() <= MAX_BODY {
        return Some(text);
    }
    Some(serde_json::json!({ "omitted": format!("{} bytes", text.len()) }).to_string())
}

struct Writer {
    db: Db,
    retention: Duration,
    forwarder: Option<forward::Forwarder>,
    batch: Vec<Entry>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Writer {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut cleaning = tokio::time::interval(CLEANING);
        let mut stopped = false;
        while !stopped {
            tokio::select! {
                _ = cleaning.tick() => self.clean().await,
                message = messages.recv() => {
                    stopped = self.gather(message, &mut messages).await;
                    self.write().await;
                }
            }
        }
    }

    /// Takes what comes within a moment; true when nothing comes any more.
    async fn gather(
        &mut self,
        first: Option<Message>,
        messages: &mut mpsc::Receiver<Message>,
    ) -> bool {
        let end = Instant::now() + GATHER;
        let mut next = first;
        loop {
            match next {
                Some(Message::Entry(entry)) => self.batch.push(*entry),
                // somebody waits: no more gathering
                Some(Message::Flush(done)) => {
                    self.waiting.push(done);
                    return false;
                }
                Some(Message::Stop) | None => {
                    messages.close();
                    while let Some(message) = messages.recv().await {
                        match message {
                            Message::Entry(entry) => self.batch.push(*entry),
                            Message::Flush(done) => self.waiting.push(done),
                            Message::Stop => {}
                        }
                    }
                    return true;
                }
            }
            if self.batch.len() >= BATCH {
                return false;
            }
            match tokio::time::timeout_at(end, messages.recv()).await {
                Ok(message) => next = message,
                Err(_) => return false,
            }
        }
    }

    /// Stores the batch, and tries for ever: whoever comes meanwhile finds the queue full.
    async fn write(&mut self) {
        let mut pause = Duration::from_millis(200);
        while !self.batch.is_empty() {
            match self.try_write().await {
                Ok(()) => {
                    if let Some(forwarder) = &self.forwarder {
                        forwarder.send(&self.batch);
                    }
                    self.batch.clear();
                }
                Err(error) => {
                    tracing::error!(%error, entries = self.batch.len(), "cannot write the audit log, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
        for waiting in self.waiting.drain(..) {
            // who waited may have given up
            let _ = waiting.send(());
        }
    }

    async fn try_write(&self) -> Result<(), store::Error> {
        let mut tx = self.db.begin_write().await?;
        store::audit::insert(&mut tx, &self.batch).await?;
        tx.commit().await
    }

    async fn clean(&self) {
        let retention = i64::try_from(self.retention.as_micros()).unwrap_or(i64::MAX);
        let before = jiff::Timestamp::now().as_microsecond().saturating_sub(retention);
        let removed = async {
            let mut tx = self.db.begin_write().await?;
            let removed = store::audit::delete_before(&mut tx, before).await?;
            tx.commit().await?;
            Ok::<_, store::Error>(removed)
        };
        match removed.await {
            Ok(0) => {}
            Ok(entries) => tracing::info!(entries, "removed old entries of the audit log"),
            Err(error) => tracing::warn!(%error, "cannot remove old entries of the audit log"),
        }
    }
}
