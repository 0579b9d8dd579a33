//! Address space: prefixes and what is free in them.

pub(crate) const SCHEMA: &[&str] = &[];
