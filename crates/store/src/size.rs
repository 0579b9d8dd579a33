//! Sizes.

pub(crate) const SCHEMA: &[&str] = &[];
