//! A machine as users see it: the stored one with what other tables know of it.

use std::collections::HashMap;

use proto::api;
use store::Tx;
use store::event::Events;

use super::record::{self, Record, UNKNOWN_SIZE};
use crate::rpc::{Error, bmc, event};
use crate::wire;

/// What many machines share, read once.
#[derive(Default)]
pub(crate) struct Shared {
    partitions: HashMap<String, Option<api::Partition>>,
    sizes: HashMap<String, Option<api::Size>>,
}

impl Shared {
    async fn fill(&mut self, tx: &mut Tx, machine: &mut api::Machine) -> Result<(), Error> {
        if let Some(id) = machine.partition.as_option().map(|partition| partition.id.clone()) {
            if !self.partitions.contains_key(&id) {
                let row = store::partition::TABLE.get(tx, &id).await?;
                self.partitions.insert(id.clone(), row.as_ref().map(wire::decode).transpose()?);
            }
            if let Some(Some(partition)) = self.partitions.get(&id) {
                machine.partition = partition.clone().into();
            }
        }
        if let Some(id) = machine.size.as_option().map(|size| size.id.clone()) {
            if !self.sizes.contains_key(&id) {
                let row = store::size::TABLE.get(tx, &id).await?;
                self.sizes.insert(id.clone(), row.as_ref().map(wire::decode).transpose()?);
            }
            match self.sizes.get(&id) {
                Some(Some(size)) => machine.size = size.clone().into(),
                _ => {
                    let id = if id.is_empty() { UNKNOWN_SIZE.to_owned() } else { id };
                    machine.size = api::Size { id, ..Default::default() }.into();
                }
            }
        }
        Ok(())
    }

    /// The machine of a record.
    pub(crate) async fn machine(
        &mut self,
        tx: &mut Tx,
        record: Record,
        events: Option<&Events>,
        report: Option<&api::MachineBMCReport>,
    ) -> Result<api::Machine, Error> {
        let mut machine = record.machine;
        self.fill(tx, &mut machine).await?;
        let status = machine.status.get_or_insert_default();
        status.liveliness = api::MachineLiveliness::Unspecified.into();
        if let Some(events) = events {
            status.liveliness =
                buffa::EnumValue::from(i32::try_from(events.liveliness).unwrap_or_default());
        }
        if let Some(report) = report {
            status.led_state = report.led_state.clone();
        }
        if let Some(events) = events {
            machine.recent_provisioning_events = event::view(events)?.into();
        }
        Ok(machine)
    }
}

/// One machine.
pub(crate) async fn one(tx: &mut Tx, uuid: &str) -> Result<Option<api::Machine>, Error> {
    match record::get(tx, uuid).await? {
        Some(record) => of(tx, record).await.map(Some),
        None => Ok(None),
    }
}

/// The machine of a record that was just read or saved.
pub(crate) async fn of(tx: &mut Tx, mut record: Record) -> Result<api::Machine, Error> {
    // as it is stored, with the times and generation of the row
    record.machine = wire::decode(&record.row)?;
    let events = store::event::get(tx, &record.row.id).await?;
    let (report, _) = bmc::report(tx, &record.row.id).await?;
    Shared::default().machine(tx, record, events.as_ref(), Some(&report)).await
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
