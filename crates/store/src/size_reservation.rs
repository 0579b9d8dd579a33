//! Machines kept free for a project.

pub(crate) const SCHEMA: &[&str] = &[];
