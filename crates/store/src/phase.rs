//! How long each step between power-on and phoned home took.

use crate::Error;
use crate::db::Tx;

pub(crate) const SCHEMA: &[&str] = &["CREATE TABLE phase (
        machine text NOT NULL REFERENCES machine (id) ON DELETE CASCADE,
        allocation text NOT NULL,
        started_at bigint NOT NULL,
        name text NOT NULL,
        duration bigint NOT NULL,
        message text NOT NULL,
        PRIMARY KEY (machine, started_at, name)
    )"];

/// One finished step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// When it began, microseconds since 1970.
    pub started_at_us: i64,
    /// What it was.
    pub name: String,
    /// How long it took, in microseconds.
    pub duration_us: i64,
    /// What was done, for a human.
    pub message: String,
}

/// Records a step, of an allocation or (empty) of none; told twice, it counts once. What belongs to an allocation is known by its
/// id and not by time, because clocks of machines differ from ours.
///
/// # Errors
/// The machine does not exist.
pub async fn record(
    tx: &mut Tx,
    machine: &str,
    allocation: &str,
    phase: &Phase,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO phase (machine, started_at, name, duration, message, allocation) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (machine, started_at, name) DO UPDATE SET duration = excluded.duration, message = excluded.message",
        &[
            machine.into(),
            phase.started_at_us.into(),
            (&phase.name).into(),
            phase.duration_us.into(),
            (&phase.message).into(),
            allocation.into(),
        ],
    )
    .await?;
    tx.nudge(format!("machine/{machine}"));
    Ok(())
}

/// The steps of a machine, of one allocation or of all its lives, oldest first.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    machine: &str,
    allocation: Option<&str>,
) -> Result<Vec<Phase>, Error> {
    let mut sql =
        "SELECT started_at, name, duration, message FROM phase WHERE machine = $1".to_owned();
    let mut values = vec![machine.into()];
    if let Some(allocation) = allocation {
        sql += " AND allocation = $2";
        values.push(allocation.into());
    }
    sql += " ORDER BY started_at, name";
    tx.fetch_all(sql, &values)
        .await?
        .iter()
        .map(|row| {
            Ok(Phase {
                started_at_us: row.int(0)?,
                name: row.text(1)?,
                duration_us: row.int(2)?,
                message: row.text(3)?,
            })
        })
        .collect()
}

/// Forgets the steps of a machine before a time: with each power-on, and nobody reads those of a former user.
///
/// # Errors
/// The database failed.
pub async fn forget(tx: &mut Tx, machine: &str, before_us: i64) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM phase WHERE machine = $1 AND started_at < $2",
        &[machine.into(), before_us.into()],
    )
    .await?;
    Ok(())
}
