//! Chooses a machine from the pool without reading the fleet: a sample from a random place, and only if no rack of the sample is
//! free of the project's machines, one machine of each rack.

use std::collections::{BTreeMap, HashSet};

use model::placement::{self, Load};
use proto::api;
use serde::Deserialize;
use store::Tx;
use store::waiting::{self, Waiting};

use super::record::{self, Record};
use crate::rpc::{Error, Reason, size_reservation};

/// So many candidates are looked at first.
const SAMPLE: i64 = 16;
/// Concurrent callers may hold all candidates of a sample; then it looks elsewhere, so often.
const TRIES: usize = 4;

/// What is wanted.
pub(super) struct Wish<'a> {
    pub(super) project: &'a str,
    pub(super) partition: &'a str,
    pub(super) size: &'a str,
    pub(super) kind: api::MachineAllocationType,
    pub(super) placement: Option<&'a api::Labels>,
}

/// Takes a machine out of the pool, held until the transaction ends.
pub(super) async fn elect(tx: &mut Tx, wish: &Wish<'_>) -> Result<Record, Error> {
    respect_reservations(tx, wish).await?;
    let load = load(tx, wish).await?;
    let mut held = HashSet::new();
    for _ in 0..TRIES {
        let from = random();
        let mut candidates = waiting::sample(tx, wish.partition, wish.size, from, SAMPLE).await?;
        if !candidates.iter().any(|c| placement::is_unbeatable(&c.rack, &load)) {
            candidates.extend(waiting::one_per_rack(tx, wish.partition, wish.size, from).await?);
        }
        let ranked = placement::rank(&candidates, rack, &load);
        for candidate in ranked {
            if held.contains(&candidate.machine) {
                continue;
            }
            if let Some(record) = take(tx, &candidate.machine).await? {
                return Ok(record);
            }
            held.insert(candidate.machine.clone());
        }
    }
    // what others hold may come back when they fail
    if !held.is_empty() && waiting::count(tx, wish.partition, wish.size).await? > 0 {
        return Err(Error::contention(
            "all free machines are being allocated by others right now: retry",
        ));
    }
    let sentence = format!(
        "no machine available: no free machine of size {} waits in partition {}",
        wish.size, wish.partition
    );
    Err(Error::reason(Reason::NoMachineAvailable, sentence)
        .with("size", wish.size)
        .with("partition", wish.partition))
}

fn rack(candidate: &Waiting) -> &str {
    &candidate.rack
}

/// Takes a candidate out of the pool; none when somebody else holds it, or held it back since it was seen. Everybody holds the
/// machine first and then its place in the pool.
async fn take(tx: &mut Tx, machine: &str) -> Result<Option<Record>, Error> {
    match record::seize(tx, machine).await?.filter(is_free) {
        Some(record) if waiting::take(tx, machine, true).await? => Ok(Some(record)),
        _ => Ok(None),
    }
}

/// Takes the machine that an operator names out of the pool, also one that is not to be chosen.
pub(super) async fn take_named(tx: &mut Tx, machine: &str) -> Result<Option<Record>, Error> {
    match record::get_for_update(tx, machine).await?.filter(is_free) {
        Some(record) if waiting::take(tx, machine, false).await? => Ok(Some(record)),
        _ => Ok(None),
    }
}

fn is_free(record: &Record) -> bool {
    record.allocation().is_none() && !record.is_releasing()
}

/// A random number that is not negative.
fn random() -> i64 {
    position(&uuid::Uuid::now_v7())
}

/// The random end of an id as a number that is not negative.
pub(crate) fn position(id: &uuid::Uuid) -> i64 {
    let low = id.as_u128() & 0x3fff_ffff_ffff_ffff;
    i64::try_from(low << 1).unwrap_or_default()
}

/// Machines that are kept for other projects are not taken. Without reservations nothing is counted.
async fn respect_reservations(tx: &mut Tx, wish: &Wish<'_>) -> Result<(), Error> {
    store::size_reservation::keep(tx, wish.partition, wish.size).await?;
    if size_reservation::reserved(tx, wish.partition, wish.size).await?.is_empty() {
        return Ok(());
    }
    store::size_reservation::lock(tx, wish.partition, wish.size).await?;
    let mut allocated = BTreeMap::new();
    for count in store::machine::counts(tx, Some(wish.partition)).await? {
        if count.size == wish.size && !count.project.is_empty() {
            *allocated.entry(count.project).or_insert(0) += count.machines.unsigned_abs();
        }
    }
    let free = waiting::count(tx, wish.partition, wish.size).await?.unsigned_abs();
    size_reservation::free_for(tx, wish.partition, wish.size, wish.project, free, &allocated).await
}

/// What of a stored machine matters for where the next one goes; a project may have many, and reading all of each would cost
/// three times as much.
#[derive(Deserialize)]
struct Placed {
    #[serde(default)]
    rack: String,
    allocation: Option<PlacedAllocation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlacedAllocation {
    #[serde(default)]
    allocation_type: buffa::EnumValue<api::MachineAllocationType>,
    placement_labels: Option<api::Labels>,
}

/// What the project has in each rack.
async fn load(tx: &mut Tx, wish: &Wish<'_>) -> Result<BTreeMap<String, Load>, Error> {
    let mut load = BTreeMap::<String, Load>::new();
    let rows = store::machine::of_project(tx, wish.project, wish.partition, wish.size).await?;
    for row in rows {
        let machine: Placed = serde_json::from_str(&row.body)
            .map_err(|e| Error::internal(format!("stored machine {} is damaged: {e}", row.id)))?;
        let Some(allocation) = machine.allocation else { continue };
        if allocation.allocation_type != wish.kind {
            continue;
        }
        let rack = load.entry(machine.rack.clone()).or_default();
        rack.machines += 1;
        if let (Some(wanted), Some(have)) = (wish.placement, allocation.placement_labels.as_ref()) {
            rack.labelled += wanted
                .labels
                .iter()
                .filter(|(key, value)| have.labels.get(*key) == Some(*value))
                .count();
        }
    }
    Ok(load)
}
