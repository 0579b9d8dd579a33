//! Which images a size cannot boot: at most one row per size, with the id of the size.

use crate::{Table, entity_table};

/// The body is the contract's `SizeImageConstraint`; the id is that of its size.
pub const TABLE: Table = Table { name: "size_image_constraint", columns: &[] };

pub(crate) const SCHEMA: &[&str] =
    &[entity_table!("size_image_constraint", ", FOREIGN KEY (id) REFERENCES size (id)")];
