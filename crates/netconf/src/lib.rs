//! Rendering of FRR and systemd-networkd configuration: pure text.

pub mod leaf;
pub mod machine;
