//! SONiC: the configuration is rows in Redis, and SONiC's own managers make ports, VLANs and VRFs of them. Routing is
//! FRR's, by its shell, as everywhere.
//!
//! [`schema`] names tables and rows, [`steps`] decides what to write next, [`db`] writes it in transactions, [`persist`]
//! keeps it in `config_db.json`, [`device`] puts them together.
//!
//! SONiC is never hurried: who leaves a network has left it, as the managers and the ASIC say, before anything else is
//! written about it.

pub mod databases;
pub mod db;
pub mod device;
pub mod json;
pub mod names;
pub mod persist;
pub mod resp;
pub mod schema;
pub mod settings;
pub mod steps;

pub use device::Sonic;
