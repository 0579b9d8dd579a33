//! The boot service of a partition: DHCP or ProxyDHCP, TFTP, router advertisements and HTTP for machines that boot from the network.
//!
//! What is said is decided by pure functions (packets, time and state in, answers out); sockets, files and the control plane are thin.

pub mod check;
pub mod config;
pub mod control;
pub mod dhcp;
pub mod files;
pub mod http;
pub mod identity;
pub mod ipxe;
pub mod loader;
pub mod mac;
pub mod machines;
pub mod ra;
pub mod recipes;
pub mod script;
pub mod serve;
pub mod socket;
pub mod store;
pub mod tftp;
pub mod wire;
