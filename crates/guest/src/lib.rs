//! Small Linux guests in QEMU, for what the host's kernel cannot do: Debian's cloud kernel, and a root file system made
//! from the host's own Debian within a second, with just the programs that are asked for.
//!
//! [`kernel`] gets the kernel, [`Image`] makes the disk, [`Spec`] is the command line, [`Guest`] keeps it running and
//! [`Channel`] runs commands in it. No hardware virtualisation is needed.

pub mod cache;
mod channel;
mod elf;
mod image;
mod keeper;
pub mod kernel;
pub mod package;
mod qmp;
pub mod shell;
mod spec;

pub use channel::{Channel, Output};
pub use image::Image;
pub use keeper::Guest;
pub use spec::{Card, Link, Spec};
