//! Operating system images.

use crate::{Table, entity_table};

/// Columns: `os`, what stands before the version in the id, and `expires_at` (microseconds since 1970).
/// The body is the contract's `Image`.
pub const TABLE: Table = Table { name: "image", columns: &["os", "expires_at"] };

pub(crate) const SCHEMA: &[&str] = &[
    entity_table!("image", ", os text NOT NULL, expires_at bigint NOT NULL"),
    "CREATE INDEX image_os ON image (os)",
];
