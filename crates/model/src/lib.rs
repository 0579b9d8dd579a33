//! The cloud as values: rules without I/O, clock, chance, SQL or wire types.

pub mod filesystem_layout;
pub mod image;
pub mod size;
pub mod size_image_constraint;
pub mod size_reservation;
