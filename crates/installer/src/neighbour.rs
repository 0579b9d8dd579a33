//! LLDP on every card: says who we are and hears which port of which leaf is at the other end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lldp::{ChassisId, Frame, Organization, PortId};

use crate::nic::{Nic, format_mac};
use crate::packet::PacketSocket;

/// Frames at the start, when leaves do not know us yet.
const EAGER: Duration = Duration::from_secs(2);
/// How long the start lasts.
const EAGER_FOR: Duration = Duration::from_secs(30);
/// Frames after that.
const CALM: Duration = Duration::from_secs(10);
/// How long a frame is true, in seconds.
const TTL: u16 = 40;

/// A port of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Id of the leaf: its system name.
    pub hostname: String,
    /// Id of the port as the leaf says it.
    pub identifier: String,
    /// Name of the port for people.
    pub name: String,
    /// Hardware address of the port, or of the leaf where the port's id is none.
    pub mac: String,
}

impl Neighbour {
    fn of(frame: &Frame) -> Self {
        let identifier = frame.port_id.to_string();
        let mac = match (&frame.port_id, &frame.chassis_id) {
            (PortId::Mac(mac), _) | (_, ChassisId::Mac(mac)) => format_mac(*mac),
            _ => String::new(),
        };
        let name = frame
            .port_description
            .clone()
            .filter(|d| !d.is_empty())
            .unwrap_or_else(|| identifier.clone());
        let hostname = frame.system_name.clone().unwrap_or_default();
        Self { hostname, identifier, name, mac }
    }
}

/// What is heard, by number of the interface. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    shared: Arc<Shared>,
}

type Heard = BTreeMap<u32, Vec<(Neighbour, Instant)>>;

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    changed: Condvar,
    silent: AtomicBool,
}

/// The frame that announces a waiting machine on one card.
#[must_use]
pub fn announcement(nic: &Nic, uuid: &str, since: &str) -> Frame {
    let mut frame =
        Frame::new(ChassisId::Mac(nic.mac), PortId::InterfaceName(nic.name.clone()), TTL);
    frame.port_description = Some(nic.name.clone());
    frame.system_name = Some(uuid.to_owned());
    let version = env!("CARGO_PKG_VERSION");
    frame.system_description =
        Some(format!("metal-hammer compatible metal-installer {version} waiting since {since}"));
    frame.organizations = vec![Organization::med_endpoint()];
    frame
}

impl Neighbours {
    /// Speaks and listens on all cards in threads of their own.
    #[must_use]
    pub fn start(nics: &[Nic], uuid: &str) -> Self {
        let neighbours = Self::default();
        let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        for nic in nics {
            let frame = announcement(nic, uuid, &since).encode(nic.mac);
            let (neighbours, nic) = (neighbours.clone(), nic.clone());
            thread::spawn(move || serve(&neighbours, &nic, &frame));
        }
        neighbours
    }

    /// Who is heard on a card now.
    #[must_use]
    pub fn of(&self, interface: u32) -> Vec<Neighbour> {
        let now = Instant::now();
        let heard = self.heard();
        heard
            .get(&interface)
            .into_iter()
            .flatten()
            .filter(|(_, until)| *until > now)
            .map(|(n, _)| n.clone())
            .collect()
    }

    /// Waits until somebody is heard on each of the cards, at most this long; says whether it came so far.
    pub fn wait(&self, interfaces: &[u32], timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut heard = self.heard();
        loop {
            if interfaces.iter().all(|i| heard.contains_key(i)) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            heard = self
                .shared
                .changed
                .wait_timeout(heard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Names of all leaves that are heard now.
    #[must_use]
    pub fn leaves(&self) -> Vec<String> {
        let now = Instant::now();
        let heard = self.heard();
        let alive = heard.values().flatten().filter(|(_, until)| *until > now);
        let mut names: Vec<_> = alive.map(|(neighbour, _)| neighbour.hostname.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Says goodbye on all cards and nothing more: leaves forget at once that a machine waits here.
    pub fn goodbye(&self, nics: &[Nic], uuid: &str) {
        self.shared.silent.store(true, Ordering::SeqCst);
        for nic in nics {
            let mut frame = announcement(nic, uuid, "");
            frame.ttl = 0;
            // a leaf that does not hear it forgets a little later
            let _ = PacketSocket::open(nic.index, lldp::ETHERTYPE)
                .and_then(|socket| socket.send(&frame.encode(nic.mac)));
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, interface: u32, frame: &Frame, now: Instant) {
        let mut heard = self.heard();
        note(heard.entry(interface).or_default(), frame, now);
        self.shared.changed.notify_all();
    }
}

/// A port that speaks again replaces what it said; one that says goodbye is forgotten.
fn note(known: &mut Vec<(Neighbour, Instant)>, frame: &Frame, now: Instant) {
    let neighbour = Neighbour::of(frame);
    known.retain(|(n, until)| {
        (n.hostname != neighbour.hostname || n.identifier != neighbour.identifier) && *until > now
    });
    if frame.ttl > 0 {
        known.push((neighbour, now + Duration::from_secs(frame.ttl.into())));
    }
}

fn serve(neighbours: &Neighbours, nic: &Nic, frame: &[u8]) {
    let Ok(socket) = PacketSocket::open(nic.index, lldp::ETHERTYPE) else { return };
    let start = Instant::now();
    let mut buffer = [0_u8; 2048];
    let mut next = start;
    loop {
        let now = Instant::now();
        if neighbours.shared.silent.load(Ordering::SeqCst) {
            return;
        }
        if now >= next {
            let sent = socket.send(frame).is_ok();
            next = now
                + match now - start < EAGER_FOR {
                    true if !sent => Duration::from_millis(100),
                    true => EAGER,
                    false => CALM,
                };
        }
        match socket.receive(&mut buffer, next.saturating_duration_since(Instant::now())) {
            Ok(Some(bytes)) if bytes.get(6..12) != Some(&nic.mac) => {
                if let Ok(frame) = Frame::decode(bytes) {
                    neighbours.hear(nic.index, &frame, Instant::now());
                }
            }
            Ok(_) => {}
            Err(_) => thread::sleep(Duration::from_millis(50)), // the link is down
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(port: PortId, ttl: u16) -> Frame {
        let mut frame = Frame::new(ChassisId::Mac([2, 0, 0, 0, 0, 0x11]), port, ttl);
        frame.system_name = Some("leaf01".into());
        frame.port_description = Some("swp1".into());
        frame
    }

    #[test]
    fn a_neighbour_is_what_the_contract_wants_to_know() {
        let by_mac = Neighbour::of(&leaf(PortId::Mac([2, 0, 0, 0, 1, 1]), 40));
        assert_eq!(by_mac.hostname, "leaf01");
        assert_eq!(
            (by_mac.identifier.as_str(), by_mac.mac.as_str()),
            ("02:00:00:00:01:01", "02:00:00:00:01:01")
        );
        assert_eq!(by_mac.name, "swp1");
        let by_name = Neighbour::of(&leaf(PortId::Local("Eth1/1".into()), 40));
        assert_eq!(
            (by_name.identifier.as_str(), by_name.mac.as_str()),
            ("Eth1/1", "02:00:00:00:00:11")
        );
    }

    #[test]
    fn old_and_departed_neighbours_are_forgotten() {
        let now = Instant::now();
        let mut known = Vec::new();
        note(&mut known, &leaf(PortId::Local("a".into()), 10), now);
        note(&mut known, &leaf(PortId::Local("a".into()), 10), now);
        note(&mut known, &leaf(PortId::Local("b".into()), 40), now);
        assert_eq!(known.len(), 2);
        note(&mut known, &leaf(PortId::Local("b".into()), 40), now + Duration::from_secs(11));
        assert_eq!(known.iter().map(|(n, _)| n.identifier.as_str()).collect::<Vec<_>>(), ["b"]);
        note(&mut known, &leaf(PortId::Local("b".into()), 0), now + Duration::from_secs(12));
        assert!(known.is_empty());
    }

    #[test]
    fn the_announcement_is_what_leaves_look_for() {
        let nic = Nic {
            index: 2,
            name: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            speed: 0,
            vendor: String::new(),
            model: String::new(),
        };
        let frame =
            announcement(&nic, "00112233-4455-6677-8899-aabbccddeeff", "2026-11-21T07:00:00Z");
        let heard = Frame::decode(&frame.encode(nic.mac)).unwrap();
        assert_eq!(heard.system_name.as_deref(), Some("00112233-4455-6677-8899-aabbccddeeff"));
        let description = heard.system_description.unwrap();
        assert!(
            description.contains("metal-hammer")
                && description.contains("waiting since 2026-11-21T07:00:00Z")
        );
        assert!(!description.contains("provisioned"), "that word means phoned home");
    }
}
