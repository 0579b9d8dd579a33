//! The lab as a client of its control plane.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::{Client, Config, TokenSource};
use proto::{admin, api};

use crate::paths::Paths;
use crate::topology::api_url;

pub use proto::api::MachineProvisioningEventType as Event;

/// Name of the operator's token.
pub const ADMIN: &str = "admin";

/// How often a state that must come is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A client with the token of that name.
///
/// # Errors
/// There is no such token.
pub fn client(paths: &Paths, token: &str) -> Result<Client> {
    let secret = fs::read_to_string(paths.token(token))
        .with_context(|| format!("there is no token {token}; is the lab up?"))?;
    with_secret(secret.trim())
}

/// A client with a token.
///
/// # Errors
/// Never with the lab's URL.
pub fn with_secret(secret: &str) -> Result<Client> {
    with(TokenSource::Static(secret.to_owned()))
}

/// A client that nobody knows.
///
/// # Errors
/// Never with the lab's URL.
pub fn anonymous() -> Result<Client> {
    with(TokenSource::None)
}

fn with(token: TokenSource) -> Result<Client> {
    Ok(Client::new(Config { url: api_url(), token, ca_cert_pem: None })?)
}

/// A machine, if the control plane knows it.
///
/// # Errors
/// The call fails for another reason.
pub async fn machine(client: &Client, uuid: &str) -> Result<Option<api::Machine>> {
    let request = admin::MachineServiceGetRequest { uuid: uuid.to_owned(), ..Default::default() };
    match client.admin_machine().get(request).await {
        Ok(answer) => Ok(answer.into_owned().machine.into_option()),
        Err(error) if error.code == client::ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot read the machine"),
    }
}

/// The newest event of a machine with its text.
pub fn last_event(machine: &api::Machine) -> Option<(Event, String)> {
    let events = machine.recent_provisioning_events.as_option()?;
    // newest first
    let newest = events.events.first()?;
    Some((newest.event.as_known()?, newest.message.clone()))
}

/// Whether the machine waits for an allocation.
pub fn waits(machine: &api::Machine) -> bool {
    machine.allocation.is_unset()
        && last_event(machine).is_some_and(|(event, _)| event == Event::Waiting)
}

/// One line about a machine, for a human.
pub fn describe(machine: Option<&api::Machine>) -> String {
    let Some(machine) = machine else { return "unknown to the control plane".to_owned() };
    let event = match last_event(machine) {
        Some((event, text)) if text.is_empty() => format!("{event:?}"),
        Some((event, text)) => format!("{event:?}: {text}"),
        None => "no event".to_owned(),
    };
    match machine.allocation.as_option() {
        Some(allocation) => format!("allocated as {}, {event}", allocation.hostname),
        None => event,
    }
}

/// Looks at a machine until it is as wanted.
///
/// # Errors
/// It does not become so in time; the message says what it was last.
pub async fn until(
    client: &Client,
    uuid: &str,
    patience: Duration,
    what: &str,
    wanted: impl Fn(&api::Machine) -> bool,
) -> Result<api::Machine> {
    let begin = Instant::now();
    loop {
        let seen = machine(client, uuid).await?;
        if let Some(machine) = &seen
            && wanted(machine)
        {
            return seen.context("just seen");
        }
        if begin.elapsed() > patience {
            bail!(
                "machine {uuid} is not {what} after {} s but: {}",
                patience.as_secs(),
                describe(seen.as_ref())
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}
