//! What a DHCP client says, read without trusting any length in the packet.

use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::Message;
use dhcproto::v4::{HType, Opcode, OptionCode};
use uuid::Uuid;

use crate::mac::Mac;

/// Kind of a client's message (RFC 2132 section 9.6); kinds that only servers send are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Discover,
    Request,
    Decline,
    Release,
    Inform,
}

/// Who is speaking, which decides what it is told to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// iPXE: gets the URL of the boot script.
    Ipxe,
    /// The installer: gets the URL of its configuration.
    Installer,
    /// PXE firmware of a PC BIOS (architecture 0).
    Bios,
    /// PXE firmware of 64-bit x86 UEFI (architectures 7 and, by an erratum of RFC 4578, 9).
    Efi,
    /// UEFI HTTP boot of 64-bit x86 (architecture 16).
    HttpBoot,
    /// Firmware that we have nothing to boot for, with its architecture (RFC 4578 section 2.1).
    Foreign(u16),
    /// Something that wants an address and boots by itself.
    System,
}

/// A client's message. Options are raw where they are only echoed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub kind: Kind,
    pub xid: u32,
    pub secs: u16,
    pub flags: u16,
    /// The address that the client uses already.
    pub ciaddr: Ipv4Addr,
    /// The relay that passed the message on, unspecified when there was none.
    pub giaddr: Ipv4Addr,
    pub mac: Mac,
    /// Option 50.
    pub wanted: Option<Ipv4Addr>,
    /// Option 54: the server whose offer is taken.
    pub server: Option<Ipv4Addr>,
    /// Option 60.
    pub vendor_class: Vec<u8>,
    /// Option 61, echoed (RFC 6842).
    pub client_id: Option<Vec<u8>>,
    /// Option 77; iPXE sends it without the length bytes that RFC 3004 asks for.
    pub user_class: Vec<u8>,
    /// Option 93, in the client's order.
    pub architectures: Vec<u16>,
    /// Option 97, echoed (RFC 4578 section 2.3).
    pub machine_id: Option<Vec<u8>>,
}

/// Why a packet is not a client's message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("shorter than a DHCP message")]
    Short,
    #[error("not sent by an Ethernet client")]
    NotAClient,
    #[error("without a kind that a client sends")]
    Kind,
}

impl Request {
    /// Reads a packet. Options that make no sense are treated as absent.
    ///
    /// # Errors
    /// When the packet is not the message of an Ethernet client.
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let message = Message::new(packet).map_err(|_| Malformed::Short)?;
        // the length is checked before the address is touched: the library would slice by it
        let ethernet = message.htype() == HType::Eth && message.hlen() == 6;
        if message.opcode() != Opcode::BootRequest || !ethernet {
            return Err(Malformed::NotAClient);
        }
        let mac = Mac(message.chaddr().try_into().map_err(|_| Malformed::NotAClient)?);
        let mut kind = None;
        let mut request = Self {
            kind: Kind::Discover,
            xid: message.xid(),
            secs: message.secs(),
            flags: message.flags().into(),
            ciaddr: message.ciaddr(),
            giaddr: message.giaddr(),
            mac,
            wanted: None,
            server: None,
            vendor_class: Vec::new(),
            client_id: None,
            user_class: Vec::new(),
            architectures: Vec::new(),
            machine_id: None,
        };
        for option in message.opts() {
            let data = option.data();
            match option.code() {
                OptionCode::MessageType => kind = data.first().copied(),
                OptionCode::RequestedIpAddress => request.wanted = address(data),
                OptionCode::ServerIdentifier => request.server = address(data),
                OptionCode::ClassIdentifier => request.vendor_class = data.to_vec(),
                OptionCode::ClientIdentifier => request.client_id = Some(data.to_vec()),
                OptionCode::UserClass => request.user_class = data.to_vec(),
                OptionCode::ClientSystemArchitecture => {
                    let pairs = data.chunks_exact(2);
                    request.architectures =
                        pairs.map(|p| u16::from_be_bytes([p[0], p[1]])).collect();
                }
                OptionCode::ClientMachineIdentifier => request.machine_id = Some(data.to_vec()),
                _ => {}
            }
        }
        request.kind = match kind {
            Some(1) => Kind::Discover,
            Some(3) => Kind::Request,
            Some(4) => Kind::Decline,
            Some(7) => Kind::Release,
            Some(8) => Kind::Inform,
            _ => return Err(Malformed::Kind),
        };
        Ok(request)
    }

    /// Who is speaking. iPXE is asked for first: it repeats the architecture of its firmware.
    #[must_use]
    pub fn speaker(&self) -> Speaker {
        if self.user_class.windows(4).any(|w| w == b"iPXE") {
            return Speaker::Ipxe;
        }
        if self.vendor_class.starts_with(b"metal-installer") {
            return Speaker::Installer;
        }
        let http = self.vendor_class.starts_with(b"HTTPClient");
        if !http && !self.vendor_class.starts_with(b"PXEClient") {
            return Speaker::System;
        }
        let known = |&architecture: &u16| match architecture {
            0 if !http => Some(Speaker::Bios),
            7 | 9 if !http => Some(Speaker::Efi),
            16 if http => Some(Speaker::HttpBoot),
            _ => None,
        };
        let foreign = self.architectures.first().map_or(Speaker::System, |&a| Speaker::Foreign(a));
        self.architectures.iter().find_map(known).unwrap_or(foreign)
    }

    /// The machine's SMBIOS UUID as it is printed everywhere, when the client tells one.
    #[must_use]
    pub fn uuid(&self) -> Option<Uuid> {
        machine_uuid(self.machine_id.as_deref()?)
    }
}

/// The UUID in option 97: type 0 and 16 bytes as SMBIOS stores them, that is with the first three fields little-endian
/// (SMBIOS 2.6, section 7.2.1). All zeros and all ones mean that the vendor never set it.
fn machine_uuid(option: &[u8]) -> Option<Uuid> {
    let bytes: [u8; 16] = option.strip_prefix(&[0])?.try_into().ok()?;
    let uuid = Uuid::from_bytes_le(bytes);
    (!uuid.is_nil() && !uuid.is_max()).then_some(uuid)
}

fn address(data: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::testing::Packet;
    use proptest::prelude::*;

    fn speaker(packet: Packet) -> Speaker {
        Request::parse(&packet.bytes()).unwrap().speaker()
    }

    #[test]
    fn speakers() {
        let pxe = |arch: &[u8]| {
            Packet::discover().option(60, b"PXEClient:Arch:xxxxx:UNDI:003000").option(93, arch)
        };
        assert_eq!(speaker(pxe(&[0, 0])), Speaker::Bios);
        assert_eq!(speaker(pxe(&[0, 7])), Speaker::Efi);
        assert_eq!(speaker(pxe(&[0, 9])), Speaker::Efi);
        assert_eq!(speaker(pxe(&[0, 6, 0, 7])), Speaker::Efi, "a list: the first that we know");
        assert_eq!(speaker(pxe(&[0, 11])), Speaker::Foreign(11));
        assert_eq!(speaker(pxe(&[0, 7]).option(77, b"iPXE")), Speaker::Ipxe);
        assert_eq!(
            speaker(pxe(&[0, 7]).option(77, b"\x04iPXE")),
            Speaker::Ipxe,
            "as RFC 3004 says"
        );
        let http = |arch: &[u8]| {
            Packet::discover().option(60, b"HTTPClient:Arch:00016:UNDI:003001").option(93, arch)
        };
        assert_eq!(speaker(http(&[0, 16])), Speaker::HttpBoot);
        assert_eq!(speaker(http(&[0, 7])), Speaker::Foreign(7));
        assert_eq!(speaker(Packet::discover().option(60, b"metal-installer")), Speaker::Installer);
        assert_eq!(speaker(Packet::discover().option(60, b"MSFT 5.0")), Speaker::System);
        assert_eq!(speaker(Packet::discover()), Speaker::System);
    }

    #[test]
    fn the_uuid_is_what_dmidecode_prints() {
        // the bytes of SMBIOS structure 1 for the UUID below
        let wire = [
            0, 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
            0xee, 0xff,
        ];
        let uuid = |data: &[u8]| {
            Request::parse(&Packet::discover().option(97, data).bytes()).unwrap().uuid()
        };
        assert_eq!(uuid(&wire).unwrap().to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(uuid(&wire[..16]), None, "short");
        assert_eq!(uuid(&[1; 17]), None, "another type");
        assert_eq!(uuid(&[0; 17]), None, "not set");
        let mut ones = [0xff; 17];
        ones[0] = 0;
        assert_eq!(uuid(&ones), None, "not set");
    }

    #[test]
    fn not_a_client() {
        assert_eq!(Request::parse(&[1; 239]), Err(Malformed::Short));
        let mut packet = Packet::discover().bytes();
        packet[0] = 2;
        assert_eq!(Request::parse(&packet), Err(Malformed::NotAClient));
        packet[0] = 1;
        packet[2] = 255;
        assert_eq!(Request::parse(&packet), Err(Malformed::NotAClient));
        assert_eq!(Request::parse(&Packet::of(2).bytes()), Err(Malformed::Kind), "an offer");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Request::parse(&bytes).map(|r| (r.speaker(), r.uuid()));
        }

        #[test]
        fn any_options(options in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = Packet::discover().bytes();
            bytes.truncate(243); // up to the message type
            bytes.extend(options);
            let _ = Request::parse(&bytes).map(|r| (r.speaker(), r.uuid()));
        }
    }
}
