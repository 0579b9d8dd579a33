//! Machines and the pool of ASNs.

pub(crate) const SCHEMA: &[&str] = &[];
