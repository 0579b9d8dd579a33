//! A whole virtual data center on one machine.
