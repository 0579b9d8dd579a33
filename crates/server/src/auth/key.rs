//! Keys that sign tokens: made when there is none that outlives what it would sign, so that they change by themselves every year.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use store::Tx;
use store::signing_key::{self, SigningKey};
use uuid::Uuid;

/// So long a token may be valid at most.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// A key is known for so long: it signs in the first half, and no token outlives it.
const KEY_LIFE: Duration = Duration::from_secs(2 * TOKEN_LIFE.as_secs());
/// `SubjectPublicKeyInfo` of an Ed25519 key up to the key itself (RFC 8410).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The key to sign with now, which all replicas use.
///
/// # Errors
/// The database failed.
pub async fn current(tx: &mut Tx, now: Timestamp) -> Result<SigningKey> {
    let until_us = after(now, TOKEN_LIFE)?;
    match signing_key::current(tx, until_us).await? {
        Some(key) => Ok(key),
        None => Ok(signing_key::insert_if_absent(tx, &generate(now)?, until_us).await?),
    }
}

/// Makes a new key that signs from now on, on all replicas. What older keys signed stays valid, or, if `revoke`, ends with them.
/// Returns the id of the new key and how many older ones were revoked.
///
/// # Errors
/// The database failed.
pub async fn rotate(tx: &mut Tx, now: Timestamp, revoke: bool) -> Result<(String, u64)> {
    let key = generate(now)?;
    signing_key::insert(tx, &key).await?;
    let revoked = if revoke { signing_key::delete_all_but(tx, &key.kid).await? } else { 0 };
    Ok((key.kid, revoked))
}

fn generate(now: Timestamp) -> Result<SigningKey> {
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
        expires_at_us: after(now, KEY_LIFE)?,
    })
}

fn after(now: Timestamp, life: Duration) -> Result<i64> {
    Ok(now.as_microsecond() + i64::try_from(life.as_micros())?)
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}
