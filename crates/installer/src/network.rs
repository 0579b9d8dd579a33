//! Addresses on all cards at once. The first lease that leads to a boot service carries the traffic; when its leaf
//! dies, the next one does.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::console::say;
use crate::dhcp;
use crate::lease::{Event, Lease, Leasing};
use crate::netlink::{Change, apply};
use crate::nic::Nic;
use crate::packet::PacketSocket;

/// EtherType of IPv4.
const IPV4: u16 = 0x0800;

/// The cards and their leases. Clones share them.
#[derive(Clone, Debug)]
pub struct Network {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ports: Vec<(Nic, Option<Lease>)>,
    /// Interface that carries the default route.
    active: Option<u32>,
}

impl Network {
    /// Takes all cards into service and asks for addresses on each of them, for ever, in threads of their own.
    #[must_use]
    pub fn start(nics: &[Nic], uuid: uuid::Uuid) -> Self {
        let state =
            State { ports: nics.iter().map(|nic| (nic.clone(), None)).collect(), active: None };
        let network =
            Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }) };
        for nic in nics {
            if let Err(error) = apply(Change::LinkUp { interface: nic.index }) {
                say(&format!("network   {} cannot be taken into service: {error}", nic.name));
            }
            let (network, nic) = (network.clone(), nic.clone());
            let client = dhcp::Client {
                mac: nic.mac,
                uuid: dhcp::smbios_order(uuid),
                transaction: transaction(),
            };
            thread::spawn(move || serve(&network, &nic, client));
        }
        network
    }

    /// Leases that there are, the one that carries the traffic first.
    #[must_use]
    pub fn leases(&self) -> Vec<(Nic, Lease)> {
        let state = self.state();
        let mut leases: Vec<_> = state
            .ports
            .iter()
            .filter_map(|(nic, lease)| Some((nic.clone(), lease.clone()?)))
            .collect();
        leases.sort_by_key(|(nic, _)| (Some(nic.index) != state.active, nic.index));
        leases
    }

    /// Waits until `enough` says so of the leases, at most this long.
    pub fn wait(
        &self,
        timeout: Duration,
        enough: impl Fn(&[(Nic, Lease)]) -> bool,
    ) -> Vec<(Nic, Lease)> {
        let deadline = Instant::now() + timeout;
        loop {
            let leases = self.leases();
            let left = deadline.saturating_duration_since(Instant::now());
            if enough(&leases) || left.is_zero() {
                return leases;
            }
            let state = self.state();
            drop(self.shared.changed.wait_timeout(state, left.min(Duration::from_millis(200))));
        }
    }

    /// Sends what is not on a link through this card from now on.
    ///
    /// # Errors
    /// When there is no lease or no router on it, or the kernel refuses.
    pub fn prefer(&self, interface: u32) -> std::io::Result<()> {
        let mut state = self.state();
        let lease = state
            .ports
            .iter()
            .find(|(nic, _)| nic.index == interface)
            .and_then(|(_, lease)| lease.as_ref());
        let (Some(gateway), Some(source)) =
            (lease.and_then(|l| l.router), lease.map(|l| l.address))
        else {
            return Err(std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "no lease with a router on this card",
            ));
        };
        write_resolv_conf(lease.map_or(&[], |l| &l.name_servers));
        apply(Change::DefaultRoute { interface, gateway, source })?;
        state.active = Some(interface);
        Ok(())
    }

    /// Sends through the next card that has a lease; returns its name when there is another one.
    #[must_use]
    pub fn fail_over(&self) -> Option<String> {
        let active = self.state().active;
        let leases = self.leases();
        let next =
            next_after(active, &leases.iter().map(|(nic, _)| nic.index).collect::<Vec<_>>())?;
        self.prefer(next).ok()?;
        leases.into_iter().find(|(nic, _)| nic.index == next).map(|(nic, _)| nic.name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happened(&self, nic: &Nic, event: Event) {
        let mut lost_route = false;
        {
            let mut state = self.state();
            let active = state.active;
            let Some((_, current)) = state.ports.iter_mut().find(|(n, _)| n.index == nic.index)
            else {
                return;
            };
            let old = current.take();
            if let Event::Bound(lease) = &event {
                *current = Some(lease.clone());
            }
            let new = current.clone();
            let address = |l: &Lease| (l.address, l.prefix_length);
            if let Some((address, prefix_length)) =
                old.as_ref().map(address).filter(|a| new.as_ref().map(address) != Some(*a))
            {
                let _ =
                    apply(Change::RemoveAddress { interface: nic.index, address, prefix_length });
            }
            if let Some(lease) = new {
                let (address, prefix_length) = (lease.address, lease.prefix_length);
                say(&format!("network   {} has {address}/{prefix_length}", nic.name));
                if let Err(error) =
                    apply(Change::AddAddress { interface: nic.index, address, prefix_length })
                {
                    say(&format!("network   {} refuses {address}: {error}", nic.name));
                }
            } else {
                say(&format!("network   {} lost its address", nic.name));
                lost_route = active == Some(nic.index);
            }
        }
        if lost_route {
            let _ = self.fail_over();
        } else if self.state().active.is_none() || self.state().active == Some(nic.index) {
            let _ = self.prefer(nic.index);
        }
        self.shared.changed.notify_all();
    }
}

/// The interface after `active` in the ring of those with a lease.
fn next_after(active: Option<u32>, leased: &[u32]) -> Option<u32> {
    let mut sorted = leased.to_vec();
    sorted.sort_unstable();
    let next = sorted.iter().find(|i| Some(**i) > active).or(sorted.first())?;
    (Some(*next) != active).then_some(*next)
}

/// One card's life. The socket is open only while something is expected: an open one would get a copy of every packet of
/// the image.
fn serve(network: &Network, nic: &Nic, client: dhcp::Client) {
    let sys = Path::new("/sys");
    while !crate::nic::has_carrier(sys, &nic.name) {
        thread::sleep(Duration::from_millis(20));
    }
    let mut leasing = Leasing::new(client, Instant::now());
    let mut buffer = vec![0_u8; 2048];
    loop {
        thread::sleep(leasing.deadline().saturating_duration_since(Instant::now()));
        let socket = match PacketSocket::open(nic.index, IPV4) {
            Ok(socket) => socket,
            Err(error) => {
                say(&format!("network   no packets on {}: {error}", nic.name));
                thread::sleep(Duration::from_secs(5));
                continue;
            }
        };
        exchange(network, nic, &mut leasing, &socket, &mut buffer);
    }
}

/// Asks until the lease is there or renewed, or this round of asking is over.
fn exchange(
    network: &Network,
    nic: &Nic,
    leasing: &mut Leasing,
    socket: &PacketSocket,
    buffer: &mut [u8],
) {
    loop {
        let source = leasing.address();
        let (message, event) = leasing.poll(Instant::now());
        if let Some(event) = event {
            network.happened(nic, event);
        }
        if let Some(message) = message {
            // a link that is down now comes back; the next attempt tells
            let _ = socket.send(&dhcp::frame(nic.mac, source, &message));
        }
        // an answer to a renewal comes at once or not at all; the next one is a long time away
        let patience = leasing
            .deadline()
            .saturating_duration_since(Instant::now())
            .min(Duration::from_secs(8));
        let until = Instant::now() + patience;
        let mut answered = false;
        while !answered && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(Some(frame)) = socket.receive(buffer, left) else { break };
            let Some(answer) = dhcp::payload(frame).and_then(dhcp::parse) else { continue };
            let before = leasing.deadline();
            if let Some(event) = leasing.receive(&answer, Instant::now()) {
                network.happened(nic, event);
            }
            answered = leasing.deadline() != before;
        }
        if leasing.deadline().saturating_duration_since(Instant::now()) > Duration::from_secs(1)
            && !leasing.address().is_unspecified()
        {
            return;
        }
    }
}

fn write_resolv_conf(servers: &[std::net::Ipv4Addr]) {
    let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    let _ = fs::create_dir_all("/etc");
    let _ = fs::write("/etc/resolv.conf", text);
}

fn transaction() -> u32 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_card_in_the_ring() {
        assert_eq!(next_after(None, &[]), None);
        assert_eq!(next_after(None, &[3, 2]), Some(2));
        assert_eq!(next_after(Some(2), &[2, 3]), Some(3));
        assert_eq!(next_after(Some(3), &[3, 2]), Some(2));
        assert_eq!(next_after(Some(2), &[2]), None, "there is no other one");
        assert_eq!(next_after(Some(2), &[5]), Some(5));
    }
}
