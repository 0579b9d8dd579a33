//! Counters of calls.

pub(crate) const SCHEMA: &[&str] = &[];
