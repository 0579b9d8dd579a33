//! The server's messages.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode, UnknownOption};
use dhcproto::{Encodable, v4::Flags};

use super::request::{Request, Speaker};
use super::{Destination, Mode, Reply, lease::LEASE};

/// Boot loader for PC BIOS.
pub const BIOS_LOADER: &str = "undionly.kpxe";
/// Boot loader for UEFI, by PXE and by HTTP boot. It uses the firmware's network driver, which works with every card that can boot,
/// and starts seconds sooner than the loader with drivers of its own.
pub const EFI_LOADER: &str = "snponly.efi";
/// Path of the boot script on our HTTP server.
pub const SCRIPT_PATH: &str = "/boot.ipxe";
/// Path of the installer's configuration on our HTTP server.
pub const CONFIG_PATH: &str = "/config";

/// iPXE's encapsulated options, and in it the one that skips the search for a ProxyDHCP server, which takes two seconds.
const IPXE_OPTIONS: u8 = 175;
const IPXE_NO_PXEDHCP: u8 = 176;
/// Site-specific option (RFC 3942) with the URL of the installer's configuration.
const CONFIG_URL: u8 = 224;
/// PXE option 43 with discovery control (6) = use the file name in this offer.
const PXE_USE_FILE: [u8; 4] = [6, 1, 8, 255];
/// Some clients discard what is shorter than a BOOTP message (RFC 1542 section 2.1).
const SHORTEST: usize = 300;

/// What the answers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    /// Our own address: DHCP, TFTP and HTTP.
    pub server: Ipv4Addr,
    pub prefix_length: u8,
    pub router: Option<Ipv4Addr>,
    pub dns_servers: Vec<Ipv4Addr>,
    pub ntp_servers: Vec<Ipv4Addr>,
    pub http_port: u16,
}

impl Settings {
    /// A URL on our HTTP server.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        match self.http_port {
            80 => format!("http://{}{path}", self.server),
            port => format!("http://{}:{port}{path}", self.server),
        }
    }

    fn mask(&self) -> Ipv4Addr {
        let bits = u32::MAX.checked_shl(32 - u32::from(self.prefix_length)).unwrap_or(0);
        Ipv4Addr::from_bits(bits)
    }

    /// The boot file that a client is told, by TFTP name or URL.
    fn boot_file(&self, speaker: Speaker) -> Option<String> {
        match speaker {
            Speaker::Ipxe => Some(self.url(SCRIPT_PATH)),
            Speaker::Bios => Some(BIOS_LOADER.to_owned()),
            Speaker::Efi => Some(EFI_LOADER.to_owned()),
            Speaker::HttpBoot => Some(self.url(&format!("/{EFI_LOADER}"))),
            Speaker::Installer | Speaker::Foreign(_) | Speaker::System => None,
        }
    }
}

pub(super) fn offer(request: &Request, address: Ipv4Addr, settings: &Settings) -> Reply {
    lending(request, MessageType::Offer, address, settings)
}

pub(super) fn ack(request: &Request, address: Ipv4Addr, settings: &Settings) -> Reply {
    lending(request, MessageType::Ack, address, settings)
}

pub(super) fn nak(request: &Request, settings: &Settings) -> Reply {
    let mut message = begin(request, MessageType::Nak, settings);
    message.set_flags(Flags::from(request.flags).set_broadcast());
    let why = "the address belongs to another machine or another network".to_owned();
    message.opts_mut().insert(DhcpOption::Message(why));
    end(message, Destination::Broadcast)
}

pub(super) fn inform(request: &Request, settings: &Settings) -> Reply {
    let mut message = begin(request, MessageType::Ack, settings);
    message.set_ciaddr(request.ciaddr);
    parameters(&mut message, request, settings);
    end(message, destination(request))
}

pub(super) fn proxy_offer(request: &Request, settings: &Settings) -> Reply {
    end(proxying(request, MessageType::Offer, settings), Destination::Broadcast)
}

pub(super) fn proxy_ack(request: &Request, settings: &Settings) -> Reply {
    let mut message = proxying(request, MessageType::Ack, settings);
    message.set_ciaddr(request.ciaddr);
    end(message, Destination::Sender)
}

fn lending(request: &Request, kind: MessageType, address: Ipv4Addr, settings: &Settings) -> Reply {
    let mut message = begin(request, kind, settings);
    message.set_yiaddr(address).set_ciaddr(request.ciaddr);
    let lease = u32::try_from(LEASE).unwrap_or(u32::MAX);
    let options = message.opts_mut();
    options.insert(DhcpOption::AddressLeaseTime(lease));
    options.insert(DhcpOption::Renewal(lease / 2));
    options.insert(DhcpOption::Rebinding(lease / 8 * 7));
    parameters(&mut message, request, settings);
    end(message, destination(request))
}

/// Network parameters and what to boot, for a client whose addresses are our business.
fn parameters(message: &mut Message, request: &Request, settings: &Settings) {
    let speaker = request.speaker();
    let options = message.opts_mut();
    options.insert(DhcpOption::SubnetMask(settings.mask()));
    if let Some(router) = settings.router {
        options.insert(DhcpOption::Router(vec![router]));
    }
    if !settings.dns_servers.is_empty() {
        options.insert(DhcpOption::DomainNameServer(settings.dns_servers.clone()));
    }
    if !settings.ntp_servers.is_empty() {
        options.insert(DhcpOption::NtpServers(settings.ntp_servers.clone()));
    }
    match speaker {
        Speaker::Installer => {
            raw(message, CONFIG_URL, settings.url(CONFIG_PATH).into_bytes());
        }
        // without it UEFI takes the answer for one of a PXE server and discards it
        Speaker::HttpBoot => {
            options.insert(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
        }
        _ => {}
    }
    boot(message, speaker, settings);
}

fn proxying(request: &Request, kind: MessageType, settings: &Settings) -> Message {
    let speaker = request.speaker();
    let mut message = begin(request, kind, settings);
    message.set_flags(Flags::from(request.flags).set_broadcast());
    let class: &[u8] = if speaker == Speaker::HttpBoot { b"HTTPClient" } else { b"PXEClient" };
    message.opts_mut().insert(DhcpOption::ClassIdentifier(class.to_vec()));
    if matches!(speaker, Speaker::Bios | Speaker::Ipxe) {
        message.opts_mut().insert(DhcpOption::VendorExtensions(PXE_USE_FILE.to_vec()));
    }
    boot(&mut message, speaker, settings);
    message
}

/// The boot file, in the header for old firmware and as option 67 for UEFI HTTP boot.
fn boot(message: &mut Message, speaker: Speaker, settings: &Settings) {
    let Some(file) = settings.boot_file(speaker) else { return };
    if speaker == Speaker::Ipxe {
        raw(message, IPXE_OPTIONS, vec![IPXE_NO_PXEDHCP, 1, 1]);
    }
    message.set_siaddr(settings.server).set_fname_str(&file);
    message.opts_mut().insert(DhcpOption::BootfileName(file.into_bytes()));
}

/// A reply that repeats what has to be repeated.
fn begin(request: &Request, kind: MessageType, settings: &Settings) -> Message {
    let unspecified = Ipv4Addr::UNSPECIFIED;
    let (xid, mac) = (request.xid, &request.mac.0);
    let mut message =
        Message::new_with_id(xid, unspecified, unspecified, unspecified, unspecified, mac);
    message.set_opcode(Opcode::BootReply).set_flags(request.flags.into());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(settings.server));
    if let Some(id) = &request.client_id {
        options.insert(DhcpOption::ClientIdentifier(id.clone()));
    }
    if let Some(id) = &request.machine_id {
        options.insert(DhcpOption::ClientMachineIdentifier(id.clone()));
    }
    message
}

fn raw(message: &mut Message, code: u8, data: Vec<u8>) {
    message
        .opts_mut()
        .insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), data)));
}

/// A client without an address hears broadcasts only; one that renews is spoken to directly.
fn destination(request: &Request) -> Destination {
    if request.ciaddr.is_unspecified() {
        Destination::Broadcast
    } else {
        Destination::Client(request.ciaddr)
    }
}

fn end(message: Message, to: Destination) -> Reply {
    // encoding fails only for names that are no domain names, and there are none in these messages
    let mut bytes = message.to_vec().unwrap_or_default();
    bytes.resize(bytes.len().max(SHORTEST), 0);
    Reply { bytes, to }
}
