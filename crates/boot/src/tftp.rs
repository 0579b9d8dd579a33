//! The read-only TFTP server (RFC 1350, 2347, 2348, 2349) as a state machine: packets in, packets out.

pub mod server;

use std::collections::BTreeMap;

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// Without fragments on an Ethernet with an MTU of 1500: 20 bytes IP, 8 UDP, 4 TFTP. Boot firmware often cannot put fragments together.
const LARGEST_BLOCK: usize = 1468;
const DEFAULT_BLOCK: usize = 512;

/// Error codes (RFC 1350 appendix) that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    NotFound = 1,
    AccessViolation = 2,
    IllegalOperation = 4,
}

/// A read request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// The file name without leading slashes.
    pub file: String,
    /// Block size that the client can take, when it says so.
    block_size: Option<usize>,
    /// Whether the client wants to know the size of the file.
    size: bool,
}

/// Why a request gets an error packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub text: &'static str,
}

impl Refusal {
    /// The error packet.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let mut packet = packet(ERROR, self.code as u16);
        packet.extend(self.text.as_bytes());
        packet.push(0);
        packet
    }
}

impl ReadRequest {
    /// Reads the first packet of a transfer. None when it is no request at all.
    ///
    /// # Errors
    /// When it is a request that we refuse.
    pub fn parse(packet: &[u8]) -> Option<Result<Self, Refusal>> {
        let refuse = |code, text| Some(Err(Refusal { code, text }));
        match word(packet, 0)? {
            RRQ => {}
            WRQ => return refuse(Code::AccessViolation, "nothing can be written here"),
            _ => return None,
        }
        let mut words = packet[2..].split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let (file, mode) = (words.next()?, words.next()?);
        if !mode.eq_ignore_ascii_case("octet") {
            return refuse(Code::IllegalOperation, "only the mode octet is spoken here");
        }
        let mut options = BTreeMap::new();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            options.insert(name.to_ascii_lowercase(), value.into_owned());
        }
        let block_size = options
            .get("blksize")
            .and_then(|v| v.parse().ok())
            .filter(|size| (8..=65464).contains(size));
        let file = file.trim_start_matches('/').to_owned();
        Some(Ok(Self { file, block_size, size: options.contains_key("tsize") }))
    }
}

/// What to do after a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Send(Vec<u8>),
    /// Nothing: a duplicate, or nonsense.
    Wait,
    /// The client has everything.
    Done,
    /// The client gave up, with its words. Firmware does that on purpose after it has learned the size.
    Aborted(String),
}

/// A file on its way to a client.
#[derive(Debug)]
pub struct Transfer<'a> {
    data: &'a [u8],
    block_size: usize,
    /// Blocks that the client has.
    done: usize,
    /// Options that the client has not acknowledged yet.
    options: Option<Vec<u8>>,
}

impl<'a> Transfer<'a> {
    /// Begins to send a file.
    #[must_use]
    pub fn new(request: &ReadRequest, data: &'a [u8]) -> Self {
        let block_size = request.block_size.map(|size| size.min(LARGEST_BLOCK));
        let mut options = OACK.to_be_bytes().to_vec();
        let mut option =
            |name: &str, value: usize| options.extend(format!("{name}\0{value}\0").as_bytes());
        if let Some(size) = block_size {
            option("blksize", size);
        }
        if request.size {
            option("tsize", data.len());
        }
        let options = Some(options).filter(|options| options.len() > 2);
        Self { data, block_size: block_size.unwrap_or(DEFAULT_BLOCK), done: 0, options }
    }

    /// The packet that the client waits for; the same again until it is acknowledged.
    #[must_use]
    pub fn current(&self) -> Vec<u8> {
        if let Some(options) = &self.options {
            return options.clone();
        }
        let begin = (self.done * self.block_size).min(self.data.len());
        let end = (begin + self.block_size).min(self.data.len());
        let mut packet = packet(DATA, number(self.done + 1));
        packet.extend(&self.data[begin..end]);
        packet
    }

    /// Takes a packet of the client. An acknowledgement of an older block is not answered: two answers for each duplicate
    /// would double every packet that follows (the sorcerer's apprentice syndrome, RFC 1123 section 4.2.3.1).
    pub fn take(&mut self, packet: &[u8]) -> Step {
        match word(packet, 0).zip(word(packet, 2)) {
            Some((ACK, 0)) if self.options.is_some() => {
                self.options = None;
                Step::Send(self.current())
            }
            Some((ACK, block)) if self.options.is_none() && block == number(self.done + 1) => {
                self.done += 1;
                // the last block is the one that is not full, even if it is empty
                if self.done * self.block_size > self.data.len() {
                    Step::Done
                } else {
                    Step::Send(self.current())
                }
            }
            Some((ERROR, _)) => {
                let text = packet[4..].split(|byte| *byte == 0).next().unwrap_or_default();
                Step::Aborted(String::from_utf8_lossy(text).escape_debug().take(80).collect())
            }
            _ => Step::Wait,
        }
    }
}

/// Block numbers wrap around.
fn number(block: usize) -> u16 {
    (block & 0xffff) as u16
}

fn packet(kind: u16, second: u16) -> Vec<u8> {
    [kind.to_be_bytes(), second.to_be_bytes()].concat()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(text: &str) -> ReadRequest {
        let mut packet = vec![0, 1];
        packet.extend(text.as_bytes());
        ReadRequest::parse(&packet).unwrap().unwrap()
    }

    fn ack(block: usize) -> Vec<u8> {
        packet(ACK, number(block))
    }

    /// Plays the client; returns the blocks and the packet that it got first.
    fn fetch(request: &ReadRequest, data: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut transfer = Transfer::new(request, data);
        let first = transfer.current();
        let (mut blocks, mut next) = (Vec::new(), first.clone());
        loop {
            let acknowledged = match word(&next, 0) {
                Some(OACK) => 0,
                Some(DATA) => {
                    blocks.push(next[4..].to_vec());
                    blocks.len()
                }
                other => panic!("{other:?}"),
            };
            match transfer.take(&ack(acknowledged)) {
                Step::Send(packet) => next = packet,
                Step::Done => return (blocks, first),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn requests() {
        let plain = request("/snponly.efi\0octet\0");
        assert_eq!(
            plain,
            ReadRequest { file: "snponly.efi".into(), block_size: None, size: false }
        );
        let with = request("a\0OCTET\0tsize\x000\0BLKSIZE\x008192\0windowsize\x004\0");
        assert_eq!(with, ReadRequest { file: "a".into(), block_size: Some(8192), size: true });
        assert_eq!(request("a\0octet\0blksize\x007\0").block_size, None, "too small");
        let code = |packet: &[u8]| ReadRequest::parse(packet).unwrap().unwrap_err().code;
        assert_eq!(code(b"\0\x02a\0octet\0"), Code::AccessViolation);
        assert_eq!(code(b"\0\x01a\0netascii\0"), Code::IllegalOperation);
        assert_eq!(ReadRequest::parse(b"\0\x04\0\0"), None);
        assert_eq!(ReadRequest::parse(b"\0\x01a"), None);
    }

    #[test]
    fn options_are_acknowledged_and_limited() {
        let (blocks, first) =
            fetch(&request("a\0octet\0blksize\x008192\0tsize\x000\0"), &[7; 3000]);
        assert_eq!(first, b"\0\x06blksize\x001468\0tsize\x003000\0");
        assert_eq!(blocks.iter().map(Vec::len).collect::<Vec<_>>(), [1468, 1468, 64]);
        let (blocks, first) = fetch(&request("a\0octet\0"), &[7; 1024]);
        assert_eq!(word(&first, 0), Some(DATA), "no options, no acknowledgement of them");
        assert_eq!(blocks.iter().map(Vec::len).collect::<Vec<_>>(), [512, 512, 0]);
    }

    #[test]
    fn duplicates_and_abort() {
        let mut transfer = Transfer::new(&request("a\0octet\0"), &[1; 600]);
        assert!(matches!(transfer.take(&ack(1)), Step::Send(_)));
        assert_eq!(transfer.take(&ack(1)), Step::Wait);
        assert_eq!(transfer.take(&ack(3)), Step::Wait);
        assert_eq!(transfer.take(&[]), Step::Wait);
        assert_eq!(
            transfer.take(b"\0\x05\0\x08User aborted\0"),
            Step::Aborted("User aborted".into())
        );
    }

    #[test]
    fn more_blocks_than_numbers() {
        let data: Vec<u8> = (0..66_000u32 * 8).map(|n| (n / 8) as u8).collect();
        let (blocks, _) = fetch(&request("a\0octet\0blksize\x008\0"), &data);
        assert_eq!(blocks.len(), 66_001);
        assert_eq!(blocks.concat(), data);
    }

    proptest! {
        #[test]
        fn any_first_packet(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ReadRequest::parse(&bytes);
            let mut bytes = bytes;
            bytes.splice(0..0, [0, 1]);
            let _ = ReadRequest::parse(&bytes);
        }

        #[test]
        fn any_later_packets(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..8), 0..50)) {
            let mut transfer = Transfer::new(&request("a\0octet\0tsize\x000\0"), &[0; 900]);
            for packet in packets {
                transfer.take(&packet);
                let _ = transfer.current();
            }
        }

        #[test]
        fn what_arrives_is_the_file(data in proptest::collection::vec(any::<u8>(), 0..5000), size in 8usize..2000) {
            let (blocks, _) = fetch(&request(&format!("a\0octet\0blksize\0{size}\0")), &data);
            prop_assert_eq!(blocks.concat(), data);
        }
    }
}
