//! Partitions.

pub(crate) const SCHEMA: &[&str] = &[];
