//! Switches, their ports and who is connected.

pub(crate) const SCHEMA: &[&str] = &[];
