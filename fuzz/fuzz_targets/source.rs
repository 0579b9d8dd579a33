//! What proxies say about the address of the caller: without a trusted one it counts for nothing.
#![no_main]

#[path = "../../crates/server/src/rpc/gate/source.rs"]
mod source;

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let peer: IpAddr = [10, 0, 0, 1].into();
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let _ = source::of(Some(peer), text.split('\n'), &trusted);
    assert_eq!(source::of(Some(peer), text.split('\n'), &[]), Some(peer));
});
