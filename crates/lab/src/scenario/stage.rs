//! What all stories need: the tenant's wishes, looking at machines, and sentences when something is not as it should be.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use client::Client;
use proto::api;

use super::Name;
use crate::api::{self as lab_api, Event};
use crate::device::{Device, device};
use crate::paths::Paths;
use crate::progress::Progress;
use crate::seed::{SIZE, Seed};
use crate::spec::Spec;
use crate::topology::{Leaf, Machine, PARTITION};

/// How long a machine may take from anywhere to waiting. Four times what it takes on a free host.
pub(super) const TO_WAITING: Duration = Duration::from_secs(120);
/// How long a machine may take from its allocation to its sign of life.
pub(super) const TO_PHONED_HOME: Duration = Duration::from_secs(180);

/// The place where a story is played.
pub(super) struct Stage {
    pub(super) paths: Paths,
    pub(super) client: Client,
    pub(super) seed: Seed,
    pub(super) spec: Spec,
    progress: Progress,
    name: Name,
}

/// What a tenant wants.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) machine: Machine,
    pub(super) hostname: String,
    pub(super) project: String,
    pub(super) network: String,
    pub(super) image: String,
    pub(super) userdata: String,
}

impl Stage {
    pub(super) fn new(paths: &Paths, name: Name) -> Result<Self> {
        Ok(Self {
            paths: paths.clone(),
            client: lab_api::client(paths, lab_api::ADMIN)?,
            seed: Seed::load(paths)?,
            spec: Spec::load(paths)?,
            progress: Progress::default(),
            name,
        })
    }

    /// Tells the human what was just seen.
    pub(super) fn note(&self, text: &str) {
        self.progress.note(&format!("{:?}: {text}", self.name));
    }

    /// A leaf of this lab.
    pub(super) fn device(&self, leaf: Leaf) -> Box<dyn Device> {
        device(&self.paths, self.spec.fabric, leaf)
    }

    /// A time for what this lab's leaves do; processors that are emulated take longer, and machines get less of the host's
    /// beside them.
    pub(super) fn patience(&self, time: Duration) -> Duration {
        time * self.spec.fabric.slowness()
    }

    /// Stories about tenants with the same addresses.
    pub(super) fn needs_tenant_networks(&self) -> Result<()> {
        let overlay = self.spec.fabric.has_tenant_networks();
        ensure!(overlay, "this story needs `--fabric netns` or `--fabric vm`");
        Ok(())
    }

    /// Something that the seeded project wants.
    pub(super) fn wish(&self, machine: Machine, hostname: &str) -> Wish {
        Wish {
            machine,
            hostname: hostname.to_owned(),
            project: self.seed.project.clone(),
            network: self.seed.network.clone(),
            image: "debian-12.0".to_owned(),
            userdata: String::new(),
        }
    }

    /// The allocation as a request.
    pub(super) fn request(&self, wish: &Wish) -> Result<api::MachineServiceCreateRequest> {
        let key = self.paths.ssh_key().with_extension("pub");
        let key = fs::read_to_string(&key).context("the lab has no ssh key")?;
        let userdata = base64::engine::general_purpose::STANDARD.encode(&wish.userdata);
        Ok(api::MachineServiceCreateRequest {
            project: wish.project.clone(),
            uuid: Some(wish.machine.uuid()),
            name: wish.hostname.clone(),
            hostname: Some(wish.hostname.clone()),
            image: wish.image.clone(),
            ssh_public_keys: vec![key.trim().to_owned()],
            userdata: (!wish.userdata.is_empty()).then_some(userdata),
            networks: vec![api::MachineAllocationNetwork {
                network: wish.network.clone(),
                ..Default::default()
            }],
            allocation_type: api::MachineAllocationType::Machine.into(),
            ..Default::default()
        })
    }

    /// Allocates a certain machine.
    pub(super) async fn create(&self, wish: &Wish) -> Result<api::Machine> {
        let request = self.request(wish)?;
        self.send(request).await.with_context(|| format!("{} is not created", wish.hostname))
    }

    /// Allocates any machine of the lab's size.
    pub(super) async fn create_any(&self, wish: &Wish) -> Result<api::Machine> {
        let mut request = self.request(wish)?;
        request.uuid = None;
        request.partition = Some(PARTITION.to_owned());
        request.size = Some(SIZE.to_owned());
        self.send(request).await.with_context(|| format!("{} is not created", wish.hostname))
    }

    async fn send(&self, request: api::MachineServiceCreateRequest) -> Result<api::Machine> {
        let answer = self.client.machine().create(request).await?.into_owned();
        answer.machine.into_option().context("no machine in the answer")
    }

    /// Gives a machine back.
    pub(super) async fn delete(&self, machine: Machine, project: &str) -> Result<()> {
        let request = api::MachineServiceDeleteRequest {
            uuid: machine.uuid(),
            project: project.to_owned(),
            ..Default::default()
        };
        self.client
            .machine()
            .delete(request)
            .await
            .with_context(|| format!("{machine} is not deleted"))?;
        Ok(())
    }

    /// The machine now.
    pub(super) async fn look(&self, machine: Machine) -> Result<api::Machine> {
        lab_api::machine(&self.client, &machine.uuid())
            .await?
            .with_context(|| format!("{machine} is unknown to the control plane"))
    }

    /// Looks until the machine is as wanted.
    pub(super) async fn until(
        &self,
        machine: Machine,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&api::Machine) -> bool,
    ) -> Result<api::Machine> {
        lab_api::until(&self.client, &machine.uuid(), patience, what, wanted)
            .await
            .with_context(|| format!("{machine}; its console is {}", self.console(machine)))
    }

    fn console(&self, machine: Machine) -> String {
        self.paths.log(&format!("{machine}.console")).display().to_string()
    }

    /// Until it waits for an allocation.
    pub(super) async fn until_waiting(&self, machine: Machine) -> Result<api::Machine> {
        self.until(machine, self.patience(TO_WAITING), "waiting", lab_api::waits).await
    }

    /// Until the installed system has given its sign of life.
    pub(super) async fn until_phoned_home(&self, machine: Machine) -> Result<api::Machine> {
        self.until(machine, self.patience(TO_PHONED_HOME), "phoned home", phoned_home).await
    }

    /// Until this event, or one that comes after it, was seen since the allocation.
    pub(super) async fn until_event(&self, machine: Machine, event: Event) -> Result<api::Machine> {
        let what = format!("{event:?}");
        self.until(machine, self.patience(TO_PHONED_HOME), &what, |m| {
            m.allocation.is_set() && lab_api::last_event(m).is_some_and(|(last, _)| last == event)
        })
        .await
    }

    /// Deletes the machine and waits until it is back in the pool.
    pub(super) async fn give_back(&self, machine: Machine, project: &str) -> Result<()> {
        let begin = Instant::now();
        self.delete(machine, project).await?;
        self.until_waiting(machine).await?;
        self.note(&format!(
            "{machine} waits again {:.1} s after delete",
            begin.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// All machines of the lab that wait, or an error.
    pub(super) async fn all_wait(&self) -> Result<()> {
        for machine in Machine::all(self.spec.machines) {
            self.until_waiting(machine).await?;
        }
        Ok(())
    }

    /// Addresses of a project.
    pub(super) async fn addresses(&self, project: &str) -> Result<Vec<String>> {
        let request =
            api::IPServiceListRequest { project: project.to_owned(), ..Default::default() };
        let answer = self.client.ip().list(request).await.context("IPs")?.into_owned();
        Ok(answer.ips.into_iter().map(|ip| ip.ip).collect())
    }
}

/// Whether the newest event is the sign of life of the installed system.
pub(super) fn phoned_home(machine: &api::Machine) -> bool {
    machine.allocation.is_set()
        && lab_api::last_event(machine).is_some_and(|(event, _)| event == Event::PhonedHome)
}

/// Events with their texts, newest first.
pub(super) fn events(machine: &api::Machine) -> Vec<(Event, String)> {
    let Some(events) = machine.recent_provisioning_events.as_option() else { return Vec::new() };
    let known = events.events.iter();
    known.filter_map(|event| Some((event.event.as_known()?, event.message.clone()))).collect()
}

/// The address in the private network.
pub(super) fn address(machine: &api::Machine) -> Result<String> {
    let allocation = machine.allocation.as_option().context("not allocated")?;
    let network = allocation.networks.first().context("no network in the allocation")?;
    ensure!(network.ips.len() == 1, "{} addresses instead of one", network.ips.len());
    Ok(network.ips[0].clone())
}
