//! What the leaf says on its machine ports, and what it hears there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::Shutdown;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Agent;
use crate::backend::Backend;
use crate::phone_home::{Heard, PhoneHome};
use crate::speaker::{self, Speaker, Speakers, frame};

/// An installer waits for two neighbours: seconds count.
const INTERVAL: Duration = Duration::from_secs(2);
/// How soon ports in a new namespace are heard.
const FOLLOW: Duration = Duration::from_millis(500);
/// Seconds for which a frame is true.
const TTL: u16 = 10;
/// A neighbour that was silent for so long is new.
const FORGET: Duration = Duration::from_secs(30);
/// What is refused is said once in this time for each port.
const COMPLAIN: Duration = Duration::from_secs(60);

impl<B: Backend> Agent<B> {
    /// Tells machines on which port of which switch they are, hears who is there, answers newcomers at once and passes
    /// on who phones home.
    pub(super) async fn lldp(self: Arc<Self>, shutdown: Shutdown) {
        let Some((speakers, frames)) = open() else { return };
        let follow = daemon::every(shutdown.clone(), FOLLOW, || async {
            speakers.follow(&self.backend.spaces());
        });
        let speak = daemon::every(shutdown.clone(), INTERVAL, || async { self.say(&speakers) });
        tokio::join!(follow, speak, self.clone().hear(&speakers, frames, shutdown));
    }

    /// On all ports.
    fn say(&self, speakers: &Speakers) -> std::io::Result<()> {
        for speaker in speakers.all() {
            self.say_on(speakers, &speaker, None)?;
        }
        Ok(())
    }

    /// In one namespace, on one port or on all.
    fn say_on(
        &self,
        speakers: &Speakers,
        speaker: &Speaker,
        only: Option<&str>,
    ) -> std::io::Result<()> {
        // One address for the whole switch, whatever namespace the port is in.
        let own = speakers.own().addresses()?;
        let uplink = self.config.uplinks.first();
        let chassis = own.iter().find(|(name, _)| Some(name) == uplink).or(own.first());
        let Some(chassis) = chassis.map(|(_, address)| address.mac) else { return Ok(()) };
        // A namespace may be gone by now.
        for (name, address) in speaker.addresses().unwrap_or_default() {
            if !self.config.is_port(&name) || only.is_some_and(|only| only != name) {
                continue;
            }
            if let Err(error) = speaker.listen(&address) {
                tracing::trace!(port = name, %error, "a port is deaf for LLDP");
            }
            let frame = frame(&self.config.id, chassis, &name, self.config.loopback, TTL);
            if let Err(error) = speaker.send(&address, &frame) {
                tracing::trace!(port = name, %error, "an LLDP frame was not sent");
            }
        }
        Ok(())
    }

    async fn hear(
        self: Arc<Self>,
        speakers: &Speakers,
        mut frames: mpsc::Receiver<speaker::Heard>,
        shutdown: Shutdown,
    ) {
        let (failed, mut again) = mpsc::unbounded_channel();
        let mut ears = PhoneHome::default();
        let (mut seen, mut refused) = (BTreeMap::new(), BTreeMap::new());
        let mut end = std::pin::pin!(shutdown.wait());
        loop {
            let speaker::Heard { speaker, port, frame } = tokio::select! {
                biased;
                () = &mut end => return,
                Some(port) = again.recv() => {
                    let port: String = port;
                    ears.forget(&port);
                    continue;
                }
                Some(heard) = frames.recv() => heard,
            };
            if !self.config.is_port(&port) {
                continue;
            }
            metrics::counter!("switch_lldp_frames_total").increment(1);
            if is_due(&mut seen, format!("{port} {}", frame.chassis_id), FORGET, true)
                && let Err(error) = self.say_on(speakers, &speaker, Some(&port))
            {
                tracing::debug!(port, %error, "a newcomer was not answered");
            }
            let Some(desired) = self.desired.borrow().clone() else { continue };
            match ears.hear(&port, &frame, &desired, Instant::now()) {
                Heard::Nothing => {}
                Heard::Home { machine, message } => {
                    tokio::spawn(self.clone().pass_on(port, machine, message, failed.clone()));
                }
                Heard::Refused(why) => {
                    metrics::counter!("switch_phone_home_refused_total").increment(1);
                    if is_due(&mut refused, port.clone(), COMPLAIN, false) {
                        tracing::warn!(port, why, "a machine that phones home is not believed");
                    }
                }
            }
        }
    }

    async fn pass_on(
        self: Arc<Self>,
        port: String,
        machine: Uuid,
        message: String,
        failed: mpsc::UnboundedSender<String>,
    ) {
        let result = self.control.phoned_home(machine, message).await;
        let label = if result.is_ok() { "ok" } else { "error" };
        metrics::counter!("switch_phone_home_events_total", "result" => label).increment(1);
        match result {
            Ok(()) => tracing::info!(port, %machine, "phoned home"),
            Err(error) => {
                tracing::warn!(port, %machine, %error, "phoned home, but the control plane did not hear it");
                failed.send(port).ok();
            }
        }
    }
}

/// Whether `key` did not come up for `pause`. `touch` counts from the last time it came up, else from the last "yes".
/// Strangers choose what they send, so not much is remembered.
fn is_due(
    times: &mut BTreeMap<String, Instant>,
    key: String,
    pause: Duration,
    touch: bool,
) -> bool {
    let now = Instant::now();
    if times.len() > 10_000 {
        times.clear();
    }
    let due = times.get(&key).is_none_or(|last| now.duration_since(*last) > pause);
    if due || touch {
        times.insert(key, now);
    }
    due
}

fn open() -> Option<(Speakers, mpsc::Receiver<speaker::Heard>)> {
    Speakers::open()
        .inspect_err(
            |error| tracing::error!(%error, "no LLDP: raw sockets need the capability NET_RAW"),
        )
        .ok()
}
