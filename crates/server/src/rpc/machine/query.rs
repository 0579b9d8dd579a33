//! Which machines a query means. Columns narrow down in the database, the rest is compared here.

use std::sync::Arc;

use buffa::bytes::Bytes;
use proto::api;
use store::Tx;
use store::machine::{Filter, Whole};

use super::encoded::{self, Parts};
use super::view::{self, Shared};
use crate::rpc::{Error, bmc};
use crate::wire::{asks, has_labels};

/// More machines than this are read by several threads.
const FEW: usize = 500;
/// So long a machine usually is in an answer.
const USUAL: usize = 2560;

/// The machines that a query means as users see them, sorted by id; `project` narrows down to those allocated to it.
pub(crate) async fn run(
    tx: &mut Tx,
    query: &api::MachineQuery,
    project: Option<&str>,
) -> Result<Vec<api::Machine>, Error> {
    let machines = narrow(tx, query, project).await?;
    let shared = Shared::of(tx, &machines).await?;
    let query = undecided(query);
    each(machines, move |whole| {
        let Some(machine) = select(query.as_ref(), &whole)? else { return Ok(None) };
        shared.machine(machine, &whole).map(Some)
    })
    .await
}

/// As [`run`], as the list of an answer in binary form. Machines are read only if the query asks for what no column holds, or if
/// something of them is not to be seen.
pub(crate) async fn encoded(
    tx: &mut Tx,
    query: &api::MachineQuery,
    project: Option<&str>,
    secrets: bool,
) -> Result<Bytes, Error> {
    let machines = narrow(tx, query, project).await?;
    let shared = Shared::of(tx, &machines).await?;
    let (parts, query) = (Parts::new(&shared), undecided(query));
    let all = machines.len();
    let answer = share(machines, move |before, machines| {
        // the first part is long enough for all: memory that was never touched costs more than what is written to it
        let room = if before == 0 { all } else { machines.len() };
        let mut answer = Vec::with_capacity(room * USUAL);
        for whole in machines {
            if let Some(stored) = whole.encoded.as_deref().filter(|_| secrets) {
                if query.is_none() || select(query.as_ref(), &whole)?.is_some() {
                    parts.push(&whole, stored, &mut answer)?;
                }
            } else if let Some(machine) = select(query.as_ref(), &whole)? {
                let mut machine = shared.machine(machine, &whole)?;
                if !secrets {
                    view::hide_secrets(&mut machine);
                }
                encoded::push(&machine, &mut answer);
            }
        }
        Ok(answer)
    });
    let mut answers = answer.await?.into_iter();
    let mut answer = answers.next().unwrap_or_default();
    for more in answers {
        answer.extend_from_slice(&more);
    }
    Ok(answer.into())
}

/// As [`run`], the machines as they are stored with what the narrow tables know of them.
pub(crate) async fn find(
    tx: &mut Tx,
    query: &api::MachineQuery,
    project: Option<&str>,
) -> Result<Vec<(api::Machine, Whole)>, Error> {
    let machines = narrow(tx, query, project).await?;
    let query = undecided(query);
    each(machines, move |whole| Ok(select(query.as_ref(), &whole)?.map(|machine| (machine, whole))))
        .await
}

/// Those that columns do not exclude.
async fn narrow(
    tx: &mut Tx,
    query: &api::MachineQuery,
    project: Option<&str>,
) -> Result<Vec<Whole>, Error> {
    let asked_project =
        query.allocation.as_option().and_then(|allocation| allocation.project.as_deref());
    if let (Some(own), Some(asked)) = (project, asked_project)
        && own != asked
    {
        return Ok(Vec::new());
    }
    let id = query.uuid.as_ref().map(|uuid| uuid.to_lowercase());
    let filter = Filter {
        id: id.as_deref(),
        partition: query.partition.as_deref(),
        rack: query.rack.as_deref(),
        size: query.size.as_deref(),
        project: project.or(asked_project),
    };
    Ok(store::machine::wholes(tx, filter).await?)
}

/// What is left of a query when columns have decided; nothing if they have decided all of it.
fn undecided(query: &api::MachineQuery) -> Option<api::MachineQuery> {
    let mut rest = query.clone();
    (rest.uuid, rest.partition, rest.rack, rest.size) = (None, None, None, None);
    // an empty query for allocations asks for any; messages that are absent and empty are equal
    if let Some(allocation) = rest.allocation.as_option_mut()
        && allocation.project.take().is_some()
        && allocation.vpn.as_option().is_none()
        && *allocation == api::MachineAllocationQuery::default()
    {
        rest.allocation = None.into();
    }
    let asks = rest.allocation.as_option().is_some() || rest != api::MachineQuery::default();
    asks.then_some(rest)
}

/// The machine, if the query means it.
fn select(query: Option<&api::MachineQuery>, whole: &Whole) -> Result<Option<api::Machine>, Error> {
    let machine = view::stored(whole)?;
    let Some(query) = query else { return Ok(Some(machine)) };
    let asks_report = query.bmc.as_option().is_some() || query.fru.as_option().is_some();
    let report = match whole.bmc.as_ref().filter(|_| asks_report) {
        Some(row) => bmc::decode(row)?,
        None => api::MachineBMCReport::default(),
    };
    Ok(matches(query, &machine, &report, whole.waits).then_some(machine))
}

/// Does the same with each and keeps the order.
async fn each<T: Send + 'static>(
    machines: Vec<Whole>,
    step: impl Fn(Whole) -> Result<Option<T>, Error> + Send + Sync + 'static,
) -> Result<Vec<T>, Error> {
    let parts = share(machines, move |_, machines| {
        machines
            .into_iter()
            .filter_map(|whole| step(whole).transpose())
            .collect::<Result<Vec<_>, _>>()
    });
    Ok(parts.await?.into_iter().flatten().collect())
}

/// Does the same with several parts of a long list, in order, and with how many come before each. Reading thousands of machines
/// takes a while: other calls go on meanwhile.
async fn share<T: Send + 'static>(
    mut machines: Vec<Whole>,
    step: impl Fn(usize, Vec<Whole>) -> Result<T, Error> + Send + Sync + 'static,
) -> Result<Vec<T>, Error> {
    if machines.len() <= FEW {
        return Ok(vec![step(0, machines)?]);
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    let share = machines.len().div_ceil(threads);
    let step = Arc::new(step);
    let mut tasks = Vec::new();
    while !machines.is_empty() {
        let rest = machines.split_off(share.min(machines.len()));
        let (part, step) = (std::mem::replace(&mut machines, rest), Arc::clone(&step));
        let before = tasks.len() * share;
        tasks.push(tokio::task::spawn_blocking(move || step(before, part)));
    }
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.map_err(|e| Error::internal(format!("list of machines: {e}")))??);
    }
    Ok(done)
}

/// Whether a query means a machine.
pub(crate) fn matches(
    query: &api::MachineQuery,
    machine: &api::Machine,
    report: &api::MachineBMCReport,
    waiting: bool,
) -> bool {
    let allocation = machine.allocation.as_option();
    let condition = machine.status.as_option().and_then(|status| status.condition.as_option());
    let state = condition.and_then(|c| c.state.as_known()).unwrap_or(api::MachineState::Available);
    query.uuid.as_ref().is_none_or(|uuid| uuid.eq_ignore_ascii_case(&machine.uuid))
        && query.name.as_ref().is_none_or(|name| allocation.is_some_and(|a| a.name == *name))
        && asks(query.partition.as_ref(), machine.partition.as_option().map_or("", |p| p.id.as_str()))
        && asks(query.size.as_ref(), machine.size.as_option().map_or("", |s| s.id.as_str()))
        && asks(query.rack.as_ref(), machine.rack.as_str())
        && asks(query.room.as_ref(), machine.room.as_str())
        && has_labels(machine.meta.as_option(), query.labels.as_option())
        && query.state.as_ref().is_none_or(|asked| {
            *asked == api::MachineState::Unspecified || *asked == state
        })
        && query.waiting.is_none_or(|asked| asked == waiting)
        // a machine is chosen and allocated in one step: none is ever only chosen
        && query.preallocated.is_none_or(|asked| !asked)
        && query.not_allocated.is_none_or(|asked| asked == allocation.is_none())
        && query.allocation.as_option().is_none_or(|q| allocation.is_some_and(|a| of_allocation(q, a)))
        && query.network.as_option().is_none_or(|q| of_networks(q, allocation))
        && query.nic.as_option().is_none_or(|q| of_nics(q, machine))
        && query.disk.as_option().is_none_or(|q| of_disks(q, machine))
        && query.hardware.as_option().is_none_or(|q| of_hardware(q, machine))
        && query.bmc.as_option().is_none_or(|q| of_bmc(q, report))
        && query.fru.as_option().is_none_or(|q| of_fru(q, report))
}

fn of_allocation(query: &api::MachineAllocationQuery, allocation: &api::MachineAllocation) -> bool {
    asks(query.uuid.as_ref(), allocation.uuid.as_str())
        && asks(query.name.as_ref(), allocation.name.as_str())
        && asks(query.project.as_ref(), allocation.project.as_str())
        && asks(query.image.as_ref(), allocation.image.as_option().map_or("", |i| i.id.as_str()))
        && asks(
            query.filesystem_layout.as_ref(),
            allocation.filesystem_layout.as_option().map_or("", |l| l.id.as_str()),
        )
        && asks(query.hostname.as_ref(), allocation.hostname.as_str())
        && query.allocation_type.as_ref().is_none_or(|asked| {
            *asked == api::MachineAllocationType::Unspecified
                || *asked == allocation.allocation_type
        })
        && has_labels(allocation.meta.as_option(), query.labels.as_option())
        && (query.vpn.as_option().is_none() || allocation.vpn.as_option().is_some())
}

/// Every listed value must occur in one of the networks.
fn of_networks(
    query: &api::MachineNetworkQuery,
    allocation: Option<&api::MachineAllocation>,
) -> bool {
    let networks = allocation.map_or(&[][..], |allocation| &allocation.networks);
    let any = |test: &dyn Fn(&api::MachineNetwork) -> bool| networks.iter().any(test);
    query.networks.iter().all(|id| any(&|n| n.network == *id))
        && query.prefixes.iter().all(|prefix| any(&|n| n.prefixes.contains(prefix)))
        && query.destination_prefixes.iter().all(|p| any(&|n| n.destination_prefixes.contains(p)))
        && query.ips.iter().all(|ip| any(&|n| n.ips.contains(ip)))
        && query.vrfs.iter().all(|vrf| any(&|n| n.vrf == *vrf))
        && query.asns.iter().all(|asn| any(&|n| n.asn == *asn))
}

fn nics(machine: &api::Machine) -> &[api::MachineNic] {
    machine.hardware.as_option().map_or(&[], |hardware| &hardware.nics)
}

fn has_address(nic: &api::MachineNic, mac: &str) -> bool {
    nic.identifier.eq_ignore_ascii_case(mac) || nic.mac.eq_ignore_ascii_case(mac)
}

fn of_nics(query: &api::MachineNicQuery, machine: &api::Machine) -> bool {
    let nics = nics(machine);
    let neighbors = || nics.iter().flat_map(|nic| &nic.neighbors);
    query.macs.iter().all(|mac| nics.iter().any(|nic| has_address(nic, mac)))
        && query.names.iter().all(|name| nics.iter().any(|nic| nic.name == *name))
        && query.neighbor_macs.iter().all(|mac| neighbors().any(|nic| has_address(nic, mac)))
        && query.neighbor_names.iter().all(|name| neighbors().any(|nic| nic.name == *name))
}

fn of_disks(query: &api::MachineDiskQuery, machine: &api::Machine) -> bool {
    let disks = machine.hardware.as_option().map_or(&[][..], |hardware| &hardware.disks);
    query.names.iter().all(|name| disks.iter().any(|disk| disk.name == *name))
        && query.sizes.iter().all(|size| disks.iter().any(|disk| disk.size == *size))
}

fn of_hardware(query: &api::MachineHardwareQuery, machine: &api::Machine) -> bool {
    let default = api::MachineHardware::default();
    let hardware = machine.hardware.as_option().unwrap_or(&default);
    let cores: u32 = hardware.cpus.iter().map(|cpu| cpu.cores).sum();
    query.memory.is_none_or(|memory| memory == hardware.memory)
        && query.cpu_cores.is_none_or(|asked| asked == cores)
}

fn of_bmc(query: &api::MachineBMCQuery, report: &api::MachineBMCReport) -> bool {
    let default = api::MachineBMC::default();
    let bmc = report.bmc.as_option().unwrap_or(&default);
    // the address carries a port, behind brackets if it is one of IPv6
    let host = bmc.address.rsplit_once(':').map_or(bmc.address.as_str(), |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    query.address.as_ref().is_none_or(|address| *address == bmc.address || address == host)
        && query.mac.as_ref().is_none_or(|mac| mac.eq_ignore_ascii_case(&bmc.mac))
        && asks(query.user.as_ref(), bmc.user.as_str())
        && asks(query.interface.as_ref(), bmc.interface.as_str())
}

fn of_fru(query: &api::MachineFRUQuery, report: &api::MachineBMCReport) -> bool {
    let default = api::MachineFRU::default();
    let fru = report.fru.as_option().unwrap_or(&default);
    [
        (&query.chassis_part_number, &fru.chassis_part_number),
        (&query.chassis_part_serial, &fru.chassis_part_serial),
        (&query.board_mfg, &fru.board_mfg),
        (&query.board_serial, &fru.board_mfg_serial),
        (&query.board_part_number, &fru.board_part_number),
        (&query.product_manufacturer, &fru.product_manufacturer),
        (&query.product_part_number, &fru.product_part_number),
        (&query.product_serial, &fru.product_serial),
    ]
    .iter()
    .all(|(asked, have)| asked.is_none() || asked == have)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bmc_is_found_by_its_address_without_the_port() {
        let found = |stored: &str, asked: &str| {
            let bmc = api::MachineBMC { address: stored.to_owned(), ..Default::default() };
            let report = api::MachineBMCReport { bmc: bmc.into(), ..Default::default() };
            let query =
                api::MachineBMCQuery { address: Some(asked.to_owned()), ..Default::default() };
            of_bmc(&query, &report)
        };
        assert!(found("10.2.0.1:623", "10.2.0.1"));
        assert!(found("[fd00::1]:623", "fd00::1"));
        assert!(!found("10.2.0.11:623", "10.2.0.1"));
    }
}
