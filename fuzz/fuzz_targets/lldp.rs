//! Frames of neighbours; what was understood can be written, and from then on is read alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lldp::Frame;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = Frame::decode(bytes) {
        // a text that was no UTF-8 may have grown beyond what a frame holds: it is cut once
        let again = |frame: &Frame| Frame::decode(&frame.encode([2, 0, 0, 0, 0, 1]));
        let once = again(&frame).expect("what we write can be read");
        assert_eq!(again(&once).as_ref(), Ok(&once));
    }
});
