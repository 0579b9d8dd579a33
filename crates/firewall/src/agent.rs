//! The loops: hear what is wanted, make it so, tell how it went. Each round starts from what the kernel has.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use daemon::Shutdown;
use daemon::saved::Store;
use netconf::firewall::rules::{self, Counter, Management, Table};
use proto::ext;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::config::Config;
use crate::control::Control;
use crate::filter::{Filter, Observed, forwards, set_forwarding, stale};
use crate::wish::{Wish, follows, table};

/// The kernel is looked at this often: what somebody changed by hand is seen within it.
const LOOK: Duration = Duration::from_secs(3);
/// Counters are told this often.
const TELL: Duration = Duration::from_secs(10);
/// Whether the token is to be renewed is asked this often.
const RENEW: Duration = Duration::from_secs(3600);

/// What is kept on disk: the wish that is in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// As it was heard.
    pub wish: Wish,
    /// What was loaded.
    pub text: String,
    /// What the kernel showed after that.
    pub shape: String,
}

/// Keeps the kernel's filter as it should be.
#[derive(Debug)]
pub struct Enforcer {
    filter: Filter,
    management: Management,
    store: Store<Saved>,
    /// The last wish that was applied.
    good: Option<Wish>,
    /// What was loaded, and what the kernel made of it.
    loaded: Option<(String, String)>,
    /// A wish that was refused and why, so that the log says it once.
    refused: Option<(Wish, String)>,
    /// What was applied last is not on disk, for this reason if it was tried.
    unsaved: Option<String>,
    /// Why there is no filter; the kernel was told to forward nothing then.
    failure: Option<String>,
}

/// How a round went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    /// For the control plane; without an allocation there is nothing to tell.
    pub report: ext::FirewallServiceReportRequest,
    /// Something was loaded or has failed.
    pub news: bool,
}

impl Enforcer {
    /// Applies what was saved, or lets nothing pass when nothing was. The kernel forwards nothing before its filter is as it should
    /// be; [`Self::failure`] tells why it is not.
    #[must_use]
    pub fn start(config: &Config) -> Self {
        let mut this = Self::new(config);
        match this.store.load() {
            Ok(Some(saved)) => {
                this.loaded = Some((saved.text, saved.shape));
                this.good = Some(saved.wish);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "no saved rules: nothing passes");
            }
        }
        // whoever starts again finds the filter that stayed; a system that has just started may forward already
        if !this.stands() && !close() {
            tracing::error!("forwarding cannot be switched off");
        }
        let round = this.round(None);
        if !round.report.error.is_empty() {
            tracing::error!(error = round.report.error, "the filter is not as it should be yet");
        }
        this
    }

    /// Why there is no filter and nothing is forwarded; nothing when there is one.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn new(config: &Config) -> Self {
        Self {
            filter: Filter::new(&config.nft),
            management: config.management(),
            store: Store::new(&config.state_dir, format!("firewall {}", config.machine)),
            good: None,
            loaded: None,
            refused: None,
            failure: None,
            unsaved: None,
        }
    }

    /// Makes the kernel's filter as it should be: by the newest wish if it can be applied, else by the last good one, else nothing
    /// passes.
    pub fn round(&mut self, newest: Option<&Wish>) -> Round {
        let mut errors = Vec::new();
        let mut news = false;
        if let Some(wish) = newest
            && self.good.as_ref() != Some(wish)
            && self.good.as_ref().is_none_or(|good| follows(wish, good))
        {
            match self.apply(wish) {
                Ok(()) => {
                    news = true;
                    self.refused = None;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    let refused = Some((wish.clone(), error.clone()));
                    if self.refused != refused {
                        tracing::error!(
                            error,
                            generation = wish.generation,
                            "the former rules stay"
                        );
                        self.refused = refused;
                        news = true;
                    }
                    errors.push(error);
                }
            }
        }
        let table = match &self.good {
            Some(good) => table(good, &self.management).map_err(anyhow::Error::msg),
            None => Ok(rules::drop_all(&self.management)),
        };
        let table = table.unwrap_or_else(|error| {
            errors.push(format!("{error:#}"));
            rules::drop_all(&self.management)
        });
        match self.enforce(&table) {
            Ok((observed, changed)) => {
                self.failure = None;
                errors.extend(open().err());
                errors.extend(self.save());
                let report = self.report(&table, &observed, errors.join("; "));
                Round { report, news: news || changed }
            }
            Err(error) => {
                let error = format!("{error:#}");
                if !self.stands() {
                    let closed = close();
                    if self.failure.replace(error.clone()).is_none() {
                        tracing::error!(error, closed, "there is no filter: nothing is forwarded");
                    }
                }
                errors.push(error);
                let report = self.report(&table, &Observed::default(), errors.join("; "));
                Round { report, news: true }
            }
        }
    }

    /// Saves what was applied last; tried again with each round. Tells why it is not saved.
    fn save(&mut self) -> Option<String> {
        let before = self.unsaved.take()?;
        let (wish, (text, shape)) = (self.good.clone()?, self.loaded.clone()?);
        // A full disk must not stop anybody; it only matters at the next start.
        let error = self.store.save(&Saved { wish, text, shape }).err()?;
        let error = format!("the rules hold until the next start only: {error:#}");
        if error != before {
            tracing::error!(error);
        }
        self.unsaved = Some(error.clone());
        Some(error)
    }

    /// Whether the kernel has what was loaded last, as it was then.
    fn stands(&self) -> bool {
        let Some((_, shape)) = &self.loaded else { return false };
        self.filter.observe().is_ok_and(|observed| observed.shape == *shape)
    }

    /// Applies a wish and keeps it.
    fn apply(&mut self, wish: &Wish) -> Result<()> {
        let table = table(wish, &self.management).map_err(anyhow::Error::msg)?;
        let started = Instant::now();
        self.enforce(&table)?;
        self.good = Some(wish.clone());
        self.unsaved = Some(String::new());
        tracing::info!(
            generation = wish.generation,
            rules = table.rules.len(),
            milliseconds = started.elapsed().as_millis(),
            "applied"
        );
        Ok(())
    }

    /// Loads the table unless the kernel has it; true when it was loaded.
    fn enforce(&mut self, table: &Table) -> Result<(Observed, bool)> {
        let before = self.filter.observe()?;
        if let Some((text, shape)) = &self.loaded
            && *text == table.text
        {
            if *shape == before.shape {
                return Ok((before, false));
            }
            tracing::warn!("somebody changed the filter; it is loaded again");
        }
        let replacing = table.replacing(&stale(&before, table));
        if let Err(error) = self.filter.load(&replacing) {
            // something of another kind stands in the way: counters begin anew then
            tracing::debug!(error = format!("{error:#}"), "the table is made afresh");
            self.filter.load(&table.fresh())?;
        }
        let after = self.filter.observe()?;
        self.loaded = Some((table.text.clone(), after.shape.clone()));
        Ok((after, true))
    }

    fn report(
        &self,
        table: &Table,
        observed: &Observed,
        error: String,
    ) -> ext::FirewallServiceReportRequest {
        let counters =
            |counters: &[Counter]| counters.iter().map(|c| counter(c, observed)).collect();
        let good = self.good.clone().unwrap_or_default();
        ext::FirewallServiceReportRequest {
            allocation: good.allocation,
            generation: good.generation,
            error: cut(&error, 4096),
            rules: counters(&table.rules),
            drops: counters(&table.drops),
            connections: kernel("nf_conntrack_count"),
            connections_max: kernel("nf_conntrack_max"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        }
    }
}

/// The filter is as it should be: the kernel forwards.
fn open() -> Result<(), String> {
    if forwards() {
        return Ok(());
    }
    set_forwarding(true).map_err(|error| format!("forwarding cannot be switched on: {error}"))?;
    tracing::info!("the filter is in place: packets are forwarded");
    Ok(())
}

/// Without a filter of ours the kernel would forward everything: then it forwards nothing. Tells whether that is so.
fn close() -> bool {
    set_forwarding(false).is_ok()
}

fn counter(counter: &Counter, observed: &Observed) -> ext::FirewallCounter {
    let (packets, bytes) = observed.counters.get(&counter.name).copied().unwrap_or_default();
    ext::FirewallCounter { name: cut(&counter.words, 1024), packets, bytes, ..Default::default() }
}

/// At most so many bytes, with a sign that something is missing.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most - 3).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", &text[..end])
}

/// A number of the connection tracking; 0 where it is not loaded.
fn kernel(name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/sys/net/netfilter/{name}"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

/// Tells the service manager how it stands: `READY=1` lets go on what waits for the filter.
pub fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let path = path.to_string_lossy().into_owned();
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let told = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager does not hear");
    }
}

/// What the service manager shows.
#[must_use]
pub fn status(failure: Option<&str>) -> String {
    match failure {
        None => "STATUS=Packets are filtered".to_owned(),
        Some(why) => format!("STATUS=No filter, nothing is forwarded: {why}"),
    }
}

/// Tells the control plane, if it can be reached, why there is no filter: who asks it for the status should not have to come here.
pub async fn confess(control: &Control, why: &str) {
    let tell = async {
        let allocation = control.first().await?.allocation;
        let error = cut(&format!("there is no filter, so nothing is forwarded: {why}"), 4096);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let report =
            ext::FirewallServiceReportRequest { allocation, error, version, ..Default::default() };
        control.report(report).await
    };
    if let Err(error) = tell.await {
        tracing::warn!(error = format!("{error:#}"), "the control plane does not hear of it");
    }
}

/// What would be loaded now; nothing when all is as it should be.
///
/// # Errors
/// The wish cannot be understood or the kernel does not answer.
pub fn plan(config: &Config, wish: Option<Wish>) -> Result<Option<String>> {
    let enforcer = Enforcer::new(config);
    let saved = enforcer.store.load().unwrap_or_default();
    let wish = wish.or_else(|| saved.as_ref().map(|saved| saved.wish.clone()));
    let wanted = match &wish {
        Some(wish) => table(wish, &enforcer.management).map_err(anyhow::Error::msg)?,
        None => rules::drop_all(&enforcer.management),
    };
    let observed = enforcer.filter.observe().context("the kernel cannot be looked at")?;
    let same = saved
        .is_some_and(|saved| Some(&saved.wish) == wish.as_ref() && saved.shape == observed.shape);
    Ok((!same).then(|| wanted.replacing(&stale(&observed, &wanted))))
}

/// Runs until told to stop.
pub async fn run(mut enforcer: Enforcer, control: Control, shutdown: Shutdown) {
    let (wishes, mut heard) = watch::channel(None::<Wish>);
    let (reports, told) = watch::channel(Round::default());
    let hearing = {
        let (control, shutdown) = (control.clone(), shutdown.clone());
        tokio::spawn(async move {
            control.follow(shutdown, |wish| drop(wishes.send_replace(Some(wish)))).await;
        })
    };
    let telling = tokio::spawn(tell(control.clone(), told, shutdown.clone()));
    let renewing = {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { daemon::every(shutdown, RENEW, || control.renew()).await })
    };
    let mut failed = false;
    while !shutdown.is_set() {
        let newest = heard.borrow_and_update().clone();
        let done = tokio::task::spawn_blocking(move || {
            let round = enforcer.round(newest.as_ref());
            (enforcer, round)
        });
        // a fault in it is the end of the process; the filter stays, and the service manager starts it again
        let Ok((back, round)) = done.await else { break };
        enforcer = back;
        let why = enforcer.failure();
        if std::mem::replace(&mut failed, why.is_some()) != failed {
            notify(&status(why));
        }
        reports.send_replace(round);
        tokio::select! {
            () = shutdown.wait() => {}
            _ = heard.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    for task in [hearing, telling, renewing] {
        task.abort();
    }
}

/// Tells news at once and counters now and then.
async fn tell(control: Control, mut told: watch::Receiver<Round>, shutdown: Shutdown) {
    let mut last: Option<Instant> = None;
    let mut news = false;
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            changed = told.changed() => if changed.is_err() { return },
        }
        let round = told.borrow_and_update().clone();
        news |= round.news;
        if round.report.allocation.is_empty()
            || !(news || last.is_none_or(|at| at.elapsed() >= TELL))
        {
            continue;
        }
        last = Some(Instant::now());
        match control.report(round.report).await {
            Ok(()) => news = false,
            Err(error) => tracing::debug!(error = format!("{error:#}"), "the report was not heard"),
        }
    }
}
