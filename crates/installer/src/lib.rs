//! The program in the initrd: discover, register, wipe, wait, install, kexec.
//!
//! `run` is the story; each chapter is a file under `step`. Everything else is what the steps use: pure
//! decisions (packets, plans, texts) that are tested anywhere, and thin effects that only a machine can show.

pub mod config;
pub mod console;
pub mod dhcp;
pub mod hardware;
pub mod lease;
pub mod neighbour;
pub mod netlink;
pub mod network;
pub mod nic;
pub mod packet;
pub mod sys;
