//! Rendering of FRR and systemd-networkd configuration: pure text.
