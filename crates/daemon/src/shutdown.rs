//! The wish that the process ends.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The wish that the process ends. Clones see the same wish.
#[derive(Clone, Debug)]
pub struct Shutdown {
    wish: watch::Sender<bool>,
}

impl Shutdown {
    /// Waits for nobody: only [`Shutdown::set`] triggers it. For tests and for parts that end by themselves.
    pub fn manual() -> Self {
        Self { wish: watch::Sender::new(false) }
    }

    /// Triggered by SIGTERM or SIGINT. A second signal ends the process at once, for impatient humans.
    /// Must be called inside a Tokio runtime.
    pub fn on_signals() -> Self {
        let shutdown = Self::manual();
        let (Ok(terminate), Ok(interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::warn!("signals cannot be watched; the process ends without cleaning up");
            return shutdown;
        };
        tokio::spawn(watch_signals(shutdown.clone(), terminate, interrupt));
        shutdown
    }

    /// Triggers it.
    pub fn set(&self) {
        self.wish.send_replace(true);
    }

    /// Whether it was triggered.
    pub fn is_set(&self) -> bool {
        *self.wish.borrow()
    }

    /// Resolves once it is triggered, at once if it was before. Dropping the future is harmless.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + 'static {
        let wish = self.wish.clone();
        async move {
            // The sender lives in this very future, so the channel cannot close.
            let _ = wish.subscribe().wait_for(|set| *set).await;
        }
    }
}

impl IntoFuture for Shutdown {
    type Output = ();
    type IntoFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

async fn watch_signals(shutdown: Shutdown, mut terminate: Signal, mut interrupt: Signal) {
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let signal = next().await;
    tracing::info!(signal, "ending");
    shutdown.set();
    let signal = next().await;
    tracing::warn!(signal, "ending at once");
    std::process::exit(130);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_it_whenever_it_waits() {
        let shutdown = Shutdown::manual();
        let (early, late) = (shutdown.clone(), shutdown.clone());
        let waiting = tokio::spawn(early.wait());
        assert!(!late.is_set());
        shutdown.set();
        waiting.await.unwrap();
        late.wait().await;
        late.clone().await;
        assert!(late.is_set());
    }
}
