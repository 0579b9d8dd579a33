//! The agent of a firewall: keeps the kernel's packet filter as the rules of the allocation want it.
