//! The loop that every agent is made of.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;

use crate::Shutdown;
use crate::telemetry::sentence;

/// Time between the starts of two rounds, each time off by a chance part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Period {
    every: Duration,
    jitter: f64,
}

impl Period {
    /// `every`, give or take a tenth.
    pub fn new(every: Duration) -> Self {
        Self { every, jitter: 0.1 }
    }

    /// Give or take this part: 0 is exact, 1 is anything up to twice as long.
    #[must_use]
    pub fn jitter(self, jitter: f64) -> Self {
        Self { jitter: jitter.clamp(0.0, 1.0), ..self }
    }

    /// The next pause; `chance` is between 0 and 1.
    fn pause(self, chance: f64) -> Duration {
        self.every.mul_f64(1.0 + self.jitter * (2.0 * chance - 1.0))
    }
}

impl From<Duration> for Period {
    fn from(every: Duration) -> Self {
        Self::new(every)
    }
}

/// What a round of a loop may end with.
pub trait Outcome {
    /// What went wrong, for the log.
    fn problem(self) -> Option<String>;
}

impl Outcome for () {
    fn problem(self) -> Option<String> {
        None
    }
}

impl<E: Display> Outcome for Result<(), E> {
    fn problem(self) -> Option<String> {
        self.err().map(|error| format!("{error:#}"))
    }
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// How many rounds of all loops of this process have panicked.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Runs `body` now and then once per period until `shutdown`. A round in progress is finished first.
///
/// An error is logged and a panic is caught, counted ([`panics`], metric `daemon_panics_total`) and logged: the next
/// round runs in either case, so `body` must start from the state of the world and not from what it remembers.
pub async fn every<Body, Round>(shutdown: Shutdown, period: impl Into<Period>, mut body: Body)
where
    Body: FnMut() -> Round,
    Round: Future<Output: Outcome>,
{
    let period = period.into();
    while !shutdown.is_set() {
        let started = tokio::time::Instant::now();
        let round = AssertUnwindSafe(async { body().await.problem() }).catch_unwind();
        match round.await {
            Ok(None) => {}
            Ok(Some(problem)) => tracing::warn!(problem, "a round failed; the next one follows"),
            Err(panic) => {
                PANICS.fetch_add(1, Ordering::Relaxed);
                ::metrics::counter!("daemon_panics_total").increment(1);
                tracing::error!(
                    panic = sentence(&*panic),
                    "a round panicked; the next one follows"
                );
            }
        }
        tokio::select! {
            biased;
            () = shutdown.wait() => {}
            () = tokio::time::sleep_until(started + period.pause(fastrand::f64())) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_near_the_period() {
        let period = Period::new(Duration::from_secs(10));
        assert_eq!(period.pause(0.0), Duration::from_secs(9));
        assert_eq!(period.pause(0.5), Duration::from_secs(10));
        assert_eq!(period.pause(1.0), Duration::from_secs(11));
        assert_eq!(period.jitter(0.0).pause(0.9), Duration::from_secs(10));
        assert_eq!(period.jitter(7.0).pause(0.0), Duration::ZERO);
    }

    #[tokio::test]
    async fn goes_on_after_errors_and_panics_and_ends_when_told() {
        let shutdown = Shutdown::manual();
        let stop = shutdown.clone();
        let before = panics();
        let mut rounds = 0;
        every(shutdown, Duration::from_millis(1), || {
            rounds += 1;
            let (round, stop) = (rounds, stop.clone());
            async move {
                match round {
                    1 => Err("on purpose"),
                    2 => panic!("on purpose"),
                    3 => Ok(()),
                    _ => {
                        stop.set();
                        Ok(())
                    }
                }
            }
        })
        .await;
        assert_eq!(rounds, 4);
        assert_eq!(panics(), before + 1);
    }
}
