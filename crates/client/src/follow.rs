//! Server streams that end only with the process.

use std::future::{Future, IntoFuture};
use std::pin::pin;

use buffa::view::MessageView;
use connectrpc::{ConnectError, HasMessageView, JsonDeserialize, ServerStream};

use crate::backoff::Backoff;
use crate::wire::ResponseBody;

/// Keeps a server stream open until `shutdown`: opens it again with growing delays (0.2 s to 5 s, with jitter) whenever
/// it ends or fails, and hands each message to `item`.
///
/// Messages may repeat after a reconnection and some may be missed meanwhile, so `item` must treat each one as the
/// whole truth or ask again. A message in hand is finished before shutdown; waiting for the next one is not.
///
/// ```no_run
/// # async fn example(client: client::Client, shutdown: std::future::Ready<()>) {
/// let watch = proto::ext::SwitchWatchServiceWatchRequest { id: "leaf01".into(), ..Default::default() };
/// let service = client.switch_watch();
/// client::follow("switch", shutdown, || service.watch(watch.clone()), |answer| async move {
///     println!("{}", answer.generation);
/// })
/// .await;
/// # }
/// ```
pub async fn follow<M, V, Opening, Handling>(
    name: &str,
    shutdown: impl IntoFuture<Output = ()>,
    mut open: impl FnMut() -> Opening,
    mut item: impl FnMut(M) -> Handling,
) where
    Opening: Future<Output = Result<ServerStream<ResponseBody, V>, ConnectError>>,
    Handling: Future<Output = ()>,
    V: MessageView<'static, Owned = M> + Send,
    M: HasMessageView<View<'static> = V> + buffa::Message + JsonDeserialize,
{
    let mut shutdown = pin!(shutdown.into_future());
    let mut backoff = Backoff::new();
    let mut failing = false;
    loop {
        let opened = tokio::select! {
            biased;
            () = &mut shutdown => return,
            opened = open() => opened,
        };
        let ended = match opened {
            Err(error) => Some(error),
            Ok(mut stream) => loop {
                let message = tokio::select! {
                    biased;
                    () = &mut shutdown => return,
                    message = stream.message() => message,
                };
                match message {
                    Ok(Some(message)) => {
                        backoff.reset();
                        if std::mem::take(&mut failing) {
                            tracing::info!(stream = name, "the stream flows again");
                        }
                        item(message.to_owned_message()).await;
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            },
        };
        let delay = backoff.next_delay();
        match ended {
            // Said once; a server that is away for an hour is one fact.
            Some(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(stream = name, %error, "the stream broke; opening it again until it works");
            }
            Some(error) => {
                tracing::debug!(stream = name, %error, ?delay, "the stream is still broken");
            }
            None => tracing::debug!(stream = name, ?delay, "the stream ended; opening it again"),
        }
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            () = tokio::time::sleep(delay) => {}
        }
    }
}
