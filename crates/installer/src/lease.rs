//! The life of one DHCP lease as a state machine: packets in, packets and events out, time as an argument.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::dhcp::{Answer, Client, Kind, option};

/// What a server gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// Of the network on the link.
    pub prefix_length: u8,
    /// Next router, if there is one.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub name_servers: Vec<Ipv4Addr>,
    /// Where the installer's configuration is.
    pub config_url: Option<String>,
    /// How long it lasts.
    pub duration: Duration,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A lease is there, or its content changed.
    Bound(Lease),
    /// The lease ended or was taken away.
    Lost,
}

/// Where we are between asking and having.
#[derive(Debug)]
enum State {
    Selecting,
    Requesting { address: Ipv4Addr, server: Ipv4Addr },
    Bound { lease: Lease, since: Instant },
}

/// One card's client.
#[derive(Debug)]
pub struct Leasing {
    client: Client,
    state: State,
    started: Instant,
    attempt: u32,
    next: Instant,
}

/// After this many unanswered requests the offer is forgotten.
const REQUESTS: u32 = 3;
/// A lease that does not say how long it lasts.
const DEFAULT_DURATION: Duration = Duration::from_secs(600);

impl Leasing {
    /// Starts to ask at once.
    #[must_use]
    pub fn new(client: Client, now: Instant) -> Self {
        Self { client, state: State::Selecting, started: now, attempt: 0, next: now }
    }

    /// When [`Self::poll`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// The address in use, for the source of what is sent.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        match &self.state {
            State::Bound { lease, .. } => lease.address,
            _ => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// Does what is due: a message to send, and possibly the news that the lease ended.
    pub fn poll(&mut self, now: Instant) -> (Option<Vec<u8>>, Option<Event>) {
        if now < self.next {
            return (None, None);
        }
        let mut event = None;
        match &self.state {
            State::Requesting { .. } if self.attempt >= REQUESTS => self.restart(now),
            State::Bound { lease, since } if now >= *since + lease.duration => {
                self.restart(now);
                event = Some(Event::Lost);
            }
            _ => {}
        }
        let seconds = u16::try_from((now - self.started).as_secs()).unwrap_or(u16::MAX);
        self.attempt += 1;
        let (message, pause) = match &self.state {
            State::Selecting => (self.client.discover(seconds), retry(self.attempt)),
            State::Requesting { address, server } => {
                (self.client.request(seconds, *address, *server), retry(self.attempt))
            }
            // past half of the time: often enough to get through, seldom enough for a rack full of machines
            State::Bound { lease, .. } => {
                (self.client.renew(lease.address), (lease.duration / 8).max(Duration::from_secs(2)))
            }
        };
        self.next = now + pause;
        (Some(message), event)
    }

    /// Takes a server's answer.
    pub fn receive(&mut self, answer: &Answer, now: Instant) -> Option<Event> {
        if answer.transaction != self.client.transaction {
            return None;
        }
        match (&self.state, answer.kind) {
            (State::Selecting, Kind::Offer) => {
                let server = *answer.addresses(option::SERVER).first()?;
                self.state = State::Requesting { address: answer.address, server };
                self.attempt = 0;
                self.next = now;
                None
            }
            (State::Requesting { .. } | State::Bound { .. }, Kind::Ack) => {
                let lease = lease(answer)?;
                let news = !matches!(&self.state, State::Bound { lease: old, .. } if *old == lease);
                self.next = now + lease.duration / 2;
                self.attempt = 0;
                self.state = State::Bound { lease: lease.clone(), since: now };
                news.then_some(Event::Bound(lease))
            }
            (State::Requesting { .. }, Kind::Nak) => {
                self.restart(now);
                None
            }
            (State::Bound { .. }, Kind::Nak) => {
                self.restart(now);
                Some(Event::Lost)
            }
            _ => None,
        }
    }

    fn restart(&mut self, now: Instant) {
        self.state = State::Selecting;
        self.started = now;
        self.attempt = 0;
        self.next = now;
    }
}

/// Pause after the n-th attempt. The first ones are short: a boot service answers in milliseconds, and what is lost is
/// lost while a port comes up. The low bits of the count spread machines that start together.
fn retry(attempt: u32) -> Duration {
    Duration::from_millis(250_u64 << attempt.clamp(1, 5))
}

fn lease(answer: &Answer) -> Option<Lease> {
    if answer.address.is_unspecified() || answer.address.is_broadcast() {
        return None;
    }
    let mask = answer.number(option::SUBNET_MASK).unwrap_or(0xffff_ff00);
    let duration = answer
        .number(option::LEASE_TIME)
        .map_or(DEFAULT_DURATION, |s| Duration::from_secs(s.max(8).into()));
    Some(Lease {
        address: answer.address,
        prefix_length: mask.leading_ones() as u8,
        router: answer.addresses(option::ROUTER).first().copied(),
        name_servers: answer.addresses(option::NAME_SERVER),
        config_url: answer.text(option::CONFIG_URL).filter(|url| !url.is_empty()),
        duration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::parse;
    use crate::dhcp::tests::{answer, client};

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 100);
    const SERVER: [u8; 4] = [10, 0, 1, 1];

    fn from_server(kind: u8, options: &[(u8, &[u8])]) -> Answer {
        let mut all: Vec<(u8, &[u8])> = vec![(option::SERVER, &SERVER)];
        all.extend(options);
        parse(&answer(kind, &client(), ADDRESS, &all)).unwrap()
    }

    fn kind(message: &[u8]) -> u8 {
        let at = message[240..].windows(2).position(|w| w == [53, 1]).unwrap();
        message[240 + at + 2]
    }

    fn bound(now: Instant) -> (Leasing, Lease) {
        let mut leasing = Leasing::new(client(), now);
        assert_eq!(kind(&leasing.poll(now).0.unwrap()), 1);
        assert_eq!(leasing.receive(&from_server(2, &[]), now), None);
        assert_eq!(kind(&leasing.poll(now).0.unwrap()), 3, "the offer is taken at once");
        let ack = from_server(
            5,
            &[
                (option::SUBNET_MASK, &[255, 255, 255, 0]),
                (option::ROUTER, &SERVER),
                (option::LEASE_TIME, &600_u32.to_be_bytes()),
                (option::CONFIG_URL, b"http://10.0.1.1/config"),
            ],
        );
        let Some(Event::Bound(lease)) = leasing.receive(&ack, now) else { panic!("no lease") };
        (leasing, lease)
    }

    #[test]
    fn discover_offer_request_ack() {
        let (leasing, lease) = bound(Instant::now());
        assert_eq!(leasing.address(), ADDRESS);
        assert_eq!(lease.prefix_length, 24);
        assert_eq!(lease.router, Some(Ipv4Addr::from(SERVER)));
        assert_eq!(lease.config_url.as_deref(), Some("http://10.0.1.1/config"));
    }

    #[test]
    fn silence_is_answered_by_asking_again_ever_slower() {
        let mut now = Instant::now();
        let mut leasing = Leasing::new(client(), now);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert_eq!(kind(&leasing.poll(now).0.unwrap()), 1);
            assert_eq!(leasing.poll(now), (None, None), "not before its time");
            pauses.push((leasing.deadline() - now).as_millis());
            now = leasing.deadline();
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 8000, 8000]);
    }

    #[test]
    fn a_server_that_offers_and_falls_silent_is_forgotten() {
        let mut now = Instant::now();
        let mut leasing = Leasing::new(client(), now);
        leasing.poll(now);
        leasing.receive(&from_server(2, &[]), now);
        let mut kinds = Vec::new();
        for _ in 0..5 {
            kinds.push(kind(&leasing.poll(now).0.unwrap()));
            now = leasing.deadline();
        }
        assert_eq!(kinds, [3, 3, 3, 1, 1]);
    }

    #[test]
    fn half_way_it_renews_and_at_the_end_it_is_lost() {
        let start = Instant::now();
        let (mut leasing, lease) = bound(start);
        assert_eq!(leasing.deadline(), start + Duration::from_secs(300));
        let later = leasing.deadline();
        assert_eq!(kind(&leasing.poll(later).0.unwrap()), 3);
        let ack = from_server(
            5,
            &[
                (option::SUBNET_MASK, &[255, 255, 255, 0]),
                (option::ROUTER, &SERVER),
                (option::LEASE_TIME, &600_u32.to_be_bytes()),
                (option::CONFIG_URL, b"http://10.0.1.1/config"),
            ],
        );
        assert_eq!(leasing.receive(&ack, later), None, "the same lease is no news");
        assert_eq!(leasing.deadline(), later + Duration::from_secs(300));
        let end = later + lease.duration;
        let (message, event) = leasing.poll(end);
        assert_eq!((kind(&message.unwrap()), event), (1, Some(Event::Lost)));
    }

    #[test]
    fn a_refusal_starts_over() {
        let now = Instant::now();
        let (mut leasing, _) = bound(now);
        assert_eq!(leasing.receive(&from_server(6, &[]), now), Some(Event::Lost));
        assert_eq!(kind(&leasing.poll(now).0.unwrap()), 1);
    }

    #[test]
    fn somebody_else_s_answer_is_ignored() {
        let now = Instant::now();
        let mut leasing = Leasing::new(Client { transaction: 1, ..client() }, now);
        leasing.poll(now);
        assert_eq!(leasing.receive(&from_server(2, &[]), now), None);
        assert_eq!(leasing.poll(now), (None, None));
    }
}
