//! The cloud as values: rules without I/O, clock, chance, SQL or wire types.

pub mod filesystem_layout;
pub mod firewall;
pub mod image;
pub mod ip;
pub mod network;
pub mod partition;
pub mod placement;
pub mod pool;
pub mod port_name;
pub mod prefix;
pub mod project;
pub mod provisioning;
pub mod size;
pub mod size_image_constraint;
pub mod size_reservation;
pub mod tenant;
