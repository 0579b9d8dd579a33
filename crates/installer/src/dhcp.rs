//! DHCPv4 messages (RFC 2131) and the Ethernet frames around them, to bytes and back. No socket, no clock.
//!
//! Frames are raw because a card without an address cannot receive what a server sends to the address that
//! it is about to give.

use std::net::Ipv4Addr;

/// What an option means; the numbers of RFC 2132 and our own 224.
pub mod option {
    /// Mask of the network on the link.
    pub const SUBNET_MASK: u8 = 1;
    /// Routers, the best first.
    pub const ROUTER: u8 = 3;
    /// Name servers.
    pub const NAME_SERVER: u8 = 6;
    /// Time servers.
    pub const NTP_SERVER: u8 = 42;
    /// The address that the client wants.
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// Seconds that the lease lasts.
    pub const LEASE_TIME: u8 = 51;
    /// Kind of message.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Address that names the server.
    pub const SERVER: u8 = 54;
    /// Which options the client wants to know.
    pub const PARAMETERS: u8 = 55;
    /// What kind of client asks.
    pub const VENDOR_CLASS: u8 = 60;
    /// The machine's UUID (RFC 4578).
    pub const UUID: u8 = 97;
    /// Where the installer's configuration is, as text; from the range for private use.
    pub const CONFIG_URL: u8 = 224;
}

/// What the installer calls itself in option 60.
pub const VENDOR_CLASS: &str = "metal-installer";

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Could be given.
    Offer,
    /// Is given.
    Ack,
    /// Must not be used.
    Nak,
}

/// Who asks: what is equal in all messages of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Hardware address.
    pub mac: [u8; 6],
    /// The machine's UUID in SMBIOS order, as firmware sends it.
    pub uuid: [u8; 16],
    /// Number that the server repeats.
    pub transaction: u32,
}

/// A server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Kind of message.
    pub kind: Kind,
    /// Number of the question.
    pub transaction: u32,
    /// The address that is offered or given.
    pub address: Ipv4Addr,
    options: Vec<(u8, Vec<u8>)>,
}

impl Answer {
    /// Value of an option; parts of a long one are joined (RFC 3396).
    #[must_use]
    pub fn option(&self, code: u8) -> Option<Vec<u8>> {
        let mut parts =
            self.options.iter().filter(|(c, _)| *c == code).map(|(_, value)| value).peekable();
        parts.peek()?;
        Some(parts.flatten().copied().collect())
    }

    /// Option with addresses.
    #[must_use]
    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let value = self.option(code).unwrap_or_default();
        value.chunks_exact(4).map(|a| Ipv4Addr::new(a[0], a[1], a[2], a[3])).collect()
    }

    /// Option with one 32-bit number.
    #[must_use]
    pub fn number(&self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.option(code)?.try_into().ok()?))
    }

    /// Option with text. Some servers end it with a zero byte.
    #[must_use]
    pub fn text(&self, code: u8) -> Option<String> {
        Some(String::from_utf8(self.option(code)?).ok()?.trim_end_matches('\0').to_owned())
    }
}

impl Client {
    /// Asks who could give an address.
    #[must_use]
    pub fn discover(&self, seconds: u16) -> Vec<u8> {
        self.message(DISCOVER, seconds, Ipv4Addr::UNSPECIFIED, &[])
    }

    /// Takes what a server offered.
    #[must_use]
    pub fn request(&self, seconds: u16, address: Ipv4Addr, server: Ipv4Addr) -> Vec<u8> {
        let options =
            [(option::REQUESTED_ADDRESS, address.octets()), (option::SERVER, server.octets())];
        self.message(REQUEST, seconds, Ipv4Addr::UNSPECIFIED, &options)
    }

    /// Asks any server to keep an address that is in use.
    #[must_use]
    pub fn renew(&self, address: Ipv4Addr) -> Vec<u8> {
        self.message(REQUEST, 0, address, &[])
    }

    fn message(
        &self,
        kind: u8,
        seconds: u16,
        current: Ipv4Addr,
        addresses: &[(u8, [u8; 4])],
    ) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0];
        bytes.extend(self.transaction.to_be_bytes());
        bytes.extend(seconds.to_be_bytes());
        bytes.extend([0x80, 0]); // answer by broadcast: also servers that cannot send raw frames reach us
        bytes.extend(current.octets());
        bytes.resize(28, 0);
        bytes.extend(self.mac);
        bytes.resize(236, 0);
        bytes.extend(MAGIC);
        put(&mut bytes, option::MESSAGE_TYPE, &[kind]);
        for (code, address) in addresses {
            put(&mut bytes, *code, address);
        }
        put(&mut bytes, option::VENDOR_CLASS, VENDOR_CLASS.as_bytes());
        let mut uuid = vec![0];
        uuid.extend(self.uuid);
        put(&mut bytes, option::UUID, &uuid);
        let parameters = [
            option::SUBNET_MASK,
            option::ROUTER,
            option::NAME_SERVER,
            option::NTP_SERVER,
            option::LEASE_TIME,
            option::CONFIG_URL,
        ];
        put(&mut bytes, option::PARAMETERS, &parameters);
        bytes.push(255);
        bytes.resize(bytes.len().max(300), 0); // the least that old relays accept
        bytes
    }
}

const MAGIC: [u8; 4] = [99, 130, 83, 99];

fn put(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    bytes.push(code);
    bytes.push(value.len() as u8);
    bytes.extend(value);
}

/// Reads a server's answer; `None` for anything else.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Answer> {
    if bytes.first() != Some(&2) || bytes.get(236..240) != Some(&MAGIC) {
        return None;
    }
    let mut options = Vec::new();
    let mut rest = &bytes[240..];
    while let Some((&code, after)) = rest.split_first() {
        rest = match code {
            0 => after,
            255 => break,
            _ => {
                let (&length, after) = after.split_first()?;
                let (value, after) = after.split_at_checked(length.into())?;
                options.push((code, value.to_vec()));
                after
            }
        };
    }
    let kind = options.iter().find(|(code, _)| *code == option::MESSAGE_TYPE)?;
    let kind = match kind.1.as_slice() {
        [OFFER] => Kind::Offer,
        [ACK] => Kind::Ack,
        [NAK] => Kind::Nak,
        _ => return None,
    };
    let transaction = u32::from_be_bytes(bytes[4..8].try_into().ok()?);
    let address = Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]);
    Some(Answer { kind, transaction, address, options })
}

/// Wraps a message into a broadcast frame from a card; `source` is its address, if it has one already.
#[must_use]
pub fn frame(mac: [u8; 6], source: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((28 + message.len() as u16).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(source.octets());
    ip.extend(Ipv4Addr::BROADCAST.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([8, 0]);
    frame.extend(ip);
    frame.extend(68_u16.to_be_bytes());
    frame.extend(67_u16.to_be_bytes());
    frame.extend((8 + message.len() as u16).to_be_bytes());
    frame.extend([0, 0]); // UDP over IPv4 may go without a checksum
    frame.extend(message);
    frame
}

/// What a frame carries to the DHCP client's port; `None` for anything else.
#[must_use]
pub fn payload(frame: &[u8]) -> Option<&[u8]> {
    let ip = frame.strip_prefix(frame.get(..12)?)?.strip_prefix(&[8, 0])?;
    let header = usize::from(ip.first()? & 15) * 4;
    let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff;
    if ip[0] >> 4 != 4 || header < 20 || ip.get(9) != Some(&17) || fragment != 0 {
        return None;
    }
    let udp = ip.get(header..)?;
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    (udp.get(2..4)? == 68_u16.to_be_bytes()).then_some(())?;
    udp.get(8..length)
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A UUID as text to the order in which SMBIOS and firmware carry it: the first three groups are little-endian.
#[must_use]
pub fn smbios_order(uuid: uuid::Uuid) -> [u8; 16] {
    uuid.to_bytes_le()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn answer(
        kind: u8,
        client: &Client,
        address: Ipv4Addr,
        options: &[(u8, &[u8])],
    ) -> Vec<u8> {
        let mut bytes = client.discover(0);
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&address.octets());
        bytes.truncate(240);
        put(&mut bytes, option::MESSAGE_TYPE, &[kind]);
        for (code, value) in options {
            put(&mut bytes, *code, value);
        }
        bytes.push(255);
        bytes
    }

    pub(crate) fn client() -> Client {
        let uuid: uuid::Uuid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
        Client { mac: [0x52, 0x54, 0, 0, 0, 1], uuid: smbios_order(uuid), transaction: 0xdead_beef }
    }

    #[test]
    fn the_uuid_travels_as_firmware_sends_it() {
        let bytes = client().discover(3);
        let at = bytes.windows(3).position(|w| w == [97, 17, 0]).unwrap() + 3;
        assert_eq!(bytes[at..at + 8], [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66]);
        assert_eq!(bytes[at + 8..at + 16], [0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        assert!(bytes.windows(15).any(|w| w == VENDOR_CLASS.as_bytes()));
        assert!(bytes.len() >= 300);
    }

    #[test]
    fn an_answer_is_read() {
        let client = client();
        let long = [b'a'; 200];
        let bytes = answer(
            ACK,
            &client,
            Ipv4Addr::new(10, 0, 1, 100),
            &[
                (option::ROUTER, &[10, 0, 1, 1, 10, 0, 1, 2]),
                (option::LEASE_TIME, &600_u32.to_be_bytes()),
                (option::CONFIG_URL, &long),
                (option::CONFIG_URL, b"b\0"),
            ],
        );
        let answer = parse(&bytes).unwrap();
        assert_eq!((answer.kind, answer.transaction), (Kind::Ack, 0xdead_beef));
        assert_eq!(answer.address, Ipv4Addr::new(10, 0, 1, 100));
        assert_eq!(answer.addresses(option::ROUTER).len(), 2);
        assert_eq!(answer.number(option::LEASE_TIME), Some(600));
        assert_eq!(answer.text(option::CONFIG_URL).unwrap().len(), 201);
        assert_eq!(answer.option(option::NTP_SERVER), None);
        assert_eq!(parse(&client.discover(0)), None, "a client's message is no answer");
    }

    #[test]
    fn frames_carry_the_message() {
        let client = client();
        let message = client.discover(0);
        let mut frame = frame(client.mac, Ipv4Addr::UNSPECIFIED, &message);
        assert_eq!(checksum(&frame[14..34]), 0, "the header's checksum is right");
        assert_eq!(payload(&frame), None, "it goes to the server's port");
        frame[36..38].copy_from_slice(&68_u16.to_be_bytes());
        assert_eq!(payload(&frame), Some(message.as_slice()));
    }

    proptest! {
        #[test]
        fn nothing_on_the_wire_panics(bytes: Vec<u8>, cut in 0_usize..400) {
            let _ = (parse(&bytes), payload(&bytes));
            let mut answer = answer(OFFER, &client(), Ipv4Addr::LOCALHOST, &[(3, &bytes[..bytes.len().min(255)])]);
            let _ = parse(&answer[..cut.min(answer.len())]);
            answer.extend(&bytes);
            let _ = parse(&answer);
            let mut whole = frame([0; 6], Ipv4Addr::LOCALHOST, &answer);
            whole[36..38].copy_from_slice(&68_u16.to_be_bytes());
            whole.truncate(cut);
            let _ = payload(&whole);
        }
    }
}
