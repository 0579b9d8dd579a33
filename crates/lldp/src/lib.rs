//! IEEE 802.1AB frames, to bytes and back.
