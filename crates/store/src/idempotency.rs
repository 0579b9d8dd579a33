//! Calls that were done and must not be done again: what was asked and what was answered, for a while. An entry is written in
//! the transaction of what the call does, so neither is there without the other.

use crate::Error;
use crate::db::Tx;

pub(crate) const SCHEMA: &[&str] = &[
    "CREATE TABLE idempotency (
        id text PRIMARY KEY,
        request text NOT NULL,
        response text NOT NULL,
        expires_at_us bigint NOT NULL
    )",
    "CREATE INDEX idempotency_expires ON idempotency (expires_at_us)",
];

/// A call that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Digest of what was asked.
    pub request: String,
    /// What was answered, sealed.
    pub response: String,
}

/// The call with this id, if it was done.
///
/// # Errors
/// The database failed.
pub async fn find(tx: &mut Tx, id: &str, now_us: i64) -> Result<Option<Done>, Error> {
    let row = tx
        .fetch_optional(
            "SELECT request, response FROM idempotency WHERE id = $1 AND expires_at_us > $2",
            &[id.into(), now_us.into()],
        )
        .await?;
    row.map(|row| Ok(Done { request: row.text(0)?, response: row.text(1)? })).transpose()
}

/// Begins a call; false when it is done already. Somebody who is doing the same call right now is waited for.
///
/// # Errors
/// The database failed.
pub async fn claim(
    tx: &mut Tx,
    id: &str,
    request: &str,
    now_us: i64,
    expires_at_us: i64,
) -> Result<bool, Error> {
    tx.execute(
        "DELETE FROM idempotency WHERE id = $1 AND expires_at_us <= $2",
        &[id.into(), now_us.into()],
    )
    .await?;
    let claimed = tx
        .execute(
            "INSERT INTO idempotency (id, request, response, expires_at_us) VALUES ($1, $2, '', $3)
             ON CONFLICT (id) DO NOTHING",
            &[id.into(), request.into(), expires_at_us.into()],
        )
        .await?;
    Ok(claimed > 0)
}

/// Notes the answer of a call that this transaction has begun.
///
/// # Errors
/// The database failed.
pub async fn answer(tx: &mut Tx, id: &str, response: &str) -> Result<(), Error> {
    tx.execute("UPDATE idempotency SET response = $2 WHERE id = $1", &[id.into(), response.into()])
        .await?;
    Ok(())
}

/// Forgets calls whose time is over.
///
/// # Errors
/// The database failed.
pub async fn sweep(tx: &mut Tx, now_us: i64) -> Result<u64, Error> {
    tx.execute("DELETE FROM idempotency WHERE expires_at_us <= $1", &[now_us.into()]).await
}
