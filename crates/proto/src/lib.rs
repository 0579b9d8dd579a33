//! The contract as Rust: generated messages, services, clients, validators and the table of rights.
//! Nothing here is written by hand but the names of what is generated (see `build.rs`).
#![allow(refining_impl_trait, unused_comparisons, unused_imports, unreachable_pub, clippy::all)]

mod generated {
    include!(concat!(env!("OUT_DIR"), "/_connectrpc.rs"));
}
pub use generated::{metal, metalstack};

/// `metal.v1`: what we need beyond the contract.
pub use metal::v1 as ext;
/// `metalstack.admin.v2`: what operators call.
pub use metalstack::admin::v2 as admin;
/// `metalstack.api.v2`: what users call.
pub use metalstack::api::v2 as api;
/// `metalstack.infra.v2`: what agents call.
pub use metalstack::infra::v2 as infra;

mod validate {
    include!(concat!(env!("OUT_DIR"), "/validate.rs"));
}

mod inspect;
pub mod method;

/// The serialized `FileDescriptorSet` of all packages, with imports, for reflection and conformance.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contract.binpb"));
