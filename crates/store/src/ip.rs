//! Addresses.

pub(crate) const SCHEMA: &[&str] = &[];
