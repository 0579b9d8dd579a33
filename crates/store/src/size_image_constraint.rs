//! Which images may run on a size.

pub(crate) const SCHEMA: &[&str] = &[];
