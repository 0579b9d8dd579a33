//! The pure core of the boot service: packets in, packets out, no sockets and no clock.

pub mod ipxe;
pub mod ra;
