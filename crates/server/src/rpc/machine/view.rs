//! A machine as users see it: the stored one with what other tables know of it.

use std::collections::{HashMap, HashSet};

use proto::api;
use serde::Deserialize;
use store::machine::Whole;
use store::{Entity, Tx};

use super::record::{Record, UNKNOWN_SIZE};
use crate::rpc::{Error, event};
use crate::wire;

/// What many machines share, read once.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// By id.
    pub(super) partitions: HashMap<String, api::Partition>,
    /// By id.
    pub(super) sizes: HashMap<String, api::Size>,
}

impl Shared {
    /// What these machines share.
    pub(crate) async fn of(tx: &mut Tx, machines: &[Whole]) -> Result<Self, Error> {
        let mut shared = Self::default();
        let partitions: HashSet<_> = machines.iter().map(|whole| &whole.partition).collect();
        for id in partitions {
            shared.know(store::partition::TABLE.get(tx, id).await?.as_ref(), None)?;
        }
        let sizes: HashSet<_> = machines.iter().map(|whole| &whole.size).collect();
        for id in sizes {
            shared.know(None, store::size::TABLE.get(tx, id).await?.as_ref())?;
        }
        Ok(shared)
    }

    /// Knows a partition and a size.
    fn know(&mut self, partition: Option<&Entity>, size: Option<&Entity>) -> Result<(), Error> {
        if let Some(row) = partition {
            self.partitions.insert(row.id.clone(), wire::decode(row)?);
        }
        if let Some(row) = size {
            self.sizes.insert(row.id.clone(), wire::decode(row)?);
        }
        Ok(())
    }

    /// A machine as users see it; `machine` is what the row of `whole` holds.
    pub(crate) fn machine(
        &self,
        mut machine: api::Machine,
        whole: &Whole,
    ) -> Result<api::Machine, Error> {
        let partition = machine.partition.as_option();
        if let Some(partition) = partition.and_then(|partition| self.partitions.get(&partition.id))
        {
            machine.partition = partition.clone().into();
        }
        if let Some(size) = machine.size.as_option_mut() {
            match self.sizes.get(&size.id) {
                Some(known) => machine.size = known.clone().into(),
                None if size.id.is_empty() => size.id = UNKNOWN_SIZE.to_owned(),
                None => {}
            }
        }
        let seen = seen(whole)?;
        let status = machine.status.get_or_insert_default();
        status.liveliness = seen.liveliness;
        if whole.bmc.is_some() {
            status.led_state = seen.led_state;
        }
        if let Some(events) = &whole.events {
            machine.recent_provisioning_events = event::view(events)?.into();
        }
        Ok(machine)
    }
}

/// The machine as it is stored, of whichever form there is.
pub(super) fn stored(whole: &Whole) -> Result<api::Machine, Error> {
    match &whole.encoded {
        Some(encoded) => wire::decode_binary(&whole.row, encoded),
        None => wire::decode(&whole.row),
    }
}

/// Liveliness, and the LED if the BMC is known: the part of the status that other tables hold.
pub(super) fn seen(whole: &Whole) -> Result<api::MachineStatus, Error> {
    let mut status = api::MachineStatus::default();
    if let Some(bmc) = &whole.bmc {
        let light: Light = serde_json::from_str(&bmc.body)
            .map_err(|e| Error::internal(format!("BMC of {} is damaged: {e}", bmc.machine)))?;
        status.led_state = light.led_state.into();
    }
    if let Some(events) = &whole.events {
        status.liveliness =
            buffa::EnumValue::from(i32::try_from(events.liveliness).unwrap_or_default());
    }
    Ok(status)
}

/// What machines show of the report of their BMC; reading all of it would cost more than the rest of the machine.
#[derive(Deserialize)]
struct Light {
    #[serde(rename = "ledState")]
    led_state: Option<api::MachineChassisIdentifyLEDState>,
}

/// One machine.
pub(crate) async fn one(tx: &mut Tx, uuid: &str) -> Result<Option<api::Machine>, Error> {
    let found = store::machine::whole(tx, &uuid.to_lowercase()).await?;
    let Some((whole, partition, size)) = found else { return Ok(None) };
    let mut shared = Shared::default();
    shared.know(partition.as_ref(), size.as_ref())?;
    shared.machine(stored(&whole)?, &whole).map(Some)
}

/// The machine of a record that was just read or saved.
pub(crate) async fn of(tx: &mut Tx, record: Record) -> Result<api::Machine, Error> {
    require(tx, &record.row.id).await
}

/// As [`one`], `not_found` when there is none.
pub(crate) async fn require(tx: &mut Tx, uuid: &str) -> Result<api::Machine, Error> {
    one(tx, uuid).await?.ok_or_else(|| Error::not_found("machine", uuid))
}

/// Whether a machine is allocated to a project.
pub(crate) fn belongs(machine: &api::Machine, project: &str) -> bool {
    machine.allocation.as_option().is_some_and(|allocation| allocation.project == project)
}

/// Removes what only those who may change the machine see.
pub(crate) fn hide_secrets(machine: &mut api::Machine) {
    if let Some(allocation) = machine.allocation.as_option_mut() {
        allocation.userdata.clear();
        if let Some(vpn) = allocation.vpn.as_option_mut() {
            vpn.auth_key.clear();
        }
    }
}
