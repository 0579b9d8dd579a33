//! The program in the initrd: discover, register, wipe, wait, install, kexec.
