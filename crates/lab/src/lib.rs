//! A whole virtual data center on one machine: namespaces as leaves, FRR as their routing, QEMU as machines.
//!
//! Everything it makes is named `mlab-…` or lies below `target/lab`, so that [`down::clean`] finds it again, also after a crash.

pub mod api;
pub mod asset;
pub mod bmc;
pub mod config;
pub mod console;
pub mod control;
pub mod cpio;
pub mod device;
pub mod down;
pub mod fabric;
pub mod files;
pub mod frr;
pub mod guests;
pub mod internet;
pub mod launch;
pub mod ledger;
pub mod login;
pub mod logs;
pub mod names;
pub mod netns;
pub mod parts;
pub mod paths;
pub mod power;
pub mod progress;
pub mod qemu;
pub mod qmp;
pub mod scenario;
pub mod seed;
pub mod shape;
pub mod spec;
pub mod status;
pub mod supervisor;
pub mod topology;
pub mod up;

pub use guest::shell;
