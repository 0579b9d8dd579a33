//! Invitations to tenants and projects.

pub(crate) const SCHEMA: &[&str] = &[];
