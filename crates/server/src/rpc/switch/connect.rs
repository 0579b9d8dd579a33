//! Which machine hangs on which port, from what the machine heard by LLDP.

use std::collections::BTreeSet;

use proto::api;
use store::switch::{Connection, TABLE};
use store::{Entity, Tx};

use super::names;
use crate::rpc::Error;
use crate::rpc::machine::record::Record;
use crate::wire;

/// Where a machine stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Rack of its switches.
    pub(crate) rack: String,
    /// Room of that rack, empty when not known.
    pub(crate) room: String,
}

/// Connects a machine with the two switches that it sees.
pub(crate) async fn connect(
    tx: &mut Tx,
    record: &Record,
    hardware: &api::MachineHardware,
    partition: &str,
) -> Result<Place, Error> {
    let seen: BTreeSet<&str> = hardware
        .nics
        .iter()
        .flat_map(|nic| &nic.neighbors)
        .map(|neighbor| neighbor.hostname.as_str())
        .filter(|hostname| !hostname.is_empty())
        .collect();
    if seen.len() != 2 {
        return Err(Error::precondition(format!(
            "machine {} sees {} switches by LLDP ({}), it must be exactly two: check its cables and the agents on the switches",
            record.row.id,
            seen.len(),
            seen.iter().copied().collect::<Vec<_>>().join(", ")
        )));
    }
    let mut switches = Vec::new();
    for id in &seen {
        let row = TABLE.get_for_update(tx, id).await?.ok_or_else(|| {
            Error::missing(format!(
                "no switch with id \"{id}\" found: its agent has not registered it"
            ))
        })?;
        switches.push((wire::decode::<api::Switch>(&row)?, row));
    }
    let place = place(&switches, partition)?;
    forbid_other_racks(tx, record, partition, &place).await?;
    let mut connections = Vec::new();
    for (switch, _) in &switches {
        connections.extend(cables(&record.row.id, hardware, switch));
    }
    corresponding(&record.row.id, &switches, &connections)?;
    let former = store::switch::connections_of_machine(tx, &record.row.id).await?;
    if former != sorted(connections.clone()) {
        tracing::info!(machine = record.row.id, ?connections, "connected");
        store::switch::set_connections(tx, &record.row.id, &connections).await?;
    }
    Ok(place)
}

fn sorted(mut connections: Vec<Connection>) -> Vec<Connection> {
    connections.sort_by(|a, b| (&a.switch, &a.nic).cmp(&(&b.switch, &b.nic)));
    connections
}

/// The rack of both switches, which must be in the partition of the machine.
fn place(switches: &[(api::Switch, Entity)], partition: &str) -> Result<Place, Error> {
    for (switch, _) in switches {
        if switch.partition != partition {
            return Err(Error::precondition(format!(
                "switch {} belongs to partition {}, the machine to {partition}",
                switch.id, switch.partition
            )));
        }
    }
    let racks: BTreeSet<&str> =
        switches.iter().map(|(s, _)| s.rack.as_deref().unwrap_or("")).collect();
    match racks.into_iter().collect::<Vec<_>>()[..] {
        [rack] => Ok(Place {
            rack: rack.to_owned(),
            room: switches.iter().find_map(|(s, _)| s.room.clone()).unwrap_or_default(),
        }),
        ref racks => Err(Error::precondition(format!(
            "the two switches of the machine stand in different racks: {}",
            racks.join(", ")
        ))),
    }
}

/// A machine that was carried to another rack is somebody's business.
async fn forbid_other_racks(
    tx: &mut Tx,
    record: &Record,
    partition: &str,
    place: &Place,
) -> Result<(), Error> {
    let mut strange = Vec::new();
    for cable in store::switch::connections_of_machine(tx, &record.row.id).await? {
        if let Some(row) = TABLE.get(tx, &cable.switch).await? {
            let switch: api::Switch = wire::decode(&row)?;
            if switch.partition != partition || switch.rack.as_deref().unwrap_or("") != place.rack {
                strange.push(switch.id);
            }
        }
    }
    strange.dedup();
    if strange.is_empty() {
        return Ok(());
    }
    Err(Error::precondition(format!(
        "machine {} is still connected to switches of another rack ({}): if it was moved, an operator must delete it first",
        record.row.id,
        strange.join(", ")
    )))
}

/// The ports of a switch that a machine heard.
fn cables(machine: &str, hardware: &api::MachineHardware, switch: &api::Switch) -> Vec<Connection> {
    let heard: BTreeSet<&str> = hardware
        .nics
        .iter()
        .flat_map(|nic| &nic.neighbors)
        .filter(|neighbor| neighbor.hostname == switch.id)
        .map(|neighbor| neighbor.identifier.as_str())
        .collect();
    let mut found: Vec<Connection> = switch
        .nics
        .iter()
        .filter(|nic| heard.contains(nic.identifier.as_str()))
        .map(|nic| Connection {
            switch: switch.id.clone(),
            nic: nic.name.clone(),
            machine: machine.to_owned(),
        })
        .collect();
    found.sort_by(|a, b| a.nic.cmp(&b.nic));
    found
}

/// A machine hangs on the same ports of both switches, so that a person in front of the rack can follow it.
fn corresponding(
    machine: &str,
    switches: &[(api::Switch, Entity)],
    connections: &[Connection],
) -> Result<(), Error> {
    let mut ports = Vec::new();
    for (switch, _) in switches {
        let own: Vec<_> = connections.iter().filter(|c| c.switch == switch.id).collect();
        if own.is_empty() {
            return Err(Error::precondition(format!(
                "machine {machine} sees switch {}, but none of the port identifiers that it heard is one of its ports: let the switch register again",
                switch.id
            )));
        }
        let mut lines = Vec::new();
        for cable in own {
            lines.push(names::canonical(&cable.nic, switch)?);
        }
        lines.sort();
        ports.push(lines);
    }
    if ports.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    let text: Vec<String> =
        connections.iter().map(|cable| format!("{} {}", cable.switch, cable.nic)).collect();
    Err(Error::precondition(format!(
        "machine {machine} hangs on ports of its two switches that do not correspond ({}): swap the cables",
        text.join(", ")
    )))
}
