//! `metal-switch`: not built yet.
fn main() {}
