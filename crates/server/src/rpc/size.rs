//! `SizeService` for users and operators, and which machine is of which size.

use std::sync::Arc;

use connectrpc::Router;
use model::size::{Constraint, Glob, Hardware};
use proto::{admin, api};
use store::Tx;

use super::entity::{self, Kind};
use super::machine::record;
use super::{App, Call, Error, service};
use crate::wire;

const KIND: Kind = Kind { table: store::size::TABLE, name: "size" };

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::SizeServiceExt::register(Arc::clone(&handler), router);
    admin::SizeServiceExt::register(handler, router)
}

service! { api::SizeService {
    get(SizeServiceGetRequest) -> SizeServiceGetResponse = get_size;
    list(SizeServiceListRequest) -> SizeServiceListResponse = list_sizes;
}}

service! { admin::SizeService {
    create(SizeServiceCreateRequest) -> SizeServiceCreateResponse = create_size;
    update(SizeServiceUpdateRequest) -> SizeServiceUpdateResponse = update_size;
    delete(SizeServiceDeleteRequest) -> SizeServiceDeleteResponse = delete_size;
}}

/// The size with this id.
pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<api::Size, Error> {
    KIND.get(tx, id).await
}

/// As [`get`]; nobody removes it until the transaction ends.
pub(crate) async fn keep(tx: &mut Tx, id: &str) -> Result<api::Size, Error> {
    KIND.keep(tx, id).await
}

/// The one size of a machine's hardware; none when no size fits, or several do.
pub(crate) async fn find(
    tx: &mut Tx,
    hardware: &api::MachineHardware,
) -> Result<Option<api::Size>, Error> {
    of_hardware(&entity::list(tx, KIND.table.select()).await?, hardware)
}

fn of_hardware(
    sizes: &[api::Size],
    hardware: &api::MachineHardware,
) -> Result<Option<api::Size>, Error> {
    let hardware = hardware_of(hardware);
    let mut fitting: Option<&api::Size> = None;
    for size in sizes {
        if !model::size::matches(&constraints(&size.constraints)?, &hardware) {
            continue;
        }
        if let Some(other) = fitting {
            tracing::warn!(one = other.id, other = size.id, "hardware fits two sizes");
            return Ok(None);
        }
        fitting = Some(size);
    }
    Ok(fitting.cloned())
}

/// Free machines that had this size or none have the one that fits now, as if they had registered again.
async fn reclassify(tx: &mut Tx, id: &str, call: &Call) -> Result<(), Error> {
    let sizes: Vec<api::Size> = entity::list(tx, KIND.table.select()).await?;
    for former in [id, record::UNKNOWN_SIZE] {
        for mut machine in record::free_of_size(tx, former).await? {
            let size = of_hardware(&sizes, &machine.machine.hardware)?;
            let size = size.map_or_else(|| record::UNKNOWN_SIZE.to_owned(), |size| size.id);
            if size == former {
                continue;
            }
            tracing::info!(machine = machine.row.id, former, size, "its size changed");
            let electable =
                size != record::UNKNOWN_SIZE && machine.state() == api::MachineState::Available;
            store::waiting::set_size(tx, &machine.row.id, &size, electable).await?;
            machine.machine.size = api::Size { id: size, ..Default::default() }.into();
            record::save(tx, &mut machine, call.now).await?;
        }
    }
    Ok(())
}

async fn get_size(
    call: &Call,
    request: api::SizeServiceGetRequest,
) -> Result<api::SizeServiceGetResponse, Error> {
    let size = get(&mut call.read().await?, &request.id).await?;
    Ok(api::SizeServiceGetResponse { size: size.into(), ..Default::default() })
}

async fn list_sizes(
    call: &Call,
    request: api::SizeServiceListRequest,
) -> Result<api::SizeServiceListResponse, Error> {
    let query = request.query;
    let select = KIND.table.select().eq_opt("id", query.id.as_deref());
    let mut sizes: Vec<api::Size> = entity::list(&mut call.read().await?, select).await?;
    sizes.retain(|size| {
        wire::asks(query.name.as_ref(), size.name.as_deref().unwrap_or_default())
            && wire::asks(
                query.description.as_ref(),
                size.description.as_deref().unwrap_or_default(),
            )
            && wire::has_labels(size.meta.as_option(), query.labels.as_option())
    });
    Ok(api::SizeServiceListResponse { sizes, ..Default::default() })
}

async fn create_size(
    call: &Call,
    request: admin::SizeServiceCreateRequest,
) -> Result<admin::SizeServiceCreateResponse, Error> {
    let size = request.size.ok_or_else(|| Error::invalid("size is missing"))?;
    let id = size.id.clone();
    let mut tx = call.write().await?;
    store::size::lock(&mut tx).await?;
    if KIND.table.get(&mut tx, &id).await?.is_some() {
        return Err(Error::exists(format!("size {id} already exists")));
    }
    check(&mut tx, &size).await?;
    let size = KIND.insert(&mut tx, &id, size, &[], call.now_us()).await?;
    reclassify(&mut tx, &id, call).await?;
    tx.commit().await?;
    Ok(admin::SizeServiceCreateResponse { size: size.into(), ..Default::default() })
}

async fn update_size(
    call: &Call,
    request: admin::SizeServiceUpdateRequest,
) -> Result<admin::SizeServiceUpdateResponse, Error> {
    let mut tx = call.write().await?;
    store::size::lock(&mut tx).await?;
    let (row, mut size) = KIND.get_for_update::<api::Size>(&mut tx, &request.id).await?;
    wire::check_lock(&request.update_meta, &row)?;
    if request.name.is_some() {
        size.name = request.name;
    }
    if request.description.is_some() {
        size.description = request.description;
    }
    let constrained = !request.constraints.is_empty();
    if constrained {
        size.constraints = request.constraints;
        check(&mut tx, &size).await?;
    }
    wire::update_labels(size.meta.get_or_insert_default(), request.labels.as_option());
    let size = KIND.update(&mut tx, &row, &size, &[], call.now_us()).await?;
    if constrained {
        reclassify(&mut tx, &size.id, call).await?;
    }
    tx.commit().await?;
    Ok(admin::SizeServiceUpdateResponse { size: size.into(), ..Default::default() })
}

async fn delete_size(
    call: &Call,
    request: admin::SizeServiceDeleteRequest,
) -> Result<admin::SizeServiceDeleteResponse, Error> {
    const USERS: &str = "its machines, size reservations and size image constraint";
    let mut tx = call.write().await?;
    let size = KIND.delete::<api::Size>(&mut tx, &request.id, USERS).await?;
    // a machine without a known size stores none, so this column is no reference that the database keeps
    let machines = store::machine::TABLE.select().eq("size", request.id.as_str());
    if machines.count(&mut tx).await? > 0 {
        return Err(KIND.in_use(&request.id, USERS));
    }
    tx.commit().await?;
    Ok(admin::SizeServiceDeleteResponse { size: size.into(), ..Default::default() })
}

/// Checks the constraints of a size, alone and against all other sizes.
async fn check(tx: &mut Tx, size: &api::Size) -> Result<(), Error> {
    let own = constraints(&size.constraints)?;
    model::size::check(&own).map_err(Error::invalid)?;
    for other in entity::list::<api::Size>(tx, KIND.table.select()).await? {
        if other.id != size.id && model::size::overlap(&own, &constraints(&other.constraints)?) {
            return Err(Error::invalid(format!(
                "constraints: a machine could be of size {} and of size {}: change the ranges so that they do not overlap",
                size.id, other.id
            )));
        }
    }
    Ok(())
}

fn constraints(list: &[api::SizeConstraint]) -> Result<Vec<Constraint>, Error> {
    list.iter().enumerate().map(|(i, constraint)| parse(i, constraint)).collect()
}

fn parse(at: usize, constraint: &api::SizeConstraint) -> Result<Constraint, Error> {
    use model::size::Kind;
    let kind = match constraint.r#type.as_known() {
        Some(api::SizeConstraintType::SIZE_CONSTRAINT_TYPE_CORES) => Kind::Cores,
        Some(api::SizeConstraintType::SIZE_CONSTRAINT_TYPE_MEMORY) => Kind::Memory,
        Some(api::SizeConstraintType::SIZE_CONSTRAINT_TYPE_STORAGE) => Kind::Storage,
        Some(api::SizeConstraintType::SIZE_CONSTRAINT_TYPE_GPU) => Kind::Gpu,
        Some(api::SizeConstraintType::SIZE_CONSTRAINT_TYPE_UNSPECIFIED) | None => {
            return Err(Error::invalid(format!("constraint {at}: the type is missing")));
        }
    };
    let identifier = match constraint.identifier.as_deref() {
        None | Some("") => None,
        Some(pattern) => Some(Glob::parse(pattern).ok_or_else(|| {
            Error::invalid(format!(
                "constraint {at}: the identifier \"{pattern}\" is no valid pattern"
            ))
        })?),
    };
    Ok(Constraint { kind, min: constraint.min, max: constraint.max, identifier })
}

fn hardware_of(hardware: &api::MachineHardware) -> Hardware {
    Hardware {
        memory: hardware.memory,
        cpus: hardware.cpus.iter().map(|c| (c.model.clone(), u64::from(c.cores))).collect(),
        disks: hardware.disks.iter().map(|d| (d.name.clone(), d.size)).collect(),
        gpus: hardware.gpus.iter().map(|g| g.model.clone()).collect(),
    }
}
