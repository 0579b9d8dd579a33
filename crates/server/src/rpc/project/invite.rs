//! Invitations to projects.

use proto::api;
use store::invite::{self, Kind};
use store::{Entity, Member, project};

use super::super::invite::{check_secret, decode, expiry, gone, new_secret};
use super::super::tenant;
use super::super::{Call, Error};
use super::read;
use crate::wire;

pub(super) async fn create(
    call: &Call,
    request: api::ProjectServiceInviteRequest,
) -> Result<api::ProjectServiceInviteResponse, Error> {
    if request.role == api::ProjectRole::Unspecified {
        return Err(Error::invalid("role is not specified: say what the invited will be"));
    }
    let mut tx = call.write().await?;
    let target = read(&mut tx, &request.project).await?;
    let inviter = tenant::read(&mut tx, &call.caller()?.user).await?;
    let (expires_at_us, expires_at) = expiry(call.now_us());
    let offer = api::ProjectInvite {
        secret: new_secret()?,
        project: target.uuid,
        project_name: target.name,
        role: request.role,
        tenant: inviter.login,
        tenant_name: inviter.name,
        expires_at: expires_at.into(),
        ..Default::default()
    };
    let row = Entity::new(&offer.secret, wire::encode(&offer)?, call.now_us());
    invite::insert(&mut tx, Kind::Project, &offer.project, &row, expires_at_us).await?;
    tx.commit().await?;
    Ok(api::ProjectServiceInviteResponse { invite: offer.into(), ..Default::default() })
}

/// Uses the invite up and makes the caller a member, both or neither.
pub(super) async fn accept(
    call: &Call,
    request: api::ProjectServiceInviteAcceptRequest,
) -> Result<api::ProjectServiceInviteAcceptResponse, Error> {
    check_secret(&request.secret)?;
    let user = &call.caller()?.user;
    let mut tx = call.write().await?;
    let row = invite::take(&mut tx, Kind::Project, &request.secret, call.now_us())
        .await?
        .ok_or_else(gone)?;
    let offer: api::ProjectInvite = decode(&row)?;
    let target = read(&mut tx, &offer.project).await?;
    if target.tenant == *user {
        return Err(Error::invalid("a tenant cannot be invited to its own project"));
    }
    tenant::read(&mut tx, user).await?;
    if project::MEMBERS.get(&mut tx, &target.uuid, user).await?.is_some() {
        return Err(Error::exists(format!(
            "you are already a member of project \"{}\"",
            target.uuid
        )));
    }
    let member = Member {
        of: target.uuid.clone(),
        member: user.clone(),
        role: i64::from(offer.role.to_i32()),
        created_at_us: call.now_us(),
    };
    project::MEMBERS.add(&mut tx, &member).await?;
    tx.commit().await?;
    Ok(api::ProjectServiceInviteAcceptResponse {
        project: target.uuid,
        project_name: target.name,
        ..Default::default()
    })
}

pub(super) async fn get(
    call: &Call,
    request: api::ProjectServiceInviteGetRequest,
) -> Result<api::ProjectServiceInviteGetResponse, Error> {
    check_secret(&request.secret)?;
    let mut tx = call.read().await?;
    let row = invite::get(&mut tx, Kind::Project, &request.secret, call.now_us())
        .await?
        .ok_or_else(gone)?;
    let offer: api::ProjectInvite = decode(&row)?;
    Ok(api::ProjectServiceInviteGetResponse { invite: offer.into(), ..Default::default() })
}

pub(super) async fn list(
    call: &Call,
    request: api::ProjectServiceInvitesListRequest,
) -> Result<api::ProjectServiceInvitesListResponse, Error> {
    let mut tx = call.read().await?;
    read(&mut tx, &request.project).await?;
    let rows = invite::open(&mut tx, Kind::Project, &request.project, call.now_us()).await?;
    let invites = rows.iter().map(decode).collect::<Result<_, _>>()?;
    Ok(api::ProjectServiceInvitesListResponse { invites, ..Default::default() })
}

pub(super) async fn delete(
    call: &Call,
    request: api::ProjectServiceInviteDeleteRequest,
) -> Result<api::ProjectServiceInviteDeleteResponse, Error> {
    check_secret(&request.secret)?;
    let mut tx = call.write().await?;
    // only an invite of this project; that there is none is no error
    invite::delete(&mut tx, Kind::Project, &request.project, &request.secret).await?;
    tx.commit().await?;
    Ok(api::ProjectServiceInviteDeleteResponse::default())
}
