//! The machines on the boot network and what they are told: the place where leases, identities, recipes and the control plane meet.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use uuid::Uuid;

use crate::control::{Control, Error};
use crate::dhcp::request::{Request, Speaker};
use crate::dhcp::{self, CONFIG_PATH, Done, Door, Mode, Reply, SCRIPT_PATH, Settings, State};
use crate::files::Files;
use crate::identity::{Claim, Nobody, Sighting, Verdict};
use crate::mac::Mac;
use crate::recipes::{Recipe, Recipes};
use crate::script;
use crate::store::{Saved, Store};
use crate::wire::Wire;

/// A machine that fetches its script again within this time is still the same boot.
const ONE_BOOT: Duration = Duration::from_secs(15);
/// Under this address the partition's own recipe is remembered, for machines that were never seen while the control plane answered.
const PARTITION: Mac = Mac([0; 6]);

/// What every installer is told, its token aside.
#[derive(Debug, Clone)]
pub struct Told {
    pub partition: String,
    pub api_url: String,
    pub ntp_servers: Vec<String>,
    /// PEM.
    pub ca_cert: Option<String>,
}

/// The answer of `/config`. It holds a secret and so has no `Debug`.
#[derive(Serialize)]
pub struct Configuration {
    version: u32,
    uuid: Uuid,
    partition: String,
    api_url: String,
    token: String,
    ntp_servers: Vec<String>,
    ca_cert: Option<String>,
}

/// Why a machine does not get a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody speaks from this address.
    #[error("no machine of this network has the address {0}; get one by DHCP first")]
    Stranger(Ipv4Addr),
    /// The address belongs to another hardware address than the one that speaks.
    #[error("the address {address} was given to {holder}, but {speaker} uses it")]
    Borrowed { address: Ipv4Addr, holder: Mac, speaker: Mac },
    #[error("{0}")]
    Nobody(Nobody),
    /// It asked for another machine's configuration.
    #[error("this is machine {is}; it does not get the configuration of {wanted}")]
    Another { is: Uuid, wanted: String },
    /// Nobody can say now.
    #[error("the control plane does not answer: {0}")]
    Later(String),
}

/// Everything that the servers share.
pub struct Machines {
    settings: Settings,
    told: Told,
    control: Control,
    files: Files,
    store: Store,
    recipes: Recipes,
    state: Mutex<State>,
    /// Hardware addresses about which the control plane is being asked.
    asking: Mutex<HashSet<Mac>>,
    booted: Mutex<HashMap<Mac, Instant>>,
    saved: Mutex<Saved>,
}

impl Machines {
    /// Goes on from what was saved.
    #[must_use]
    pub fn new(
        settings: Settings,
        told: Told,
        control: Control,
        files: Files,
        store: Store,
    ) -> Self {
        let saved = store.load();
        let state = State {
            leases: saved.leases.iter().cloned().collect(),
            identities: saved.claims.iter().cloned().collect(),
        };
        let recipes: Recipes = saved.recipes.iter().cloned().collect();
        for (_, recipe) in &saved.recipes {
            register(&files, recipe);
        }
        tracing::info!(
            leases = saved.leases.len(),
            machines = saved.claims.len(),
            recipes = saved.recipes.len(),
            "known from before"
        );
        Self {
            settings,
            told,
            control,
            files,
            store,
            recipes,
            state: Mutex::new(state),
            asking: Mutex::default(),
            booted: Mutex::default(),
            saved: Mutex::new(saved),
        }
    }

    /// What DHCP answers say.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Kernels and initrds.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Answers a DHCP packet, and asks the control plane about a new identity meanwhile.
    pub fn receive(self: &Arc<Self>, packet: &[u8], door: Door, wire: Wire) -> Option<Reply> {
        let request = match Request::parse(packet) {
            Ok(request) => request,
            Err(reason) => {
                tracing::debug!(%reason, "a packet on the DHCP port is ignored");
                return None;
            }
        };
        let port = wire.port(request.mac).unwrap_or_default().unwrap_or_default();
        let outcome = {
            let (now, mut state) = (now(), lock(&self.state));
            let outcome = dhcp::answer(&request, door, &port, now, &mut state, &self.settings);
            metrics::gauge!("boot_leases_taken").set(state.leases.taken(now) as f64);
            outcome
        };
        report(&request, &port, &outcome);
        if let Some(claim) = outcome.ask {
            self.ask_aside(claim);
        }
        // iPXE comes for its script in a moment
        if request.speaker() == Speaker::Ipxe
            && matches!(outcome.done, Done::Ack(_) | Done::ProxyOffer)
        {
            let (machines, mac) = (self.clone(), request.mac);
            tokio::spawn(async move { machines.recipe(mac).await });
        }
        outcome.reply
    }

    /// The boot script for whoever speaks from this address. Everybody gets one: it says nothing secret, and a machine that may not
    /// boot shows why.
    pub async fn script(self: &Arc<Self>, address: Ipv4Addr, wire: Wire) -> String {
        let who = self.identify(address, wire).await;
        let mac = match &who {
            Ok(claim) => claim.mac,
            Err(
                Denied::Nobody(Nobody::Refused(_) | Nobody::Contradicts(_))
                | Denied::Borrowed { .. },
            ) => {
                let reason = who.as_ref().err().map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%address, reason, "no boot script");
                count("boot_scripts_total", "refused");
                return self.wait(&reason);
            }
            // a machine without a UUID, or the control plane is away: the installer will say what is wrong
            Err(denied) => {
                tracing::warn!(%address, reason = %denied, "a boot script for somebody who is not identified");
                self.speaker(address, wire).unwrap_or(PARTITION)
            }
        };
        if let Ok(claim) = who {
            self.record_aside(&claim);
        }
        let script = match self.recipe(mac).await {
            Ok(recipe) => script::boot(&recipe, &self.files, |path| self.settings.url(path))
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match script {
            Ok(script) => {
                tracing::info!(%mac, %address, "boot script");
                count("boot_scripts_total", "ok");
                script
            }
            Err(reason) => {
                tracing::error!(%mac, %address, reason, "no boot script; the machine asks again");
                count("boot_scripts_total", "failed");
                self.wait(&reason)
            }
        }
    }

    /// The configuration for the installer that speaks from this address. `wanted` is the machine that it believes to be, if it says so.
    ///
    /// # Errors
    /// When it is not proven which machine it is, or nobody can say now.
    pub async fn configuration(
        self: &Arc<Self>,
        address: Ipv4Addr,
        wanted: Option<&str>,
        wire: Wire,
    ) -> Result<Configuration, Denied> {
        let claim = self.identify(address, wire).await?;
        let uuid = claim.uuid;
        if let Some(wanted) = wanted.filter(|wanted| Uuid::parse_str(wanted) != Ok(uuid)) {
            return Err(Denied::Another {
                is: uuid,
                wanted: wanted.escape_debug().take(64).collect(),
            });
        }
        let token = self.control.machine_token(uuid).await.map_err(|error| match error {
            Error::Refused(why) => Denied::Nobody(Nobody::Refused(why)),
            Error::Away(why) => Denied::Later(why),
        })?;
        tracing::info!(machine = %uuid, mac = %claim.mac, port = claim.port, %address, "configuration handed out");
        Ok(Configuration {
            version: 1,
            uuid,
            partition: self.told.partition.clone(),
            api_url: self.told.api_url.clone(),
            token,
            ntp_servers: self.told.ntp_servers.clone(),
            ca_cert: self.told.ca_cert.clone(),
        })
    }

    /// Which machine speaks from an address: lease, hardware address on the wire, claim, and the control plane's word about it.
    async fn identify(self: &Arc<Self>, address: Ipv4Addr, wire: Wire) -> Result<Claim, Denied> {
        let mac = self.speaker(address, wire)?;
        let port = wire.port(mac).unwrap_or_default().unwrap_or_default();
        let claim = {
            let (now, mut state) = (now(), lock(&self.state));
            let claim =
                state.identities.claim(mac, now).cloned().ok_or(Denied::Nobody(Nobody::Unnamed))?;
            match port.is_empty() || claim.port == port {
                true => claim,
                // what was accepted at one port says nothing about another: look again
                false => {
                    tracing::warn!(%mac, machine = %claim.uuid, before = claim.port, port, "a machine moved");
                    match state.identities.see(mac, claim.uuid, &port, now) {
                        Sighting::Ask(claim) => claim,
                        _ => claim,
                    }
                }
            }
        };
        if claim.is_stale(now())
            && let Err(Error::Away(why)) = self.ask(&claim).await
            && claim.verdict == Verdict::Unchecked
        {
            return Err(Denied::Later(why));
        }
        lock(&self.state).identities.machine(mac, now()).cloned().map_err(Denied::Nobody)
    }

    /// The hardware address that speaks from an IP address.
    fn speaker(&self, address: Ipv4Addr, wire: Wire) -> Result<Mac, Denied> {
        let seen = wire.neighbour(address).unwrap_or_else(|error| {
            tracing::warn!(%error, "the neighbour table cannot be read");
            None
        });
        let holder = dhcp::holder(&lock(&self.state), self.settings.mode, address, seen, now());
        match (holder, seen) {
            (None, _) => Err(Denied::Stranger(address)),
            (Some(holder), Some(speaker)) if holder != speaker => {
                Err(Denied::Borrowed { address, holder, speaker })
            }
            (Some(holder), _) => Ok(holder),
        }
    }

    async fn recipe(&self, mac: Mac) -> Result<Recipe, Error> {
        let recipe = match self.recipes.get(mac, || self.control.recipe(mac)).await {
            Err(Error::Away(why)) => self.recipes.last(PARTITION).ok_or(Error::Away(why))?,
            answer => answer?,
        };
        register(&self.files, &recipe);
        Ok(Recipe { cmdline: self.cmdline(&recipe.cmdline), ..recipe })
    }

    /// Beside a foreign DHCP server nobody tells the installer option 224, so the command line does. The URL is no secret.
    fn cmdline(&self, cmdline: &str) -> String {
        match self.settings.mode {
            Mode::Dhcp(_) => cmdline.to_owned(),
            Mode::Proxy => format!("{cmdline} metal.config={}", self.settings.url(CONFIG_PATH))
                .trim_start()
                .to_owned(),
        }
    }

    fn wait(&self, reason: &str) -> String {
        script::wait(reason, &self.settings.url(SCRIPT_PATH))
    }

    fn ask_aside(self: &Arc<Self>, claim: Claim) {
        if lock(&self.asking).insert(claim.mac) {
            let machines = self.clone();
            tokio::spawn(async move {
                let _ = machines.ask(&claim).await;
                lock(&machines.asking).remove(&claim.mac);
            });
        }
    }

    /// Asks the control plane about a claim and notes what it says.
    async fn ask(&self, claim: &Claim) -> Result<(), Error> {
        let answer = self.control.claim(claim).await;
        let (mac, uuid, port) = (claim.mac, claim.uuid, &claim.port);
        let (verdict, label) = match &answer {
            Ok(Verdict::New) => (Verdict::New, "new"),
            Ok(verdict) => (verdict.clone(), "accepted"),
            Err(Error::Refused(why)) => (Verdict::Refused(why.clone()), "refused"),
            Err(error) => {
                let before = &claim.verdict;
                tracing::warn!(%mac, machine = %uuid, port, %error, ?before, "a machine could not be checked");
                count("boot_claims_total", "unanswered");
                return answer.map(drop);
            }
        };
        match &verdict {
            same if *same == claim.verdict => {
                tracing::debug!(%mac, machine = %uuid, port, verdict = label, "checked");
            }
            Verdict::Refused(why) => {
                tracing::warn!(%mac, machine = %uuid, port, why, "the control plane refuses a machine");
            }
            _ => tracing::info!(%mac, machine = %uuid, port, verdict = label, "checked"),
        }
        count("boot_claims_total", label);
        lock(&self.state).identities.judge(claim, verdict, now());
        answer.map(drop)
    }

    /// Tells the control plane that a machine boots, once per boot.
    fn record_aside(self: &Arc<Self>, claim: &Claim) {
        let (mac, uuid) = (claim.mac, claim.uuid);
        let mut booted = lock(&self.booted);
        booted.retain(|_, at| at.elapsed() < ONE_BOOT);
        if booted.insert(mac, Instant::now()).is_some() {
            return;
        }
        let machines = self.clone();
        tokio::spawn(async move {
            if let Err(error) = machines.control.record_boot(uuid).await {
                tracing::warn!(%mac, machine = %uuid, %error, "the boot was not recorded");
            }
        });
    }

    /// Asks what the partition's machines boot and fetches it, so that the first machine does not wait for it and so that one can
    /// boot while the control plane is away.
    ///
    /// # Errors
    /// When the control plane or an origin does not answer.
    pub async fn prefetch(&self) -> anyhow::Result<()> {
        let recipe = self.control.recipe(PARTITION).await?;
        self.recipes.note(PARTITION, recipe.clone());
        for id in register(&self.files, &recipe) {
            self.files.open(&id).await?.complete().await?;
        }
        self.files.tidy()?;
        Ok(())
    }

    /// Writes to the disk what has to survive a restart, if it changed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> std::io::Result<()> {
        let mut now = {
            let state = lock(&self.state);
            Saved {
                leases: state.leases.iter().cloned().collect(),
                claims: state.identities.kept().cloned().collect(),
                recipes: self.recipes.all(),
            }
        };
        now.claims.sort_by_key(|claim| claim.mac);
        now.recipes.sort_by_key(|(mac, _)| *mac);
        let mut saved = lock(&self.saved);
        if *saved != now {
            self.store.save(&now)?;
            *saved = now;
        }
        Ok(())
    }
}

/// Takes note of the files of a recipe; their ids.
fn register(files: &Files, recipe: &Recipe) -> Vec<String> {
    std::iter::once(&recipe.kernel).chain(&recipe.initrds).map(|url| files.register(url)).collect()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(name: &'static str, result: &'static str) {
    metrics::counter!(name, "result" => result).increment(1);
}

/// One line for each packet that matters.
fn report(request: &Request, port: &str, outcome: &dhcp::Outcome) {
    let (mac, speaker) = (request.mac, request.speaker());
    let result = match &outcome.done {
        Done::Offer(_) => "offer",
        Done::Ack(_) => "ack",
        Done::Nak(_) => "nak",
        Done::Inform => "inform",
        Done::Release(_) => "release",
        Done::Decline(_) => "decline",
        Done::ProxyOffer => "proxy_offer",
        Done::ProxyAck => "proxy_ack",
        Done::Exhausted => "exhausted",
        Done::Ignored(_) => "ignored",
    };
    count("boot_dhcp_packets_total", result);
    match &outcome.done {
        Done::Ack(address) => tracing::info!(%mac, port, %address, ?speaker, "address"),
        Done::Nak(address) => {
            tracing::info!(%mac, port, %address, ?speaker, "this address is not its own; it has to ask for another one");
        }
        Done::ProxyOffer | Done::ProxyAck => {
            tracing::info!(%mac, port, ?speaker, result, "told what to boot");
        }
        Done::Decline(address) => {
            tracing::warn!(%mac, port, %address, "somebody without a lease uses this address");
        }
        Done::Exhausted => tracing::error!(%mac, port, "no address is left; make the pool larger"),
        Done::Ignored(reason) => {
            tracing::debug!(%mac, port, ?speaker, kind = ?request.kind, reason, "ignored");
        }
        _ => tracing::debug!(%mac, port, ?speaker, kind = ?request.kind, result, "DHCP"),
    }
    if let Some(contradiction) = &outcome.contradiction {
        tracing::warn!(%mac, port, %contradiction, "two machines contradict each other");
        metrics::counter!("boot_contradictions_total").increment(1);
    }
}
