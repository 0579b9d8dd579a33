//! Work that outlives a call.

pub(crate) const SCHEMA: &[&str] = &[];
