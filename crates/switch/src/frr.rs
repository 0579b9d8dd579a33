//! FRR's configuration as a value: read from text, compared, and turned into commands.
//!
//! FRR has no transaction and applies a file line by line on top of what runs, so what runs is read, compared with what
//! should run and only the difference is sent.

pub mod change;
pub mod daemons;
pub mod neighbours;
pub mod text;
pub mod vty;
pub mod vtysh;

pub use change::Change;
pub use daemons::Daemons;
pub use text::{Config, Line};
pub use vtysh::Vtysh;
