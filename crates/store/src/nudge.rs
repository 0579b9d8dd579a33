//! Waking those who wait for a row to change, without a poll each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Who waits for what, in this process.
#[derive(Debug, Default)]
pub(crate) struct Nudges(Mutex<HashMap<String, watch::Sender<()>>>);

/// Waits for the nudges of one key; those that came since it was made or since the last wake-up count.
#[derive(Debug)]
pub struct Watcher {
    key: String,
    receiver: Option<watch::Receiver<()>>,
    nudges: Arc<Nudges>,
}

impl Nudges {
    pub(crate) fn watch(self: &Arc<Self>, key: &str) -> Watcher {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = map.entry(key.to_owned()).or_insert_with(|| watch::channel(()).0);
        Watcher {
            key: key.to_owned(),
            receiver: Some(sender.subscribe()),
            nudges: Arc::clone(self),
        }
    }

    pub(crate) fn nudge(&self, key: &str) {
        if let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            sender.send_replace(());
        }
    }

    pub(crate) fn nudge_all(&self) {
        for sender in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            sender.send_replace(());
        }
    }
}

impl Watcher {
    /// Returns after the next nudge. Cancel safe.
    pub async fn changed(&mut self) {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.receiver = None;
        let mut map = self.nudges.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.get(&self.key).is_some_and(|sender| sender.receiver_count() == 0) {
            map.remove(&self.key);
        }
    }
}
