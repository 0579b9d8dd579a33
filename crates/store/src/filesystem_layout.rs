//! Filesystem layouts.

pub(crate) const SCHEMA: &[&str] = &[];
