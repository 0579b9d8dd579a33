//! Packets that machines send while they start.
#![no_main]
#![allow(dead_code, unreachable_pub)]

#[path = "../../crates/boot/src/mac.rs"]
mod mac;
#[path = "../../crates/boot/src/dhcp/request.rs"]
mod request;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = request::Request::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(mac) = text.parse::<mac::Mac>() {
            assert_eq!(mac.to_string().parse::<mac::Mac>().ok(), Some(mac));
        }
    }
});
