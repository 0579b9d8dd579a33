//! What the agent says to the control plane. Only this file calls it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buffa_types::google::protobuf::{Duration as WireDuration, Timestamp};
use client::{Client, ConnectError, ErrorCode};
use proto::{api, ext, infra};
use uuid::Uuid;

/// Late news is no news: what is not delivered within this time is said again with the next round.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the agent reports itself as a component.
pub const PING: Duration = Duration::from_secs(60);

/// The control plane.
#[derive(Clone, Debug)]
pub struct Control {
    client: Client,
    id: String,
    started: SystemTime,
}

impl Control {
    /// For the switch with this id.
    pub fn new(client: Client, id: String) -> Self {
        let client = client.with_patience(PATIENCE).with_timeout(PATIENCE);
        Self { client, id, started: SystemTime::now() }
    }

    /// The stream of desired states.
    pub fn watch(
        &self,
    ) -> (
        proto::ext::SwitchWatchServiceClient<client::Transport>,
        ext::SwitchWatchServiceWatchRequest,
    ) {
        let request =
            ext::SwitchWatchServiceWatchRequest { id: self.id.clone(), ..Default::default() };
        (self.client.switch_watch(), request)
    }

    /// The switch as it should be.
    ///
    /// # Errors
    /// See [`is_unknown`] for a switch that has not registered.
    pub async fn get(&self) -> Result<api::Switch, ConnectError> {
        let request = infra::SwitchServiceGetRequest { id: self.id.clone(), ..Default::default() };
        let answer = self.client.infra_switch().get(request).await?.into_owned();
        answer
            .switch
            .into_option()
            .ok_or_else(|| ConnectError::new(ErrorCode::NotFound, "an empty answer"))
    }

    /// Makes the switch known, or tells what has changed about it. Returns how often the control plane has changed it.
    ///
    /// # Errors
    /// When the control plane is away or does not want it.
    pub async fn register(&self, switch: api::Switch) -> Result<u64, ConnectError> {
        let request =
            infra::SwitchServiceRegisterRequest { switch: switch.into(), ..Default::default() };
        let answer = self.client.infra_switch().register(request).await?.into_owned();
        let meta = answer.switch.as_option().and_then(|switch| switch.meta.as_option());
        Ok(meta.map_or(0, |meta| meta.generation))
    }

    /// Tells how it goes.
    ///
    /// # Errors
    /// See [`is_unknown`] for a switch that has not registered.
    pub async fn heartbeat(
        &self,
        heartbeat: infra::SwitchServiceHeartbeatRequest,
    ) -> Result<(), ConnectError> {
        self.client.infra_switch().heartbeat(heartbeat).await.map(drop)
    }

    /// Tells that everybody who has to leave with this generation has left. A control plane that does not want to know
    /// is content with heartbeats.
    ///
    /// # Errors
    /// When it was not recorded; until then what has left is not given to anybody else.
    pub async fn confirm(&self, generation: u64) -> Result<(), ConnectError> {
        let request = ext::SwitchWatchServiceConfirmRequest {
            id: self.id.clone(),
            generation,
            ..Default::default()
        };
        match self.client.switch_watch().confirm(request).await {
            Err(error) if error.code != ErrorCode::Unimplemented => Err(error),
            _ => Ok(()),
        }
    }

    /// Tells that an installed system runs.
    ///
    /// # Errors
    /// When it was not recorded.
    pub async fn phoned_home(&self, machine: Uuid, message: String) -> Result<(), ConnectError> {
        let event = api::MachineProvisioningEvent {
            time: now().into(),
            event: api::MachineProvisioningEventType::MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME
                .into(),
            message,
            ..Default::default()
        };
        let mut request = infra::EventServiceSendRequest::default();
        request.events.insert(machine.to_string(), event);
        let answer = self.client.event().send(request).await?.into_owned();
        if answer.failed.is_empty() {
            return Ok(());
        }
        Err(ConnectError::new(
            ErrorCode::FailedPrecondition,
            "the control plane could not record it",
        ))
    }

    /// Reports the agent itself.
    ///
    /// # Errors
    /// When it was not recorded; nothing depends on it.
    pub async fn ping(&self) -> Result<(), ConnectError> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let request = infra::ComponentServicePingRequest {
            r#type: api::ComponentType::COMPONENT_TYPE_METAL_CORE.into(),
            identifier: self.id.clone(),
            started_at: timestamp(self.started).into(),
            interval: WireDuration { seconds: PING.as_secs() as i64, ..Default::default() }.into(),
            version: api::Version { version, ..Default::default() }.into(),
            ..Default::default()
        };
        self.client.infra_component().ping(request).await.map(drop)
    }
}

/// The control plane does not know this switch: it has to register.
pub fn is_unknown(error: &ConnectError) -> bool {
    error.code == ErrorCode::NotFound
}

fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: since.as_secs() as i64,
        nanos: since.subsec_nanos() as i32,
        ..Default::default()
    }
}
