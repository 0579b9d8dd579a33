//! The kernel's interfaces by rtnetlink: who is there, in which bridge, up or down. Messages are pure functions; the
//! socket is thin.

mod message;
pub mod rule;
mod socket;
mod vlan;

pub use message::{Change, Kind, Link, New};
pub use socket::{
    Changes, add_rule, add_vlan, change, delete, links, make, remove_rule, remove_vlan, rules,
    vlans,
};
pub use vlan::Vlan;
