//! Tokens: who calls, proven by a signature, and what the stored record lets them do.
//!
//! A token is a JWT signed with Ed25519 whose header names the key (`kid`), so that a replica that does not
//! know a key yet asks the database instead of refusing. The JWT carries no rights: the stored record is
//! authoritative, therefore revocation is effective at the next request.

pub mod rights;

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use store::Db;
use store::signing_key::SigningKey;
use store::token::Token;
use uuid::Uuid;

pub use rights::{Level, Refusal, Rights, decide};

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

/// What a new token is asked to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Login of the owner.
    pub user: String,
    /// What it is for, for a human.
    pub description: String,
    /// How long it is valid.
    pub expires: Duration,
    /// What it may do.
    pub rights: Rights,
}

/// Stores a token and returns its secret, the JWT. The secret itself is never stored.
///
/// # Errors
/// The database failed.
pub async fn create_token(
    db: &Db,
    issuer: &str,
    new: NewToken,
    now: jiff::Timestamp,
) -> Result<String> {
    let mut tx = db.begin_write().await?;
    let key = match store::signing_key::current(&mut tx, now.as_microsecond()).await? {
        Some(key) => key,
        None => {
            store::signing_key::insert_if_absent(&mut tx, &generate_key(now)?, now.as_microsecond())
                .await?
        }
    };
    let exp = now.as_second() + i64::try_from(new.expires.as_secs())?;
    let token = Token {
        uuid: Uuid::now_v7().to_string(),
        user: new.user,
        kind: "TOKEN_TYPE_API".to_owned(),
        description: new.description,
        body: serde_json::to_string(&new.rights)?,
        issued_at_us: now.as_microsecond(),
        expires_at_us: exp * 1_000_000,
    };
    store::token::insert(&mut tx, &token).await?;
    tx.commit().await?;

    let claims = Claims {
        iss: issuer.to_owned(),
        aud: vec![issuer.to_owned()],
        sub: token.user,
        jti: token.uuid,
        iat: now.as_second(),
        nbf: now.as_second(),
        exp,
        kind: token.kind,
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
    let token = store::token::get(&mut tx, &claims.sub, &claims.jti)
        .await
        .map_err(internal)?
        .ok_or("token was revoked")?;
    if token.expires_at_us <= now.as_microsecond() {
        return Err("token is expired".to_owned());
    }
    let rights =
        serde_json::from_str(&token.body).map_err(|e| format!("stored rights are damaged: {e}"))?;
    Ok(Caller { user: token.user, token: token.uuid, rights })
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
