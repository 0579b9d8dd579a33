//! What the boot service asks the control plane. Only this file knows the wire.

use std::time::Duration;

use buffa_types::google::protobuf::Duration as Seconds;
use client::{Client, ConnectError, ErrorCode};
use proto::{ext, infra};
use uuid::Uuid;

use crate::identity::{Claim, Verdict};
use crate::mac::Mac;
use crate::recipes::Recipe;

/// How long a machine is kept waiting for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an installer may use its token before it asks for another one. The contract allows 10 minutes to 7 days.
const TOKEN: i64 = 4 * 3600;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The control plane says no, and will say no again.
    #[error("{0}")]
    Refused(String),
    /// Nobody can say: it is away, or does not accept our own token.
    #[error("the control plane does not answer: {0}")]
    Away(String),
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        let text = error.message.clone().unwrap_or_else(|| error.to_string());
        match error.code {
            ErrorCode::FailedPrecondition
            | ErrorCode::AlreadyExists
            | ErrorCode::InvalidArgument => Self::Refused(text),
            ErrorCode::Unauthenticated | ErrorCode::PermissionDenied => {
                Self::Away(format!("{text} (is the token in token_file one of an infra editor?)"))
            }
            _ => Self::Away(text),
        }
    }
}

/// The control plane, seen from one boot service.
#[derive(Debug, Clone)]
pub struct Control {
    client: Client,
    partition: String,
    switch: String,
    user: String,
}

impl Control {
    /// `switch` is the id of the switch that this runs on, or empty; `user` is the one to whom tokens of machines belong.
    #[must_use]
    pub fn new(client: Client, partition: String, switch: String, user: String) -> Self {
        Self {
            client: client.with_patience(PATIENCE).with_timeout(PATIENCE),
            partition,
            switch,
            user,
        }
    }

    /// Asks whether a hardware address may be a machine: it has this network card, or nobody knows its cards yet.
    ///
    /// # Errors
    /// [`Error::Refused`] when it may not.
    pub async fn claim(&self, claim: &Claim) -> Result<Verdict, Error> {
        let request = ext::IdentityServiceClaimRequest {
            uuid: claim.uuid.to_string(),
            partition: self.partition.clone(),
            mac: claim.mac.to_string(),
            switch: self.switch.clone(),
            port: if self.switch.is_empty() { String::new() } else { claim.port.clone() },
            ..Default::default()
        };
        let answer = in_time(self.client.identity().claim(request)).await?.into_owned();
        Ok(if answer.unknown { Verdict::New } else { Verdict::Accepted })
    }

    /// Records that a machine boots from the network.
    ///
    /// # Errors
    /// When it was not recorded; nothing depends on it.
    pub async fn record_boot(&self, uuid: Uuid) -> Result<(), Error> {
        let partition = self.partition.clone();
        let request = infra::BootServiceDhcpRequest {
            uuid: uuid.to_string(),
            partition,
            ..Default::default()
        };
        in_time(self.client.boot().dhcp(request)).await?;
        Ok(())
    }

    /// Asks what a machine boots.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn recipe(&self, mac: Mac) -> Result<Recipe, Error> {
        let partition = self.partition.clone();
        let request =
            infra::BootServiceBootRequest { mac: mac.to_string(), partition, ..Default::default() };
        let answer = in_time(self.client.boot().boot(request)).await?.into_owned();
        Ok(Recipe {
            kernel: answer.kernel,
            initrds: answer.init_ram_disks,
            cmdline: answer.cmdline.unwrap_or_default(),
        })
    }

    /// Gets a token with which one machine speaks for itself. A secret.
    ///
    /// # Errors
    /// When there is none.
    pub async fn machine_token(&self, uuid: Uuid) -> Result<String, Error> {
        let request = infra::BootServiceMachineTokenRequest {
            uuid: uuid.to_string(),
            user: self.user.clone(),
            expires: Seconds { seconds: TOKEN, ..Default::default() }.into(),
            ..Default::default()
        };
        Ok(in_time(self.client.boot().machine_token(request)).await?.into_owned().secret)
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, ConnectError>>) -> Result<T, Error> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(Error::from),
        Err(_) => Err(Error::Away(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}
