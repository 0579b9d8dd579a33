//! `SizeImageConstraintService` for users and operators, and whether an image may be installed on a size.

use std::sync::Arc;

use connectrpc::Router;
use model::image::Name;
use model::size_image_constraint::{Constraint, violated};
use proto::{admin, api};
use store::Tx;

use super::entity::{self, Kind};
use super::{App, Call, Error, image, service, size};
use crate::wire;

const KIND: Kind =
    Kind { table: store::size_image_constraint::TABLE, name: "size image constraint" };

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::SizeImageConstraintServiceExt::register(Arc::clone(&handler), router);
    admin::SizeImageConstraintServiceExt::register(handler, router)
}

service! { api::SizeImageConstraintService {
    r#try(SizeImageConstraintServiceTryRequest) -> SizeImageConstraintServiceTryResponse = try_constraint;
}}

service! { admin::SizeImageConstraintService {
    create(SizeImageConstraintServiceCreateRequest) -> SizeImageConstraintServiceCreateResponse = create_constraint;
    update(SizeImageConstraintServiceUpdateRequest) -> SizeImageConstraintServiceUpdateResponse = update_constraint;
    delete(SizeImageConstraintServiceDeleteRequest) -> SizeImageConstraintServiceDeleteResponse = delete_constraint;
    get(SizeImageConstraintServiceGetRequest) -> SizeImageConstraintServiceGetResponse = get_constraint;
    list(SizeImageConstraintServiceListRequest) -> SizeImageConstraintServiceListResponse = list_constraints;
}}

/// Refuses an image that must not be installed on a size; a size without a constraint takes all.
pub(crate) async fn check(tx: &mut Tx, size: &str, image: &api::Image) -> Result<(), Error> {
    match KIND.table.get(tx, size).await? {
        Some(row) => judge(&wire::decode(&row)?, image),
        None => Ok(()),
    }
}

fn judge(constraint: &api::SizeImageConstraint, image: &api::Image) -> Result<(), Error> {
    let name = Name::parse(&image.id).map_err(Error::invalid)?;
    match violated(&parse(&constraint.image_constraints)?, &name.os, name.version) {
        None => Ok(()),
        Some(by) => Err(Error::invalid(format!(
            "image {} does violate image constraint: size {} needs {} {}",
            image.id, constraint.size, by.os, by.text
        ))),
    }
}

async fn try_constraint(
    call: &Call,
    request: api::SizeImageConstraintServiceTryRequest,
) -> Result<api::SizeImageConstraintServiceTryResponse, Error> {
    let mut tx = call.read().await?;
    size::get(&mut tx, &request.size).await?;
    let name = Name::parse(&request.image).map_err(|e| Error::invalid(format!("image: {e}")))?;
    if !name.is_full() {
        return Err(Error::invalid(format!(
            "image: \"{}\" has no patch number: name the full id",
            request.image
        )));
    }
    let image = image::get(&mut tx, &request.image).await?;
    judge(&KIND.get(&mut tx, &request.size).await?, &image)?;
    Ok(api::SizeImageConstraintServiceTryResponse::default())
}

async fn create_constraint(
    call: &Call,
    request: admin::SizeImageConstraintServiceCreateRequest,
) -> Result<admin::SizeImageConstraintServiceCreateResponse, Error> {
    let id = request.size;
    let constraint = api::SizeImageConstraint {
        size: id.clone(),
        image_constraints: request.image_constraints,
        meta: request.meta,
        name: request.name,
        description: request.description,
        ..Default::default()
    };
    parse(&constraint.image_constraints)?;
    let mut tx = call.write().await?;
    size::get(&mut tx, &id).await?;
    let constraint = KIND.insert(&mut tx, &id, constraint, &[], call.now_us()).await?;
    tx.commit().await?;
    Ok(admin::SizeImageConstraintServiceCreateResponse {
        size_image_constraint: constraint.into(),
        ..Default::default()
    })
}

async fn update_constraint(
    call: &Call,
    request: admin::SizeImageConstraintServiceUpdateRequest,
) -> Result<admin::SizeImageConstraintServiceUpdateResponse, Error> {
    parse(&request.image_constraints)?;
    let mut tx = call.write().await?;
    let (row, mut constraint) =
        KIND.get_for_update::<api::SizeImageConstraint>(&mut tx, &request.size).await?;
    wire::check_lock(&request.update_meta, &row)?;
    if !request.image_constraints.is_empty() {
        constraint.image_constraints = request.image_constraints;
    }
    if request.name.is_some() {
        constraint.name = request.name;
    }
    if request.description.is_some() {
        constraint.description = request.description;
    }
    let constraint = KIND.update(&mut tx, &row, &constraint, &[], call.now_us()).await?;
    tx.commit().await?;
    Ok(admin::SizeImageConstraintServiceUpdateResponse {
        size_image_constraint: constraint.into(),
        ..Default::default()
    })
}

async fn delete_constraint(
    call: &Call,
    request: admin::SizeImageConstraintServiceDeleteRequest,
) -> Result<admin::SizeImageConstraintServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    let constraint = KIND
        .delete::<api::SizeImageConstraint>(&mut tx, &request.size, "what refers to it")
        .await?;
    tx.commit().await?;
    Ok(admin::SizeImageConstraintServiceDeleteResponse {
        size_image_constraint: constraint.into(),
        ..Default::default()
    })
}

async fn get_constraint(
    call: &Call,
    request: admin::SizeImageConstraintServiceGetRequest,
) -> Result<admin::SizeImageConstraintServiceGetResponse, Error> {
    let constraint: api::SizeImageConstraint =
        KIND.get(&mut call.read().await?, &request.size).await?;
    Ok(admin::SizeImageConstraintServiceGetResponse {
        size_image_constraint: constraint.into(),
        ..Default::default()
    })
}

async fn list_constraints(
    call: &Call,
    request: admin::SizeImageConstraintServiceListRequest,
) -> Result<admin::SizeImageConstraintServiceListResponse, Error> {
    let query = request.query;
    let select = KIND.table.select().eq_opt("id", query.size.as_deref());
    let mut found: Vec<api::SizeImageConstraint> =
        entity::list(&mut call.read().await?, select).await?;
    found.retain(|c| {
        wire::asks(query.name.as_ref(), c.name.as_deref().unwrap_or_default())
            && wire::asks(query.description.as_ref(), c.description.as_deref().unwrap_or_default())
    });
    Ok(admin::SizeImageConstraintServiceListResponse {
        size_image_constraints: found,
        ..Default::default()
    })
}

fn parse(list: &[api::ImageConstraint]) -> Result<Vec<Constraint>, Error> {
    list.iter()
        .map(|c| Constraint::parse(&c.image, &c.semver_match))
        .collect::<Result<_, _>>()
        .map_err(|e| Error::invalid(format!("image_constraints: {e}")))
}
