//! What the server does by itself: lease of this replica, releases, liveliness, clearing up. Every replica does all of it; the
//! database lets each piece be done once.

use std::sync::Arc;
use std::time::Duration;

use daemon::{Period, every};
use jiff::Timestamp;
use store::waiting;

use crate::rpc::{App, Error, machine_record, release_next};

/// A replica that was silent for so long is dead, and what waits at it waits no longer.
const LEASE_US: i64 = 20 * 1_000_000;
/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// Releases are looked at that often, also when nobody wakes them.
const RELEASE: Duration = Duration::from_secs(3);
/// How often liveliness is judged.
const JUDGE: Duration = Duration::from_secs(30);
/// A machine that was silent for so long is not alive.
const SILENT_US: i64 = 5 * 60 * 1_000_000;
/// How often what has expired is removed.
const SWEEP: Duration = Duration::from_secs(600);
/// How often the pool is counted for metrics.
const MEASURE: Duration = Duration::from_secs(15);
/// Tasks that have ended can be looked at for so long.
pub(crate) const RETENTION_US: i64 = 24 * 3600 * 1_000_000;

/// Starts all of it; it ends with the shutdown of the app.
pub(crate) fn start(app: &Arc<App>) {
    let spawn = |period: Duration, work: Work| {
        let app = Arc::clone(app);
        tokio::spawn(async move {
            let shutdown = app.shutdown.clone();
            every(shutdown, Period::new(period).jitter(0.2), || {
                let app = Arc::clone(&app);
                async move {
                    if let Err(error) = work.run(&app).await {
                        tracing::warn!(%error, ?work, "will be tried again");
                    }
                }
            })
            .await;
        });
    };
    spawn(RENEW, Work::Renew);
    spawn(JUDGE, Work::Judge);
    spawn(SWEEP, Work::Sweep);
    tokio::spawn(crate::vpn::sync::run(Arc::clone(app)));
    let encoding = Arc::clone(app);
    tokio::spawn(async move {
        if let Err(error) = machine_record::encode_all(&encoding).await {
            tracing::warn!(%error, "machines of an older version stay slow to list until they change");
        }
    });
    let app = Arc::clone(app);
    tokio::spawn(async move { releases(&app).await });
}

/// Counts the pool and the jobs now and then, for Prometheus.
pub(crate) fn measure(app: &Arc<App>) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        every(app.shutdown.clone(), Period::new(MEASURE).jitter(0.2), || {
            let app = Arc::clone(&app);
            async move {
                if let Err(error) = count(&app).await {
                    tracing::debug!(%error, "the pool cannot be counted for metrics");
                }
            }
        })
        .await;
    });
}

async fn count(app: &App) -> Result<(), Error> {
    let mut tx = app.db.begin_read().await?;
    for (partition, size, machines) in waiting::counts(&mut tx).await? {
        metrics::gauge!("metal_waiting_machines", "partition" => partition, "size" => size)
            .set(machines as f64);
    }
    for (queue, jobs) in store::job::open(&mut tx).await? {
        metrics::gauge!("metal_open_jobs", "queue" => queue).set(jobs as f64);
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Renew,
    Judge,
    Sweep,
}

impl Work {
    async fn run(self, app: &App) -> Result<(), Error> {
        let now_us = Timestamp::now().as_microsecond();
        let mut tx = app.db.begin_write().await?;
        match self {
            Self::Renew => {
                let gone = waiting::renew(&mut tx, &app.replica, now_us, now_us + LEASE_US).await?;
                if gone > 0 {
                    tracing::warn!(machines = gone, "left the pool with a replica that is gone");
                }
            }
            Self::Judge => {
                let changed = store::event::judge(&mut tx, now_us - SILENT_US).await?;
                if changed > 0 {
                    tracing::info!(machines = changed, "liveliness changed");
                }
            }
            Self::Sweep => {
                let late = store::job::sweep(&mut tx, now_us, now_us - RETENTION_US).await?;
                if late > 0 {
                    tracing::warn!(jobs = late, "ran out of time");
                }
                store::token::delete_expired(&mut tx, now_us).await?;
                store::signing_key::delete_expired(&mut tx, now_us).await?;
                store::idempotency::sweep(&mut tx, now_us).await?;
            }
        }
        Ok(tx.commit().await?)
    }
}

/// Tells the others that this replica is gone, so that they need not wait for the end of its lease.
pub(crate) async fn leave(app: &App) -> Result<(), Error> {
    let mut tx = app.db.begin_write().await?;
    waiting::leave(&mut tx, &app.replica).await?;
    Ok(tx.commit().await?)
}

/// Releases machines as soon as their switches have confirmed.
async fn releases(app: &App) {
    let mut watcher = app.db.watch("job/machine");
    loop {
        let more = match release_next(app, Timestamp::now()).await {
            Ok(more) => more,
            Err(error) => {
                tracing::warn!(%error, "a release will be tried again");
                false
            }
        };
        if more {
            continue;
        }
        tokio::select! {
            () = app.shutdown.wait() => return,
            () = watcher.changed() => {}
            () = tokio::time::sleep(RELEASE) => {}
        }
    }
}
