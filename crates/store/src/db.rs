//! The two engines behind one set of verbs. No other file names a driver.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{PgPool, Postgres, Row as _, Sqlite, SqlitePool, Transaction};

use crate::Error;

/// A database that has been opened and migrated; cheap to clone.
#[derive(Clone, Debug)]
pub struct Db(Engine);

#[derive(Clone, Debug)]
enum Engine {
    /// One writer, because SQLite has one; readers do not wait for it (WAL).
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

/// A transaction; what is not committed is rolled back when it is dropped.
#[derive(Debug)]
pub struct Tx(Inner);

#[derive(Debug)]
enum Inner {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
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
pub enum Row {
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
    pub fn text(&self, column: usize) -> Result<String, Error> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// The number in a column, counted from 0.
    ///
    /// # Errors
    /// The column does not exist or holds something else.
    pub fn int(&self, column: usize) -> Result<i64, Error> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }
}

macro_rules! bound {
    ($sql:expr, $values:expr) => {
        $values.iter().fold(sqlx::query($sql), |query, value| match value {
            Value::Text(text) => query.bind(text.clone()),
            Value::Int(number) => query.bind(*number),
            Value::Bool(truth) => query.bind(*truth),
        })
    };
}

impl Db {
    /// Opens `sqlite:PATH` or `postgres://…` and brings the schema up to date.
    ///
    /// # Errors
    /// The URL is of another kind, the database does not answer, or a migration fails.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let db = if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let pool =
                PgPoolOptions::new().max_connections(16).acquire_timeout(Duration::from_secs(10));
            Self(Engine::Postgres(pool.connect(url).await?))
        } else if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url)?
                .create_if_missing(true)
                .foreign_keys(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(10));
            let writer =
                SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
            let readers = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
            Self(Engine::Sqlite { writer, readers })
        } else {
            return Err(Error::Database(
                "a database is 'sqlite:PATH' or 'postgres://USER@HOST/NAME'".to_owned(),
            ));
        };
        crate::migration::run(&db).await?;
        Ok(db)
    }

    /// Begins a transaction that may write; on SQLite it waits for the one writer.
    ///
    /// # Errors
    /// The database does not answer in time.
    pub async fn begin_write(&self) -> Result<Tx, Error> {
        Ok(Tx(match &self.0 {
            Engine::Sqlite { writer, .. } => {
                Inner::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            Engine::Postgres(pool) => Inner::Postgres(pool.begin().await?),
        }))
    }

    /// Begins a transaction that only reads.
    ///
    /// # Errors
    /// The database does not answer in time.
    pub async fn begin_read(&self) -> Result<Tx, Error> {
        Ok(Tx(match &self.0 {
            Engine::Sqlite { readers, .. } => Inner::Sqlite(readers.begin().await?),
            Engine::Postgres(pool) => Inner::Postgres(pool.begin_with("BEGIN READ ONLY").await?),
        }))
    }
}

impl Tx {
    /// Makes what was written durable.
    ///
    /// # Errors
    /// Nothing was written then.
    pub async fn commit(self) -> Result<(), Error> {
        match self.0 {
            Inner::Sqlite(tx) => tx.commit().await?,
            Inner::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// Runs a statement and returns how many rows it touched.
    ///
    /// # Errors
    /// A constraint forbids it, or the database failed.
    pub async fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, Error> {
        Ok(match &mut self.0 {
            Inner::Sqlite(tx) => bound!(sql, values).execute(&mut **tx).await?.rows_affected(),
            Inner::Postgres(tx) => bound!(sql, values).execute(&mut **tx).await?.rows_affected(),
        })
    }

    /// Runs a statement and returns all its rows.
    ///
    /// # Errors
    /// A constraint forbids it, or the database failed.
    pub async fn fetch_all(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Vec<Row>, Error> {
        Ok(match &mut self.0 {
            Inner::Sqlite(tx) => bound!(sql, values)
                .fetch_all(&mut **tx)
                .await?
                .into_iter()
                .map(Row::Sqlite)
                .collect(),
            Inner::Postgres(tx) => bound!(sql, values)
                .fetch_all(&mut **tx)
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
    pub async fn fetch_optional(
        &mut self,
        sql: &'static str,
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
        if matches!(self.0, Inner::Postgres(_)) {
            self.fetch_all(
                "SELECT 1::bigint FROM (SELECT pg_advisory_xact_lock($1)) AS held",
                &[number.into()],
            )
            .await?;
        }
        Ok(())
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(e) if e.is_unique_violation() => Self::Unique(e.message().to_owned()),
            Some(e) if e.is_foreign_key_violation() => Self::ForeignKey(e.message().to_owned()),
            _ => Self::Database(error.to_string()),
        }
    }
}
