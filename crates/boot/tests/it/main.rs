//! The boot service as a process in network namespaces of its own. Needs root, `ip` and nothing else; the tests that start
//! a virtual machine need QEMU too and are ignored unless asked for.
#![expect(refining_impl_trait, reason = "the services answer owned messages")]

mod control;
mod machine;
mod network;
mod qemu;
mod world;
