//! The program in the initrd: discover, register, wipe, wait, install, kexec.
//!
//! `run` is the story; each chapter is a file under `step`. Everything else is what the steps use: pure
//! decisions (packets, plans, texts) that are tested anywhere, and thin effects that only a machine can show.

pub mod api;
pub mod boot_loader;
pub mod clock;
pub mod config;
pub mod console;
pub mod dhcp;
pub mod gpt;
pub mod hardware;
pub mod image;
pub mod kernel;
pub mod layout;
pub mod lease;
pub mod marker;
pub mod neighbour;
pub mod netlink;
pub mod network;
pub mod nic;
pub mod nvme;
pub mod os;
pub mod packet;
pub mod report;
pub mod run;
pub mod step;
pub mod sys;
pub mod system;
pub mod untar;
pub mod wipe;
