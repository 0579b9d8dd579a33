//! Invitations to tenants.

use buffa_types::google::protobuf::Timestamp;
use proto::api;
use ring::rand::{SecureRandom, SystemRandom};
use store::Entity;
use store::invite::{self, Kind};
use store::tenant::{self, Member};

use super::super::{Call, Error};
use super::read;
use crate::auth::rights;
use crate::wire;

/// How long an invite is valid.
const LIFE_US: i64 = 7 * 24 * 3600 * 1_000_000;
/// What a secret is made of.
const LETTERS: &[u8; 63] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-";
const LENGTH: usize = 32;

/// A secret that nobody can guess.
pub(in crate::rpc) fn new_secret() -> Result<String, Error> {
    let random = SystemRandom::new();
    let mut secret = String::with_capacity(LENGTH);
    while secret.len() < LENGTH {
        let mut bytes = [0; LENGTH];
        random.fill(&mut bytes).map_err(|_| Error::internal("no randomness"))?;
        // what is no letter is thrown away, so that each letter is as likely as the others
        let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 63)));
        secret.extend(letters.take(LENGTH - secret.len()).map(|letter| char::from(*letter)));
    }
    Ok(secret)
}

/// Refuses what no invite can have as its secret.
pub(in crate::rpc) fn check_secret(secret: &str) -> Result<(), Error> {
    if secret.len() == LENGTH && secret.bytes().all(|byte| LETTERS.contains(&byte)) {
        Ok(())
    } else {
        Err(Error::invalid("the secret of an invite has 32 letters, digits and dashes"))
    }
}

/// When an invite that is made now ends, for the database and for people.
pub(in crate::rpc) fn expiry(now_us: i64) -> (i64, Timestamp) {
    (now_us + LIFE_US, wire::timestamp_us(now_us + LIFE_US))
}

/// An invite that cannot be used, for whatever reason.
pub(in crate::rpc) fn gone() -> Error {
    Error::missing("the given invitation does not exist anymore")
}

/// A stored invite.
pub(in crate::rpc) fn decode<M: serde::de::DeserializeOwned>(row: &Entity) -> Result<M, Error> {
    serde_json::from_str(&row.body)
        .map_err(|e| Error::internal(format!("stored invite is damaged: {e}")))
}

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
    if tenant::member(&mut tx, &target.login, user).await?.is_some() {
        return Err(Error::exists(format!("you are already a member of \"{}\"", target.login)));
    }
    let member = Member {
        of: target.login.clone(),
        member: user.clone(),
        role: i64::from(offer.role.to_i32()),
        created_at_us: call.now_us(),
    };
    tenant::add_member(&mut tx, &member).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_valid_and_differ() {
        let secrets: std::collections::BTreeSet<_> =
            (0..100).map(|_| new_secret().expect("secret")).collect();
        assert_eq!(secrets.len(), 100);
        for secret in &secrets {
            check_secret(secret).expect("valid");
        }
    }

    #[test]
    fn what_no_invite_can_have_is_refused() {
        for wrong in ["", "short", &"ä".repeat(16), &"_".repeat(32), &"a".repeat(33)] {
            assert!(check_secret(wrong).is_err(), "{wrong}");
        }
    }
}
