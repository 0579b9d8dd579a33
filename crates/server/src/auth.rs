//! Tokens: who calls, proven by a signature, and what the stored record lets them do.
//!
//! A token is a JWT signed with Ed25519 whose header names the key (`kid`), so that a replica that does not
//! know a key yet asks the database instead of refusing. The JWT carries no rights: the stored record is
//! authoritative, therefore revocation is effective at the next request.

pub mod delegation;
pub mod key;
pub mod login;
mod proof;
pub mod rights;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use proto::api;
use serde::{Deserialize, Serialize};
use store::token::{About, Bearer};
use store::{Db, Entity, Tx};
use uuid::Uuid;

pub use delegation::Standing;
pub use proof::Proofs;
pub use rights::{Level, Membership, Refusal, Rights, Scope, decide, operator, scope};

use crate::bootstrap::PROVIDER;
use crate::rpc::{Error, Reason};
use crate::wire;

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Login of the user, which is the id of their tenant.
    pub user: String,
    /// Id of the token.
    pub token: String,
    /// What the token may do.
    pub rights: Rights,
    /// What the user is in the subject of the call.
    pub membership: Membership,
    /// The whole stored record.
    pub record: Arc<api::Token>,
}

impl Caller {
    /// Whether an operator calls who may change things.
    #[must_use]
    pub fn is_admin_editor(&self) -> bool {
        self.rights.admin == Some(Level::Editor)
    }

    /// Whether an operator calls.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.rights.admin.is_some()
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: Vec<String>,
    sub: String,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    #[serde(rename = "type")]
    kind: String,
}

/// Stores a token and returns its secret, the JWT. The secret itself is never stored. `token` says who owns it and what it may
/// do; its id and times are set here.
///
/// # Errors
/// The database failed.
pub async fn create_token(
    tx: &mut Tx,
    issuer: &str,
    token: &mut api::Token,
    life: Duration,
    now: jiff::Timestamp,
) -> Result<String> {
    let key = key::current(tx, now).await?;
    let exp = now.as_second() + i64::try_from(life.as_secs())?;
    token.uuid = Uuid::now_v7().to_string();
    token.issued_at = wire::timestamp_us(now.as_microsecond()).into();
    token.expires = wire::timestamp_us(exp * 1_000_000).into();
    let row = Entity {
        // the contract counts the changes of tokens from 1
        generation: 1,
        ..Entity::new(&token.uuid, wire::encode(token)?, now.as_microsecond())
    };
    store::token::insert(tx, &token.user, &row, exp * 1_000_000).await?;

    let kind = match token.token_type.as_known() {
        Some(api::TokenType::TOKEN_TYPE_USER) => "TOKEN_TYPE_USER",
        _ => "TOKEN_TYPE_API",
    };
    let claims = Claims {
        iss: issuer.to_owned(),
        aud: vec![issuer.to_owned()],
        sub: token.user.clone(),
        jti: token.uuid.clone(),
        iat: now.as_second(),
        nbf: now.as_second(),
        exp,
        kind: kind.to_owned(),
    };
    let header = Header { kid: Some(key.kid), ..Header::new(Algorithm::EdDSA) };
    let private = EncodingKey::from_ed_pem(key.private_pem.as_bytes())
        .context("stored signing key is damaged")?;
    Ok(jsonwebtoken::encode(&header, &claims, &private)?)
}

/// Checks a JWT: signature, time, issuer, audience, and that neither its record nor its key was revoked. `about` says what the call
/// is about: the caller comes with what they are there right now.
///
/// # Errors
/// The token is not valid, or the database does not answer, which is no fault of the token.
pub async fn authenticate(
    db: &Db,
    issuer: &str,
    proofs: &Proofs,
    secret: &str,
    (scope, subject): (Scope, &str),
    now: jiff::Timestamp,
) -> Result<Caller, Error> {
    let mut tx = db.begin_read().await?;
    let bearer = match proofs.find(secret) {
        Some(bearer) => bearer,
        None => {
            let bearer = prove(&mut tx, issuer, secret).await?;
            proofs.remember(secret, bearer.clone());
            bearer
        }
    };
    let about = match scope {
        Scope::Global => About::Nothing,
        Scope::Project => About::Project(subject),
        Scope::Tenant => About::Tenant(subject),
    };
    let now_us = now.as_microsecond();
    let standing = store::token::standing(&mut tx, &bearer, PROVIDER, about, now_us)
        .await?
        .ok_or_else(|| invalid("token has expired or was revoked"))?;
    let token: api::Token =
        wire::decode(&standing.token).map_err(|_| invalid("stored token is damaged"))?;
    let mut rights = Rights::from(&token);
    if rights.claims_operator() {
        rights.limit_operator(operator(standing.operator.and_then(rights::tenant_number)));
    }
    Ok(Caller {
        user: token.user.clone(),
        token: token.uuid.clone(),
        rights,
        membership: memberships(scope, standing.role),
        record: Arc::new(token),
    })
}

fn invalid(sentence: impl Into<String>) -> Error {
    Error::reason(Reason::TokenInvalid, sentence)
}

/// Whom a token names, if one of our keys signed it.
async fn prove(tx: &mut Tx, issuer: &str, secret: &str) -> Result<Bearer, Error> {
    let header = jsonwebtoken::decode_header(secret).map_err(|_| invalid("malformed token"))?;
    let kid = header.kid.ok_or_else(|| invalid("token names no signing key"))?;
    let key = store::signing_key::find(tx, &kid)
        .await?
        .ok_or_else(|| invalid("no suitable publickey to validate signature found"))?;
    let public = DecodingKey::from_ed_pem(key.public_pem.as_bytes())
        .map_err(|_| invalid("stored key is damaged"))?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[issuer]);
    validation.validate_nbf = true;
    let claims = jsonwebtoken::decode::<Claims>(secret, &public, &validation)
        .map_err(|e| match e.kind() {
            ErrorKind::ExpiredSignature => invalid("token is expired"),
            ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => invalid(format!(
                "invalid token: it was made for another server, this one is {issuer}"
            )),
            kind => invalid(format!("invalid token: {kind:?}")),
        })?
        .claims;
    Ok(Bearer { owner: claims.sub, token: claims.jti, kid })
}

/// What the owner of a token is in the subject of a request, now.
///
/// # Errors
/// The database failed.
pub async fn membership(
    tx: &mut Tx,
    user: &str,
    scope: Scope,
    subject: &str,
) -> Result<Membership, store::Error> {
    let role = match scope {
        Scope::Global => None,
        Scope::Project => store::project::role(tx, subject, user).await?,
        Scope::Tenant => store::tenant::role(tx, subject, user).await?,
    };
    Ok(memberships(scope, role))
}

/// The membership that the number of a role means.
fn memberships(scope: Scope, role: Option<i64>) -> Membership {
    match scope {
        Scope::Global => Membership::default(),
        Scope::Project => {
            Membership { project: role.and_then(rights::project_number), tenant: None }
        }
        Scope::Tenant => Membership { project: None, tenant: role.and_then(rights::tenant_number) },
    }
}
