//! Filesystem layouts.

use crate::db::Tx;
use crate::{Error, Table, entity_table};

/// The body is the contract's `FilesystemLayout`.
pub const TABLE: Table = Table { name: "filesystem_layout", columns: &[] };

pub(crate) const SCHEMA: &[&str] = &[entity_table!("filesystem_layout", "")];

/// Any number that nothing else locks.
const LOCK: i64 = 7_243_011;

/// Holds off everybody else who wants to change layouts, until the transaction ends: two layouts for the same size and image
/// could otherwise be made at the same time.
///
/// # Errors
/// The database failed.
pub async fn lock(tx: &mut Tx) -> Result<(), Error> {
    tx.lock(LOCK).await
}
