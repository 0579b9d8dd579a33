//! The agent against a control plane in this process, and backends against what every one of them must do: in memory,
//! on real network namespaces with real FRR when this is root on a machine that has it, and in guests with another kernel.

#![expect(refining_impl_trait, reason = "the services answer owned messages")]

mod agent;
mod bfd;
mod boot_network;
mod command;
mod contract;
mod fake;
mod full_disk;
mod in_guest;
mod kernel_vrfs;
mod running;
mod scale;
mod sonic;
mod vty;
mod world;
