//! `metal-lab`: not built yet.
fn main() {}
