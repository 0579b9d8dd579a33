//! Files that people give to the command line.
#![no_main]
#![allow(dead_code, unreachable_pub)]

#[path = "../../crates/cli/src/document.rs"]
mod document;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = document::parse(text);
});
