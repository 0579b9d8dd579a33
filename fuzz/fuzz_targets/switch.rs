//! What the switch agent reads: answers of FRR's daemons, in parts, about neighbours and their configuration, messages of the kernel, SONiC's
//! configuration, and replies of its Redis.
#![no_main]
#![allow(dead_code, unreachable_pub)]

#[path = "../../crates/switch/src/frr/vty/answer.rs"]
mod answer;
#[path = "../../crates/switch/src/backend/sonic/json.rs"]
mod json;
#[path = "../../crates/switch/src/netlink/message.rs"]
mod message;
#[path = "../../crates/switch/src/frr/neighbours.rs"]
mod neighbours;
#[path = "../../crates/switch/src/backend/sonic/resp/reply.rs"]
mod reply;
#[path = "../../crates/switch/src/netlink/rule.rs"]
mod rule;
#[path = "../../crates/switch/src/frr/text.rs"]
mod text;
#[path = "../../crates/switch/src/netlink/vlan.rs"]
mod vlan;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = message::read(bytes);
    if let Ok(Some((_, length))) = reply::parse(bytes) {
        assert!(length <= bytes.len(), "nothing is read that was not there");
        assert_eq!(reply::parse(&bytes[..length]), reply::parse(bytes), "and what follows changes nothing");
    }
    if let Ok(Some(said)) = answer::Answer::default().take(bytes) {
        let mut parts = answer::Answer::default();
        let last = bytes.chunks(3).map(|part| parts.take(part)).last();
        assert_eq!(last, Some(Ok(Some(said))), "parts make the same answer");
    }
    if let Ok(read) = serde_json::from_slice::<json::Json>(bytes) {
        let written = serde_json::to_vec(&read).expect("what was read is written");
        assert!(serde_json::from_slice::<json::Json>(&written).is_ok(), "and read again");
    }
    if let Ok(answer) = std::str::from_utf8(bytes) {
        let _ = neighbours::parse(answer);
        let _ = text::Config::parse(answer);
    }
});
