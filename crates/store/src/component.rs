//! Components that report themselves.

pub(crate) const SCHEMA: &[&str] = &[];
