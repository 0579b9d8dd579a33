//! Machines of a size that are kept free for a project.

use std::collections::BTreeSet;

use crate::db::{Tx, Value};
use crate::{Entity, Error, Table, entity_table};

/// Columns: `project`, `size`, `amount`. The body is the contract's `SizeReservation`, whose partitions are rows of their own.
pub const TABLE: Table =
    Table { name: "size_reservation", columns: &["project", "size", "amount"] };

pub(crate) const SCHEMA: &[&str] = &[
    entity_table!(
        "size_reservation",
        ", project text NOT NULL REFERENCES project (id), size text NOT NULL REFERENCES size (id),
        amount bigint NOT NULL CHECK (amount > 0)"
    ),
    "CREATE INDEX size_reservation_project ON size_reservation (project)",
    "CREATE INDEX size_reservation_size ON size_reservation (size)",
    "CREATE TABLE size_reservation_partition (
        reservation text NOT NULL REFERENCES size_reservation (id) ON DELETE CASCADE,
        partition text NOT NULL REFERENCES partition (id),
        PRIMARY KEY (reservation, partition)
    )",
    "CREATE INDEX size_reservation_partition_partition ON size_reservation_partition (partition)",
];

/// A reservation, as far as the election of a machine asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Whose it is.
    pub project: String,
    /// How many machines.
    pub amount: i64,
}

/// Stores a new reservation.
///
/// # Errors
/// [`Error::ForeignKey`] when its project, size or one of its partitions does not exist.
pub async fn insert(
    tx: &mut Tx,
    row: &Entity,
    columns: &[Value],
    partitions: &[String],
) -> Result<(), Error> {
    TABLE.insert(tx, row, columns).await?;
    set_partitions(tx, &row.id, partitions).await
}

/// Replaces the partitions of a reservation.
///
/// # Errors
/// [`Error::ForeignKey`] when one of them does not exist.
pub async fn set_partitions(tx: &mut Tx, id: &str, partitions: &[String]) -> Result<(), Error> {
    tx.execute("DELETE FROM size_reservation_partition WHERE reservation = $1", &[id.into()])
        .await?;
    for partition in partitions {
        tx.execute(
            "INSERT INTO size_reservation_partition (reservation, partition) VALUES ($1, $2)",
            &[id.into(), partition.into()],
        )
        .await?;
    }
    Ok(())
}

/// The reservations of a size in a partition, ordered by id.
///
/// # Errors
/// The database failed.
pub async fn of(tx: &mut Tx, partition: &str, size: &str) -> Result<Vec<Reserved>, Error> {
    tx.fetch_all(
        "SELECT r.project, r.amount FROM size_reservation r
         JOIN size_reservation_partition p ON p.reservation = r.id
         WHERE p.partition = $1 AND r.size = $2 ORDER BY r.id",
        &[partition.into(), size.into()],
    )
    .await?
    .iter()
    .map(|row| Ok(Reserved { project: row.text(0)?, amount: row.int(1)? }))
    .collect()
}

/// Numbers that nothing else locks begin at each of the two; every partition and size has one of 2^32.
const COUNT: i64 = 7_243_000_i64 << 32;
const CHANGE: i64 = 7_243_001_i64 << 32;

/// Holds off everybody who makes or enlarges a reservation of the size in the partition, until the transaction ends: what is
/// taken by who knew of no reservation is counted by who makes one.
///
/// # Errors
/// The database failed.
pub async fn keep(tx: &mut Tx, partition: &str, size: &str) -> Result<(), Error> {
    tx.lock_shared(CHANGE | number(partition, size)).await
}

/// Holds off everybody who takes a machine of the size in one of the partitions, until the transaction ends.
///
/// # Errors
/// The database failed.
pub async fn change(tx: &mut Tx, partitions: &[String], size: &str) -> Result<(), Error> {
    // in one order, so that two who change the same do not wait for each other
    let numbers: BTreeSet<_> = partitions.iter().map(|id| number(id, size)).collect();
    for number in numbers {
        tx.lock(CHANGE | number).await?;
    }
    Ok(())
}

/// Holds off everybody else who counts the free machines of a size in a partition, until the transaction ends: two who count
/// at the same time could otherwise both take the last one that is not reserved.
///
/// # Errors
/// The database failed.
pub async fn lock(tx: &mut Tx, partition: &str, size: &str) -> Result<(), Error> {
    tx.lock(COUNT | number(partition, size)).await
}

/// FNV-1a; two pairs with the same number only wait for each other.
fn number(partition: &str, size: &str) -> i64 {
    let hash = partition
        .bytes()
        .chain([0])
        .chain(size.bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i64::from(hash)
}
