//! Rendering of FRR and systemd-networkd configuration: pure text.

pub mod firewall;
pub mod leaf;
pub mod machine;
