//! The kernel's interfaces by rtnetlink: who is there, in which bridge, up or down. Messages are pure functions; the
//! socket is thin.

mod message;
mod socket;

pub use message::{Change, Kind, Link, New};
pub use socket::{Changes, change, delete, links, make};
