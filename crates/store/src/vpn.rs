//! Firewalls that take part in the VPN: which key each joins with, until the coordination server has forgotten both.

use crate::Error;
use crate::db::Tx;

pub(crate) const SCHEMA: &[&str] = &["CREATE TABLE vpn (
        allocation text PRIMARY KEY,
        machine text NOT NULL,
        project text NOT NULL,
        key_id bigint NOT NULL,
        joined_after_us bigint NOT NULL,
        released boolean NOT NULL
    )"];

/// Key that [`crate::Db::watch`] takes: something is to be cleared up at the coordination server.
pub const CHANGED: &str = "vpn";

/// The part of an allocation that lives at the coordination server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Id of the allocation.
    pub allocation: String,
    /// The firewall.
    pub machine: String,
    /// Its project.
    pub project: String,
    /// Number of its key at the coordination server.
    pub key_id: i64,
    /// When the allocation began; what joined before is not part of it.
    pub joined_after_us: i64,
    /// It is not allocated any more: key and node are to go.
    pub released: bool,
}

const COLUMNS: &str = "allocation, machine, project, key_id, joined_after_us, released";

/// Notes a firewall that may join.
///
/// # Errors
/// The database failed.
pub async fn insert(tx: &mut Tx, member: &Member) -> Result<(), Error> {
    tx.execute(
        format!("INSERT INTO vpn ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)"),
        &[
            (&member.allocation).into(),
            (&member.machine).into(),
            (&member.project).into(),
            member.key_id.into(),
            member.joined_after_us.into(),
            member.released.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Whoever joined for this allocation is to be forgotten.
///
/// # Errors
/// The database failed.
pub async fn release(tx: &mut Tx, allocation: &str) -> Result<(), Error> {
    let released = tx
        .execute("UPDATE vpn SET released = TRUE WHERE allocation = $1", &[allocation.into()])
        .await?;
    if released > 0 {
        tx.nudge(CHANGED);
    }
    Ok(())
}

/// All members, those to be forgotten included, by allocation.
///
/// # Errors
/// The database failed.
pub async fn all(tx: &mut Tx) -> Result<Vec<Member>, Error> {
    let rows = tx.fetch_all(format!("SELECT {COLUMNS} FROM vpn ORDER BY allocation"), &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Member {
                allocation: row.text(0)?,
                machine: row.text(1)?,
                project: row.text(2)?,
                key_id: row.int(3)?,
                joined_after_us: row.int(4)?,
                released: row.bool(5)?,
            })
        })
        .collect()
}

/// The coordination server has forgotten it.
///
/// # Errors
/// The database failed.
pub async fn delete(tx: &mut Tx, allocation: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM vpn WHERE allocation = $1", &[allocation.into()]).await?;
    Ok(())
}
