//! The audit trail.

pub(crate) const SCHEMA: &[&str] = &[];
