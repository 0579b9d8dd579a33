//! `ProjectService`, for users and for operators.

mod invite;
mod member;

use std::sync::Arc;

use connectrpc::Router;
use proto::method::TenantRole;
use proto::{admin, api};
use store::project::{self, TABLE};
use store::{Entity, Member, Tx};
use uuid::Uuid;

use super::tenant::{self, labelled};
use super::{App, Call, Error, service};
use crate::wire;

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::ProjectServiceExt::register(Arc::clone(&handler), router);
    admin::ProjectServiceExt::register(handler, router)
}

struct Handler(Arc<App>);

service!(api::ProjectService {
    create(ProjectServiceCreateRequest) -> ProjectServiceCreateResponse = create;
    list(ProjectServiceListRequest) -> ProjectServiceListResponse = list;
    get(ProjectServiceGetRequest) -> ProjectServiceGetResponse = get;
    update(ProjectServiceUpdateRequest) -> ProjectServiceUpdateResponse = update;
    delete(ProjectServiceDeleteRequest) -> ProjectServiceDeleteResponse = delete;
    leave(ProjectServiceLeaveRequest) -> ProjectServiceLeaveResponse = member::leave;
    add_member(ProjectServiceAddMemberRequest) -> ProjectServiceAddMemberResponse = member::add;
    remove_member(ProjectServiceRemoveMemberRequest) -> ProjectServiceRemoveMemberResponse = member::remove;
    update_member(ProjectServiceUpdateMemberRequest) -> ProjectServiceUpdateMemberResponse = member::update;
    invite(ProjectServiceInviteRequest) -> ProjectServiceInviteResponse = invite::create;
    invite_accept(ProjectServiceInviteAcceptRequest) -> ProjectServiceInviteAcceptResponse = invite::accept;
    invite_delete(ProjectServiceInviteDeleteRequest) -> ProjectServiceInviteDeleteResponse = invite::delete;
    invites_list(ProjectServiceInvitesListRequest) -> ProjectServiceInvitesListResponse = invite::list;
    invite_get(ProjectServiceInviteGetRequest) -> ProjectServiceInviteGetResponse = invite::get;
});

service!(admin::ProjectService {
    list(ProjectServiceListRequest) -> ProjectServiceListResponse = list_all;
});

/// The project with this id.
async fn read(tx: &mut Tx, id: &str) -> Result<api::Project, Error> {
    let row = TABLE.get(tx, id).await?.ok_or_else(|| Error::not_found("project", id))?;
    wire::decode(&row)
}

/// The project with this id, which stays as it is until the transaction ends. Whoever changes its members does this first, so
/// that two owners cannot remove each other at the same time.
async fn hold(tx: &mut Tx, id: &str) -> Result<(Entity, api::Project), Error> {
    let row = TABLE.get_for_update(tx, id).await?.ok_or_else(|| Error::not_found("project", id))?;
    let project = wire::decode(&row)?;
    Ok((row, project))
}

/// The tenant itself becomes the owner: whoever makes the project may act in it by their role in the tenant.
async fn create(
    call: &Call,
    request: api::ProjectServiceCreateRequest,
) -> Result<api::ProjectServiceCreateResponse, Error> {
    let mut tx = call.write().await?;
    tenant::read(&mut tx, &request.login).await?;
    let project = api::Project {
        uuid: Uuid::now_v7().to_string(),
        name: request.name,
        description: request.description,
        tenant: request.login,
        avatar_url: request.avatar_url,
        meta: labelled(request.labels.into_option()).into(),
        ..Default::default()
    };
    let row = Entity::new(&project.uuid, wire::encode(&project)?, call.now_us());
    TABLE.insert(&mut tx, &row, &[(&project.tenant).into()]).await?;
    let owner = Member {
        of: project.uuid,
        member: project.tenant,
        role: i64::from(api::ProjectRole::Owner as i32),
        created_at_us: call.now_us(),
    };
    project::MEMBERS.add(&mut tx, &owner).await?;
    tx.commit().await?;
    Ok(api::ProjectServiceCreateResponse {
        project: wire::decode::<api::Project>(&row)?.into(),
        ..Default::default()
    })
}

async fn get(
    call: &Call,
    request: api::ProjectServiceGetRequest,
) -> Result<api::ProjectServiceGetResponse, Error> {
    let caller = call.caller()?;
    let mut tx = call.read().await?;
    let project = read(&mut tx, &request.project).await?;
    let sees_tenant = caller.is_admin()
        || member::tenant_role(&mut tx, caller, &project.tenant)
            .await?
            .is_some_and(|role| role <= TenantRole::Viewer);
    let project_members = member::all(&mut tx, &project, sees_tenant).await?;
    Ok(api::ProjectServiceGetResponse {
        project: project.into(),
        project_members,
        ..Default::default()
    })
}

async fn list(
    call: &Call,
    request: api::ProjectServiceListRequest,
) -> Result<api::ProjectServiceListResponse, Error> {
    let mut tx = call.read().await?;
    let rows = project::of_user(&mut tx, &call.caller()?.user).await?;
    let projects = filter(&rows, request.query.as_option())?;
    Ok(api::ProjectServiceListResponse { projects, ..Default::default() })
}

async fn list_all(
    call: &Call,
    request: admin::ProjectServiceListRequest,
) -> Result<admin::ProjectServiceListResponse, Error> {
    let query = request.query.as_option();
    let mut tx = call.read().await?;
    let rows = TABLE
        .select()
        .eq_opt("id", query.and_then(|query| query.uuid.as_ref()))
        .eq_opt("tenant", query.and_then(|query| query.tenant.as_ref()))
        .all(&mut tx)
        .await?;
    let projects = filter(&rows, query)?;
    Ok(admin::ProjectServiceListResponse { projects, ..Default::default() })
}

fn filter(rows: &[Entity], query: Option<&api::ProjectQuery>) -> Result<Vec<api::Project>, Error> {
    let mut found = Vec::new();
    for row in rows {
        let project: api::Project = wire::decode(row)?;
        let asked_for = query.is_none_or(|query| {
            wire::asks(query.uuid.as_ref(), project.uuid.as_str())
                && wire::asks(query.name.as_ref(), project.name.as_str())
                && wire::asks(query.tenant.as_ref(), project.tenant.as_str())
                && wire::has_labels(project.meta.as_option(), query.labels.as_option())
        });
        if asked_for {
            found.push(project);
        }
    }
    Ok(found)
}

/// The last writer wins: the contract does not lock projects.
async fn update(
    call: &Call,
    request: api::ProjectServiceUpdateRequest,
) -> Result<api::ProjectServiceUpdateResponse, Error> {
    let mut tx = call.write().await?;
    let (row, mut project) = hold(&mut tx, &request.project).await?;
    if let Some(name) = request.name {
        project.name = name;
    }
    if let Some(description) = request.description {
        project.description = description;
    }
    if request.avatar_url.is_some() {
        project.avatar_url = request.avatar_url;
    }
    wire::update_labels(project.meta.get_or_insert_default(), request.labels.as_option());
    let row = row.next(wire::encode(&project)?, call.now_us());
    if !TABLE.update(&mut tx, &row, &[(&project.tenant).into()]).await? {
        return Err(store::Error::Conflict.into());
    }
    tx.commit().await?;
    Ok(api::ProjectServiceUpdateResponse {
        project: wire::decode::<api::Project>(&row)?.into(),
        ..Default::default()
    })
}

async fn delete(
    call: &Call,
    request: api::ProjectServiceDeleteRequest,
) -> Result<api::ProjectServiceDeleteResponse, Error> {
    let mut tx = call.write().await?;
    let (_, project) = hold(&mut tx, &request.project).await?;
    let contents = project::contents(&mut tx, &request.project).await?;
    if !contents.is_empty() {
        let contents: Vec<_> =
            contents.iter().map(|(kind, count)| format!("{kind} ({count})")).collect();
        return Err(Error::in_use(format!(
            "there are still {} in this project: delete them first",
            contents.join(", ")
        )));
    }
    project::remove_all_members(&mut tx, &request.project).await?;
    TABLE.delete(&mut tx, &request.project).await?;
    tx.commit().await?;
    Ok(api::ProjectServiceDeleteResponse { project: project.into(), ..Default::default() })
}
