//! A socket for each network namespace in which ports may be. Namespaces come and go with tenants.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lldp::Frame;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Speaker;
use crate::space::identity;

/// Frames that wait to be looked at; more from who sends too many are lost.
const QUEUE: usize = 256;
/// After an error of a socket, so that it is not asked over and over.
const PAUSE: Duration = Duration::from_secs(2);

/// A frame and where it came in.
pub struct Heard {
    /// The socket, to answer.
    pub speaker: Arc<Speaker>,
    /// Name of the port.
    pub port: String,
    /// What was said.
    pub frame: Frame,
}

/// All sockets.
pub struct Speakers {
    own: Listening,
    others: Mutex<BTreeMap<PathBuf, (u64, Listening)>>,
    heard: mpsc::Sender<Heard>,
}

/// A socket with the task that reads from it; both end when it is dropped, and nothing keeps the namespace alive.
struct Listening(Arc<Speaker>, AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.1.abort();
    }
}

impl Speakers {
    /// Opens the one of this namespace; what all of them hear comes out of the receiver. Must be called inside a Tokio
    /// runtime.
    ///
    /// # Errors
    /// Without the right to raw sockets.
    pub fn open() -> io::Result<(Self, mpsc::Receiver<Heard>)> {
        let (heard, frames) = mpsc::channel(QUEUE);
        let own = listen(Speaker::open()?, heard.clone());
        Ok((Self { own, others: Mutex::default(), heard }, frames))
    }

    /// Opens and closes sockets so that there is one in each of these namespaces.
    pub fn follow(&self, spaces: &[PathBuf]) {
        let identities: BTreeMap<_, _> =
            spaces.iter().filter_map(|space| Some((space, identity(space).ok()?))).collect();
        let mut others = self.others();
        others.retain(|space, (known, _)| identities.get(space) == Some(known));
        for (space, identity) in identities {
            if others.contains_key(space) {
                continue;
            }
            match Speaker::open_in(space) {
                Ok(speaker) => {
                    let listening = listen(speaker, self.heard.clone());
                    others.insert(space.clone(), (identity, listening));
                }
                Err(error) => {
                    tracing::warn!(space = %space.display(), %error, "no LLDP in a namespace");
                }
            }
        }
    }

    /// The one of the agent's own namespace.
    pub fn own(&self) -> &Speaker {
        &self.own.0
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Speaker>> {
        let others = self.others();
        let others = others.values().map(|(_, listening)| listening.0.clone());
        std::iter::once(self.own.0.clone()).chain(others).collect()
    }

    fn others(&self) -> MutexGuard<'_, BTreeMap<PathBuf, (u64, Listening)>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(speaker: Speaker, heard: mpsc::Sender<Heard>) -> Listening {
    let speaker = Arc::new(speaker);
    let own = speaker.clone();
    let task = tokio::spawn(async move {
        loop {
            match speaker.receive().await {
                Ok((port, frame)) => {
                    let speaker = speaker.clone();
                    if heard.send(Heard { speaker, port, frame }).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "LLDP cannot be heard");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
    Listening(own, task.abort_handle())
}
