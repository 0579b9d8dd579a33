//! The DHCP server and the ProxyDHCP server as one function: a packet, the time and the state in, an answer out.

pub mod lease;
mod reply;
pub mod request;
pub mod server;
#[cfg(test)]
pub(crate) mod testing;

use std::net::Ipv4Addr;

use crate::identity::{Claim, Contradiction, Identities, Sighting};
use crate::mac::Mac;
use lease::{Leases, Pool};
use request::{Kind, Request, Speaker};

pub use reply::{BIOS_LOADER, CONFIG_PATH, EFI_LOADER, SCRIPT_PATH, Settings};

/// What the boot service knows about the machines on its network.
#[derive(Debug, Default)]
pub struct State {
    pub leases: Leases,
    pub identities: Identities,
}

/// Whether we hand out addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// We are the DHCP server of this network.
    Dhcp(Pool),
    /// A foreign DHCP server hands out addresses, we only say what to boot (ProxyDHCP of the PXE specification 2.1).
    Proxy,
}

/// Where a packet came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// UDP port 67.
    Dhcp,
    /// UDP port 4011, where firmware asks a ProxyDHCP server for the details.
    Pxe,
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// The client has no address yet.
    Broadcast,
    Client(Ipv4Addr),
    /// Address and port that the packet came from.
    Sender,
}

/// What was done with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Offer(Ipv4Addr),
    Ack(Ipv4Addr),
    /// The client must not use this address.
    Nak(Ipv4Addr),
    /// Parameters without an address.
    Inform,
    Release(Ipv4Addr),
    /// Somebody else uses this address.
    Decline(Ipv4Addr),
    /// What to boot, beside a foreign server's address.
    ProxyOffer,
    ProxyAck,
    /// No address is left.
    Exhausted,
    /// Why there is no answer.
    Ignored(&'static str),
}

/// An answer on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub to: Destination,
}

/// Everything that follows from one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub done: Done,
    pub reply: Option<Reply>,
    /// A claim that the control plane has to be asked about.
    pub ask: Option<Claim>,
    pub contradiction: Option<Contradiction>,
}

/// Answers a client's message. `port` is the bridge port that its hardware address was seen at, empty when unknown.
#[must_use]
pub fn answer(
    request: &Request,
    door: Door,
    port: &str,
    now: u64,
    state: &mut State,
    settings: &Settings,
) -> Outcome {
    // an identity is only worth something when we see the machine on the wire
    if !request.giaddr.is_unspecified() {
        return ignored(
            "it came through a relay, but machines have to be on the network of the boot service",
        );
    }
    let mut outcome = match (settings.mode, door) {
        (Mode::Dhcp(_), Door::Pxe) => {
            return ignored("the PXE port is only used beside a foreign DHCP server");
        }
        (Mode::Dhcp(pool), Door::Dhcp) => lend(request, &pool, now, state, settings),
        (Mode::Proxy, door) => proxy(request, door, settings),
    };
    match (request.kind, request.uuid()) {
        (Kind::Release, _) if outcome.done != RELEASE_OF_ANOTHER => {
            state.identities.release(request.mac, now);
        }
        (Kind::Discover | Kind::Request | Kind::Inform, Some(uuid)) => {
            match state.identities.see(request.mac, uuid, port, now) {
                Sighting::Ask(claim) => outcome.ask = Some(claim),
                Sighting::Known => {}
                Sighting::Contradicts(contradiction) => outcome.contradiction = Some(contradiction),
            }
        }
        _ => {}
    }
    outcome
}

const RELEASE_OF_ANOTHER: Done = Done::Ignored("it releases an address that is not its own");

fn ignored(why: &'static str) -> Outcome {
    done(Done::Ignored(why), None)
}

fn done(done: Done, reply: Option<Reply>) -> Outcome {
    Outcome { done, reply, ask: None, contradiction: None }
}

/// The DHCP server (RFC 2131 section 4.3). It is authoritative: it says no where other servers keep quiet.
fn lend(
    request: &Request,
    pool: &Pool,
    now: u64,
    state: &mut State,
    settings: &Settings,
) -> Outcome {
    let leases = &mut state.leases;
    match request.kind {
        Kind::Discover => match leases.offer(pool, request.mac, request.wanted, now) {
            Ok(address) => {
                done(Done::Offer(address), Some(reply::offer(request, address, settings)))
            }
            Err(lease::Exhausted) => done(Done::Exhausted, None),
        },
        Kind::Request => {
            if request.server.is_some_and(|server| server != settings.server) {
                leases.withdraw(request.mac, now);
                return ignored("it takes another server's offer");
            }
            let renewing = Some(request.ciaddr).filter(|address| !address.is_unspecified());
            let Some(address) = renewing.or(request.wanted) else {
                return ignored("it requests no address");
            };
            if leases.confirm(pool, request.mac, address, now) {
                done(Done::Ack(address), Some(reply::ack(request, address, settings)))
            } else {
                done(Done::Nak(address), Some(reply::nak(request, settings)))
            }
        }
        Kind::Release if leases.release(request.mac, request.ciaddr, now) => {
            done(Done::Release(request.ciaddr), None)
        }
        Kind::Release => done(RELEASE_OF_ANOTHER, None),
        Kind::Decline => match request.wanted {
            Some(address) if leases.decline(request.mac, address, now) => {
                done(Done::Decline(address), None)
            }
            _ => ignored("it declines an address that is not its own"),
        },
        Kind::Inform => done(Done::Inform, Some(reply::inform(request, settings))),
    }
}

/// The ProxyDHCP server: firmware and iPXE are told what to boot, nobody gets an address.
fn proxy(request: &Request, door: Door, settings: &Settings) -> Outcome {
    if !matches!(
        request.speaker(),
        Speaker::Ipxe | Speaker::Bios | Speaker::Efi | Speaker::HttpBoot
    ) {
        return ignored("it does not boot from the network");
    }
    match (door, request.kind) {
        (Door::Dhcp, Kind::Discover) => {
            done(Done::ProxyOffer, Some(reply::proxy_offer(request, settings)))
        }
        // firmware asks again at the PXE port with a REQUEST, some with an INFORM
        (Door::Pxe, Kind::Request | Kind::Inform) => {
            done(Done::ProxyAck, Some(reply::proxy_ack(request, settings)))
        }
        _ => ignored("the foreign DHCP server answers it"),
    }
}

/// The hardware address that may speak from an IP address: in DHCP mode the one that has the lease.
#[must_use]
pub fn holder(
    state: &State,
    mode: Mode,
    address: Ipv4Addr,
    on_the_wire: Option<Mac>,
    now: u64,
) -> Option<Mac> {
    match mode {
        Mode::Dhcp(_) => state.leases.holder(address, now),
        Mode::Proxy => on_the_wire,
    }
}

#[cfg(test)]
mod tests;
