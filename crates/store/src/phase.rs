//! Phases of provisioning with their durations.

pub(crate) const SCHEMA: &[&str] = &[];
