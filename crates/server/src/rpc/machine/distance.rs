//! Of several firewalls of a private network one carries all traffic and the others wait: each knows only the connections that it let
//! pass. Each gets a distance when it is allocated, and the fabric uses the nearest one.

use std::collections::BTreeSet;

use proto::api::{self, MachineAllocationType};
use store::Tx;
use store::machine::TABLE;

use crate::rpc::Error;
use crate::wire;

/// Label of the allocation; the installer reads it.
const LABEL: &str = "firewall.metal-stack.io/distance";
/// Each step is some more numbers in the paths that the firewall tells.
const FARTHEST: u8 = 7;

/// The distance that the request names, else the smallest one that no other firewall of its private networks has.
pub(super) async fn choose(
    tx: &mut Tx,
    request: &api::MachineServiceCreateRequest,
) -> Result<u8, Error> {
    if let Some(text) = request.labels.as_option().and_then(|labels| labels.labels.get(LABEL)) {
        return text.parse::<u8>().ok().filter(|distance| *distance <= FARTHEST).ok_or_else(|| {
            Error::invalid(format!("label {LABEL}: \"{text}\" is no number from 0 to {FARTHEST}"))
        });
    }
    let networks = hold(tx, request).await?;
    let mut taken = BTreeSet::new();
    for row in TABLE.select().eq("project", request.project.as_str()).all(tx).await? {
        let machine: api::Machine = wire::decode(&row)?;
        let Some(allocation) = machine.allocation.as_option() else { continue };
        let is_beside = allocation.allocation_type == MachineAllocationType::Firewall
            && allocation.networks.iter().any(|network| networks.contains(&network.network));
        if is_beside {
            taken.extend(of(allocation));
        }
    }
    Ok((0..FARTHEST).find(|distance| !taken.contains(distance)).unwrap_or(FARTHEST))
}

/// Says it in the allocation.
pub(super) fn note(allocation: &mut api::MachineAllocation, distance: u8) {
    let labels = allocation.meta.get_or_insert_default().labels.get_or_insert_default();
    labels.labels.insert(LABEL.to_owned(), distance.to_string());
}

fn of(allocation: &api::MachineAllocation) -> Option<u8> {
    let labels = allocation.meta.as_option()?.labels.as_option()?;
    labels.labels.get(LABEL)?.parse().ok()
}

/// Its networks of this project. They stay as they are until the transaction ends, so that two firewalls at the same time do not get
/// the same distance. Before anything else holds them, and always in the same order.
async fn hold(
    tx: &mut Tx,
    request: &api::MachineServiceCreateRequest,
) -> Result<BTreeSet<String>, Error> {
    let wanted: BTreeSet<_> = request.networks.iter().map(|wanted| &wanted.network).collect();
    let mut held = BTreeSet::new();
    for id in wanted {
        let Some(row) = store::network::TABLE.get(tx, id).await? else { continue };
        let network: api::Network = wire::decode(&row)?;
        if network.project.as_deref() == Some(request.project.as_str()) {
            store::network::TABLE.get_for_update(tx, id).await?;
            held.insert(id.clone());
        }
    }
    Ok(held)
}
