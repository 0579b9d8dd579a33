//! The kernel's interfaces by rtnetlink: who is there, in which bridge, up or down. Messages are pure functions; the
//! socket is thin.

mod message;
mod socket;

pub use message::{Change, Link};
pub use socket::{Changes, change, links};
