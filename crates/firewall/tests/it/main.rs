//! The agent on a real kernel. Needs root, iproute2 and `nft`; where these are missing the tests say that they were not run.

#![expect(refining_impl_trait, reason = "the control plane answers owned messages")]

mod control_plane;
mod packets;
mod row;
mod service;
