//! `metalctl`: not built yet.
fn main() {}
