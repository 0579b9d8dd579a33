//! What must be there before the first call: the provider tenant, and whoever a first token is made for.

use std::time::Duration;

use jiff::Timestamp;
use proto::api;
use store::Member;
use store::{Db, Entity, Tx};

use crate::auth::{self, Level};
use crate::rpc::Error;
use crate::wire;

/// Login of the tenant whose members operate the cloud.
pub const PROVIDER: &str = "metal-stack";
/// Label of that tenant.
pub const PROVIDER_LABEL: &str = "tenant.metal-stack.io/provider";
/// Label of tenants to which the tokens of machines may belong.
pub const BOOTSTRAPPER_LABEL: &str = "tenant.metal-stack.io/machine-bootstrapper";

/// Makes the provider tenant with its membership in itself, if it is not there, also when several replicas start together.
///
/// # Errors
/// The database failed.
pub async fn bootstrap(db: &Db, now: Timestamp) -> Result<(), Error> {
    let mut tx = db.begin_write().await?;
    ensure_provider(&mut tx, now).await?;
    tx.commit().await?;
    Ok(())
}

/// As [`bootstrap`], inside a transaction.
///
/// # Errors
/// The database failed.
pub async fn ensure_provider(tx: &mut Tx, now: Timestamp) -> Result<(), Error> {
    ensure_tenant(tx, PROVIDER, now).await?;
    ensure_label(tx, PROVIDER, PROVIDER_LABEL, now).await
}

/// Sets a label of a tenant that exists.
async fn ensure_label(tx: &mut Tx, login: &str, label: &str, now: Timestamp) -> Result<(), Error> {
    let Some(row) = store::tenant::TABLE.get_for_update(tx, login).await? else {
        return Err(Error::not_found("tenant", login));
    };
    let mut tenant: api::Tenant = wire::decode(&row)?;
    let labels = &mut tenant.meta.get_or_insert_default().labels.get_or_insert_default().labels;
    if labels.insert(label.to_owned(), "true".to_owned()).as_deref() != Some("true") {
        let row = row.next(wire::encode(&tenant)?, now.as_microsecond());
        store::tenant::TABLE.update(tx, &row, &[]).await?;
    }
    Ok(())
}

/// Makes the personal tenant of a user with its membership in itself, if it is not there: every user is a tenant.
///
/// # Errors
/// The database failed.
pub async fn ensure_tenant(tx: &mut Tx, login: &str, now: Timestamp) -> Result<(), Error> {
    let now_us = now.as_microsecond();
    let tenant = api::Tenant {
        login: login.to_owned(),
        name: login.to_owned(),
        created_by: login.to_owned(),
        ..Default::default()
    };
    let row = Entity::new(login, wire::encode(&tenant)?, now_us);
    if store::tenant::insert_if_absent(tx, &row).await? {
        store::tenant::MEMBERS
            .add(tx, &member(login, login, api::TenantRole::Owner, now_us))
            .await?;
    }
    Ok(())
}

/// Makes a user an operator: a member of the provider tenant, strong enough for this role. Never weakens anybody.
///
/// # Errors
/// The database failed.
pub async fn ensure_operator(
    tx: &mut Tx,
    login: &str,
    level: Level,
    now: Timestamp,
) -> Result<(), Error> {
    ensure_provider(tx, now).await?;
    ensure_tenant(tx, login, now).await?;
    let role = match level {
        Level::Editor => api::TenantRole::Owner,
        Level::Viewer => api::TenantRole::Viewer,
    };
    store::tenant::MEMBERS
        .strengthen(tx, &member(PROVIDER, login, role, now.as_microsecond()))
        .await?;
    Ok(())
}

/// Makes a token for whoever is named in it, who becomes a tenant and, for an admin role, an operator: who can write the database
/// may make anybody anything. Returns the secret.
///
/// # Errors
/// The database failed.
pub async fn first_token(
    tx: &mut Tx,
    issuer: &str,
    token: &mut api::Token,
    life: Duration,
    now: Timestamp,
) -> anyhow::Result<String> {
    ensure_tenant(tx, &token.user, now).await?;
    match token.admin_role.and_then(|role| role.as_known()) {
        Some(api::AdminRole::ADMIN_ROLE_EDITOR) => {
            ensure_operator(tx, &token.user, Level::Editor, now).await?;
        }
        Some(api::AdminRole::ADMIN_ROLE_VIEWER) => {
            ensure_operator(tx, &token.user, Level::Viewer, now).await?;
        }
        _ => {}
    }
    if token.machine_roles.contains_key("*") {
        ensure_label(tx, &token.user, BOOTSTRAPPER_LABEL, now).await?;
    }
    auth::create_token(tx, issuer, token, life, now).await
}

fn member(of: &str, login: &str, role: api::TenantRole, now_us: i64) -> Member {
    Member {
        of: of.to_owned(),
        member: login.to_owned(),
        role: i64::from(role as i32),
        created_at_us: now_us,
    }
}
