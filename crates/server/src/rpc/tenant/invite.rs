//! Invitations to tenants.

use proto::api;
use store::invite::{self, Kind};
use store::{Entity, Member, tenant};

use super::super::invite::{check_secret, decode, expiry, gone, new_secret};
use super::super::{Call, Error};
use super::read;
use crate::auth::rights;
use crate::wire;

pub(super) async fn create(
    call: &Call,
    request: api::TenantServiceInviteRequest,
) -> Result<api::TenantServiceInviteResponse, Error> {
    rights::tenant_number(i64::from(request.role.to_i32()))
        .ok_or_else(|| Error::invalid("role is not specified: say what the invited will be"))?;
    let mut tx = call.write().await?;
    let target = read(&mut tx, &request.login).await?;
    let inviter = read(&mut tx, &call.caller()?.user).await?;
    let (expires_at_us, expires_at) = expiry(call.now_us());
    let offer = api::TenantInvite {
        secret: new_secret()?,
        target_tenant: target.login,
        target_tenant_name: target.name,
        role: request.role,
        tenant: inviter.login,
        tenant_name: inviter.name,
        expires_at: expires_at.into(),
        ..Default::default()
    };
    let row = Entity::new(&offer.secret, wire::encode(&offer)?, call.now_us());
    invite::insert(&mut tx, Kind::Tenant, &offer.target_tenant, &row, expires_at_us).await?;
    tx.commit().await?;
    Ok(api::TenantServiceInviteResponse { invite: offer.into(), ..Default::default() })
}

/// Uses the invite up and makes the caller a member, both or neither.
pub(super) async fn accept(
    call: &Call,
    request: api::TenantServiceInviteAcceptRequest,
) -> Result<api::TenantServiceInviteAcceptResponse, Error> {
    check_secret(&request.secret)?;
    let user = &call.caller()?.user;
    let mut tx = call.write().await?;
    let row = invite::take(&mut tx, Kind::Tenant, &request.secret, call.now_us())
        .await?
        .ok_or_else(gone)?;
    let offer: api::TenantInvite = decode(&row)?;
    if offer.target_tenant == *user {
        return Err(Error::invalid("a tenant cannot be invited to itself"));
    }
    read(&mut tx, user).await?;
    let target = read(&mut tx, &offer.target_tenant).await?;
    if tenant::MEMBERS.get(&mut tx, &target.login, user).await?.is_some() {
        return Err(Error::exists(format!("you are already a member of \"{}\"", target.login)));
    }
    let member = Member {
        of: target.login.clone(),
        member: user.clone(),
        role: i64::from(offer.role.to_i32()),
        created_at_us: call.now_us(),
    };
    tenant::MEMBERS.add(&mut tx, &member).await?;
    tx.commit().await?;
    Ok(api::TenantServiceInviteAcceptResponse {
        tenant: target.login,
        tenant_name: target.name,
        ..Default::default()
    })
}

pub(super) async fn get(
    call: &Call,
    request: api::TenantServiceInviteGetRequest,
) -> Result<api::TenantServiceInviteGetResponse, Error> {
    check_secret(&request.secret)?;
    let mut tx = call.read().await?;
    let row = invite::get(&mut tx, Kind::Tenant, &request.secret, call.now_us())
        .await?
        .ok_or_else(gone)?;
    let offer: api::TenantInvite = decode(&row)?;
    Ok(api::TenantServiceInviteGetResponse { invite: offer.into(), ..Default::default() })
}

pub(super) async fn list(
    call: &Call,
    request: api::TenantServiceInvitesListRequest,
) -> Result<api::TenantServiceInvitesListResponse, Error> {
    let mut tx = call.read().await?;
    read(&mut tx, &request.login).await?;
    let rows = invite::open(&mut tx, Kind::Tenant, &request.login, call.now_us()).await?;
    let invites = rows.iter().map(decode).collect::<Result<_, _>>()?;
    Ok(api::TenantServiceInvitesListResponse { invites, ..Default::default() })
}

pub(super) async fn delete(
    call: &Call,
    request: api::TenantServiceInviteDeleteRequest,
) -> Result<api::TenantServiceInviteDeleteResponse, Error> {
    check_secret(&request.secret)?;
    let mut tx = call.write().await?;
    // only an invite of this tenant; that there is none is no error
    invite::delete(&mut tx, Kind::Tenant, &request.login, &request.secret).await?;
    tx.commit().await?;
    Ok(api::TenantServiceInviteDeleteResponse::default())
}
