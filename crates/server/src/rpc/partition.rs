//! `PartitionService` for users and operators.

mod capacity;

use std::sync::Arc;

use connectrpc::Router;
use proto::{admin, api};
use store::Tx;

use super::entity::{self, Kind};
use super::{App, Call, Error, service};
use crate::{reach, wire};

const KIND: Kind = Kind { table: store::partition::TABLE, name: "partition" };
/// What the field's documentation promises; the contract's own rule allows more.
const MAX_NTP_SERVERS: usize = 5;

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::PartitionServiceExt::register(Arc::clone(&handler), router);
    admin::PartitionServiceExt::register(handler, router)
}

service! { api::PartitionService {
    get(PartitionServiceGetRequest) -> PartitionServiceGetResponse = get_partition;
    list(PartitionServiceListRequest) -> PartitionServiceListResponse = list_partitions;
}}

service! { admin::PartitionService {
    create(PartitionServiceCreateRequest) -> PartitionServiceCreateResponse = create_partition;
    update(PartitionServiceUpdateRequest) -> PartitionServiceUpdateResponse = update_partition;
    delete(PartitionServiceDeleteRequest) -> PartitionServiceDeleteResponse = delete_partition;
    capacity(PartitionServiceCapacityRequest) -> PartitionServiceCapacityResponse = capacity::capacity;
}}

/// The partition with this id.
pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<api::Partition, Error> {
    KIND.get(tx, id).await
}

/// As [`get`]; nobody removes it until the transaction ends.
pub(crate) async fn keep(tx: &mut Tx, id: &str) -> Result<api::Partition, Error> {
    KIND.keep(tx, id).await
}

async fn get_partition(
    call: &Call,
    request: api::PartitionServiceGetRequest,
) -> Result<api::PartitionServiceGetResponse, Error> {
    let partition = get(&mut call.read().await?, &request.id).await?;
    Ok(api::PartitionServiceGetResponse { partition: partition.into(), ..Default::default() })
}

async fn list_partitions(
    call: &Call,
    request: api::PartitionServiceListRequest,
) -> Result<api::PartitionServiceListResponse, Error> {
    let query = request.query;
    let select = KIND.table.select().eq_opt("id", query.id.as_deref());
    let mut partitions: Vec<api::Partition> = entity::list(&mut call.read().await?, select).await?;
    partitions.retain(|p| wire::has_labels(p.meta.as_option(), query.labels.as_option()));
    Ok(api::PartitionServiceListResponse { partitions, ..Default::default() })
}

async fn create_partition(
    call: &Call,
    request: admin::PartitionServiceCreateRequest,
) -> Result<admin::PartitionServiceCreateResponse, Error> {
    let partition = request.partition.ok_or_else(|| Error::invalid("partition is missing"))?;
    check(&partition).await?;
    let id = partition.id.clone();
    let mut tx = call.write().await?;
    let partition = KIND.insert(&mut tx, &id, partition, &[], call.now_us()).await?;
    tx.commit().await?;
    Ok(admin::PartitionServiceCreateResponse { partition: partition.into(), ..Default::default() })
}

async fn update_partition(
    call: &Call,
    request: admin::PartitionServiceUpdateRequest,
) -> Result<admin::PartitionServiceUpdateResponse, Error> {
    // web servers are asked before the transaction, which holds locks
    check_boot(&request.boot_configuration).await?;
    let mut tx = call.write().await?;
    let (row, mut partition) = KIND.get_for_update::<api::Partition>(&mut tx, &request.id).await?;
    wire::check_lock(&request.update_meta, &row)?;
    if let Some(description) = request.description {
        partition.description = description;
    }
    if request.boot_configuration.is_set() {
        partition.boot_configuration = request.boot_configuration;
    }
    if !request.dns_servers.is_empty() {
        partition.dns_servers = request.dns_servers;
    }
    if !request.ntp_servers.is_empty() {
        partition.ntp_servers = request.ntp_servers;
    }
    if !request.mgmt_service_addresses.is_empty() {
        partition.mgmt_service_addresses = request.mgmt_service_addresses;
    }
    check_servers(&partition)?;
    wire::update_labels(partition.meta.get_or_insert_default(), request.labels.as_option());
    let partition = KIND.update(&mut tx, &row, &partition, &[], call.now_us()).await?;
    tx.commit().await?;
    Ok(admin::PartitionServiceUpdateResponse { partition: partition.into(), ..Default::default() })
}

async fn delete_partition(
    call: &Call,
    request: admin::PartitionServiceDeleteRequest,
) -> Result<admin::PartitionServiceDeleteResponse, Error> {
    const USERS: &str = "its machines, switches, networks and size reservations";
    let mut tx = call.write().await?;
    let partition = KIND.delete::<api::Partition>(&mut tx, &request.id, USERS).await?;
    // machines are registered without a reference that the database keeps
    for table in [store::machine::TABLE, store::switch::TABLE] {
        if table.select().eq("partition", request.id.as_str()).count(&mut tx).await? > 0 {
            return Err(KIND.in_use(&request.id, USERS));
        }
    }
    tx.commit().await?;
    Ok(admin::PartitionServiceDeleteResponse { partition: partition.into(), ..Default::default() })
}

async fn check(partition: &api::Partition) -> Result<(), Error> {
    check_servers(partition)?;
    check_boot(&partition.boot_configuration).await
}

fn check_servers(partition: &api::Partition) -> Result<(), Error> {
    let count = partition.ntp_servers.len();
    if count > MAX_NTP_SERVERS {
        return Err(Error::invalid(format!(
            "ntp_servers: {count} given, at most {MAX_NTP_SERVERS} are allowed"
        )));
    }
    Ok(())
}

async fn check_boot(boot: &api::PartitionBootConfiguration) -> Result<(), Error> {
    for (field, url) in [
        ("boot_configuration.image_url", &boot.image_url),
        ("boot_configuration.kernel_url", &boot.kernel_url),
    ] {
        if !url.is_empty() {
            reach::check(field, url).await?;
        }
    }
    Ok(())
}
