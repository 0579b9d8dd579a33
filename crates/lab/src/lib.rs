//! A whole virtual data center on one machine: namespaces as leaves, FRR as their routing, QEMU as machines.
//!
//! Everything it makes is named `mlab-…` or lies below `target/lab`, so that [`down`] finds it again, also after a crash.

pub mod asset;
pub mod cpio;
pub mod fabric;
pub mod netns;
pub mod paths;
pub mod shell;
pub mod topology;
