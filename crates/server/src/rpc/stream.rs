//! Streams to clients: a task fills them, a client that goes or a server that stops ends them.

use connectrpc::{ConnectError, ServiceStream};
use futures::StreamExt;
use tokio::sync::mpsc;

use super::App;

/// The end of a stream into which the server writes.
pub(crate) struct Sender<T> {
    // a channel has room for 32 items at once, whatever its capacity
    inner: mpsc::Sender<Box<Result<T, ConnectError>>>,
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
        receiver.recv().await.map(|item: Box<_>| (*item, receiver))
    });
    // a server that stops ends its streams, so that clients go to another replica at once
    let stream = stream.take_until(app.shutdown.wait());
    (Sender { inner, shutdown: app.shutdown.clone(), _open: Open::new() }, Box::pin(stream))
}

impl<T> Sender<T> {
    /// Gives one message to the client; false when nobody reads any more.
    pub(crate) fn send(&self, item: Result<T, ConnectError>) -> impl Future<Output = bool> {
        // boxed before it is waited for: ten thousand streams that sleep keep no room for it
        let sending = self.inner.send(Box::new(item));
        async { sending.await.is_ok() }
    }

    /// As [`Self::send`], and returns when the message was taken on its way to the client, not when it only waits for that.
    pub(crate) async fn deliver(&self, item: Result<T, ConnectError>) -> bool {
        // there is room for one: where another one fits, this one was taken
        self.send(item).await && self.inner.reserve().await.is_ok()
    }

    /// Returns when nobody reads any more.
    pub(crate) async fn closed(&self) {
        tokio::select! {
            () = self.inner.closed() => {}
            () = self.shutdown.wait() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Sender<u32>, mpsc::Receiver<Box<Result<u32, ConnectError>>>) {
        let (inner, receiver) = mpsc::channel(1);
        (Sender { inner, shutdown: daemon::Shutdown::manual(), _open: Open::new() }, receiver)
    }

    #[tokio::test]
    async fn what_nobody_took_was_not_delivered() {
        let (sender, mut receiver) = pair();
        let (delivered, taken) = tokio::join!(sender.deliver(Ok(1)), receiver.recv());
        assert!(delivered && taken.is_some_and(|item| item.is_ok_and(|number| number == 1)));

        let gone = async {
            // after the message was put there
            tokio::task::yield_now().await;
            assert_eq!(receiver.len(), 1);
            drop(receiver);
        };
        let (delivered, ()) = tokio::join!(sender.deliver(Ok(2)), gone);
        assert!(!delivered, "the client went before it was taken");
        assert!(!sender.deliver(Ok(3)).await, "and does not come back");
    }
}
