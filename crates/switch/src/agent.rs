//! The loops: hear what is wanted, make it so, tell how it went. Each starts from the state of the world.

mod intake;
mod lldp_loops;
mod pass;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use client::ConnectError;
use daemon::Shutdown;
use proto::{api, infra};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::backend::{Backend, Port};
use crate::config::Config;
use crate::control::{self, Control, is_unknown};
use crate::desired::Desired;
use crate::plan::Plan;
use crate::report::{self, Report};
use crate::saved::{Saved, Store};
use intake::{Intake, Taken};
use pass::{Memory, Passed, pass, site};

/// Without any sign the switch is looked at this often: drift is seen within it.
const LOOK: Duration = Duration::from_secs(2);
/// Daemons that do not answer are about to start: whoever is configured late is refused by its neighbours until then, and they wait
/// longer each time.
const SOON: Duration = Duration::from_millis(300);
/// What changes on the switch comes in bursts, and so do our own changes.
const SETTLE: Duration = Duration::from_millis(100);
/// The control plane expects a heartbeat this often.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The stream repeats itself every minute; without a word for longer the control plane is asked.
const SILENCE: Duration = Duration::from_secs(75);
/// How often a silent stream and the list of ports are looked at.
const CARE: Duration = Duration::from_secs(5);

/// The agent of one switch.
pub struct Agent<B> {
    config: Arc<Config>,
    backend: B,
    control: Control,
    store: Store,
    intake: Mutex<Intake>,
    /// When the control plane last said how the switch should be.
    contact: Mutex<Option<Instant>>,
    desired: watch::Sender<Option<Arc<Desired>>>,
    report: watch::Sender<Arc<Report>>,
    /// What was wrong, is over, and nobody was told yet: changes by others, a saved state that was refused.
    over: Mutex<Vec<String>>,
    unknown: Notify,
    /// Whether what is wanted is not on disk yet.
    unsaved: AtomicBool,
}

impl<B: Backend> Agent<B> {
    /// Starts from the saved state, if there is a usable one.
    pub fn new(config: Arc<Config>, backend: B, control: Control) -> Self {
        let store = Store::new(&config.state_dir, format!("switch {}", config.id));
        let (saved, refused) = load(&store);
        let intake = Intake::new(saved);
        let desired = intake.desired();
        if let Some(desired) = &desired {
            tracing::info!(generation = desired.generation, "starting from the saved state");
        }
        Self {
            config,
            backend,
            control,
            store,
            intake: Mutex::new(intake),
            contact: Mutex::new(None),
            desired: watch::Sender::new(desired),
            report: watch::Sender::new(Arc::default()),
            over: Mutex::new(refused.into_iter().collect()),
            unknown: Notify::new(),
            unsaved: AtomicBool::new(false),
        }
    }

    /// Runs until `shutdown`. The network stays as it is.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut loops = JoinSet::new();
        loops.spawn(self.clone().reconcile(shutdown.clone()));
        loops.spawn(self.clone().listen(shutdown.clone()));
        loops.spawn(self.clone().ask(shutdown.clone()));
        loops.spawn(self.clone().register(shutdown.clone()));
        loops.spawn(self.clone().tell(shutdown.clone()));
        loops.spawn(self.clone().ping(shutdown.clone()));
        loops.spawn(self.clone().lldp(shutdown));
        loops.join_all().await;
        tracing::info!("ended; the network stays as it is");
    }

    /// What would be done now.
    ///
    /// # Errors
    /// When the switch cannot be observed.
    pub async fn plan(&self) -> anyhow::Result<Plan> {
        let observed = self.backend.observe().await?;
        let desired = self.desired.borrow().clone();
        Ok(Plan::make(desired.as_deref(), &observed, &self.site(), |evpn| {
            self.backend.routing(evpn)
        }))
    }

    /// Asks the control plane how the switch should be.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn fetch(&self) -> Result<(), ConnectError> {
        let switch = self.control.get().await?;
        self.take(switch, None, false);
        Ok(())
    }

    fn site(&self) -> crate::plan::Site {
        site(&self.config, self.intake().saved().down.clone())
    }

    fn over(&self) -> MutexGuard<'_, Vec<String>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves what is wanted, if that is due. Tells why it is not saved; it stays due then.
    fn save(&self) -> Option<String> {
        if !self.unsaved.load(Ordering::Acquire) {
            return None;
        }
        let intake = self.intake();
        let error = self.store.save(intake.saved()).err();
        self.unsaved.store(error.is_some(), Ordering::Release);
        // A full disk must not stop tenants; it only matters at the next start.
        error.map(|error| {
            metrics::counter!("switch_save_errors_total").increment(1);
            format!("{error:#}")
        })
    }

    fn take(&self, switch: api::Switch, generation: Option<u64>, save: bool) {
        *self.contact.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let mut intake = self.intake();
        match intake.offer(switch, generation, Instant::now()) {
            Taken::Same => {}
            Taken::Old => tracing::info!(?generation, "an older state is ignored"),
            Taken::New(desired) => {
                tracing::info!(
                    generation = desired.generation,
                    ports = desired.ports.len(),
                    "a new desired state"
                );
                if save {
                    self.unsaved.store(true, Ordering::Release);
                }
                self.desired.send_replace(Some(desired));
            }
        }
    }

    /// Observe, plan, apply: after each change of what is wanted or of what is, and now and then.
    async fn reconcile(self: Arc<Self>, shutdown: Shutdown) {
        let mut desired = self.desired.subscribe();
        let mut memory = Memory::default();
        let mut unsaved = None;
        let mut end = pin!(shutdown.wait());
        loop {
            let wish = desired.borrow_and_update().clone();
            let before = std::mem::replace(&mut unsaved, self.save());
            if let Some(error) = unsaved.as_ref().filter(|_| unsaved != before) {
                tracing::error!(error, "it will be forgotten at the next start; trying again");
            }
            let Passed { mut report, changed, drift, deaf } =
                pass(&self.backend, self.site(), wish.as_deref(), &mut memory).await;
            report.errors.extend(unsaved.clone());
            self.over().extend(drift.map(|done| report::healed(&done)));
            self.note(report, changed);
            tokio::select! {
                biased;
                () = &mut end => return,
                _ = desired.changed() => {}
                () = self.backend.changed() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(if deaf { SOON } else { LOOK }) => {}
            }
        }
    }

    /// Wakes the heartbeat when there is something to tell.
    fn note(&self, report: Report, changed: bool) {
        self.report.send_if_modified(|last| {
            let news = changed
                || last.generation != report.generation
                || last.errors != report.errors
                || last.ports != report.ports;
            *last = Arc::new(report);
            news
        });
    }

    /// The stream of desired states.
    async fn listen(self: Arc<Self>, shutdown: Shutdown) {
        let (service, request) = self.control.watch();
        client::follow(
            "switch watch",
            shutdown.wait(),
            || async {
                let opened = service.watch(request.clone()).await;
                if opened.as_ref().err().is_some_and(is_unknown) {
                    self.unknown.notify_one();
                }
                opened
            },
            |answer| {
                if let Some(switch) = answer.switch.into_option() {
                    self.take(switch, Some(answer.generation), true);
                }
                std::future::ready(())
            },
        )
        .await;
    }

    /// When the stream is silent, the control plane is asked.
    async fn ask(self: Arc<Self>, shutdown: Shutdown) {
        let silent = || {
            let contact = *self.contact.lock().unwrap_or_else(PoisonError::into_inner);
            contact.is_none_or(|contact| contact.elapsed() > SILENCE)
        };
        let mut first = true;
        daemon::every(shutdown, CARE, || {
            // At the start the stream is given a moment.
            let ask = silent() && !std::mem::take(&mut first);
            let agent = &self;
            async move {
                if !ask {
                    return;
                }
                match agent.control.get().await {
                    Ok(switch) => agent.take(switch, None, true),
                    Err(error) if is_unknown(&error) => agent.unknown.notify_one(),
                    Err(error) => tracing::debug!(%error, "the control plane does not answer"),
                }
            }
        })
        .await;
    }

    /// Makes the switch known: at the start, when its ports change and when the control plane has forgotten it.
    async fn register(self: Arc<Self>, shutdown: Shutdown) {
        let mut registered: Option<BTreeSet<String>> = None;
        let (mut failing, mut forgotten) = (false, false);
        let mut end = pin!(shutdown.wait());
        loop {
            match self.ports().await {
                Err(error) => tracing::debug!(
                    error = format!("{error:#}"),
                    "not registered: the ports cannot be read"
                ),
                Ok(now) => {
                    let ports: BTreeSet<_> = now.keys().cloned().collect();
                    if registered.as_ref() != Some(&ports) {
                        let switch = report::switch(&self.config, &now, &kernel());
                        match self.control.register(switch).await {
                            Ok(generation) => {
                                tracing::info!(ports = ports.len(), "registered");
                                registered = Some(ports);
                                failing = false;
                                self.intake()
                                    .registered(generation, std::mem::take(&mut forgotten));
                            }
                            Err(error) if std::mem::replace(&mut failing, true) => {
                                tracing::debug!(%error, "still not registered");
                            }
                            Err(error) => tracing::warn!(%error, "not registered; trying again"),
                        }
                    }
                }
            }
            let pause = if registered.is_some() { CARE } else { Duration::from_secs(1) };
            tokio::select! {
                biased;
                () = &mut end => return,
                () = self.unknown.notified() => {
                    registered = None;
                    forgotten = true;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Machine ports as they were seen last.
    async fn ports(&self) -> anyhow::Result<BTreeMap<String, Port>> {
        let seen = self.report.borrow().ports.clone();
        if seen.is_empty() { Ok(self.backend.observe().await?.ports) } else { Ok(seen) }
    }

    /// Confirms and heartbeats: right after something happened, and regularly.
    async fn tell(self: Arc<Self>, shutdown: Shutdown) {
        let mut news = self.report.subscribe();
        let mut confirmed = None;
        let mut failing = false;
        let mut end = pin!(shutdown.wait());
        loop {
            let pause = if failing { CARE } else { HEARTBEAT };
            tokio::select! {
                biased;
                () = &mut end => return,
                _ = news.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            let report = news.borrow_and_update().clone();
            let Some(desired) = self.desired.borrow().clone() else { continue };
            // "This is how it is now" is not said while a newer wish is still being applied.
            if report.generation != desired.generation {
                continue;
            }
            let result = self.tell_once(&report, &desired, &mut confirmed).await;
            let label = if result.is_ok() { "ok" } else { "error" };
            metrics::counter!("switch_heartbeats_total", "result" => label).increment(1);
            match result {
                Ok(()) => failing = false,
                Err(error) => {
                    if is_unknown(&error) {
                        self.unknown.notify_one();
                    }
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "the control plane does not hear how it goes");
                    }
                }
            }
        }
    }

    async fn tell_once(
        &self,
        report: &Report,
        desired: &Desired,
        confirmed: &mut Option<u64>,
    ) -> Result<(), ConnectError> {
        if report.closed && *confirmed != Some(report.generation) {
            self.control.confirm(report.generation).await?;
            *confirmed = Some(report.generation);
        }
        let sessions = self.backend.sessions().await.unwrap_or_else(|error| {
            tracing::debug!(error = format!("{error:#}"), "BGP sessions are unknown");
            BTreeMap::new()
        });
        let up = sessions.values().filter(|session| session.is_established()).count();
        metrics::gauge!("switch_bgp_established").set(up as f64);
        let ports = desired.ports.keys();
        let config = &self.config;
        let heartbeat = report::heartbeat(&config.id, report, ports, &config.uplinks, &sessions);
        let over = self.over().clone();
        if !over.is_empty() {
            // The control plane keeps the last error beside the last success, and the success comes right after it.
            let told = infra::SwitchServiceHeartbeatRequest {
                error: report::over(&over, &report.errors),
                ..heartbeat.clone()
            };
            self.control.heartbeat(told).await?;
            self.over().drain(..over.len());
        }
        self.control.heartbeat(heartbeat).await
    }

    /// Tells that the agent itself lives.
    async fn ping(self: Arc<Self>, shutdown: Shutdown) {
        daemon::every(shutdown, control::PING, || async {
            if let Err(error) = self.control.ping().await {
                tracing::debug!(%error, "a ping was not heard");
            }
        })
        .await;
    }
}

/// What cannot be used is no reason to stand still: the control plane says it again, and hears why it had to.
fn load(store: &Store) -> (Saved, Option<String>) {
    match store.load() {
        Ok(saved) => (saved.unwrap_or_default(), None),
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(error, "the saved state is not used; waiting for the control plane");
            (Saved::default(), Some(format!("the saved state was not used: {error}")))
        }
    }
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}
