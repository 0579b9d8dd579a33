//! New tokens: who may hand on what.

use std::time::Duration;

use proto::api::permissions_by_visibility::Visibility;
use proto::{admin, api};
use store::Tx;

use super::super::{Call, Error, tenant};
use super::issue;
use crate::auth::delegation::{self, Standing};
use crate::auth::{operator, rights};
use crate::bootstrap::PROVIDER;
use crate::wire;

/// How long a token is valid when the request does not say.
const LIFE: Duration = Duration::from_secs(8 * 3600);

pub(super) async fn own(
    call: &Call,
    request: api::TokenServiceCreateRequest,
) -> Result<api::TokenServiceCreateResponse, Error> {
    let user = call.caller()?.user.clone();
    let (token, secret) = create(call, user, request).await?;
    Ok(api::TokenServiceCreateResponse { token: token.into(), secret, ..Default::default() })
}

pub(super) async fn for_user(
    call: &Call,
    request: admin::TokenServiceCreateRequest,
) -> Result<admin::TokenServiceCreateResponse, Error> {
    let user =
        request.user.unwrap_or_else(|| call.caller().map(|c| c.user.clone()).unwrap_or_default());
    let request = request.token_create_request.into_option().ok_or_else(|| {
        Error::invalid("token_create_request is missing: say what the token may do")
    })?;
    let (token, secret) = create(call, user, request).await?;
    Ok(admin::TokenServiceCreateResponse { token: token.into(), secret, ..Default::default() })
}

async fn create(
    call: &Call,
    user: String,
    request: api::TokenServiceCreateRequest,
) -> Result<(api::Token, String), Error> {
    let mut tx = call.write().await?;
    if user != call.caller()?.user {
        tenant::read(&mut tx, &user).await?;
    }
    let mut token = api::Token {
        user,
        description: request.description,
        token_type: api::TokenType::Api.into(),
        permissions: permissions(call, &mut tx, &request.permissions).await?,
        project_roles: request.project_roles,
        tenant_roles: request.tenant_roles,
        machine_roles: request.machine_roles,
        admin_role: request.admin_role.filter(|role| *role != api::AdminRole::Unspecified),
        infra_role: request.infra_role.filter(|role| *role != api::InfraRole::Unspecified),
        meta: tenant::labelled(request.labels.into_option()).into(),
        ..Default::default()
    };
    check(call, &mut tx, &token).await?;
    let life = match request.expires.as_option() {
        Some(expires) => {
            let us = u64::try_from(wire::duration_us(expires)).unwrap_or_default();
            Duration::from_micros(us)
        }
        None => LIFE,
    };
    let issued = issue(call, &mut tx, &mut token, life).await?;
    tx.commit().await?;
    Ok(issued)
}

/// Permissions as they are stored. Operators may name any project and tenant, but not one that does not exist.
pub(super) async fn permissions(
    call: &Call,
    tx: &mut Tx,
    wanted: &[api::PermissionsByVisibility],
) -> Result<Vec<api::MethodPermission>, Error> {
    let refused = |why: String| Error::denied(format!("invalid permissions requested: {why}"));
    let permissions = delegation::flatten(wanted).map_err(refused)?;
    if call.caller()?.is_admin() {
        for entry in wanted {
            let (table, kind, subject) = match &entry.visibility {
                Some(Visibility::Project(p)) => (store::project::TABLE, "project", &p.project),
                Some(Visibility::Tenant(p)) => (store::tenant::TABLE, "tenant", &p.login),
                _ => continue,
            };
            if subject != "*" && table.get(tx, subject).await?.is_none() {
                return Err(refused(format!("no {kind} with id \"{subject}\" found")));
            }
        }
    }
    Ok(permissions)
}

/// Whether the caller may hand on these rights.
pub(super) async fn check(call: &Call, tx: &mut Tx, wish: &api::Token) -> Result<(), Error> {
    let caller = call.caller()?;
    let standing = standing(tx, &caller.user).await?;
    delegation::check(wish, &caller.rights, &standing).map_err(Error::denied)
}

/// What a user is now, everywhere.
async fn standing(tx: &mut Tx, user: &str) -> Result<Standing, Error> {
    let projects = store::project::roles_of_user(tx, user).await?;
    let tenants = store::tenant::roles_of_user(tx, user).await?;
    let tenants: std::collections::BTreeMap<_, _> = tenants
        .into_iter()
        .filter_map(|(login, role)| Some((login, rights::tenant_number(role)?)))
        .collect();
    Ok(Standing {
        projects: projects
            .into_iter()
            .filter_map(|(id, role)| Some((id, rights::project_number(role)?)))
            .collect(),
        operator: operator(tenants.get(PROVIDER).copied()),
        tenants,
    })
}
