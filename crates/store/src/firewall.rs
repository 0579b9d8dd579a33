//! What firewalls tell about themselves, and which tokens they have. Their rules are part of the machine and cannot be touched here.

use crate::Error;
use crate::db::Tx;

pub(crate) const SCHEMA: &[&str] = &[
    "CREATE TABLE firewall_status (
        machine text PRIMARY KEY REFERENCES machine (id) ON DELETE CASCADE,
        allocation text NOT NULL,
        applied_generation bigint NOT NULL,
        applied_at bigint NOT NULL,
        reported_at bigint NOT NULL,
        error text NOT NULL,
        counters text NOT NULL
    )",
    "CREATE TABLE firewall_token (
        token text PRIMARY KEY REFERENCES token (id) ON DELETE CASCADE,
        machine text NOT NULL REFERENCES machine (id) ON DELETE CASCADE,
        serial bigint NOT NULL,
        UNIQUE (machine, serial)
    )",
];

/// What the agent of a firewall told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Id of the machine.
    pub machine: String,
    /// Id of the allocation that it is about.
    pub allocation: String,
    /// Generation of the allocation that is applied.
    pub applied_generation: i64,
    /// When that was first reported, microseconds since 1970.
    pub applied_at_us: i64,
    /// When it was heard last, microseconds since 1970.
    pub reported_at_us: i64,
    /// Why it does not apply what it should; empty when all is well.
    pub error: String,
    /// Its counters as JSON.
    pub counters: String,
}

/// What the firewall told in this allocation.
///
/// # Errors
/// The database failed.
pub async fn status(tx: &mut Tx, machine: &str, allocation: &str) -> Result<Option<Status>, Error> {
    let row = tx
        .fetch_optional(
            "SELECT machine, allocation, applied_generation, applied_at, reported_at, error, counters
             FROM firewall_status WHERE machine = $1 AND allocation = $2",
            &[machine.into(), allocation.into()],
        )
        .await?;
    row.map(|row| {
        Ok(Status {
            machine: row.text(0)?,
            allocation: row.text(1)?,
            applied_generation: row.int(2)?,
            applied_at_us: row.int(3)?,
            reported_at_us: row.int(4)?,
            error: row.text(5)?,
            counters: row.text(6)?,
        })
    })
    .transpose()
}

/// Stores what a firewall told. The time of applying stays while generation and allocation do.
///
/// # Errors
/// The machine does not exist.
pub async fn put_status(tx: &mut Tx, status: &Status) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO firewall_status (machine, allocation, applied_generation, applied_at, reported_at, error, counters)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (machine) DO UPDATE SET
            applied_at = CASE WHEN excluded.applied_generation = firewall_status.applied_generation
                    AND excluded.allocation = firewall_status.allocation
                THEN firewall_status.applied_at ELSE excluded.applied_at END,
            allocation = excluded.allocation, applied_generation = excluded.applied_generation,
            reported_at = excluded.reported_at, error = excluded.error, counters = excluded.counters",
        &[
            (&status.machine).into(),
            (&status.allocation).into(),
            status.applied_generation.into(),
            status.applied_at_us.into(),
            status.reported_at_us.into(),
            (&status.error).into(),
            (&status.counters).into(),
        ],
    )
    .await?;
    Ok(())
}

/// Notes that a token is the newest one of a firewall. All others end but `current`, with which it was asked for: the firewall may
/// lose the answer. Who calls holds the machine.
///
/// # Errors
/// The token or the machine does not exist.
pub async fn add_token(
    tx: &mut Tx,
    machine: &str,
    token: &str,
    current: &str,
) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM token WHERE id IN (SELECT token FROM firewall_token WHERE machine = $1 AND token <> $2)",
        &[machine.into(), current.into()],
    )
    .await?;
    tx.execute(
        "INSERT INTO firewall_token (token, machine, serial)
         VALUES ($1, $2, (SELECT coalesce(max(serial), 0) + 1 FROM firewall_token WHERE machine = $2))",
        &[token.into(), machine.into()],
    )
    .await?;
    Ok(())
}

/// Ends the tokens of a firewall that are older than this one, because this one has arrived.
///
/// # Errors
/// The database failed.
pub async fn end_older_tokens(tx: &mut Tx, machine: &str, token: &str) -> Result<u64, Error> {
    tx.execute(
        "DELETE FROM token WHERE id IN (SELECT older.token FROM firewall_token older
            JOIN firewall_token newer ON newer.machine = older.machine
            WHERE newer.token = $2 AND newer.machine = $1 AND older.serial < newer.serial)",
        &[machine.into(), token.into()],
    )
    .await
}

/// Ends all tokens of a firewall and forgets what it told, with the allocation.
///
/// # Errors
/// The database failed.
pub async fn release(tx: &mut Tx, machine: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM token WHERE id IN (SELECT token FROM firewall_token WHERE machine = $1)",
        &[machine.into()],
    )
    .await?;
    tx.execute("DELETE FROM firewall_status WHERE machine = $1", &[machine.into()]).await?;
    Ok(())
}
