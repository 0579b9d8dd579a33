//! `metal-boot`: not built yet.
fn main() {}
