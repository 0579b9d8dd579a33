//! `TenantService`, for users and for operators.

mod invite;
mod list;
mod member;

use std::sync::Arc;

use connectrpc::Router;
use proto::method::TenantRole;
use proto::{admin, api};
use store::Member;
use store::tenant::{self, TABLE};
use store::{Entity, Tx};
use uuid::Uuid;

use super::{App, Call, Error, service};
use crate::auth::{Caller, Level};
use crate::bootstrap::PROVIDER;
use crate::wire;

pub(super) use list::of_user;

/// Labels with this beginning mean something to the system; users may not give them to themselves.
const SYSTEM_LABELS: &str = "tenant.metal-stack.io/";

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::TenantServiceExt::register(Arc::clone(&handler), router);
    admin::TenantServiceExt::register(handler, router)
}

struct Handler(Arc<App>);

service!(api::TenantService {
    create(TenantServiceCreateRequest) -> TenantServiceCreateResponse = create;
    list(TenantServiceListRequest) -> TenantServiceListResponse = list::of_caller;
    get(TenantServiceGetRequest) -> TenantServiceGetResponse = get;
    update(TenantServiceUpdateRequest) -> TenantServiceUpdateResponse = update;
    delete(TenantServiceDeleteRequest) -> TenantServiceDeleteResponse = delete;
    leave(TenantServiceLeaveRequest) -> TenantServiceLeaveResponse = member::leave;
    add_member(TenantServiceAddMemberRequest) -> TenantServiceAddMemberResponse = member::add;
    remove_member(TenantServiceRemoveMemberRequest) -> TenantServiceRemoveMemberResponse = member::remove;
    update_member(TenantServiceUpdateMemberRequest) -> TenantServiceUpdateMemberResponse = member::update;
    invite(TenantServiceInviteRequest) -> TenantServiceInviteResponse = invite::create;
    invite_accept(TenantServiceInviteAcceptRequest) -> TenantServiceInviteAcceptResponse = invite::accept;
    invite_delete(TenantServiceInviteDeleteRequest) -> TenantServiceInviteDeleteResponse = invite::delete;
    invites_list(TenantServiceInvitesListRequest) -> TenantServiceInvitesListResponse = invite::list;
    invite_get(TenantServiceInviteGetRequest) -> TenantServiceInviteGetResponse = invite::get;
});

service!(admin::TenantService {
    create(TenantServiceCreateRequest) -> TenantServiceCreateResponse = admin_create;
    list(TenantServiceListRequest) -> TenantServiceListResponse = list::all;
    add_member(TenantServiceAddMemberRequest) -> TenantServiceAddMemberResponse = member::admin_add;
    remove_member(TenantServiceRemoveMemberRequest) -> TenantServiceRemoveMemberResponse = member::admin_remove;
});

/// The tenant with this login.
pub(super) async fn read(tx: &mut Tx, login: &str) -> Result<api::Tenant, Error> {
    let row = TABLE.get(tx, login).await?.ok_or_else(|| Error::not_found("tenant", login))?;
    wire::decode(&row)
}

/// The tenant with this login, which stays as it is until the transaction ends. Whoever changes its members does this first, so
/// that two owners cannot remove each other at the same time.
async fn hold(tx: &mut Tx, login: &str) -> Result<(Entity, api::Tenant), Error> {
    let row =
        TABLE.get_for_update(tx, login).await?.ok_or_else(|| Error::not_found("tenant", login))?;
    let tenant = wire::decode(&row)?;
    Ok((row, tenant))
}

/// The role with which a caller acts in a tenant: what the token gives, and as an operator at least what that role may see or do.
pub(super) async fn role_of(
    tx: &mut Tx,
    caller: &Caller,
    login: &str,
) -> Result<Option<TenantRole>, Error> {
    if caller.is_admin_editor() {
        return Ok(Some(TenantRole::Owner));
    }
    let now =
        tenant::role(tx, login, &caller.user).await?.and_then(crate::auth::rights::tenant_number);
    // the gate has let the caller in; a token of single methods shows what its owner sees
    let own = now.map(|now| caller.rights.tenant_role(login, now).unwrap_or(now));
    Ok(match (caller.rights.admin, own) {
        (Some(Level::Viewer), Some(own)) => Some(own.min(TenantRole::Viewer)),
        (Some(Level::Viewer), None) => Some(TenantRole::Viewer),
        (_, own) => own,
    })
}

async fn create(
    call: &Call,
    request: api::TenantServiceCreateRequest,
) -> Result<api::TenantServiceCreateResponse, Error> {
    let caller = call.caller()?;
    let mut tx = call.write().await?;
    let own = read(&mut tx, &caller.user).await?;
    let tenant = api::Tenant {
        name: request.name,
        email: request.email.unwrap_or(own.email),
        description: request.description.unwrap_or_default(),
        avatar_url: request.avatar_url.unwrap_or_default(),
        created_by: caller.user.clone(),
        meta: labelled(request.labels.into_option()).into(),
        ..Default::default()
    };
    let tenant = insert(call, &mut tx, tenant, Some(&caller.user)).await?;
    tx.commit().await?;
    Ok(api::TenantServiceCreateResponse { tenant: tenant.into(), ..Default::default() })
}

async fn admin_create(
    call: &Call,
    request: admin::TenantServiceCreateRequest,
) -> Result<admin::TenantServiceCreateResponse, Error> {
    let mut tx = call.write().await?;
    let tenant = api::Tenant {
        name: request.name,
        email: request.email.unwrap_or_default(),
        description: request.description.unwrap_or_default(),
        avatar_url: request.avatar_url.unwrap_or_default(),
        created_by: call.caller()?.user.clone(),
        meta: labelled(request.labels.into_option()).into(),
        ..Default::default()
    };
    let tenant = insert(call, &mut tx, tenant, None).await?;
    tx.commit().await?;
    Ok(admin::TenantServiceCreateResponse { tenant: tenant.into(), ..Default::default() })
}

/// Stores a new tenant under a generated login; without an owner it owns itself.
async fn insert(
    call: &Call,
    tx: &mut Tx,
    mut tenant: api::Tenant,
    owner: Option<&str>,
) -> Result<api::Tenant, Error> {
    check_system_labels(call.caller()?, None, tenant.meta.as_option())?;
    tenant.login = Uuid::now_v7().to_string();
    let row = Entity::new(&tenant.login, wire::encode(&tenant)?, call.now_us());
    TABLE.insert(tx, &row, &[]).await?;
    let member = Member {
        of: tenant.login.clone(),
        member: owner.unwrap_or(&tenant.login).to_owned(),
        role: i64::from(api::TenantRole::Owner as i32),
        created_at_us: call.now_us(),
    };
    tenant::MEMBERS.add(tx, &member).await?;
    wire::decode(&row)
}

async fn get(
    call: &Call,
    request: api::TenantServiceGetRequest,
) -> Result<api::TenantServiceGetResponse, Error> {
    let caller = call.caller()?;
    let mut tx = call.read().await?;
    let tenant = read(&mut tx, &request.login).await?;
    let inside = role_of(&mut tx, caller, &request.login)
        .await?
        .is_some_and(|role| role <= TenantRole::Viewer);
    Ok(if inside {
        api::TenantServiceGetResponse {
            tenant: tenant.into(),
            tenant_members: member::all(&mut tx, &request.login).await?,
            ..Default::default()
        }
    } else {
        api::TenantServiceGetResponse { tenant: for_guests(tenant).into(), ..Default::default() }
    })
}

/// What guests see of a tenant.
fn for_guests(tenant: api::Tenant) -> api::Tenant {
    let meta = tenant.meta.as_option().map(|meta| api::Meta {
        created_at: meta.created_at.clone(),
        updated_at: meta.updated_at.clone(),
        ..Default::default()
    });
    api::Tenant {
        login: tenant.login,
        name: tenant.name,
        description: tenant.description,
        avatar_url: tenant.avatar_url,
        meta: meta.into(),
        ..Default::default()
    }
}

/// The last writer wins: the contract does not lock tenants.
async fn update(
    call: &Call,
    request: api::TenantServiceUpdateRequest,
) -> Result<api::TenantServiceUpdateResponse, Error> {
    let mut tx = call.write().await?;
    let (row, mut tenant) = hold(&mut tx, &request.login).await?;
    let before = tenant.meta.clone();
    let set = |field: &mut String, wish: Option<String>| {
        if let Some(wish) = wish {
            *field = wish;
        }
    };
    set(&mut tenant.name, request.name);
    set(&mut tenant.email, request.email);
    set(&mut tenant.description, request.description);
    set(&mut tenant.avatar_url, request.avatar_url);
    wire::update_labels(tenant.meta.get_or_insert_default(), request.labels.as_option());
    check_system_labels(call.caller()?, before.as_option(), tenant.meta.as_option())?;
    let row = row.next(wire::encode(&tenant)?, call.now_us());
    if !TABLE.update(&mut tx, &row, &[]).await? {
        return Err(store::Error::Conflict.into());
    }
    tx.commit().await?;
    Ok(api::TenantServiceUpdateResponse {
        tenant: wire::decode::<api::Tenant>(&row)?.into(),
        ..Default::default()
    })
}

async fn delete(
    call: &Call,
    request: api::TenantServiceDeleteRequest,
) -> Result<api::TenantServiceDeleteResponse, Error> {
    let login = &request.login;
    if *login == call.caller()?.user {
        return Err(Error::invalid(
            "the personal tenant of the caller cannot be deleted by themselves",
        ));
    }
    if login == PROVIDER {
        return Err(Error::precondition("the provider tenant cannot be deleted"));
    }
    let mut tx = call.write().await?;
    let (_, tenant) = hold(&mut tx, login).await?;
    let projects = store::project::TABLE.select().eq("tenant", login).count(&mut tx).await?;
    if projects > 0 {
        return Err(Error::in_use(format!(
            "there are still {projects} projects in this tenant: delete them first"
        )));
    }
    let owned = tenant::sole_owner_of(&mut tx, login).await?;
    if !owned.is_empty() {
        return Err(Error::precondition(format!(
            "it is the last owner of {}: make somebody else an owner there first",
            owned.join(", ")
        )));
    }
    tenant::remove_all_members(&mut tx, login).await?;
    store::token::delete_all(&mut tx, login).await?;
    TABLE.delete(&mut tx, login).await?;
    tx.commit().await?;
    Ok(api::TenantServiceDeleteResponse { tenant: tenant.into(), ..Default::default() })
}

/// Meta of a new entity: its labels.
pub(super) fn labelled(labels: Option<api::Labels>) -> api::Meta {
    api::Meta { labels: labels.into(), ..Default::default() }
}

/// Only operators change labels by which the system recognizes a tenant.
fn check_system_labels(
    caller: &Caller,
    before: Option<&api::Meta>,
    after: Option<&api::Meta>,
) -> Result<(), Error> {
    let system = |meta: Option<&api::Meta>| {
        let labels = meta.and_then(|meta| meta.labels.as_option());
        let mut labels: Vec<_> = labels
            .iter()
            .flat_map(|labels| &labels.labels)
            .filter(|(key, _)| key.starts_with(SYSTEM_LABELS))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        labels.sort();
        labels
    };
    if caller.is_admin_editor() || system(before) == system(after) {
        Ok(())
    } else {
        Err(Error::denied(format!("labels that begin with {SYSTEM_LABELS} are set by operators")))
    }
}
