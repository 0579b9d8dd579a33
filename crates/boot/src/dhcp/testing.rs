//! Packets for tests, built byte by byte so that they do not depend on the code under test.

use std::net::Ipv4Addr;

/// A client's packet under construction.
#[derive(Clone)]
pub(crate) struct Packet(Vec<u8>);

/// The hardware address of [`Packet::discover`].
pub(crate) const MAC: crate::mac::Mac = crate::mac::Mac([0x52, 0x54, 0, 0, 0, 1]);

impl Packet {
    /// A message of this kind from [`MAC`].
    pub(crate) fn of(kind: u8) -> Self {
        let mut bytes = vec![0; 236];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        bytes[28..34].copy_from_slice(&MAC.0);
        bytes.extend([99, 130, 83, 99, 53, 1, kind]);
        Self(bytes)
    }

    pub(crate) fn discover() -> Self {
        Self::of(1)
    }

    pub(crate) fn request() -> Self {
        Self::of(3)
    }

    pub(crate) fn from(mut self, mac: u8) -> Self {
        self.0[33] = mac;
        self
    }

    pub(crate) fn option(mut self, code: u8, data: &[u8]) -> Self {
        self.0.extend([code, u8::try_from(data.len()).unwrap()]);
        self.0.extend(data);
        self
    }

    pub(crate) fn address(self, code: u8, address: Ipv4Addr) -> Self {
        self.option(code, &address.octets())
    }

    pub(crate) fn ciaddr(mut self, address: Ipv4Addr) -> Self {
        self.0[12..16].copy_from_slice(&address.octets());
        self
    }

    /// Option 97 with a UUID that consists of this byte.
    pub(crate) fn uuid(self, byte: u8) -> Self {
        let mut data = [byte; 17];
        data[0] = 0;
        self.option(97, &data)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.push(255);
        bytes
    }
}
