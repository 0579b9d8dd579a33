//! Sizes.

use crate::db::Tx;
use crate::{Error, Table, entity_table};

/// The body is the contract's `Size`.
pub const TABLE: Table = Table { name: "size", columns: &[] };

pub(crate) const SCHEMA: &[&str] = &[entity_table!("size", "")];

/// Any number that nothing else locks.
const LOCK: i64 = 7_243_010;

/// Holds off everybody else who wants to change sizes, until the transaction ends: two sizes that overlap could
/// otherwise be made at the same time, because each transaction sees only its own.
///
/// # Errors
/// The database failed.
pub async fn lock(tx: &mut Tx) -> Result<(), Error> {
    tx.lock(LOCK).await
}
