//! The only SQL of the project, in the dialect that SQLite and PostgreSQL both accept (docs/adr/0002).

mod db;
mod migration;
pub mod signing_key;
pub mod token;

pub use db::{Db, Row, Tx, Value};

/// Why the database refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something with this key exists already.
    #[error("already exists: {0}")]
    Unique(String),
    /// Something that is referred to does not exist, or is still referred to.
    #[error("still referred to or missing: {0}")]
    ForeignKey(String),
    /// The database itself failed.
    #[error("database: {0}")]
    Database(String),
}
