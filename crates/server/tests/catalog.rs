//! Partitions, sizes, images, layouts, constraints, reservations and components, over the wire, on SQLite and on PostgreSQL.

#[path = "../../store/tests/it/postgres.rs"]
mod postgres;
#[path = "tenancy/world.rs"]
mod world;

#[path = "catalog/capacity.rs"]
mod capacity;
#[path = "catalog/component.rs"]
mod component;
#[path = "catalog/files.rs"]
mod files;
#[path = "catalog/filesystem.rs"]
mod filesystem;
#[path = "catalog/image.rs"]
mod image;
#[path = "catalog/partition.rs"]
mod partition;
#[path = "catalog/size.rs"]
mod size;
#[path = "catalog/size_image_constraint.rs"]
mod size_image_constraint;
#[path = "catalog/size_reservation.rs"]
mod size_reservation;
