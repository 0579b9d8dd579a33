//! Streams to clients: a task fills them, a client that goes or a server that stops ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use connectrpc::{ConnectError, ServiceStream};
use futures::{Stream, StreamExt};
use store::Watcher;
use tokio::sync::mpsc;

use super::{App, Error};

/// What an agent should do is repeated that often.
const REPEAT: Duration = Duration::from_secs(60);

/// The end of a stream into which the server writes.
pub(crate) struct Sender<T> {
    // a channel has room for 32 items at once, whatever its capacity
    inner: mpsc::Sender<Box<Result<T, ConnectError>>>,
    /// So many messages were taken on their way to the client.
    taken: Arc<AtomicU64>,
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
    let (sender, stream) = pair(app.shutdown.clone());
    // a server that stops ends its streams, so that clients go to another replica at once
    (sender, Box::pin(stream.take_until(app.shutdown.wait())))
}

fn pair<T: Send + 'static>(
    shutdown: daemon::Shutdown,
) -> (Sender<T>, impl Stream<Item = Result<T, ConnectError>> + Send + 'static) {
    let (inner, receiver) = mpsc::channel(1);
    let taken = Arc::new(AtomicU64::new(0));
    let ends = (receiver, Arc::clone(&taken));
    let stream = futures::stream::unfold(ends, |(mut receiver, taken)| async move {
        let item: Box<_> = receiver.recv().await?;
        taken.fetch_add(1, Ordering::AcqRel);
        Some((*item, (receiver, taken)))
    });
    (Sender { inner, taken, shutdown, _open: Open::new() }, stream)
}

/// A stream that is asked for its next message instead of being filled by a task, for those that sleep by the ten thousand.
pub(crate) fn ask<T, S, F>(
    app: &App,
    state: S,
    next: impl Fn(S) -> F + Send + 'static,
) -> ServiceStream<T>
where
    T: Send + 'static,
    S: Send + 'static,
    F: Future<Output = Option<(Result<T, ConnectError>, S)>> + Send + 'static,
{
    let stream = futures::stream::unfold((state, Open::new()), move |(state, open)| {
        let next = next(state);
        async { next.await.map(|(item, state)| (item, (state, open))) }
    });
    Box::pin(stream.take_until(app.shutdown.wait()))
}

/// A stream that tells `state` at once, and what `read` finds whenever the watcher is woken and that differs. It is repeated each
/// minute, as a sign of life and in case a wake-up was lost. The first error is told and ends it.
pub(crate) fn follow<T, F>(
    app: &App,
    mut watcher: Watcher,
    mut state: T,
    differ: fn(&T, &T) -> bool,
    read: impl Fn() -> F + Send + 'static,
) -> ServiceStream<T>
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Result<T, Error>> + Send,
{
    let (sender, stream) = open(app);
    tokio::spawn(async move {
        while sender.send(Ok(state.clone())).await {
            let repeat = tokio::time::sleep(REPEAT);
            tokio::pin!(repeat);
            loop {
                let due = tokio::select! {
                    () = sender.closed() => return,
                    () = watcher.changed() => false,
                    () = &mut repeat => true,
                };
                match read().await {
                    Ok(now) if due || differ(&now, &state) => {
                        state = now;
                        break;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        sender.send(Err(error.into())).await;
                        return;
                    }
                }
            }
        }
    });
    stream
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
        let before = self.taken.load(Ordering::Acquire);
        // there is room for one: where another one fits, this one was taken; a client may also take it and go
        self.send(item).await
            && (self.inner.reserve().await.is_ok() || self.taken.load(Ordering::Acquire) > before)
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

    #[tokio::test]
    async fn what_nobody_took_was_not_delivered() {
        let (sender, stream) = pair(daemon::Shutdown::manual());
        let mut stream = Box::pin(stream);
        let (delivered, taken) = tokio::join!(sender.deliver(Ok(1)), stream.next());
        assert!(delivered && taken.is_some_and(|item| item.is_ok_and(|number| number == 1)));

        let gone = async {
            // after the message was put there
            tokio::task::yield_now().await;
            assert_eq!(sender.inner.capacity(), 0);
            drop(stream);
        };
        let (delivered, ()) = tokio::join!(sender.deliver(Ok(2)), gone);
        assert!(!delivered, "the client went before it was taken");
        assert!(!sender.deliver(Ok(3)).await, "and does not come back");
    }

    #[tokio::test]
    async fn who_takes_and_goes_has_got_it() {
        let (sender, stream) = pair(daemon::Shutdown::manual());
        let mut stream = Box::pin(stream);
        let take_and_go = async {
            tokio::task::yield_now().await;
            let taken = stream.next().await;
            drop(stream);
            taken
        };
        let (delivered, taken) = tokio::join!(sender.deliver(Ok(1)), take_and_go);
        assert!(delivered && taken.is_some());
    }
}
