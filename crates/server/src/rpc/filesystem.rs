//! `FilesystemService` for users and operators, which layout a machine gets, and whether its disks fit.

mod layout;
mod required;

use std::sync::Arc;

use connectrpc::Router;
use model::image::Name;
use proto::admin::filesystem_service_match_request::Match;
use proto::{admin, api};
use store::Tx;

use super::entity::{self, Kind};
use super::{App, Call, Error, image, service, size};
use crate::wire;

const KIND: Kind = Kind { table: store::filesystem_layout::TABLE, name: "filesystem layout" };
const MACHINE: Kind = Kind { table: store::machine::TABLE, name: "machine" };

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::FilesystemServiceExt::register(Arc::clone(&handler), router);
    admin::FilesystemServiceExt::register(handler, router)
}

service! { api::FilesystemService {
    get(FilesystemServiceGetRequest) -> FilesystemServiceGetResponse = get_layout;
    list(FilesystemServiceListRequest) -> FilesystemServiceListResponse = list_layouts;
}}

service! { admin::FilesystemService {
    create(FilesystemServiceCreateRequest) -> FilesystemServiceCreateResponse = create_layout;
    update(FilesystemServiceUpdateRequest) -> FilesystemServiceUpdateResponse = update_layout;
    delete(FilesystemServiceDeleteRequest) -> FilesystemServiceDeleteResponse = delete_layout;
    r#match(FilesystemServiceMatchRequest) -> FilesystemServiceMatchResponse = match_layout;
}}

/// The layout with this id.
pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<api::FilesystemLayout, Error> {
    KIND.get(tx, id).await
}

/// As [`get`]; nobody removes it until the transaction ends.
pub(crate) async fn keep(tx: &mut Tx, id: &str) -> Result<api::FilesystemLayout, Error> {
    KIND.keep(tx, id).await
}

/// The layout that is chosen for a size and an image when the user names none.
pub(crate) async fn layout_for(
    tx: &mut Tx,
    size: &str,
    image: &api::Image,
) -> Result<api::FilesystemLayout, Error> {
    let name = Name::parse(&image.id).map_err(Error::invalid)?;
    for layout in entity::list::<api::FilesystemLayout>(tx, KIND.table.select()).await? {
        if layout::claims(&layout)?.matches(size, &name.os, name.version) {
            return Ok(layout);
        }
    }
    Err(Error::missing(format!(
        "no filesystem layout for size {size} and image {}: name one, or ask an operator for one",
        image.id
    )))
}

/// Refuses a layout for which the disks are missing or too small.
pub(crate) fn fits(
    layout: &api::FilesystemLayout,
    hardware: &api::MachineHardware,
) -> Result<(), Error> {
    let disks: Vec<_> = hardware.disks.iter().map(|disk| (disk.name.clone(), disk.size)).collect();
    model::filesystem_layout::fits(&layout::of(layout), &disks).map_err(|why| {
        Error::invalid(format!("filesystem layout {} does not fit: {why}", layout.id))
    })
}

async fn get_layout(
    call: &Call,
    request: api::FilesystemServiceGetRequest,
) -> Result<api::FilesystemServiceGetResponse, Error> {
    let layout = get(&mut call.read().await?, &request.id).await?;
    Ok(api::FilesystemServiceGetResponse { filesystem_layout: layout.into(), ..Default::default() })
}

async fn list_layouts(
    call: &Call,
    request: api::FilesystemServiceListRequest,
) -> Result<api::FilesystemServiceListResponse, Error> {
    let select = KIND.table.select().eq_opt("id", request.id.as_deref());
    let filesystem_layouts = entity::list(&mut call.read().await?, select).await?;
    Ok(api::FilesystemServiceListResponse { filesystem_layouts, ..Default::default() })
}

async fn create_layout(
    call: &Call,
    request: admin::FilesystemServiceCreateRequest,
) -> Result<admin::FilesystemServiceCreateResponse, Error> {
    let layout =
        request.filesystem_layout.ok_or_else(|| Error::invalid("filesystem_layout is missing"))?;
    required::check(Some("filesystem_layout"), &layout.filesystems, &layout.raid)?;
    let id = layout.id.clone();
    let mut tx = call.write().await?;
    store::filesystem_layout::lock(&mut tx).await?;
    if KIND.table.get(&mut tx, &id).await?.is_some() {
        return Err(Error::exists(format!("filesystem layout {id} already exists")));
    }
    check(&mut tx, &layout).await?;
    let layout = KIND.insert(&mut tx, &id, layout, &[], call.now_us()).await?;
    tx.commit().await?;
    Ok(admin::FilesystemServiceCreateResponse {
        filesystem_layout: layout.into(),
        ..Default::default()
    })
}

async fn update_layout(
    call: &Call,
    request: admin::FilesystemServiceUpdateRequest,
) -> Result<admin::FilesystemServiceUpdateResponse, Error> {
    required::check(None, &request.filesystems, &request.raid)?;
    let mut tx = call.write().await?;
    store::filesystem_layout::lock(&mut tx).await?;
    let (row, mut layout) =
        KIND.get_for_update::<api::FilesystemLayout>(&mut tx, &request.id).await?;
    wire::check_lock(&request.update_meta, &row)?;
    change(&mut layout, request);
    check(&mut tx, &layout).await?;
    let layout = KIND.update(&mut tx, &row, &layout, &[], call.now_us()).await?;
    tx.commit().await?;
    Ok(admin::FilesystemServiceUpdateResponse {
        filesystem_layout: layout.into(),
        ..Default::default()
    })
}

/// What is absent or empty stays.
fn change(layout: &mut api::FilesystemLayout, request: admin::FilesystemServiceUpdateRequest) {
    if request.name.is_some() {
        layout.name = request.name;
    }
    if request.description.is_some() {
        layout.description = request.description;
    }
    if !request.filesystems.is_empty() {
        layout.filesystems = request.filesystems;
    }
    if !request.disks.is_empty() {
        layout.disks = request.disks;
    }
    if !request.raid.is_empty() {
        layout.raid = request.raid;
    }
    if !request.volume_groups.is_empty() {
        layout.volume_groups = request.volume_groups;
    }
    if !request.logical_volumes.is_empty() {
        layout.logical_volumes = request.logical_volumes;
    }
    if request.constraints.is_set() {
        layout.constraints = request.constraints;
    }
}

async fn delete_layout(
    call: &Call,
    request: admin::FilesystemServiceDeleteRequest,
) -> Result<admin::FilesystemServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    // held until the end, so that no allocation begins with it meanwhile
    let (_, layout) = KIND.get_for_update::<api::FilesystemLayout>(&mut tx, &request.id).await?;
    let allocated = store::machine::TABLE.select().is_null("project", false);
    let machines = entity::list::<api::Machine>(&mut tx, allocated).await?;
    let user = machines.iter().find(|m| m.allocation.filesystem_layout.id == request.id);
    if let Some(machine) = user {
        return Err(Error::in_use(format!(
            "filesystem layout {} is in use, for instance by machine {}: release it first",
            request.id, machine.uuid
        )));
    }
    KIND.table.delete(&mut tx, &request.id).await?;
    tx.commit().await?;
    Ok(admin::FilesystemServiceDeleteResponse {
        filesystem_layout: layout.into(),
        ..Default::default()
    })
}

async fn match_layout(
    call: &Call,
    request: admin::FilesystemServiceMatchRequest,
) -> Result<admin::FilesystemServiceMatchResponse, Error> {
    let mut tx = call.read().await?;
    let layout = match request.r#match {
        Some(Match::SizeAndImage(wanted)) => {
            size::get(&mut tx, &wanted.size).await?;
            let image = image::get(&mut tx, &wanted.image).await?;
            layout_for(&mut tx, &wanted.size, &image).await?
        }
        Some(Match::MachineAndFilesystemlayout(wanted)) => {
            let layout = get(&mut tx, &wanted.filesystem_layout).await?;
            let machine: api::Machine = MACHINE.get(&mut tx, &wanted.machine).await?;
            fits(&layout, &machine.hardware)?;
            layout
        }
        None => {
            return Err(Error::invalid(
                "match is missing: give a size and an image, or a machine and a layout",
            ));
        }
    };
    Ok(admin::FilesystemServiceMatchResponse {
        filesystem_layout: layout.into(),
        ..Default::default()
    })
}

/// Checks a layout, alone and against all other layouts.
async fn check(tx: &mut Tx, layout: &api::FilesystemLayout) -> Result<(), Error> {
    layout::check(layout)?;
    let claims = layout::claims(layout)?;
    for other in entity::list::<api::FilesystemLayout>(tx, KIND.table.select()).await? {
        if other.id == layout.id {
            continue;
        }
        if let Some((size, os)) = claims.collision(&layout::claims(&other)?) {
            return Err(Error::invalid(format!(
                "constraints: filesystem layout {} already claims images {os} on size {size}, and some versions are claimed by both",
                other.id
            )));
        }
    }
    Ok(())
}
