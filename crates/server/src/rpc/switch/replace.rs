//! New hardware takes over: in place of a broken switch (replace mode), or beside it (migration).

use jiff::Timestamp;
use proto::api;
use store::switch::Connection;
use store::{Entity, Tx};

use super::{names, save};
use crate::rpc::Error;
use crate::rpc::machine::record;
use crate::wire;

/// Registers new hardware under a known id: its machines and VRFs come from the other switch of the rack.
pub(super) async fn replace(
    tx: &mut Tx,
    row: &Entity,
    known: &api::Switch,
    told: api::Switch,
    now: Timestamp,
) -> Result<Entity, Error> {
    if told.partition != known.partition || told.rack != known.rack {
        return Err(Error::precondition(format!(
            "switch {} is to be replaced in partition {} and rack {}, but registers elsewhere",
            known.id,
            known.partition,
            known.rack.as_deref().unwrap_or("-")
        )));
    }
    let twin = twin(tx, known).await?;
    let mut switch = api::Switch {
        description: if told.description.is_empty() {
            known.description.clone()
        } else {
            told.description
        },
        management_ip: if told.management_ip.is_empty() {
            known.management_ip.clone()
        } else {
            told.management_ip
        },
        management_user: told.management_user.or_else(|| known.management_user.clone()),
        console_command: told.console_command.or_else(|| known.console_command.clone()),
        replace_mode: api::SwitchReplaceMode::Operational.into(),
        os: told.os,
        nics: told
            .nics
            .into_iter()
            .map(|nic| api::SwitchNic {
                name: nic.name,
                identifier: nic.identifier,
                ..Default::default()
            })
            .collect(),
        ..known.clone()
    };
    for nic in &twin.nics {
        let name = names::translate(&nic.name, &twin, &switch)?;
        let Some(own) = switch.nics.iter_mut().find(|own| own.name == name) else {
            return Err(Error::precondition(format!(
                "port {} of switch {} has no counterpart {name} on {}: check the breakout configuration",
                nic.name, twin.id, known.id
            )));
        };
        own.vrf.clone_from(&nic.vrf);
    }
    let mut moved = Vec::new();
    for cable in store::switch::connections_of_switch(tx, &twin.id).await? {
        let name = names::translate(&cable.nic, &twin, &switch)?;
        moved.push((cable, name));
    }
    rename_neighbours(tx, &moved, &known.id, known, &switch, now).await?;
    store::switch::move_connections(tx, &known.id, &known.id, &moved).await?;
    save(tx, row, &switch, now).await
}

/// The one other switch of the rack that carries machines.
async fn twin(tx: &mut Tx, switch: &api::Switch) -> Result<api::Switch, Error> {
    let rack = switch.rack.clone().unwrap_or_default();
    let mut twins = Vec::new();
    let mut others = 0;
    for row in store::switch::of_rack(tx, &switch.partition, &rack).await? {
        let other: api::Switch = wire::decode(&row)?;
        if other.id == switch.id {
            continue;
        }
        others += 1;
        let carries = !store::switch::connections_of_switch(tx, &other.id).await?.is_empty();
        if carries && other.replace_mode != api::SwitchReplaceMode::Replace {
            twins.push(other);
        }
    }
    match (others, twins.len()) {
        (0, _) => Err(Error::missing(format!("there is no other switch in rack {rack}"))),
        (_, 0) => Err(Error::missing(format!("no other switch in rack {rack} carries machines"))),
        (_, 1) => Ok(twins.remove(0)),
        _ => Err(Error::precondition(format!(
            "several switches in rack {rack} could be the twin of {}: {}",
            switch.id,
            twins.iter().map(|twin| twin.id.as_str()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// Moves machines and VRFs of one switch to another, which had none.
pub(super) async fn migrate(
    tx: &mut Tx,
    (old, old_row): (api::Switch, Entity),
    (mut new, new_row): (api::Switch, Entity),
    now: Timestamp,
) -> Result<Entity, Error> {
    if old.partition != new.partition || old.rack != new.rack {
        return Err(Error::precondition(format!(
            "switches {} and {} do not stand in the same rack",
            old.id, new.id
        )));
    }
    if !store::switch::connections_of_switch(tx, &new.id).await?.is_empty() {
        return Err(Error::precondition(format!(
            "machines hang on switch {} already, it cannot take over those of {}",
            new.id, old.id
        )));
    }
    let mut moved = Vec::new();
    let mut emptied = old.clone();
    for cable in store::switch::connections_of_switch(tx, &old.id).await? {
        let name = names::translate(&cable.nic, &old, &new)?;
        let vrf = old.nics.iter().find(|nic| nic.name == cable.nic).and_then(|nic| nic.vrf.clone());
        let Some(nic) = new.nics.iter_mut().find(|nic| nic.name == name) else {
            return Err(Error::precondition(format!(
                "port {} of switch {} has no counterpart {name} on {}: check the breakout configuration",
                cable.nic, old.id, new.id
            )));
        };
        nic.vrf = vrf;
        if let Some(nic) = emptied.nics.iter_mut().find(|nic| nic.name == cable.nic) {
            nic.vrf = None;
        }
        moved.push((cable, name));
    }
    new.replace_mode = api::SwitchReplaceMode::Operational.into();
    rename_neighbours(tx, &moved, &old.id, &old, &new, now).await?;
    store::switch::move_connections(tx, &old.id, &new.id, &moved).await?;
    save(tx, &old_row, &emptied, now).await?;
    save(tx, &new_row, &new, now).await
}

/// Machines remember what they heard: it is the new hardware's now.
async fn rename_neighbours(
    tx: &mut Tx,
    moved: &[(Connection, String)],
    heard: &str,
    old: &api::Switch,
    new: &api::Switch,
    now: Timestamp,
) -> Result<(), Error> {
    for (cable, name) in moved {
        let Some(mut record) = record::get_for_update(tx, &cable.machine).await? else { continue };
        let before = old.nics.iter().find(|nic| nic.name == cable.nic || nic.name == *name);
        let after = new.nics.iter().find(|nic| nic.name == *name);
        let (Some(before), Some(after)) = (before, after) else { continue };
        let mut changed = false;
        if let Some(hardware) = record.machine.hardware.as_option_mut() {
            for neighbor in hardware.nics.iter_mut().flat_map(|nic| &mut nic.neighbors) {
                if neighbor.hostname == heard && neighbor.identifier == before.identifier {
                    neighbor.hostname.clone_from(&new.id);
                    neighbor.identifier.clone_from(&after.identifier);
                    neighbor.name.clone_from(&after.name);
                    changed = true;
                }
            }
        }
        if changed {
            record::save(tx, &mut record, now).await?;
        }
    }
    Ok(())
}
