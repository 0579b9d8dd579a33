//! Partitions.

use crate::{Table, entity_table};

/// The body is the contract's `Partition`.
pub const TABLE: Table = Table { name: "partition", columns: &[] };

// what stands in a partition refers to it, so that it cannot be deleted under it
pub(crate) const SCHEMA: &[&str] = &[entity_table!("partition", "")];
