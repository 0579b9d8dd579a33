//! Connections that only read. Each statement sees what was committed before it, which is all that PostgreSQL promises to a
//! transaction of several statements as well; so there is nothing to begin and nothing to end, and a question to the
//! database is one trip. A pool would make at least two more of it, to look whether the connection is alive.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{Connection, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::PATIENCE;

/// A connection that was used less than this ago is taken to be alive.
const FRESH: Duration = Duration::from_secs(1);

/// The connections.
#[derive(Debug)]
pub(crate) struct Readers<C: Connection> {
    options: C::Options,
    idle: Mutex<Vec<(Instant, C)>>,
    places: Arc<Semaphore>,
}

/// One of the connections, which goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reader<C: Connection> {
    connection: Option<C>,
    home: Arc<Readers<C>>,
    // released after the connection has gone back
    _place: OwnedSemaphorePermit,
}

impl<C: Connection> Readers<C>
where
    C::Options: Clone,
{
    /// At most `places` connections, made when they are needed.
    pub(crate) fn new(options: C::Options, places: usize) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(places));
        Arc::new(Self { options, idle: Mutex::default(), places })
    }

    /// A connection that nobody else uses.
    pub(crate) async fn take(self: &Arc<Self>) -> Result<Reader<C>, Error> {
        let place = Arc::clone(&self.places).acquire_owned();
        let place = tokio::time::timeout(PATIENCE, place)
            .await
            .map_err(|_| Error::PoolTimedOut)?
            .map_err(|_| Error::PoolClosed)?;
        let connection = match self.alive().await {
            Some(connection) => connection,
            None => C::connect_with(&self.options).await?,
        };
        Ok(Reader { connection: Some(connection), home: Arc::clone(self), _place: place })
    }

    /// The connection that was used last, if it still answers.
    async fn alive(&self) -> Option<C> {
        loop {
            let (since, mut connection) =
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() < FRESH || connection.ping().await.is_ok() {
                return Some(connection);
            }
        }
    }
}

impl<C: Connection> Reader<C> {
    /// Asks. A connection that broke, or whose answer nobody waited for, is closed instead of used again.
    pub(crate) async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut C) -> Result<T, Error>,
    ) -> Result<T, Error> {
        // away while it is asked: who drops this future drops the connection
        let mut connection = self.connection.take().ok_or(Error::WorkerCrashed)?;
        let answer = question(&mut connection).await;
        if answer.as_ref().err().is_none_or(|error| error.as_database_error().is_some()) {
            self.connection = Some(connection);
        }
        answer
    }
}

impl<C: Connection> Drop for Reader<C> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let mut idle = self.home.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push((Instant::now(), connection));
        }
    }
}
