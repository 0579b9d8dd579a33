//! The agent of a firewall: keeps the kernel's packet filter as the rules of the allocation want it.
//!
//! [`wish`] is what the control plane wants, [`filter`] what the kernel has, [`agent`] compares the two for ever and
//! [`control`] hears and tells. The rules become text in `netconf::firewall::rules`.

pub mod agent;
pub mod check;
pub mod config;
pub mod control;
pub mod filter;
pub mod wish;
