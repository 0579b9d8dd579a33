//! The two engines behind one set of verbs. No other file names a driver.

mod readers;

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use readers::{Reader, Readers};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, Row as _, Sqlite,
    SqliteConnection, SqlitePool, Transaction,
};
use tokio::sync::mpsc;

use crate::Error;
use crate::nudge::{Nudges, Watcher};

/// Channel of PostgreSQL on which replicas nudge each other.
const CHANNEL: &str = "metal";
/// Connections that may write, and those that only read.
const WRITERS: u32 = 16;
const READERS: usize = 8;
/// A connection of a pool that was idle for so long is asked whether it is alive before it is used.
const IDLE: Duration = Duration::from_secs(1);
/// So long everybody waits for a connection.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A database that has been opened and migrated; cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    engine: Engine,
    nudges: Arc<Nudges>,
}

#[derive(Clone, Debug)]
enum Engine {
    /// One writer, because SQLite has one; readers do not wait for it (WAL).
    Sqlite { writer: SqlitePool, readers: Arc<Readers<SqliteConnection>> },
    Postgres {
        pool: PgPool,
        readers: Arc<Readers<PgConnection>>,
        /// Keys that other replicas are to hear of.
        news: mpsc::UnboundedSender<Vec<String>>,
    },
}

/// A transaction; what is not committed is rolled back when it is dropped. One that only reads is a connection: each statement
/// sees what was committed before it.
#[derive(Debug)]
pub struct Tx {
    inner: Inner,
    nudges: Arc<Nudges>,
    /// Keys to nudge once this is committed.
    changed: Vec<String>,
    /// Where it waits instead of being committed.
    hold: Option<Hold>,
}

/// Takes a transaction whose work is done, for somebody who has to add something before it is committed.
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<Mutex<Option<Box<Tx>>>>);

impl Hold {
    /// The transaction that waits.
    #[must_use]
    pub fn take(&self) -> Option<Tx> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(|tx| *tx)
    }
}

#[derive(Debug)]
enum Inner {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>, mpsc::UnboundedSender<Vec<String>>),
    ReadSqlite(Reader<SqliteConnection>),
    ReadPostgres(Reader<PgConnection>),
}

/// A parameter of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `text`
    Text(String),
    /// `bigint`
    Int(i64),
    /// `boolean`
    Bool(bool),
    /// `text` that may be absent
    OptText(Option<String>),
    /// `bigint` that may be absent
    OptInt(Option<i64>),
    /// `bytea`
    Bytes(Vec<u8>),
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::OptText(text.map(str::to_owned))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::OptInt(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

/// A row of a result.
#[derive(Debug)]
pub(crate) enum Row {
    /// From SQLite.
    Sqlite(SqliteRow),
    /// From PostgreSQL.
    Postgres(PgRow),
}

impl Row {
    /// The text in a column, counted from 0.
    ///
    /// # Errors
    /// The column does not exist or holds something else.
    pub(crate) fn text(&self, column: usize) -> Result<String, Error> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// The text in a column, counted from 0, if there is one.
    ///
    /// # Errors
    /// The column does not exist or holds something else.
    pub(crate) fn opt_text(&self, column: usize) -> Result<Option<String>, Error> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// The bytes in a column, counted from 0, if there are some.
    ///
    /// # Errors
    /// The column does not exist or holds something else.
    pub(crate) fn opt_bytes(&self, column: usize) -> Result<Option<Vec<u8>>, Error> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// The number in a column, counted from 0, if there is one.
    ///
    /// # Errors
    /// The column does not exist or holds something else.
    pub(crate) fn opt_int(&self, column: usize) -> Result<Option<i64>, Error> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// The truth value in a column, counted from 0.
    ///
    /// # Errors
    /// The column does not exist or holds something else.
    pub(crate) fn bool(&self, column: usize) -> Result<bool, Error> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// The number in a column, counted from 0.
    ///
    /// # Errors
    /// The column does not exist or holds something else.
    pub(crate) fn int(&self, column: usize) -> Result<i64, Error> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }
}

// Statements are put together from words of this crate only; what users send is always a bound value.
macro_rules! bound {
    ($sql:expr, $values:expr) => {
        $values.iter().fold(sqlx::query(AssertSqlSafe($sql)), |query, value| match value {
            Value::Text(text) => query.bind(text.clone()),
            Value::Int(number) => query.bind(*number),
            Value::Bool(truth) => query.bind(*truth),
            Value::OptText(text) => query.bind(text.clone()),
            Value::OptInt(number) => query.bind(*number),
            Value::Bytes(bytes) => query.bind(bytes.clone()),
        })
    };
}

/// Words for `IN (…)` and what they stand for. The last one is repeated until there are a power of two: few different statements,
/// so that connections keep them prepared.
pub(crate) fn list(items: &[&str]) -> (String, Vec<Value>) {
    let length = if items.is_empty() { 0 } else { items.len().next_power_of_two() };
    let holes: Vec<_> = (1..=length).map(|number| format!("${number}")).collect();
    let last = items.last().copied().into_iter().cycle();
    let values = items.iter().copied().chain(last).take(length).map(Value::from).collect();
    (holes.join(", "), values)
}

impl Db {
    /// Opens `sqlite:PATH` or `postgres://…` and brings the schema up to date.
    ///
    /// # Errors
    /// The URL is of another kind, the database does not answer, or a migration fails.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let nudges = Arc::new(Nudges::default());
        let engine = if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let options = PgConnectOptions::from_str(url)?;
            let pool = PgPoolOptions::new()
                .max_connections(WRITERS)
                .acquire_timeout(PATIENCE)
                // who waits is told when it lasts too long; a line for each would only make it worse
                .acquire_slow_threshold(PATIENCE)
                // a trip for each transaction, only for those after a pause
                .test_before_acquire(false)
                .before_acquire(|connection, meta| {
                    Box::pin(async move {
                        if meta.idle_for > IDLE {
                            connection.ping().await?;
                        }
                        Ok(true)
                    })
                });
            let pool = pool.connect_with(options.clone()).await?;
            let readers =
                Readers::new(options.options([("default_transaction_read_only", "on")]), READERS);
            listen(pool.clone(), Arc::clone(&nudges)).await?;
            let (news, heard) = mpsc::unbounded_channel();
            tokio::spawn(tell(pool.clone(), heard));
            Engine::Postgres { pool, readers, news }
        } else if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url)?
                .create_if_missing(true)
                .foreign_keys(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(PATIENCE);
            let writer = SqlitePoolOptions::new()
                .max_connections(1)
                .acquire_timeout(PATIENCE)
                .acquire_slow_threshold(PATIENCE)
                // a file does not go away
                .test_before_acquire(false)
                .connect_with(options.clone())
                .await?;
            let readers = Readers::new(options.pragma("query_only", "ON"), READERS / 2);
            Engine::Sqlite { writer, readers }
        } else {
            return Err(Error::Database(
                "a database is 'sqlite:PATH' or 'postgres://USER@HOST/NAME'".to_owned(),
            ));
        };
        let db = Self { engine, nudges };
        crate::migration::run(&db).await?;
        Ok(db)
    }

    /// Begins a transaction that may write; on SQLite it waits for the one writer.
    ///
    /// # Errors
    /// The database does not answer in time.
    pub async fn begin_write(&self) -> Result<Tx, Error> {
        Ok(self.tx(match &self.engine {
            Engine::Sqlite { writer, .. } => {
                Inner::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            Engine::Postgres { pool, news, .. } => {
                Inner::Postgres(pool.begin().await?, news.clone())
            }
        }))
    }

    /// Takes a connection that only reads; each statement sees what was committed before it.
    ///
    /// # Errors
    /// The database does not answer in time.
    pub async fn begin_read(&self) -> Result<Tx, Error> {
        Ok(self.tx(match &self.engine {
            Engine::Sqlite { readers, .. } => Inner::ReadSqlite(readers.take().await?),
            Engine::Postgres { readers, .. } => Inner::ReadPostgres(readers.take().await?),
        }))
    }
}

impl Db {
    fn tx(&self, inner: Inner) -> Tx {
        Tx { inner, nudges: Arc::clone(&self.nudges), changed: Vec::new(), hold: None }
    }

    /// Whether several processes may use it at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres { .. })
    }

    /// Wakes when somebody, on any replica, commits a transaction that nudged `key`. A hint, not a fact: read again after
    /// waking, and now and then without waking.
    #[must_use]
    pub fn watch(&self, key: &str) -> Watcher {
        self.nudges.watch(key)
    }
}

/// Passes the nudges of other replicas on; reconnects for ever.
async fn listen(pool: PgPool, nudges: Arc<Nudges>) -> Result<(), Error> {
    let mut listener = sqlx::postgres::PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    let nudges = Arc::downgrade(&nudges);
    tokio::spawn(async move {
        loop {
            let heard = listener.try_recv().await;
            let Some(nudges) = nudges.upgrade() else { return };
            match heard {
                Ok(Some(notification)) => nudges.nudge(notification.payload()),
                // the connection was lost and is made anew: whatever was said meanwhile is unknown
                Ok(None) => nudges.nudge_all(),
                Err(_) => {
                    nudges.nudge_all();
                    drop(nudges);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(())
}

/// Tells other replicas what was committed here, many keys at once and outside of the transactions that changed them:
/// PostgreSQL lets only one transaction with a notification commit at a time, its write to disk included.
async fn tell(pool: PgPool, mut news: mpsc::UnboundedReceiver<Vec<String>>) {
    while let Some(first) = news.recv().await {
        let mut keys = BTreeSet::from_iter(first);
        loop {
            while let Ok(more) = news.try_recv() {
                keys.extend(more);
            }
            match try_tell(&pool, &keys).await {
                Ok(()) => break,
                Err(_) if pool.is_closed() => return,
                // listeners whose connection is lost wake everybody by themselves
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }
}

async fn try_tell(pool: &PgPool, keys: &BTreeSet<String>) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    // a hint need not survive a crash
    sqlx::query("SET LOCAL synchronous_commit TO off").execute(&mut *tx).await?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    sqlx::query("SELECT pg_notify($1, key) FROM unnest($2::text[]) AS key")
        .bind(CHANNEL)
        .bind(keys)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

impl Tx {
    /// Makes what was written durable, then wakes who watches the nudged keys.
    ///
    /// # Errors
    /// Nothing was written then.
    pub async fn commit(mut self) -> Result<(), Error> {
        if let Some(Hold(place)) = self.hold.take() {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(self));
            return Ok(());
        }
        self.changed.sort();
        self.changed.dedup();
        let changed = std::mem::take(&mut self.changed);
        let news = match self.inner {
            Inner::Sqlite(tx) => {
                tx.commit().await?;
                None
            }
            Inner::Postgres(tx, news) => {
                tx.commit().await?;
                Some(news)
            }
            Inner::ReadSqlite(_) | Inner::ReadPostgres(_) => None,
        };
        changed.iter().for_each(|key| self.nudges.nudge(key));
        if let Some(news) = news.filter(|_| !changed.is_empty()) {
            // nobody tells any more: the process ends
            let _ = news.send(changed);
        }
        Ok(())
    }

    /// From now on [`Self::commit`] lets the transaction wait in `place`, from where it is taken and committed.
    pub fn wait_in(&mut self, place: &Hold) {
        self.hold = Some(place.clone());
    }

    /// Wakes who watches `key` once this transaction is committed.
    pub fn nudge(&mut self, key: impl Into<String>) {
        self.changed.push(key.into());
    }

    /// Words that only PostgreSQL needs: SQLite has one writer.
    fn on_postgres(&self, words: &'static str) -> &'static str {
        match self.inner {
            Inner::Sqlite(_) | Inner::ReadSqlite(_) => "",
            Inner::Postgres(..) | Inner::ReadPostgres(_) => words,
        }
    }

    /// What a `SELECT` ends with so that the rows stay as they are until the transaction ends.
    /// SQLite needs nothing: it has one writer.
    pub(crate) fn for_update(&self) -> &'static str {
        self.on_postgres(" FOR UPDATE")
    }

    /// As [`Self::for_update`], but others may keep the rows, too: nobody removes them until the transaction ends.
    pub(crate) fn keep(&self) -> &'static str {
        self.on_postgres(" FOR KEY SHARE")
    }

    /// As [`Self::for_update`], but rows that somebody else changes are left out, those that are only kept are not.
    pub(crate) fn seize(&self) -> &'static str {
        self.on_postgres(" FOR NO KEY UPDATE SKIP LOCKED")
    }

    /// As [`Self::for_update`], but rows that somebody else holds are left out.
    pub(crate) fn skip_locked(&self) -> &'static str {
        self.on_postgres(" FOR UPDATE SKIP LOCKED")
    }

    /// Runs a statement and returns how many rows it touched.
    ///
    /// # Errors
    /// A constraint forbids it, or the database failed.
    pub(crate) async fn execute(
        &mut self,
        sql: impl Into<String>,
        values: &[Value],
    ) -> Result<u64, Error> {
        let sql = sql.into();
        Ok(match &mut self.inner {
            Inner::Sqlite(tx) => bound!(sql, values).execute(&mut **tx).await?.rows_affected(),
            Inner::Postgres(tx, _) => bound!(sql, values).execute(&mut **tx).await?.rows_affected(),
            Inner::ReadSqlite(reader) => {
                reader.ask(async |c| bound!(sql, values).execute(c).await).await?.rows_affected()
            }
            Inner::ReadPostgres(reader) => {
                reader.ask(async |c| bound!(sql, values).execute(c).await).await?.rows_affected()
            }
        })
    }

    /// Runs a statement and returns all its rows.
    ///
    /// # Errors
    /// A constraint forbids it, or the database failed.
    pub(crate) async fn fetch_all(
        &mut self,
        sql: impl Into<String>,
        values: &[Value],
    ) -> Result<Vec<Row>, Error> {
        let sql = sql.into();
        Ok(match &mut self.inner {
            Inner::Sqlite(tx) => bound!(sql, values)
                .fetch_all(&mut **tx)
                .await?
                .into_iter()
                .map(Row::Sqlite)
                .collect(),
            Inner::Postgres(tx, _) => bound!(sql, values)
                .fetch_all(&mut **tx)
                .await?
                .into_iter()
                .map(Row::Postgres)
                .collect(),
            Inner::ReadSqlite(reader) => reader
                .ask(async |c| bound!(sql, values).fetch_all(c).await)
                .await?
                .into_iter()
                .map(Row::Sqlite)
                .collect(),
            Inner::ReadPostgres(reader) => reader
                .ask(async |c| bound!(sql, values).fetch_all(c).await)
                .await?
                .into_iter()
                .map(Row::Postgres)
                .collect(),
        })
    }

    /// Runs a statement and returns its only row, if it has one.
    ///
    /// # Errors
    /// A constraint forbids it, or the database failed.
    pub(crate) async fn fetch_optional(
        &mut self,
        sql: impl Into<String>,
        values: &[Value],
    ) -> Result<Option<Row>, Error> {
        Ok(self.fetch_all(sql, values).await?.into_iter().next())
    }

    /// Holds off other replicas that want to do the same thing at the same time, until the transaction ends.
    /// SQLite needs nothing: it has one writer.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn lock(&mut self, number: i64) -> Result<(), Error> {
        self.advise("pg_advisory_xact_lock", number).await
    }

    /// As [`Self::lock`], but those who do this do not wait for each other.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn lock_shared(&mut self, number: i64) -> Result<(), Error> {
        self.advise("pg_advisory_xact_lock_shared", number).await
    }

    async fn advise(&mut self, function: &str, number: i64) -> Result<(), Error> {
        if matches!(self.inner, Inner::Postgres(..) | Inner::ReadPostgres(_)) {
            let sql = format!("SELECT 1::bigint FROM (SELECT {function}($1)) AS held");
            self.fetch_all(sql, &[number.into()]).await?;
        }
        Ok(())
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(e) if e.is_unique_violation() => Self::Unique(e.message().to_owned()),
            Some(e) if e.is_foreign_key_violation() => Self::ForeignKey(e.message().to_owned()),
            Some(e) if e.code().is_some_and(|c| c == "40P01" || c == "40001") => Self::Conflict,
            _ => Self::Database(error.to_string()),
        }
    }
}
