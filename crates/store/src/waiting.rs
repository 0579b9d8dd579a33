//! The pool: machines whose installer holds a wait stream open. A row lives as long as its stream; taking a machine removes
//! the row. Streams belong to a replica, which proves with a lease that it is alive, so that ten thousand open streams cost one
//! write each time the lease is renewed.

use crate::Error;
use crate::db::{Row, Tx};

pub(crate) const SCHEMA: &[&str] = &[
    "CREATE TABLE replica (id text PRIMARY KEY, expires_at bigint NOT NULL)",
    "CREATE TABLE waiting (
        machine text PRIMARY KEY REFERENCES machine (id) ON DELETE CASCADE,
        partition text NOT NULL,
        size text NOT NULL,
        rack text NOT NULL,
        electable boolean NOT NULL,
        position bigint NOT NULL,
        replica text NOT NULL,
        stream text NOT NULL
    )",
    "CREATE INDEX waiting_pool ON waiting (partition, size, electable, position)",
    "CREATE INDEX waiting_rack ON waiting (partition, size, electable, rack, position)",
    "CREATE INDEX waiting_replica ON waiting (replica)",
];

/// A machine that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Id of the machine.
    pub machine: String,
    /// Where it stands.
    pub partition: String,
    /// Its size.
    pub size: String,
    /// Its rack.
    pub rack: String,
    /// Whether it may be chosen without being named.
    pub electable: bool,
    /// A random number by which the pool is ordered, so that concurrent callers begin at different machines.
    pub position: i64,
    /// Which replica holds its stream.
    pub replica: String,
    /// Which stream.
    pub stream: String,
}

const COLUMNS: &str = "machine, partition, size, rack, electable, position, replica, stream";

fn from_row(row: &Row) -> Result<Waiting, Error> {
    Ok(Waiting {
        machine: row.text(0)?,
        partition: row.text(1)?,
        size: row.text(2)?,
        rack: row.text(3)?,
        electable: row.bool(4)?,
        position: row.int(5)?,
        replica: row.text(6)?,
        stream: row.text(7)?,
    })
}

/// Puts a machine into the pool; a newer stream of the same machine replaces an older one.
///
/// # Errors
/// The machine does not exist.
pub async fn put(tx: &mut Tx, waiting: &Waiting) -> Result<(), Error> {
    tx.execute("DELETE FROM waiting WHERE machine = $1", &[(&waiting.machine).into()]).await?;
    tx.execute(
        format!("INSERT INTO waiting ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"),
        &[
            (&waiting.machine).into(),
            (&waiting.partition).into(),
            (&waiting.size).into(),
            (&waiting.rack).into(),
            waiting.electable.into(),
            waiting.position.into(),
            (&waiting.replica).into(),
            (&waiting.stream).into(),
        ],
    )
    .await?;
    Ok(())
}

/// Takes a machine out of the pool when its stream ends, unless a newer stream put it there again.
///
/// # Errors
/// The database failed.
pub async fn end(tx: &mut Tx, machine: &str, stream: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM waiting WHERE machine = $1 AND stream = $2",
        &[machine.into(), stream.into()],
    )
    .await?;
    Ok(())
}

/// Takes a machine, whose row the caller holds, out of the pool for an allocation; false when it does not wait, or when only one
/// that may be chosen is wanted and it may not.
///
/// # Errors
/// The database failed.
pub async fn take(tx: &mut Tx, machine: &str, electable: bool) -> Result<bool, Error> {
    let sql = "DELETE FROM waiting WHERE machine = $1 AND (electable OR NOT $2)";
    Ok(tx.execute(sql, &[machine.into(), electable.into()]).await? == 1)
}

/// Whether a machine waits.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, machine: &str) -> Result<Option<Waiting>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM waiting WHERE machine = $1");
    tx.fetch_optional(sql, &[machine.into()]).await?.as_ref().map(from_row).transpose()
}

/// Whether a machine that exists is free and waits: ten thousand streams ask this now and then.
///
/// # Errors
/// The database failed.
pub async fn is_idle(tx: &mut Tx, machine: &str) -> Result<bool, Error> {
    let sql = "SELECT w.machine FROM waiting w JOIN machine m ON m.id = w.machine
         WHERE w.machine = $1 AND m.allocation IS NULL";
    Ok(tx.fetch_optional(sql, &[machine.into()]).await?.is_some())
}

/// Lets a waiting machine be chosen or not.
///
/// # Errors
/// The database failed.
pub async fn set_electable(tx: &mut Tx, machine: &str, electable: bool) -> Result<(), Error> {
    tx.execute(
        "UPDATE waiting SET electable = $2 WHERE machine = $1",
        &[machine.into(), electable.into()],
    )
    .await?;
    Ok(())
}

/// Gives a waiting machine another size.
///
/// # Errors
/// The database failed.
pub async fn set_size(
    tx: &mut Tx,
    machine: &str,
    size: &str,
    electable: bool,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE waiting SET size = $2, electable = $3 WHERE machine = $1",
        &[machine.into(), size.into(), electable.into()],
    )
    .await?;
    Ok(())
}

/// Up to `limit` machines that may be chosen, from a position on and around the end of the order.
///
/// # Errors
/// The database failed.
pub async fn sample(
    tx: &mut Tx,
    partition: &str,
    size: &str,
    from: i64,
    limit: i64,
) -> Result<Vec<Waiting>, Error> {
    let mut found = Vec::new();
    for (compare, rest) in [(">=", limit), ("<", limit)] {
        let left = rest - i64::try_from(found.len()).unwrap_or(rest);
        if left <= 0 {
            break;
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM waiting
             WHERE partition = $1 AND size = $2 AND electable = $3 AND position {compare} $4 ORDER BY position LIMIT $5"
        );
        let values = [partition.into(), size.into(), true.into(), from.into(), left.into()];
        for row in tx.fetch_all(sql, &values).await? {
            found.push(from_row(&row)?);
        }
    }
    Ok(found)
}

/// One machine that may be chosen of each rack, in one statement that jumps from rack to rack without reading the others.
///
/// # Errors
/// The database failed.
pub async fn one_per_rack(
    tx: &mut Tx,
    partition: &str,
    size: &str,
    from: i64,
) -> Result<Vec<Waiting>, Error> {
    const POOL: &str = "partition = $1 AND size = $2 AND electable = $3";
    let first = |compare: &str| {
        format!(
            "SELECT machine FROM waiting w WHERE {POOL} AND w.rack = hop.rack
             AND position {compare} $4 ORDER BY position LIMIT 1"
        )
    };
    let sql = format!(
        "WITH RECURSIVE hop (rack) AS (
            SELECT min(rack) FROM waiting WHERE {POOL}
            UNION ALL
            SELECT (SELECT min(w.rack) FROM waiting w WHERE {POOL} AND w.rack > hop.rack) FROM hop
            WHERE hop.rack IS NOT NULL)
         SELECT {COLUMNS} FROM waiting WHERE machine IN (
            SELECT coalesce(({}), ({})) FROM hop WHERE hop.rack IS NOT NULL)
         ORDER BY rack",
        first(">="),
        first("<"),
    );
    let values = [partition.into(), size.into(), true.into(), from.into()];
    tx.fetch_all(sql, &values).await?.iter().map(from_row).collect()
}

/// How many machines may be chosen.
///
/// # Errors
/// The database failed.
pub async fn count(tx: &mut Tx, partition: &str, size: &str) -> Result<i64, Error> {
    let row = tx
        .fetch_optional(
            "SELECT count(*) FROM waiting WHERE partition = $1 AND size = $2 AND electable = $3",
            &[partition.into(), size.into(), true.into()],
        )
        .await?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// How many machines wait, by partition and size of the machines that there are, also when none waits.
///
/// # Errors
/// The database failed.
pub async fn counts(tx: &mut Tx) -> Result<Vec<(String, String, i64)>, Error> {
    let sql = "SELECT m.partition, m.size, count(w.machine) FROM machine m LEFT JOIN waiting w ON w.machine = m.id
         GROUP BY m.partition, m.size";
    let rows = tx.fetch_all(sql, &[]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?, row.int(2)?))).collect()
}

/// Ids of all machines that wait, sorted.
///
/// # Errors
/// The database failed.
pub async fn all(tx: &mut Tx) -> Result<Vec<String>, Error> {
    tx.fetch_all("SELECT machine FROM waiting ORDER BY machine", &[])
        .await?
        .iter()
        .map(|row| row.text(0))
        .collect()
}

/// Renews the lease of a replica and removes what belongs to replicas whose lease has expired; returns how many machines
/// left the pool that way.
///
/// # Errors
/// The database failed.
pub async fn renew(tx: &mut Tx, replica: &str, now_us: i64, until_us: i64) -> Result<u64, Error> {
    tx.execute(
        "INSERT INTO replica (id, expires_at) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at",
        &[replica.into(), until_us.into()],
    )
    .await?;
    let dead = tx.execute("DELETE FROM replica WHERE expires_at < $1", &[now_us.into()]).await?;
    if dead == 0 {
        return Ok(0);
    }
    tx.execute("DELETE FROM waiting WHERE replica NOT IN (SELECT id FROM replica)", &[]).await
}

/// Gives up the lease of a replica, when it ends in order.
///
/// # Errors
/// The database failed.
pub async fn leave(tx: &mut Tx, replica: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM waiting WHERE replica = $1", &[replica.into()]).await?;
    tx.execute("DELETE FROM replica WHERE id = $1", &[replica.into()]).await?;
    Ok(())
}
