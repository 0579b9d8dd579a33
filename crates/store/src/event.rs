//! Provisioning events and liveliness, apart from the machines so that heartbeats do not rewrite them.

pub(crate) const SCHEMA: &[&str] = &[];
