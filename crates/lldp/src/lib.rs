//! lldp
