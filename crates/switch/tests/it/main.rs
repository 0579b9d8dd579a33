//! The agent against a control plane in this process, and backends against what every one of them must do: in memory,
//! and on real network namespaces with real FRR when this is root on a machine that has it.

#![expect(refining_impl_trait, reason = "the services answer owned messages")]

mod agent;
mod bfd;
mod command;
mod contract;
mod fake;
mod scale;
mod sonic;
mod world;
