//! Machines from first contact to release, with agents that speak the real protocol, on SQLite and on PostgreSQL.

#[path = "../../store/tests/it/postgres.rs"]
mod postgres;
#[path = "tenancy/world.rs"]
mod world;

#[path = "machine/allocation.rs"]
mod allocation;
#[path = "machine/boot.rs"]
mod boot;
#[path = "machine/defect.rs"]
mod defect;
#[path = "machine/hall.rs"]
mod hall;
#[path = "machine/list.rs"]
mod list;
#[path = "machine/operation.rs"]
mod operation;
#[path = "machine/race.rs"]
mod race;
#[path = "machine/reservation.rs"]
mod reservation;
#[path = "machine/switch.rs"]
mod switch;
