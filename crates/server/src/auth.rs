//! Tokens: who calls, proven by a signature, and what the stored record lets them do.
//!
//! A token is a JWT signed with Ed25519 whose header names the key (`kid`), so that a replica that does not
//! know a key yet asks the database instead of refusing. The JWT carries no rights: the stored record is
//! authoritative, therefore revocation is effective at the next request.

pub mod delegation;
pub mod rights;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use proto::api;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use store::signing_key::SigningKey;
use store::{Db, Entity, Tx};
use uuid::Uuid;

pub use delegation::Standing;
pub use rights::{Level, Membership, Refusal, Rights, Scope, decide, operator, scope};

use crate::bootstrap::PROVIDER;
use crate::wire;

/// A key signs for two years: no token outlives its key.
const KEY_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 3600);
/// `SubjectPublicKeyInfo` of an Ed25519 key up to the key itself (RFC 8410).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Login of the user, which is the id of their tenant.
    pub user: String,
    /// Id of the token.
    pub token: String,
    /// What the token may do.
    pub rights: Rights,
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
    let key = match store::signing_key::current(tx, now.as_microsecond()).await? {
        Some(key) => key,
        None => {
            store::signing_key::insert_if_absent(tx, &generate_key(now)?, now.as_microsecond())
                .await?
        }
    };
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

/// Checks a JWT: signature, time, issuer, audience, and that its record was not revoked.
///
/// # Errors
/// A sentence for the caller.
pub async fn authenticate(
    db: &Db,
    issuer: &str,
    secret: &str,
    now: jiff::Timestamp,
) -> Result<Caller, String> {
    let internal = |e: store::Error| {
        tracing::error!(error = %e, "token store failed");
        "the token store is not available, try again".to_owned()
    };
    let header = jsonwebtoken::decode_header(secret).map_err(|_| "malformed token".to_owned())?;
    let kid = header.kid.ok_or("token names no signing key")?;
    let mut tx = db.begin_read().await.map_err(internal)?;
    let key = store::signing_key::find(&mut tx, &kid)
        .await
        .map_err(internal)?
        .ok_or("no suitable publickey to validate signature found")?;
    let public =
        DecodingKey::from_ed_pem(key.public_pem.as_bytes()).map_err(|_| "stored key is damaged")?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[issuer]);
    validation.validate_nbf = true;
    let claims = jsonwebtoken::decode::<Claims>(secret, &public, &validation)
        .map_err(|e| match e.kind() {
            jsonwebtoken::errors::ErrorKind::ExpiredSignature => "token is expired".to_owned(),
            kind => format!("invalid token: {kind:?}"),
        })?
        .claims;
    let row = store::token::get(&mut tx, &claims.sub, &claims.jti, now.as_microsecond())
        .await
        .map_err(internal)?
        .ok_or("token was revoked")?;
    let token: api::Token = wire::decode(&row).map_err(|_| "stored token is damaged")?;
    let mut rights = Rights::from(&token);
    if rights.claims_operator() {
        let role = membership(&mut tx, &token.user, Scope::Tenant, PROVIDER).await;
        rights.limit_operator(operator(role.map_err(internal)?.tenant));
    }
    Ok(Caller {
        user: token.user.clone(),
        token: token.uuid.clone(),
        rights,
        record: Arc::new(token),
    })
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
    Ok(match scope {
        Scope::Global => Membership::default(),
        Scope::Project => Membership {
            project: store::project::role(tx, subject, user)
                .await?
                .and_then(rights::project_number),
            tenant: None,
        },
        Scope::Tenant => Membership {
            project: None,
            tenant: store::tenant::role(tx, subject, user).await?.and_then(rights::tenant_number),
        },
    })
}

fn generate_key(now: jiff::Timestamp) -> Result<SigningKey> {
    let document =
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok().context("no randomness")?;
    let pair =
        Ed25519KeyPair::from_pkcs8(document.as_ref()).ok().context("generated key is unusable")?;
    let mut spki = SPKI_PREFIX.to_vec();
    spki.extend_from_slice(pair.public_key().as_ref());
    Ok(SigningKey {
        kid: Uuid::now_v7().to_string(),
        private_pem: pem("PRIVATE KEY", document.as_ref()),
        public_pem: pem("PUBLIC KEY", &spki),
        created_at_us: now.as_microsecond(),
        expires_at_us: now.as_microsecond() + i64::try_from(KEY_LIFE.as_micros())?,
    })
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}
