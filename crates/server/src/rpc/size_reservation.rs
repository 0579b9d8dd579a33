//! `SizeReservationService` for users and operators, and whether a project may have one more machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use connectrpc::Router;
use model::size_reservation::{Reserved, allows};
use proto::{admin, api};
use store::{Tx, Value};
use uuid::Uuid;

use super::entity::{self, Kind};
use super::{App, Call, Error, Reason, service};
use crate::wire;

const KIND: Kind = Kind { table: store::size_reservation::TABLE, name: "size reservation" };

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::SizeReservationServiceExt::register(Arc::clone(&handler), router);
    admin::SizeReservationServiceExt::register(handler, router)
}

service! { api::SizeReservationService {
    get(SizeReservationServiceGetRequest) -> SizeReservationServiceGetResponse = get_reservation;
    list(SizeReservationServiceListRequest) -> SizeReservationServiceListResponse = list_of_project;
}}

service! { admin::SizeReservationService {
    create(SizeReservationServiceCreateRequest) -> SizeReservationServiceCreateResponse = create_reservation;
    update(SizeReservationServiceUpdateRequest) -> SizeReservationServiceUpdateResponse = update_reservation;
    delete(SizeReservationServiceDeleteRequest) -> SizeReservationServiceDeleteResponse = delete_reservation;
    list(SizeReservationServiceListRequest) -> SizeReservationServiceListResponse = list_reservations;
}}

/// Refuses a project one more of the `free` machines of a size in a partition when they are kept for others. `allocated` is the
/// number of machines of that size in that partition that each project has; read in the transaction that takes the machine.
pub(crate) async fn free_for(
    tx: &mut Tx,
    partition: &str,
    size: &str,
    project: &str,
    free: u64,
    allocated: &BTreeMap<String, u64>,
) -> Result<(), Error> {
    if allows(project, free, &reserved(tx, partition, size).await?, allocated) {
        return Ok(());
    }
    let sentence = format!(
        "no machine available: the {free} free machines of size {size} in partition {partition} are reserved for other projects"
    );
    Err(Error::reason(Reason::Reserved, sentence).with("size", size).with("partition", partition))
}

/// The reservations of a size in a partition.
pub(crate) async fn reserved(
    tx: &mut Tx,
    partition: &str,
    size: &str,
) -> Result<Vec<Reserved>, Error> {
    let rows = store::size_reservation::of(tx, partition, size).await?;
    Ok(rows
        .into_iter()
        .map(|row| Reserved {
            project: row.project,
            amount: u64::try_from(row.amount).unwrap_or_default(),
        })
        .collect())
}

async fn get_reservation(
    call: &Call,
    request: api::SizeReservationServiceGetRequest,
) -> Result<api::SizeReservationServiceGetResponse, Error> {
    let reservation: api::SizeReservation = KIND.get(&mut call.read().await?, &request.id).await?;
    if reservation.project != request.project {
        return Err(Error::not_found(KIND.name, &request.id));
    }
    Ok(api::SizeReservationServiceGetResponse {
        size_reservation: reservation.into(),
        ..Default::default()
    })
}

async fn list_of_project(
    call: &Call,
    request: api::SizeReservationServiceListRequest,
) -> Result<api::SizeReservationServiceListResponse, Error> {
    let size_reservations = find(call, &request.query, Some(&request.project)).await?;
    Ok(api::SizeReservationServiceListResponse { size_reservations, ..Default::default() })
}

async fn list_reservations(
    call: &Call,
    request: admin::SizeReservationServiceListRequest,
) -> Result<admin::SizeReservationServiceListResponse, Error> {
    let size_reservations = find(call, &request.query, None).await?;
    Ok(admin::SizeReservationServiceListResponse { size_reservations, ..Default::default() })
}

/// The reservations of a query, of one project or all.
async fn find(
    call: &Call,
    query: &api::SizeReservationQuery,
    project: Option<&str>,
) -> Result<Vec<api::SizeReservation>, Error> {
    let select = KIND
        .table
        .select()
        .eq_opt("id", query.id.as_deref())
        .eq_opt("size", query.size.as_deref())
        .eq_opt("project", query.project.as_deref())
        .eq_opt("project", project);
    let mut found: Vec<api::SizeReservation> =
        entity::list(&mut call.read().await?, select).await?;
    found.retain(|r| {
        wire::asks(query.name.as_ref(), r.name.as_str())
            && wire::asks(query.description.as_ref(), r.description.as_str())
            && query.partition.as_ref().is_none_or(|wanted| r.partitions.contains(wanted))
            && wire::has_labels(r.meta.as_option(), query.labels.as_option())
    });
    Ok(found)
}

async fn create_reservation(
    call: &Call,
    request: admin::SizeReservationServiceCreateRequest,
) -> Result<admin::SizeReservationServiceCreateResponse, Error> {
    let mut reservation =
        request.size_reservation.ok_or_else(|| Error::invalid("size_reservation is missing"))?;
    if !reservation.id.is_empty() {
        return Err(Error::invalid("size_reservation.id must be empty: it is generated"));
    }
    reservation.id = Uuid::now_v7().to_string();
    let mut tx = call.write().await?;
    let references = [
        (store::project::TABLE, "project", &reservation.project),
        (store::size::TABLE, "size", &reservation.size),
    ];
    for (table, name, id) in references {
        if table.keep(&mut tx, id).await?.is_none() {
            return Err(Error::precondition(format!("{name} {id} does not exist")));
        }
    }
    check_partitions(&mut tx, &reservation.partitions).await?;
    store::size_reservation::change(&mut tx, &reservation.partitions, &reservation.size).await?;
    let id = reservation.id.clone();
    let (columns, partitions) = (columns(&reservation), reservation.partitions.clone());
    let reservation = KIND.insert(&mut tx, &id, reservation, &columns, call.now_us()).await?;
    store::size_reservation::set_partitions(&mut tx, &id, &partitions).await?;
    tx.commit().await?;
    Ok(admin::SizeReservationServiceCreateResponse {
        size_reservation: reservation.into(),
        ..Default::default()
    })
}

async fn update_reservation(
    call: &Call,
    request: admin::SizeReservationServiceUpdateRequest,
) -> Result<admin::SizeReservationServiceUpdateResponse, Error> {
    let mut tx = call.write().await?;
    let (row, mut reservation) =
        KIND.get_for_update::<api::SizeReservation>(&mut tx, &request.id).await?;
    wire::check_lock(&request.update_meta, &row)?;
    if let Some(name) = request.name {
        reservation.name = name;
    }
    if let Some(description) = request.description {
        reservation.description = description;
    }
    if let Some(amount) = request.amount {
        reservation.amount = amount;
    }
    check_partitions(&mut tx, &request.partitions).await?;
    reservation.partitions = request.partitions;
    store::size_reservation::change(&mut tx, &reservation.partitions, &reservation.size).await?;
    wire::update_labels(reservation.meta.get_or_insert_default(), request.labels.as_option());
    store::size_reservation::set_partitions(&mut tx, &request.id, &reservation.partitions).await?;
    let columns = columns(&reservation);
    let reservation = KIND.update(&mut tx, &row, &reservation, &columns, call.now_us()).await?;
    tx.commit().await?;
    Ok(admin::SizeReservationServiceUpdateResponse {
        size_reservation: reservation.into(),
        ..Default::default()
    })
}

async fn delete_reservation(
    call: &Call,
    request: admin::SizeReservationServiceDeleteRequest,
) -> Result<admin::SizeReservationServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    let reservation =
        KIND.delete::<api::SizeReservation>(&mut tx, &request.id, "what refers to it").await?;
    tx.commit().await?;
    Ok(admin::SizeReservationServiceDeleteResponse {
        size_reservation: reservation.into(),
        ..Default::default()
    })
}

async fn check_partitions(tx: &mut Tx, partitions: &[String]) -> Result<(), Error> {
    for id in partitions {
        if store::partition::TABLE.keep(tx, id).await?.is_none() {
            return Err(Error::precondition(format!("partition {id} does not exist")));
        }
    }
    Ok(())
}

fn columns(reservation: &api::SizeReservation) -> [Value; 3] {
    [
        (&reservation.project).into(),
        (&reservation.size).into(),
        i64::from(reservation.amount).into(),
    ]
}
