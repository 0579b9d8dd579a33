//! Allocation: machine, addresses, numbers and the record of it, all in one transaction or not at all.

use std::time::Duration;

use proto::api::{self, MachineAllocationType};
use store::Tx;
use store::phase::Phase;
use store::vpn::Member;

use super::record::{self, Record};
use super::{distance, elect, networks, view};
use crate::rpc::{
    Call, Error, filesystem, firewall, image, partition, size, size_image_constraint,
};
use crate::vpn::{Key, sync as vpn};
use crate::wire;

/// Label of a machine that names its autonomous system.
pub(super) const ASN_LABEL: &str = "machine.metal-stack.io/network.primary.asn";
/// Host name when none is given.
const HOSTNAME: &str = "metal";
/// A transaction that lost against another one is tried again, so often, with growing pauses.
const TRIES: u32 = 10;
/// The first pause.
const PAUSE: Duration = Duration::from_millis(4);

pub(super) async fn create(
    call: &Call,
    request: api::MachineServiceCreateRequest,
) -> Result<api::MachineServiceCreateResponse, Error> {
    // a network call: before the transaction, and taken back when that fails
    let key = match (&call.app.vpn, request.allocation_type.as_known()) {
        (Some(vpn), Some(MachineAllocationType::Firewall)) => {
            project(&mut call.read().await?, &request.project).await?;
            Some(vpn::invite(vpn, &request.project).await?)
        }
        _ => None,
    };
    let result = retrying(call, &request, key.as_ref()).await;
    if let (Err(_), Some(vpn), Some(key)) = (&result, &call.app.vpn, &key) {
        vpn::take_back(vpn, key).await;
    }
    let machine = result?;
    Ok(api::MachineServiceCreateResponse { machine: machine.into(), ..Default::default() })
}

async fn retrying(
    call: &Call,
    request: &api::MachineServiceCreateRequest,
    key: Option<&Key>,
) -> Result<api::Machine, Error> {
    for attempt in 1..=TRIES {
        match allocate(call, request, key).await {
            Err(error) if error.code() == connectrpc::ErrorCode::Aborted && attempt < TRIES => {
                tracing::debug!(%error, attempt, "allocation is tried again");
                tokio::time::sleep(PAUSE * 2_u32.pow(attempt.min(7))).await;
            }
            result => return result,
        }
    }
    Err(Error::contention("too many allocations at the same time: retry"))
}

async fn allocate(
    call: &Call,
    request: &api::MachineServiceCreateRequest,
    key: Option<&Key>,
) -> Result<api::Machine, Error> {
    let kind = request.allocation_type.as_known().unwrap_or_default();
    let mut tx = call.write().await?;
    // what the machine will refer to is kept, always in this order: project, partition, size, image, layout
    if store::project::TABLE.keep(&mut tx, &request.project).await?.is_none() {
        return Err(Error::not_found("project", &request.project));
    }
    let place = place(&mut tx, call, request).await?;
    let partition = partition::keep(&mut tx, &place.partition).await?;
    if place.size != record::UNKNOWN_SIZE {
        size::keep(&mut tx, &place.size).await?;
    }
    let image = image::resolve(&mut tx, &request.image, call.now).await?;
    let image = image::keep(&mut tx, &image.id).await?;
    check_kind(request, kind, &image)?;
    size_image_constraint::check(&mut tx, &place.size, &image).await?;
    let layout = match &request.filesystem_layout {
        Some(id) => filesystem::keep(&mut tx, id).await?,
        None => {
            let layout = filesystem::layout_for(&mut tx, &place.size, &image).await?;
            filesystem::keep(&mut tx, &layout.id).await?
        }
    };
    let distance = match kind {
        MachineAllocationType::Firewall => Some(distance::choose(&mut tx, request).await?),
        _ => None,
    };
    let planned = networks::plan(&mut tx, request, kind, &place.partition).await?;

    let mut record = choose(&mut tx, request, kind, &place).await?;
    let hardware = record.machine.hardware.as_option().cloned().unwrap_or_default();
    filesystem::fits(&layout, &hardware)?;
    let uuid = record.row.id.clone();
    let now_us = call.now_us();
    let (networks, asn) =
        networks::acquire(&mut tx, planned, &request.project, &request.name, &uuid, now_us).await?;

    let mut allocation = describe(call, request, kind)?;
    if let Some(distance) = distance {
        distance::note(&mut allocation, distance);
    }
    allocation.image = image.into();
    allocation.filesystem_layout = layout.into();
    allocation.networks = networks;
    if allocation.dns_servers.is_empty() {
        allocation.dns_servers = partition.dns_servers;
    }
    if allocation.ntp_servers.is_empty() {
        allocation.ntp_servers = partition.ntp_servers;
    }
    let id = allocation.uuid.clone();
    if let (Some(vpn), Some(key)) = (&call.app.vpn, key) {
        allocation.vpn = api::MachineVPN {
            control_plane_address: vpn.control_plane_url().to_owned(),
            auth_key: key.key.clone(),
            ..Default::default()
        }
        .into();
        let member = Member {
            allocation: id.clone(),
            machine: uuid.clone(),
            project: request.project.clone(),
            key_id: key.id,
            joined_after_us: now_us,
            released: false,
        };
        store::vpn::insert(&mut tx, &member).await?;
    }
    record.machine.allocation = allocation.into();
    record.set_label(ASN_LABEL, Some(asn.to_string()));
    record::save(&mut tx, &mut record, call.now).await?;
    store::switch::nudge_project(&mut tx, &request.project).await?;
    let phase = Phase {
        started_at_us: now_us,
        name: "allocate".to_owned(),
        duration_us: jiff::Timestamp::now().as_microsecond() - now_us,
        message: "the control plane chooses the machine and takes addresses".to_owned(),
    };
    store::phase::record(&mut tx, &uuid, &id, &phase).await?;
    let machine = view::of(&mut tx, record).await?;
    tx.commit().await?;
    tracing::info!(machine = uuid, allocation = id, project = request.project, "allocated");
    Ok(machine)
}

async fn project(tx: &mut Tx, id: &str) -> Result<(), Error> {
    match store::project::TABLE.get(tx, id).await? {
        Some(_) => Ok(()),
        None => Err(Error::not_found("project", id)),
    }
}

/// Where the machine is to be, and how big.
struct Place {
    partition: String,
    size: String,
}

async fn place(
    tx: &mut Tx,
    call: &Call,
    request: &api::MachineServiceCreateRequest,
) -> Result<Place, Error> {
    let Some(uuid) = &request.uuid else {
        return match (&request.partition, &request.size) {
            (Some(partition), Some(size)) => {
                Ok(Place { partition: partition.clone(), size: size.clone() })
            }
            (None, _) => Err(Error::invalid("partition is missing").field("partition")),
            (_, None) => Err(Error::invalid("size is missing").field("size")),
        };
    };
    if !call.caller()?.is_admin_editor() {
        return Err(Error::denied(
            "only operators can name the machine: give partition and size instead",
        ));
    }
    if request.partition.is_some() || request.size.is_some() {
        return Err(Error::invalid(
            "partition and size are those of the machine: leave them out when uuid is given",
        ));
    }
    let record = record::get(tx, uuid).await?.ok_or_else(|| Error::not_found("machine", uuid))?;
    check_free(&record)?;
    Ok(Place { partition: record.partition().to_owned(), size: record.size().to_owned() })
}

fn check_free(record: &Record) -> Result<(), Error> {
    let id = &record.row.id;
    if record.allocation().is_some() {
        return Err(Error::invalid(format!("machine {id} is allocated already")));
    }
    if record.state() == api::MachineState::Locked {
        return Err(Error::invalid(format!("machine {id} is locked")));
    }
    Ok(())
}

/// Takes the machine that is named, or the best one.
async fn choose(
    tx: &mut Tx,
    request: &api::MachineServiceCreateRequest,
    kind: MachineAllocationType,
    place: &Place,
) -> Result<Record, Error> {
    if let Some(uuid) = &request.uuid {
        let record = elect::take_named(tx, &uuid.to_lowercase()).await?.ok_or_else(|| {
            Error::invalid(format!("machine {uuid} does not wait for an allocation right now"))
        })?;
        check_free(&record)?;
        return Ok(record);
    }
    let wish = elect::Wish {
        project: &request.project,
        partition: &place.partition,
        size: &place.size,
        kind,
        placement: request.placement_labels.as_option(),
    };
    elect::elect(tx, &wish).await
}

/// Whether image and rules fit what the machine is to be.
fn check_kind(
    request: &api::MachineServiceCreateRequest,
    kind: MachineAllocationType,
    image: &api::Image,
) -> Result<(), Error> {
    let (feature, name) = match kind {
        MachineAllocationType::Machine => (api::ImageFeature::Machine, "machine"),
        MachineAllocationType::Firewall => (api::ImageFeature::Firewall, "firewall"),
        MachineAllocationType::Unspecified => {
            return Err(Error::invalid("allocation_type must be machine or firewall"));
        }
    };
    if !image.features.iter().any(|have| *have == feature) {
        return Err(Error::invalid(format!(
            "image {} is not made for a {name}: it lacks this feature",
            image.id
        )));
    }
    let rules = request.firewall_spec.as_option();
    if kind == MachineAllocationType::Machine {
        return match rules {
            Some(_) => Err(Error::invalid("firewall_spec is only for firewalls")),
            None => Ok(()),
        };
    }
    let rules = rules.and_then(|spec| spec.firewall_rules.as_option());
    rules.map_or(Ok(()), firewall::check)
}

/// What of the allocation the request tells.
fn describe(
    call: &Call,
    request: &api::MachineServiceCreateRequest,
    kind: MachineAllocationType,
) -> Result<api::MachineAllocation, Error> {
    let now = wire::timestamp_us(call.now_us());
    let meta = api::Meta {
        labels: request.labels.clone(),
        created_at: now.clone().into(),
        updated_at: now.into(),
        ..Default::default()
    };
    let rules = request.firewall_spec.as_option().map(|spec| spec.firewall_rules.clone());
    Ok(api::MachineAllocation {
        uuid: uuid::Uuid::now_v7().to_string(),
        meta: meta.into(),
        name: request.name.clone(),
        description: request.description.clone().unwrap_or_default(),
        created_by: call.caller()?.user.clone(),
        project: request.project.clone(),
        hostname: request.hostname.clone().unwrap_or_else(|| HOSTNAME.to_owned()),
        ssh_public_keys: request.ssh_public_keys.clone(),
        userdata: request.userdata.clone().unwrap_or_default(),
        allocation_type: kind.into(),
        firewall_rules: rules.unwrap_or_default(),
        dns_servers: request.dns_servers.clone(),
        ntp_servers: request.ntp_servers.clone(),
        placement_labels: request.placement_labels.clone(),
        ..Default::default()
    })
}
