//! Networks and the pool of VRFs.

pub(crate) const SCHEMA: &[&str] = &[];
