//! How often somebody called within a minute, over all replicas.

use crate::Error;
use crate::db::Tx;

pub(crate) const SCHEMA: &[&str] = &["CREATE TABLE rate (
        subject text NOT NULL,
        minute bigint NOT NULL,
        calls bigint NOT NULL,
        PRIMARY KEY (subject, minute)
    )"];

/// Adds calls of a subject in a minute (counted since 1970) and returns how many there are now.
///
/// # Errors
/// The database failed.
pub async fn add(tx: &mut Tx, subject: &str, minute: i64, calls: i64) -> Result<i64, Error> {
    let row = tx
        .fetch_optional(
            "INSERT INTO rate (subject, minute, calls) VALUES ($1, $2, $3)
             ON CONFLICT (subject, minute) DO UPDATE SET calls = rate.calls + excluded.calls
             RETURNING calls",
            &[subject.into(), minute.into(), calls.into()],
        )
        .await?;
    row.map_or(Ok(calls), |row| row.int(0))
}

/// Forgets minutes before this one.
///
/// # Errors
/// The database failed.
pub async fn forget(tx: &mut Tx, before_minute: i64) -> Result<u64, Error> {
    tx.execute("DELETE FROM rate WHERE minute < $1", &[before_minute.into()]).await
}
