//! switch
fn main() {}
