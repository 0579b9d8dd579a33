//! `metal-firewall`: the agent of one firewall.

fn main() {}
