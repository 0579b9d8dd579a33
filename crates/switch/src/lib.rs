//! The switch agent: observe, plan, apply, report.
//!
//! [`desired`] is what the control plane wants, [`backend`] the seam to the device, [`plan`] compares the two, [`apply`]
//! does what the plan says, [`agent`] repeats this for ever and [`report`] tells how it went. [`phone_home`] hears
//! installed systems.

pub mod agent;
pub mod apply;
pub mod backend;
pub mod check;
pub mod config;
pub mod control;
pub mod desired;
mod fd;
pub mod frr;
pub mod netlink;
pub mod phone_home;
pub mod plan;
pub mod report;
pub mod saved;
pub mod space;
pub mod speaker;
