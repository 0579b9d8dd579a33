//! Images.

pub(crate) const SCHEMA: &[&str] = &[];
