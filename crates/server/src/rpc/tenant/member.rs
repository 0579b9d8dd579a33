//! Members of tenants.

use std::collections::BTreeMap;

use model::tenant::may_weaken;
use proto::{admin, api};
use store::Tx;
use store::{Member, tenant};

use super::super::{Call, Error};
use super::{hold, role_of};
use crate::auth::rights;
use crate::wire;

/// Members, and guests who take part in single projects only, ordered by login.
pub(super) async fn all(tx: &mut Tx, login: &str) -> Result<Vec<api::TenantMember>, Error> {
    let mut members: BTreeMap<String, api::TenantMember> = tenant::MEMBERS
        .list(tx, login)
        .await?
        .iter()
        .map(|member| (member.member.clone(), message(member)))
        .collect();
    let guest = i64::from(api::TenantRole::Guest as i32);
    for part in store::project::members_of_tenant(tx, login).await? {
        // a tenant owns its projects and is no guest of itself
        if part.member == login {
            continue;
        }
        let member = members.entry(part.member.clone()).or_insert_with(|| {
            message(&Member { of: login.to_owned(), role: guest, ..part.clone() })
        });
        if member.role == api::TenantRole::Guest {
            member.projects.push(part.of);
        }
    }
    Ok(members.into_values().collect())
}

fn message(member: &Member) -> api::TenantMember {
    let since = wire::timestamp_us(member.created_at_us);
    let meta = api::Meta {
        created_at: since.clone().into(),
        updated_at: since.clone().into(),
        ..Default::default()
    };
    api::TenantMember {
        id: member.member.clone(),
        role: i32::try_from(member.role).unwrap_or_default().into(),
        created_at: since.into(),
        meta: meta.into(),
        ..Default::default()
    }
}

pub(super) async fn add(
    call: &Call,
    request: api::TenantServiceAddMemberRequest,
) -> Result<api::TenantServiceAddMemberResponse, Error> {
    let member = insert(call, &request.login, request.member, request.role.to_i32()).await?;
    Ok(api::TenantServiceAddMemberResponse { tenant_member: member.into(), ..Default::default() })
}

pub(super) async fn admin_add(
    call: &Call,
    request: admin::TenantServiceAddMemberRequest,
) -> Result<admin::TenantServiceAddMemberResponse, Error> {
    let member = insert(call, &request.tenant, request.member, request.role.to_i32()).await?;
    Ok(admin::TenantServiceAddMemberResponse { tenant_member: member.into(), ..Default::default() })
}

async fn insert(
    call: &Call,
    login: &str,
    member: String,
    role: i32,
) -> Result<api::TenantMember, Error> {
    let wanted = rights::tenant_number(i64::from(role)).ok_or_else(unspecified)?;
    let mut tx = call.write().await?;
    hold(&mut tx, login).await?;
    // editors may add members, but not raise anybody, for instance a second login of theirs, above themselves
    if role_of(&mut tx, call.caller()?, login).await?.is_none_or(|own| own > wanted) {
        return Err(Error::denied("nobody can give a stronger role than their own"));
    }
    super::read(&mut tx, &member).await?;
    if tenant::MEMBERS.get(&mut tx, login, &member).await?.is_some() {
        return Err(Error::exists(format!("\"{member}\" is already a member of \"{login}\"")));
    }
    let member = Member {
        of: login.to_owned(),
        member,
        role: i64::from(role),
        created_at_us: call.now_us(),
    };
    tenant::MEMBERS.add(&mut tx, &member).await?;
    tx.commit().await?;
    Ok(message(&member))
}

pub(super) async fn update(
    call: &Call,
    request: api::TenantServiceUpdateMemberRequest,
) -> Result<api::TenantServiceUpdateMemberResponse, Error> {
    let wanted = rights::tenant_number(i64::from(request.role.to_i32())).ok_or_else(unspecified)?;
    let mut tx = call.write().await?;
    hold(&mut tx, &request.login).await?;
    let mut member = find(&mut tx, &request.login, &request.member).await?;
    if wanted > proto::method::TenantRole::Owner {
        check_weaken(&mut tx, &member).await?;
    }
    member.role = i64::from(request.role.to_i32());
    tenant::MEMBERS.set_role(&mut tx, &member.of, &member.member, member.role).await?;
    tx.commit().await?;
    Ok(api::TenantServiceUpdateMemberResponse {
        tenant_member: message(&member).into(),
        ..Default::default()
    })
}

pub(super) async fn remove(
    call: &Call,
    request: api::TenantServiceRemoveMemberRequest,
) -> Result<api::TenantServiceRemoveMemberResponse, Error> {
    let member = end(call, &request.login, &request.member).await?;
    Ok(api::TenantServiceRemoveMemberResponse {
        tenant_member: member.into(),
        ..Default::default()
    })
}

pub(super) async fn admin_remove(
    call: &Call,
    request: admin::TenantServiceRemoveMemberRequest,
) -> Result<admin::TenantServiceRemoveMemberResponse, Error> {
    let member = end(call, &request.tenant, &request.member).await?;
    Ok(admin::TenantServiceRemoveMemberResponse {
        tenant_member: member.into(),
        ..Default::default()
    })
}

pub(super) async fn leave(
    call: &Call,
    request: api::TenantServiceLeaveRequest,
) -> Result<api::TenantServiceLeaveResponse, Error> {
    end(call, &request.login, &call.caller()?.user).await?;
    Ok(api::TenantServiceLeaveResponse::default())
}

async fn end(call: &Call, login: &str, member: &str) -> Result<api::TenantMember, Error> {
    let mut tx = call.write().await?;
    hold(&mut tx, login).await?;
    let member = find(&mut tx, login, member).await?;
    check_weaken(&mut tx, &member).await?;
    tenant::MEMBERS.remove(&mut tx, login, &member.member).await?;
    tx.commit().await?;
    Ok(message(&member))
}

async fn find(tx: &mut Tx, login: &str, member: &str) -> Result<Member, Error> {
    tenant::MEMBERS.get(tx, login, member).await?.ok_or_else(|| {
        Error::missing(format!("tenant \"{member}\" is not a member of tenant \"{login}\""))
    })
}

async fn check_weaken(tx: &mut Tx, member: &Member) -> Result<(), Error> {
    let owner = i64::from(api::TenantRole::Owner as i32);
    let members = tenant::MEMBERS.list(tx, &member.of).await?;
    let owners: Vec<_> =
        members.iter().filter(|m| m.role == owner).map(|m| m.member.as_str()).collect();
    may_weaken(&member.of, &member.member, &owners)
        .map_err(|reason| Error::precondition(reason.to_string()))
}

fn unspecified() -> Error {
    Error::invalid("role is not specified: use owner, editor, viewer or guest")
}
