//! Provisioning events: one narrow row per machine, so that a sign of life does not rewrite the machine.

use crate::Error;
use crate::db::{Row, Tx};

pub(crate) const SCHEMA: &[&str] = &[
    "CREATE TABLE machine_event (
        machine text PRIMARY KEY REFERENCES machine (id) ON DELETE CASCADE,
        body text NOT NULL,
        last_event_at bigint NOT NULL,
        liveliness bigint NOT NULL,
        crash_loop boolean NOT NULL,
        failed_reclaim boolean NOT NULL
    )",
    "CREATE INDEX machine_event_liveliness ON machine_event (liveliness, last_event_at)",
];

/// What happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// Id of the machine.
    pub machine: String,
    /// The contract's `MachineRecentProvisioningEvents` as JSON: the last events and the last error.
    pub body: String,
    /// Microseconds since 1970 of the last event, also of one that was not kept.
    pub last_event_at_us: i64,
    /// The contract's `MachineLiveliness`.
    pub liveliness: i64,
    /// Began again and again without reaching its goal.
    pub crash_loop: bool,
    /// The former operating system still runs although it was released.
    pub failed_reclaim: bool,
}

const COLUMNS: &str = "machine, body, last_event_at, liveliness, crash_loop, failed_reclaim";

fn from_row(row: &Row) -> Result<Events, Error> {
    Ok(Events {
        machine: row.text(0)?,
        body: row.text(1)?,
        last_event_at_us: row.int(2)?,
        liveliness: row.int(3)?,
        crash_loop: row.bool(4)?,
        failed_reclaim: row.bool(5)?,
    })
}

/// The events of a machine.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, machine: &str) -> Result<Option<Events>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM machine_event WHERE machine = $1");
    tx.fetch_optional(sql, &[machine.into()]).await?.as_ref().map(from_row).transpose()
}

/// As [`get`]; the row stays as it is until the transaction ends.
///
/// # Errors
/// The database failed.
pub async fn get_for_update(tx: &mut Tx, machine: &str) -> Result<Option<Events>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM machine_event WHERE machine = $1{}", tx.for_update());
    tx.fetch_optional(sql, &[machine.into()]).await?.as_ref().map(from_row).transpose()
}

/// The events of all machines, sorted by machine.
///
/// # Errors
/// The database failed.
pub async fn all(tx: &mut Tx) -> Result<Vec<Events>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM machine_event ORDER BY machine");
    tx.fetch_all(sql, &[]).await?.iter().map(from_row).collect()
}

/// Stores the events of a machine.
///
/// # Errors
/// The machine does not exist.
pub async fn put(tx: &mut Tx, events: &Events) -> Result<(), Error> {
    tx.execute(
        format!(
            "INSERT INTO machine_event ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (machine) DO UPDATE SET body = excluded.body, last_event_at = excluded.last_event_at,
             liveliness = excluded.liveliness, crash_loop = excluded.crash_loop, failed_reclaim = excluded.failed_reclaim"
        ),
        &[
            (&events.machine).into(),
            (&events.body).into(),
            events.last_event_at_us.into(),
            events.liveliness.into(),
            events.crash_loop.into(),
            events.failed_reclaim.into(),
        ],
    )
    .await?;
    tx.nudge(format!("machine/{}", events.machine));
    Ok(())
}

/// Judges who was silent since `silent_since_us`: machines that hold a wait stream are alive, free ones are dead, allocated ones
/// unknown. Returns how many changed. Numbers are the contract's `MachineLiveliness`.
///
/// # Errors
/// The database failed.
pub async fn judge(tx: &mut Tx, silent_since_us: i64) -> Result<u64, Error> {
    const ALIVE: i64 = 1;
    const DEAD: i64 = 2;
    const UNKNOWN: i64 = 3;
    let mut changed = 0;
    for (verdict, condition) in [
        (ALIVE, "(last_event_at >= $2 OR machine IN (SELECT machine FROM waiting))"),
        (
            DEAD,
            "last_event_at < $2 AND machine NOT IN (SELECT machine FROM waiting)
             AND machine IN (SELECT id FROM machine WHERE allocation IS NULL)",
        ),
        (
            UNKNOWN,
            "last_event_at < $2 AND machine NOT IN (SELECT machine FROM waiting)
             AND machine IN (SELECT id FROM machine WHERE allocation IS NOT NULL)",
        ),
    ] {
        let sql = format!(
            "UPDATE machine_event SET liveliness = $1 WHERE liveliness <> $1 AND {condition}"
        );
        changed += tx.execute(sql, &[verdict.into(), silent_since_us.into()]).await?;
    }
    Ok(changed)
}
