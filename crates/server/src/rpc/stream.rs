//! Streams to clients: a task fills them, a client that goes or a server that stops ends them.

use connectrpc::{ConnectError, ServiceStream};
use futures::StreamExt;
use tokio::sync::mpsc;

use super::App;

/// The end of a stream into which the server writes.
pub(crate) struct Sender<T> {
    inner: mpsc::Sender<Result<T, ConnectError>>,
    shutdown: daemon::Shutdown,
    _open: Open,
}

/// Counts itself for as long as it lives.
struct Open;

impl Open {
    fn new() -> Self {
        metrics::gauge!("metal_open_streams").increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("metal_open_streams").decrement(1.0);
    }
}

/// A stream and the end to write into.
pub(crate) fn open<T: Send + 'static>(app: &App) -> (Sender<T>, ServiceStream<T>) {
    let (inner, receiver) = mpsc::channel(1);
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    });
    // a server that stops ends its streams, so that clients go to another replica at once
    let stream = stream.take_until(app.shutdown.wait());
    (Sender { inner, shutdown: app.shutdown.clone(), _open: Open::new() }, Box::pin(stream))
}

impl<T> Sender<T> {
    /// Gives one message to the client; false when nobody reads any more.
    pub(crate) async fn send(&self, item: Result<T, ConnectError>) -> bool {
        self.inner.send(item).await.is_ok()
    }

    /// Returns when nobody reads any more.
    pub(crate) async fn closed(&self) {
        tokio::select! {
            () = self.inner.closed() => {}
            () = self.shutdown.wait() => {}
        }
    }
}
