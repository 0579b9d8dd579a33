//! installer
fn main() {}
