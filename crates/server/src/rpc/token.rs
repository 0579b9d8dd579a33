//! `TokenService`, for users and for operators.

mod create;

use std::sync::Arc;
use std::time::Duration;

use connectrpc::Router;
use proto::{admin, api};
use store::token::{self, TABLE};
use store::{Entity, Tx};

use super::{App, Call, Error, service};
use crate::auth;
use crate::wire;

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    let handler = Arc::new(Handler(Arc::clone(app)));
    let router = api::TokenServiceExt::register(Arc::clone(&handler), router);
    admin::TokenServiceExt::register(handler, router)
}

struct Handler(Arc<App>);

service!(api::TokenService {
    get(TokenServiceGetRequest) -> TokenServiceGetResponse = get;
    create(TokenServiceCreateRequest) -> TokenServiceCreateResponse = create::own;
    update(TokenServiceUpdateRequest) -> TokenServiceUpdateResponse = update;
    list(TokenServiceListRequest) -> TokenServiceListResponse = list;
    revoke(TokenServiceRevokeRequest) -> TokenServiceRevokeResponse = revoke;
    refresh(TokenServiceRefreshRequest) -> TokenServiceRefreshResponse = refresh;
});

service!(admin::TokenService {
    create(TokenServiceCreateRequest) -> TokenServiceCreateResponse = create::for_user;
    list(TokenServiceListRequest) -> TokenServiceListResponse = list_all;
    revoke(TokenServiceRevokeRequest) -> TokenServiceRevokeResponse = revoke_any;
});

/// One text for tokens of others and for those that never were.
fn missing() -> Error {
    Error::missing("token not found")
}

async fn get(
    call: &Call,
    request: api::TokenServiceGetRequest,
) -> Result<api::TokenServiceGetResponse, Error> {
    let mut tx = call.read().await?;
    let row = token::get(&mut tx, &call.caller()?.user, &request.uuid, call.now_us())
        .await?
        .ok_or_else(missing)?;
    Ok(api::TokenServiceGetResponse {
        token: wire::decode::<api::Token>(&row)?.into(),
        ..Default::default()
    })
}

async fn list(
    call: &Call,
    request: api::TokenServiceListRequest,
) -> Result<api::TokenServiceListResponse, Error> {
    let mut tx = call.read().await?;
    let rows = token::list(&mut tx, Some(&call.caller()?.user), call.now_us()).await?;
    let tokens = filter(&rows, request.query.as_option())?;
    Ok(api::TokenServiceListResponse { tokens, ..Default::default() })
}

async fn list_all(
    call: &Call,
    request: admin::TokenServiceListRequest,
) -> Result<admin::TokenServiceListResponse, Error> {
    let query = request.query.as_option();
    let owner = query.and_then(|query| query.user.as_deref());
    let mut tx = call.read().await?;
    let rows = token::list(&mut tx, owner, call.now_us()).await?;
    let tokens = filter(&rows, query)?;
    Ok(admin::TokenServiceListResponse { tokens, ..Default::default() })
}

fn filter(rows: &[Entity], query: Option<&api::TokenQuery>) -> Result<Vec<api::Token>, Error> {
    let mut found = Vec::new();
    for row in rows {
        let token: api::Token = wire::decode(row)?;
        let asked_for = query.is_none_or(|query| {
            wire::asks(query.uuid.as_ref(), token.uuid.as_str())
                && wire::asks(query.user.as_ref(), token.user.as_str())
                && wire::asks(query.description.as_ref(), token.description.as_str())
                && wire::has_labels(token.meta.as_option(), query.labels.as_option())
                && query.token_type.is_none_or(|wanted| {
                    wanted == api::TokenType::Unspecified || wanted == token.token_type
                })
        });
        if asked_for {
            found.push(token);
        }
    }
    Ok(found)
}

async fn revoke(
    call: &Call,
    request: api::TokenServiceRevokeRequest,
) -> Result<api::TokenServiceRevokeResponse, Error> {
    delete(call, &call.caller()?.user, &request.uuid).await?;
    Ok(api::TokenServiceRevokeResponse::default())
}

async fn revoke_any(
    call: &Call,
    request: admin::TokenServiceRevokeRequest,
) -> Result<admin::TokenServiceRevokeResponse, Error> {
    delete(call, &request.user, &request.uuid).await?;
    Ok(admin::TokenServiceRevokeResponse::default())
}

async fn delete(call: &Call, owner: &str, uuid: &str) -> Result<(), Error> {
    let mut tx = call.write().await?;
    if !token::delete(&mut tx, owner, uuid).await? {
        return Err(missing());
    }
    tx.commit().await?;
    Ok(())
}

/// Changes what a token may do without changing its secret.
async fn update(
    call: &Call,
    request: api::TokenServiceUpdateRequest,
) -> Result<api::TokenServiceUpdateResponse, Error> {
    if request.update_meta.updated_at.is_set() {
        return Err(Error::invalid(
            "tokens know no optimistic locking: leave update_meta.updated_at out",
        ));
    }
    let caller = call.caller()?;
    let mut tx = call.write().await?;
    let row = token::hold(&mut tx, &caller.user, &request.uuid, call.now_us())
        .await?
        .ok_or_else(missing)?;
    let mut token: api::Token = wire::decode(&row)?;
    if token.token_type != api::TokenType::Api {
        return Err(Error::precondition(
            "the token of a login has the rights of its user: only tokens for programs can change",
        ));
    }
    let wish = api::Token {
        permissions: create::permissions(call, &mut tx, &request.permissions).await?,
        project_roles: request.project_roles,
        tenant_roles: request.tenant_roles,
        machine_roles: request.machine_roles,
        admin_role: request.admin_role,
        infra_role: request.infra_role,
        ..Default::default()
    };
    create::check(call, &mut tx, &wish).await?;
    if !wish.permissions.is_empty() {
        token.permissions = wish.permissions;
    }
    if !wish.project_roles.is_empty() {
        token.project_roles = wish.project_roles;
    }
    if !wish.tenant_roles.is_empty() {
        token.tenant_roles = wish.tenant_roles;
    }
    if !wish.machine_roles.is_empty() {
        token.machine_roles = wish.machine_roles;
    }
    if let Some(role) = wish.admin_role {
        token.admin_role = Some(role).filter(|role| *role != api::AdminRole::Unspecified);
    }
    if let Some(role) = wish.infra_role {
        token.infra_role = Some(role).filter(|role| *role != api::InfraRole::Unspecified);
    }
    if let Some(description) = request.description {
        token.description = description;
    }
    wire::update_labels(token.meta.get_or_insert_default(), request.labels.as_option());
    let row = row.next(wire::encode(&token)?, call.now_us());
    let columns = [(&token.user).into(), wire::micros(&token.expires).into()];
    if !TABLE.update(&mut tx, &row, &columns).await? {
        return Err(store::Error::Conflict.into());
    }
    tx.commit().await?;
    Ok(api::TokenServiceUpdateResponse {
        token: wire::decode::<api::Token>(&row)?.into(),
        ..Default::default()
    })
}

/// A successor of the calling token: same kind, rights, labels and duration. What its user has lost meanwhile the successor does
/// not give back, because rights are compared with memberships at each call.
async fn refresh(
    call: &Call,
    _: api::TokenServiceRefreshRequest,
) -> Result<api::TokenServiceRefreshResponse, Error> {
    let mut token = (*call.caller()?.record).clone();
    let seconds = token.expires.seconds.saturating_sub(token.issued_at.seconds);
    let life = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let mut tx = call.write().await?;
    // revoked by somebody else while this call was on its way
    token::hold(&mut tx, &token.user, &token.uuid, call.now_us()).await?.ok_or_else(missing)?;
    let (token, secret) = issue(call, &mut tx, &mut token, life).await?;
    tx.commit().await?;
    Ok(api::TokenServiceRefreshResponse { token: token.into(), secret, ..Default::default() })
}

/// Stores a token and reads it back, as every later call will see it.
async fn issue(
    call: &Call,
    tx: &mut Tx,
    token: &mut api::Token,
    life: Duration,
) -> Result<(api::Token, String), Error> {
    let secret = auth::create_token(tx, &call.app.issuer, token, life, call.now).await?;
    let row = token::get(tx, &token.user, &token.uuid, call.now_us()).await?.ok_or_else(missing)?;
    Ok((wire::decode(&row)?, secret))
}
