//! What happens, told to the API in order and in the background: no step waits for an answer.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use proto::api::MachineProvisioningEventType as Event;
use proto::ext::Phase;

use crate::api::Api;
use crate::console::{phase as line, say};

/// How long the API may be away before a report is dropped: a record that a server missed for this long is worth less
/// than those that follow.
const PATIENCE: Duration = Duration::from_secs(120);

enum Report {
    Event(Event, String),
    Phase(Box<Phase>),
    Flush(Sender<()>),
}

/// Sends reports one after the other.
#[derive(Debug)]
pub struct Reporter {
    sender: Mutex<Sender<Report>>,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Event(..) => "Event",
            Self::Phase(_) => "Phase",
            Self::Flush(_) => "Flush",
        })
    }
}

impl Reporter {
    /// Starts to send.
    #[must_use]
    pub fn start(api: &Api) -> Self {
        let (sender, reports) = channel();
        let api = api.clone();
        thread::spawn(move || send_all(&api, &reports));
        Self { sender: Mutex::new(sender) }
    }

    /// Records an event.
    pub fn event(&self, kind: Event, message: impl Into<String>) {
        self.send(Report::Event(kind, message.into()));
    }

    /// Does a step, prints how long it took and records it. The step returns its result and what was done in words.
    ///
    /// # Errors
    /// Those of the step; a failed step is no phase.
    pub fn phase<T, E>(
        &self,
        name: &str,
        step: impl FnOnce() -> Result<(T, String), E>,
    ) -> Result<T, E> {
        let (started, clock) = (SystemTime::now(), Instant::now());
        let (value, message) = step()?;
        self.finished(name, started, clock.elapsed(), &message);
        Ok(value)
    }

    /// Prints and records a step that was measured elsewhere.
    pub fn finished(&self, name: &str, started: SystemTime, duration: Duration, message: &str) {
        say(&line(name, message, duration));
        self.send(Report::Phase(Box::new(Phase {
            name: name.to_owned(),
            started_at: buffa_types::google::protobuf::Timestamp::from(started).into(),
            duration: buffa_types::google::protobuf::Duration::from(duration).into(),
            message: message.chars().take(1000).collect(),
            ..Default::default()
        })));
    }

    /// Waits until everything before is told, at most this long; says whether it is.
    pub fn flush(&self, timeout: Duration) -> bool {
        let (done, told) = channel();
        self.send(Report::Flush(done));
        told.recv_timeout(timeout).is_ok()
    }

    fn send(&self, report: Report) {
        let sender = self.sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = sender.send(report);
    }
}

fn send_all(api: &Api, reports: &Receiver<Report>) {
    for report in reports {
        let result = match report {
            Report::Event(kind, message) => api.event(kind, &message, PATIENCE),
            Report::Phase(phase) => api.phase(&phase, PATIENCE),
            Report::Flush(done) => {
                let _ = done.send(());
                Ok(())
            }
        };
        if let Err(refused) = result {
            say(&format!("report    the API did not take it: {refused}"));
        }
    }
}
