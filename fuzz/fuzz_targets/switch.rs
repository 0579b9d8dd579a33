//! What the switch agent reads: answers of FRR about neighbours, their configuration, and messages of the kernel.
#![no_main]
#![allow(dead_code, unreachable_pub)]

#[path = "../../crates/switch/src/netlink/message.rs"]
mod message;
#[path = "../../crates/switch/src/frr/neighbours.rs"]
mod neighbours;
#[path = "../../crates/switch/src/frr/text.rs"]
mod text;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = message::read(bytes);
    if let Ok(answer) = std::str::from_utf8(bytes) {
        let _ = neighbours::parse(answer);
        let _ = text::Config::parse(answer);
    }
});
