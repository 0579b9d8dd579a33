//! Networks and addresses over the wire, on SQLite and on PostgreSQL.

#[path = "../../store/tests/it/postgres.rs"]
mod postgres;
#[path = "tenancy/world.rs"]
mod world;

#[path = "network/allocation.rs"]
mod allocation;
#[path = "network/child.rs"]
mod child;
#[path = "network/ip.rs"]
mod ip;
#[path = "network/root.rs"]
mod root;
#[path = "network/site.rs"]
mod site;
