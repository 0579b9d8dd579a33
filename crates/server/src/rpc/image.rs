//! `ImageService` for users and operators, and which image a short id means.

use std::collections::BTreeMap;
use std::sync::Arc;

use connectrpc::Router;
use jiff::Timestamp;
use model::image::Name;
use proto::{admin, api};
use store::{Tx, Value};

use super::entity::{self, Kind};
use super::{App, Call, Error, service};
use crate::{reach, wire};

const KIND: Kind = Kind { table: store::image::TABLE, name: "image" };
/// For how long an image should be used when nothing is said.
const LIFE_US: i64 = 90 * 24 * 3600 * 1_000_000;

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::ImageServiceExt::register(Arc::clone(&handler), router);
    admin::ImageServiceExt::register(handler, router)
}

service! { api::ImageService {
    get(ImageServiceGetRequest) -> ImageServiceGetResponse = get_image;
    list(ImageServiceListRequest) -> ImageServiceListResponse = list_images;
    latest(ImageServiceLatestRequest) -> ImageServiceLatestResponse = latest_image;
}}

service! { admin::ImageService {
    create(ImageServiceCreateRequest) -> ImageServiceCreateResponse = create_image;
    update(ImageServiceUpdateRequest) -> ImageServiceUpdateResponse = update_image;
    delete(ImageServiceDeleteRequest) -> ImageServiceDeleteResponse = delete_image;
    usage(ImageServiceUsageRequest) -> ImageServiceUsageResponse = image_usage;
}}

/// The image with exactly this id.
pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<api::Image, Error> {
    KIND.get(tx, id).await
}

/// As [`get`]; nobody removes it until the transaction ends.
pub(crate) async fn keep(tx: &mut Tx, id: &str) -> Result<api::Image, Error> {
    KIND.keep(tx, id).await
}

/// The image that a user means: one with exactly this id, or the newest supported image that has not expired when the id is
/// short, such as `debian-12`.
pub(crate) async fn resolve(
    tx: &mut Tx,
    id_or_short: &str,
    now: Timestamp,
) -> Result<api::Image, Error> {
    if let Some(row) = KIND.table.get(tx, id_or_short).await? {
        return wire::decode(&row);
    }
    let wanted = Name::parse(id_or_short).map_err(Error::invalid)?;
    let select = KIND.table.select().eq("os", wanted.os.as_str());
    let mut images: Vec<api::Image> = entity::list(tx, select).await?;
    images.retain(|image| Name::parse(&image.id).is_ok_and(|name| wanted.means(&name)));
    if images.is_empty() {
        return Err(Error::not_found(KIND.name, id_or_short));
    }
    images.retain(|image| {
        image.classification == api::ImageClassification::Supported
            && wire::micros(&image.expires_at) > now.as_microsecond()
    });
    newest(&wanted, images).ok_or_else(|| {
        Error::missing(format!(
            "no image \"{id_or_short}\" is supported and not expired: name another one by its full id"
        ))
    })
}

fn newest(wanted: &Name, mut images: Vec<api::Image>) -> Option<api::Image> {
    let names: Vec<_> = images.iter().filter_map(|image| Name::parse(&image.id).ok()).collect();
    // all stored ids can be read
    (names.len() == images.len()).then_some(())?;
    model::image::newest(wanted, &names).map(|i| images.swap_remove(i))
}

async fn get_image(
    call: &Call,
    request: api::ImageServiceGetRequest,
) -> Result<api::ImageServiceGetResponse, Error> {
    let image = get(&mut call.read().await?, &request.id).await?;
    Ok(api::ImageServiceGetResponse { image: image.into(), ..Default::default() })
}

async fn list_images(
    call: &Call,
    request: api::ImageServiceListRequest,
) -> Result<api::ImageServiceListResponse, Error> {
    let images = find(&mut call.read().await?, &request.query).await?;
    Ok(api::ImageServiceListResponse { images, ..Default::default() })
}

async fn latest_image(
    call: &Call,
    request: api::ImageServiceLatestRequest,
) -> Result<api::ImageServiceLatestResponse, Error> {
    let wanted = Name::parse(&request.os).map_err(|e| Error::invalid(format!("os: {e}")))?;
    let classification =
        request.classification.filter(|c| *c != api::ImageClassification::Unspecified);
    let select = KIND.table.select().eq("os", wanted.os.as_str());
    let mut images: Vec<api::Image> = entity::list(&mut call.read().await?, select).await?;
    images.retain(|image| classification.is_none_or(|wanted| image.classification == wanted));
    let image = newest(&wanted, images)
        .ok_or_else(|| Error::missing(format!("no image for \"{}\" found", request.os)))?;
    Ok(api::ImageServiceLatestResponse { image: image.into(), ..Default::default() })
}

async fn create_image(
    call: &Call,
    request: admin::ImageServiceCreateRequest,
) -> Result<admin::ImageServiceCreateResponse, Error> {
    let mut image = request.image.ok_or_else(|| Error::invalid("image is missing"))?;
    let id = image.id.clone();
    Name::parse(&id).map_err(|e| Error::invalid(format!("id: {e}")))?;
    if image.url.is_empty() {
        return Err(Error::invalid("url is missing: say where the archive is found"));
    }
    check_features(&image)?;
    if image.classification == api::ImageClassification::Unspecified {
        image.classification = api::ImageClassification::Preview.into();
    }
    if image.expires_at.is_set() {
        check_expiry(call, wire::micros(&image.expires_at))?;
    } else {
        image.expires_at = wire::timestamp_us(call.now_us() + LIFE_US).into();
    }
    reach::check("url", &image.url).await?;
    let mut tx = call.write().await?;
    let columns = columns(&image)?;
    let image = KIND.insert(&mut tx, &id, image, &columns, call.now_us()).await?;
    tx.commit().await?;
    Ok(admin::ImageServiceCreateResponse { image: image.into(), ..Default::default() })
}

async fn update_image(
    call: &Call,
    request: admin::ImageServiceUpdateRequest,
) -> Result<admin::ImageServiceUpdateResponse, Error> {
    if let Some(url) = &request.url {
        reach::check("url", url).await?;
    }
    if request.expires_at.is_set() {
        check_expiry(call, wire::micros(&request.expires_at))?;
    }
    let mut tx = call.write().await?;
    let (row, mut image) = KIND.get_for_update::<api::Image>(&mut tx, &request.id).await?;
    wire::check_lock(&request.update_meta, &row)?;
    if let Some(url) = request.url {
        image.url = url;
    }
    if request.name.is_some() {
        image.name = request.name;
    }
    if request.description.is_some() {
        image.description = request.description;
    }
    if !request.features.is_empty() {
        image.features = request.features;
        check_features(&image)?;
    }
    if request.classification != api::ImageClassification::Unspecified {
        image.classification = request.classification;
    }
    if request.expires_at.is_set() {
        image.expires_at = request.expires_at;
    }
    wire::update_labels(image.meta.get_or_insert_default(), request.labels.as_option());
    let columns = columns(&image)?;
    let image = KIND.update(&mut tx, &row, &image, &columns, call.now_us()).await?;
    tx.commit().await?;
    Ok(admin::ImageServiceUpdateResponse { image: image.into(), ..Default::default() })
}

async fn delete_image(
    call: &Call,
    request: admin::ImageServiceDeleteRequest,
) -> Result<admin::ImageServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    // held until the end, so that no allocation begins with it meanwhile
    let (_, image) = KIND.get_for_update::<api::Image>(&mut tx, &request.id).await?;
    if let Some(machines) = used_by(&mut tx).await?.get(&request.id) {
        return Err(Error::in_use(format!(
            "image {} is in use by {} machines, for instance {}: release them first",
            request.id,
            machines.len(),
            machines[0]
        )));
    }
    KIND.table.delete(&mut tx, &request.id).await?;
    tx.commit().await?;
    Ok(admin::ImageServiceDeleteResponse { image: image.into(), ..Default::default() })
}

async fn image_usage(
    call: &Call,
    request: admin::ImageServiceUsageRequest,
) -> Result<admin::ImageServiceUsageResponse, Error> {
    let mut tx = call.read().await?;
    let mut users = used_by(&mut tx).await?;
    let image_usage = find(&mut tx, &request.query)
        .await?
        .into_iter()
        .map(|image| api::ImageUsage {
            used_by: users.remove(&image.id).unwrap_or_default(),
            image: image.into(),
            ..Default::default()
        })
        .collect();
    Ok(admin::ImageServiceUsageResponse { image_usage, ..Default::default() })
}

/// The images of a query by operating system, newest first.
async fn find(tx: &mut Tx, query: &api::ImageQuery) -> Result<Vec<api::Image>, Error> {
    let select =
        KIND.table.select().eq_opt("id", query.id.as_deref()).eq_opt("os", query.os.as_deref());
    let mut found: Vec<(Name, api::Image)> = entity::list::<api::Image>(tx, select)
        .await?
        .into_iter()
        .filter(|image| answers(image, query))
        .filter_map(|image| Some((Name::parse(&image.id).ok()?, image)))
        .collect();
    found.sort_by(|(a, _), (b, _)| a.os.cmp(&b.os).then(b.version.cmp(&a.version)));
    Ok(found.into_iter().map(|(_, image)| image).collect())
}

fn answers(image: &api::Image, query: &api::ImageQuery) -> bool {
    let version = image.id.rsplit_once('-').map_or("", |(_, version)| version);
    let feature = query.feature.filter(|f| *f != api::ImageFeature::Unspecified);
    let classification =
        query.classification.filter(|c| *c != api::ImageClassification::Unspecified);
    wire::asks(query.version.as_ref(), version)
        && wire::asks(query.name.as_ref(), image.name.as_deref().unwrap_or_default())
        && wire::asks(query.description.as_ref(), image.description.as_deref().unwrap_or_default())
        && wire::asks(query.url.as_ref(), image.url.as_str())
        && feature.is_none_or(|wanted| image.features.contains(&wanted))
        && classification.is_none_or(|wanted| image.classification == wanted)
        && wire::has_labels(image.meta.as_option(), query.labels.as_option())
}

/// Ids of the machines that are allocated, by the id of their image.
async fn used_by(tx: &mut Tx) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let allocated = store::machine::TABLE.select().is_null("project", false);
    for machine in entity::list::<api::Machine>(tx, allocated).await? {
        users.entry(machine.allocation.image.id.clone()).or_default().push(machine.uuid);
    }
    Ok(users)
}

fn columns(image: &api::Image) -> Result<[Value; 2], Error> {
    let name = Name::parse(&image.id).map_err(Error::invalid)?;
    Ok([name.os.into(), wire::micros(&image.expires_at).into()])
}

fn check_features(image: &api::Image) -> Result<(), Error> {
    let known = |f: &buffa::EnumValue<api::ImageFeature>| {
        f.is_known() && *f != api::ImageFeature::Unspecified
    };
    if !image.features.is_empty() && image.features.iter().all(known) {
        return Ok(());
    }
    Err(Error::invalid("features: say at least one of machine and firewall"))
}

fn check_expiry(call: &Call, expires_at_us: i64) -> Result<(), Error> {
    if expires_at_us > call.now_us() {
        return Ok(());
    }
    Err(Error::invalid("expires_at: must be in the future"))
}
