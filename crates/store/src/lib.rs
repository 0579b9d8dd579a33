//! The only SQL of the project, in the dialect that SQLite and PostgreSQL both accept (docs/adr/0002).

mod db;
mod member;
mod migration;
mod nudge;
mod table;

pub mod audit;
pub mod component;
pub mod event;
pub mod filesystem_layout;
pub mod firewall;
pub mod idempotency;
pub mod image;
pub mod invite;
pub mod ip;
pub mod job;
pub mod login;
pub mod machine;
pub mod network;
pub mod partition;
pub mod phase;
pub mod prefix;
pub mod project;
pub mod rate;
pub mod signing_key;
pub mod size;
pub mod size_image_constraint;
pub mod size_reservation;
pub mod switch;
pub mod tenant;
pub mod token;
pub mod vpn;
pub mod waiting;

pub use db::{Db, Hold, Tx, Value};
pub use member::{Member, Members};
pub use nudge::Watcher;
pub use table::{Entity, Select, Table};

/// Why the database refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something with this key exists already.
    #[error("already exists: {0}")]
    Unique(String),
    /// Something that is referred to does not exist, or is still referred to.
    #[error("still referred to or missing: {0}")]
    ForeignKey(String),
    /// Two transactions stood in each other's way and this one lost; trying again helps.
    #[error("somebody else changed the same thing at the same time")]
    Conflict,
    /// The database itself failed.
    #[error("database: {0}")]
    Database(String),
}
