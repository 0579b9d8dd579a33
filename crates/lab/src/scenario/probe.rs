//! Packets without a pause, to see when they do not arrive.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::stand_in::{PORT, StandIn};
use crate::netns;

/// Time between two questions of a flow.
const PERIOD: Duration = Duration::from_millis(20);
/// Answers later than this do not count.
const LATE: Duration = Duration::from_millis(500);
/// What stands between the name and the number of a question.
pub(super) const MARK: char = '#';

/// Questions under way, until it is asked for what became of them.
pub(super) struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

/// What became of the questions.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Questions.
    pub(super) sent: u64,
    /// Questions without an answer.
    pub(super) lost: u64,
    /// The longest time in which a flow got no answer.
    pub(super) outage: Duration,
    /// When the last answer came, counted from the start.
    pub(super) last: Option<Duration>,
    /// Who answered.
    pub(super) by: BTreeSet<String>,
}

/// A flow: equal paths are chosen by its port.
struct Flow {
    socket: UdpSocket,
    to: SocketAddr,
    /// When each question was sent, and whether it was answered.
    questions: Vec<(Instant, bool)>,
}

impl Probe {
    /// Asks each of these addresses over so many flows, from the own address of its family.
    pub(super) fn start(from: &StandIn, to: &[IpAddr], flows: u16) -> Result<Self> {
        let own = |address: &IpAddr| {
            let own = from.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4());
            own.copied().with_context(|| format!("{} has no such address", from.name()))
        };
        let pairs =
            to.iter().map(|to| Ok((own(to)?, *to))).collect::<Result<Vec<(IpAddr, IpAddr)>>>()?;
        let (namespace, name) = (from.machine.namespace(), from.name());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            netns::enter(&namespace)?;
            let mut all = Vec::new();
            for (own, to) in pairs {
                for _ in 0..flows {
                    let socket = UdpSocket::bind((own, 0))?;
                    socket.set_nonblocking(true)?;
                    let to = SocketAddr::new(to, PORT);
                    all.push(Flow { socket, to, questions: Vec::new() });
                }
            }
            run(&mut all, &name, &stopped)
        });
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub(super) fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the probe panicked"))?
    }
}

fn run(flows: &mut [Flow], name: &str, stop: &AtomicBool) -> Result<Seen> {
    let begin = Instant::now();
    let mut seen = Seen::default();
    let mut due = begin;
    let mut ended = None;
    loop {
        let now = Instant::now();
        if ended.is_none() && stop.load(Ordering::Relaxed) {
            ended = Some(now);
        }
        match ended {
            Some(end) if now.duration_since(end) > LATE => break,
            None if now >= due => {
                // On a busy host questions are left out, not sent all at once.
                due = now + PERIOD;
                for flow in &mut *flows {
                    let text = format!("{name}{MARK}{}", flow.questions.len());
                    flow.questions.push((now, false));
                    // Without a route there is no answer either.
                    flow.socket.send_to(text.as_bytes(), flow.to).ok();
                }
            }
            _ => {}
        }
        for flow in &mut *flows {
            flow.read(&mut seen, begin)?;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let end = ended.unwrap_or_else(Instant::now);
    for flow in flows {
        flow.count(&mut seen, end);
    }
    Ok(seen)
}

impl Flow {
    fn read(&mut self, seen: &mut Seen, begin: Instant) -> Result<()> {
        let mut buffer = [0; 200];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, _)) => {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    let Some((by, number)) = text.split_once(MARK) else { continue };
                    seen.by.insert(by.to_owned());
                    let question =
                        number.parse().ok().and_then(|n: usize| self.questions.get_mut(n));
                    if let Some((sent, answered)) = question
                        && sent.elapsed() < LATE
                    {
                        *answered = true;
                        seen.last = Some(begin.elapsed());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Routers say that there is no way; that is what is measured.
                Err(_) => {}
            }
        }
    }

    /// From the first question without an answer to the next one that has one.
    fn count(&self, seen: &mut Seen, end: Instant) {
        let mut since = None;
        for (sent, answered) in &self.questions {
            seen.sent += 1;
            match (answered, since) {
                (false, None) => since = Some(*sent),
                (true, Some(first)) => {
                    seen.outage = seen.outage.max(sent.duration_since(first));
                    since = None;
                }
                _ => {}
            }
            seen.lost += u64::from(!answered);
        }
        if let Some(first) = since {
            seen.outage = seen.outage.max(end.saturating_duration_since(first));
        }
    }
}

/// Asks often until the first answer comes; tells when that was.
pub(super) fn first_answer(from: &StandIn, to: IpAddr, patience: Duration) -> Result<Instant> {
    let own = from.addresses.iter().find(|own| own.is_ipv4() == to.is_ipv4());
    let own = *own.with_context(|| format!("{} has no such address", from.name()))?;
    let name = from.name();
    netns::within(&from.machine.namespace(), || {
        let socket = UdpSocket::bind((own, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(10)))?;
        let begin = Instant::now();
        let mut buffer = [0; 200];
        while begin.elapsed() < patience {
            let sent = socket.send_to(name.as_bytes(), SocketAddr::new(to, PORT));
            if sent.is_ok() && socket.recv_from(&mut buffer).is_ok() {
                return Ok(Instant::now());
            }
            if sent.is_err() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        anyhow::bail!("{name} does not reach {to} within {patience:?}")
    })
}
