//! Answers of DHCP servers to the installer.
#![no_main]
#![allow(dead_code, unreachable_pub)]

#[path = "../../crates/installer/src/dhcp.rs"]
mod dhcp;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = dhcp::parse(bytes);
});
