//! What the installer is told: answers of DHCP servers, digests beside images.
#![no_main]
#![allow(dead_code, unreachable_pub)]

#[path = "../../crates/installer/src/dhcp.rs"]
mod dhcp;
#[path = "../../crates/installer/src/image/digest.rs"]
mod digest;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = dhcp::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        for kind in ["md5", "sha256"] {
            if let Some(digest) = digest::parse_beside(kind, text) {
                assert_eq!(digest::Digest::from_hex(&digest.hex()).as_ref(), Some(&digest));
            }
        }
    }
});
