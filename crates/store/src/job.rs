//! Jobs: effects outside of the database, written in the transaction that wants them. A job is done at least once; whoever
//! does it holds a lease, and a job whose lease has expired is given to somebody else.

use crate::Error;
use crate::db::{Row, Tx};

pub(crate) const SCHEMA: &[&str] = &[
    "CREATE TABLE job (
        id text PRIMARY KEY,
        queue text NOT NULL,
        lane text NOT NULL,
        kind text NOT NULL,
        payload text NOT NULL,
        state bigint NOT NULL,
        created_at bigint NOT NULL,
        run_at bigint NOT NULL,
        deadline bigint NOT NULL,
        attempts bigint NOT NULL,
        lease text NOT NULL,
        last_error text NOT NULL,
        last_failed_at bigint,
        completed_at bigint,
        result text NOT NULL
    )",
    "CREATE INDEX job_due ON job (queue, state, run_at)",
    "CREATE INDEX job_lane ON job (queue, lane, state)",
    "CREATE INDEX job_completed ON job (completed_at)",
];

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody works on it; `run_at` says from when on somebody may.
    Pending = 1,
    /// Somebody works on it until `run_at`, when the lease expires.
    Active = 2,
    /// It ended well.
    Completed = 3,
    /// It ended badly and is not tried again.
    Failed = 4,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Id, sortable by time (`UUIDv7`).
    pub id: String,
    /// Who does such jobs.
    pub queue: String,
    /// Jobs of one lane are done one after the other, oldest first.
    pub lane: String,
    /// What is to be done.
    pub kind: String,
    /// With what, as JSON.
    pub payload: String,
    /// Where it stands.
    pub state: State,
    /// Microseconds since 1970.
    pub created_at_us: i64,
    /// From when on it may be done, or when the lease expires.
    pub run_at_us: i64,
    /// After this it has failed, whatever else.
    pub deadline_us: i64,
    /// How often somebody began.
    pub attempts: i64,
    /// Who works on it.
    pub lease: String,
    /// Why it failed the last time, or why it waits.
    pub last_error: String,
    /// When.
    pub last_failed_at_us: Option<i64>,
    /// When it ended.
    pub completed_at_us: Option<i64>,
    /// What came out.
    pub result: String,
}

impl Job {
    /// A job that is due at once.
    #[must_use]
    pub fn new(
        id: String,
        queue: String,
        lane: String,
        kind: &str,
        payload: String,
        now_us: i64,
        deadline_us: i64,
    ) -> Self {
        Self {
            id,
            queue,
            lane,
            kind: kind.to_owned(),
            payload,
            state: State::Pending,
            created_at_us: now_us,
            run_at_us: now_us,
            deadline_us,
            attempts: 0,
            lease: String::new(),
            last_error: String::new(),
            last_failed_at_us: None,
            completed_at_us: None,
            result: String::new(),
        }
    }
}

const COLUMNS: &str = "id, queue, lane, kind, payload, state, created_at, run_at, deadline, attempts, lease, last_error, last_failed_at, completed_at, result";

fn from_row(row: &Row) -> Result<Job, Error> {
    Ok(Job {
        id: row.text(0)?,
        queue: row.text(1)?,
        lane: row.text(2)?,
        kind: row.text(3)?,
        payload: row.text(4)?,
        state: match row.int(5)? {
            1 => State::Pending,
            2 => State::Active,
            3 => State::Completed,
            _ => State::Failed,
        },
        created_at_us: row.int(6)?,
        run_at_us: row.int(7)?,
        deadline_us: row.int(8)?,
        attempts: row.int(9)?,
        lease: row.text(10)?,
        last_error: row.text(11)?,
        last_failed_at_us: row.opt_int(12)?,
        completed_at_us: row.opt_int(13)?,
        result: row.text(14)?,
    })
}

/// Adds a job and wakes its queue.
///
/// # Errors
/// The database failed.
pub async fn add(tx: &mut Tx, job: &Job) -> Result<(), Error> {
    tx.execute(
        format!("INSERT INTO job ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"),
        &[
            (&job.id).into(),
            (&job.queue).into(),
            (&job.lane).into(),
            (&job.kind).into(),
            (&job.payload).into(),
            (job.state as i64).into(),
            job.created_at_us.into(),
            job.run_at_us.into(),
            job.deadline_us.into(),
            job.attempts.into(),
            (&job.lease).into(),
            (&job.last_error).into(),
            job.last_failed_at_us.into(),
            job.completed_at_us.into(),
            (&job.result).into(),
        ],
    )
    .await?;
    wake(tx, &job.queue);
    Ok(())
}

/// Wakes who works on a queue.
pub fn wake(tx: &mut Tx, queue: &str) {
    tx.nudge(format!("job/{queue}"));
}

/// Takes the oldest due job of a queue whose lane is free and leases it until `until_us`.
///
/// # Errors
/// The database failed.
pub async fn claim(
    tx: &mut Tx,
    queue: &str,
    lease: &str,
    now_us: i64,
    until_us: i64,
) -> Result<Option<Job>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM job WHERE queue = $1 AND state IN (1, 2) AND run_at <= $2 AND NOT EXISTS (
            SELECT 1 FROM job AS before WHERE before.queue = job.queue AND before.lane = job.lane
            AND before.state IN (1, 2) AND before.id < job.id)
         ORDER BY id LIMIT 1{}",
        tx.skip_locked()
    );
    let Some(row) = tx.fetch_optional(sql, &[queue.into(), now_us.into()]).await? else {
        return Ok(None);
    };
    let mut job = from_row(&row)?;
    job.state = State::Active;
    job.run_at_us = until_us;
    job.attempts += 1;
    lease.clone_into(&mut job.lease);
    update(tx, &job).await?;
    Ok(Some(job))
}

/// Gives a job back that `lease` has taken and has not begun with; somebody else may take it at once.
///
/// # Errors
/// The database failed.
pub async fn give_back(tx: &mut Tx, job: &Job, lease: &str, now_us: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE job SET state = 1, run_at = $3, lease = '' WHERE id = $1 AND lease = $2 AND state = 2",
        &[(&job.id).into(), lease.into(), now_us.into()],
    )
    .await?;
    wake(tx, &job.queue);
    Ok(())
}

/// Lets what `lease` has taken of a queue and was to end after `after_us` end at `until_us`.
///
/// # Errors
/// The database failed.
pub async fn shorten(
    tx: &mut Tx,
    queue: &str,
    lease: &str,
    after_us: i64,
    until_us: i64,
) -> Result<(), Error> {
    let jobs = tx
        .execute(
            "UPDATE job SET run_at = $4 WHERE queue = $1 AND lease = $2 AND state = 2 AND run_at > $3",
            &[queue.into(), lease.into(), after_us.max(until_us).into(), until_us.into()],
        )
        .await?;
    if jobs > 0 {
        wake(tx, queue);
    }
    Ok(())
}

/// When the next job of a queue is due, microseconds since 1970.
///
/// # Errors
/// The database failed.
pub async fn next_due(tx: &mut Tx, queue: &str) -> Result<Option<i64>, Error> {
    let row = tx
        .fetch_optional(
            "SELECT min(run_at) FROM job WHERE queue = $1 AND state IN (1, 2)",
            &[queue.into()],
        )
        .await?;
    row.map_or(Ok(None), |row| row.opt_int(0))
}

/// When something of a queue becomes due after a time, microseconds since 1970. What is due already waits for its lane.
///
/// # Errors
/// The database failed.
pub async fn due_after(tx: &mut Tx, queue: &str, after_us: i64) -> Result<Option<i64>, Error> {
    let sql = "SELECT min(run_at) FROM job WHERE queue = $1 AND state IN (1, 2) AND run_at > $2";
    let row = tx.fetch_optional(sql, &[queue.into(), after_us.into()]).await?;
    row.map_or(Ok(None), |row| row.opt_int(0))
}

/// Stores where a job stands.
///
/// # Errors
/// The database failed.
pub async fn update(tx: &mut Tx, job: &Job) -> Result<(), Error> {
    tx.execute(
        "UPDATE job SET state = $2, run_at = $3, attempts = $4, lease = $5, last_error = $6, last_failed_at = $7,
         completed_at = $8, result = $9, payload = $10 WHERE id = $1",
        &[
            (&job.id).into(),
            (job.state as i64).into(),
            job.run_at_us.into(),
            job.attempts.into(),
            (&job.lease).into(),
            (&job.last_error).into(),
            job.last_failed_at_us.into(),
            job.completed_at_us.into(),
            (&job.result).into(),
            (&job.payload).into(),
        ],
    )
    .await?;
    // the next one of the lane may have become free
    if matches!(job.state, State::Completed | State::Failed) {
        wake(tx, &job.queue);
    }
    Ok(())
}

/// One job.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, id: &str) -> Result<Option<Job>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM job WHERE id = $1");
    tx.fetch_optional(sql, &[id.into()]).await?.as_ref().map(from_row).transpose()
}

/// As [`get`]; the row stays as it is until the transaction ends.
///
/// # Errors
/// The database failed.
pub async fn get_for_update(tx: &mut Tx, id: &str) -> Result<Option<Job>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM job WHERE id = $1{}", tx.for_update());
    tx.fetch_optional(sql, &[id.into()]).await?.as_ref().map(from_row).transpose()
}

/// Jobs of a queue, or of all, newest first.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    queue: Option<&str>,
    limit: i64,
    offset: i64,
) -> Result<Vec<Job>, Error> {
    let mut values = vec![limit.into(), offset.into()];
    let mut filter = "";
    if let Some(queue) = queue {
        values.push(queue.into());
        filter = "WHERE queue = $3";
    }
    let sql = format!("SELECT {COLUMNS} FROM job {filter} ORDER BY id DESC LIMIT $1 OFFSET $2");
    tx.fetch_all(sql, &values).await?.iter().map(from_row).collect()
}

/// Names of the queues that have jobs.
///
/// # Errors
/// The database failed.
pub async fn queues(tx: &mut Tx) -> Result<Vec<String>, Error> {
    tx.fetch_all("SELECT DISTINCT queue FROM job ORDER BY queue", &[])
        .await?
        .iter()
        .map(|row| row.text(0))
        .collect()
}

/// Jobs of a lane that have not ended, oldest first.
///
/// # Errors
/// The database failed.
pub async fn open_of_lane(tx: &mut Tx, queue: &str, lane: &str) -> Result<Vec<Job>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM job WHERE queue = $1 AND lane = $2 AND state IN (1, 2) ORDER BY id"
    );
    tx.fetch_all(sql, &[queue.into(), lane.into()]).await?.iter().map(from_row).collect()
}

/// Removes a job that nobody works on; false when there is none.
///
/// # Errors
/// The database failed.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<bool, Error> {
    Ok(tx.execute("DELETE FROM job WHERE id = $1 AND state <> 2", &[id.into()]).await? == 1)
}

/// Removes jobs that ended before a time, and ends those whose deadline has passed. Returns how many ran out.
///
/// # Errors
/// The database failed.
pub async fn sweep(tx: &mut Tx, now_us: i64, ended_before_us: i64) -> Result<u64, Error> {
    tx.execute("DELETE FROM job WHERE completed_at < $1", &[ended_before_us.into()]).await?;
    tx.execute(
        "UPDATE job SET state = 4, completed_at = $1, last_failed_at = $1,
         last_error = CASE WHEN last_error = '' THEN 'nobody did it in time' ELSE last_error END
         WHERE state IN (1, 2) AND deadline < $1",
        &[now_us.into()],
    )
    .await
}

/// Makes what waits in a queue due at once, because something that it may wait for has happened.
///
/// # Errors
/// The database failed.
pub async fn hurry(tx: &mut Tx, queue: &str, now_us: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE job SET run_at = $2 WHERE queue = $1 AND state = 1 AND run_at > $2",
        &[queue.into(), now_us.into()],
    )
    .await?;
    wake(tx, queue);
    Ok(())
}

/// How many jobs have not ended, by queue; queues whose jobs have all ended are told as well, so that a count goes back to zero.
///
/// # Errors
/// The database failed.
pub async fn open(tx: &mut Tx) -> Result<Vec<(String, i64)>, Error> {
    let sql = "SELECT queue, count(CASE WHEN state <= 2 THEN 1 END) FROM job GROUP BY queue";
    let rows = tx.fetch_all(sql, &[]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}
