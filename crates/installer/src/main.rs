//! `metal-installer`: not built yet.
fn main() {}
