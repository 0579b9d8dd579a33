//! Keys that sign tokens. Public halves stay until no token can have been signed with them.

use crate::Error;
use crate::db::{Row, Tx};

pub(crate) const SCHEMA: &[&str] = &["CREATE TABLE signing_key (
    kid text PRIMARY KEY,
    private_pem text NOT NULL,
    public_pem text NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL CHECK (expires_at > created_at)
)"];

/// A pair of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Id that a token's header names.
    pub kid: String,
    /// PKCS #8 in PEM.
    pub private_pem: String,
    /// `SubjectPublicKeyInfo` in PEM.
    pub public_pem: String,
    /// Microseconds since 1970.
    pub created_at_us: i64,
    /// Microseconds since 1970.
    pub expires_at_us: i64,
}

/// Any number that nothing else locks.
const LOCK: i64 = 7_243_002;

/// The newest key that is known at least until a time: what is signed with it now ends before that.
///
/// # Errors
/// The database failed.
pub async fn current(tx: &mut Tx, until_us: i64) -> Result<Option<SigningKey>, Error> {
    tx.fetch_optional(
        "SELECT kid, private_pem, public_pem, created_at, expires_at FROM signing_key
         WHERE expires_at > $1 ORDER BY created_at DESC, kid LIMIT 1",
        &[until_us.into()],
    )
    .await?
    .as_ref()
    .map(from_row)
    .transpose()
}

/// Stores `key` unless another replica was faster; returns the key that counts.
///
/// # Errors
/// The database failed.
pub async fn insert_if_absent(
    tx: &mut Tx,
    key: &SigningKey,
    until_us: i64,
) -> Result<SigningKey, Error> {
    tx.lock(LOCK).await?;
    if let Some(key) = current(tx, until_us).await? {
        return Ok(key);
    }
    insert(tx, key).await?;
    Ok(key.clone())
}

/// Stores a key.
///
/// # Errors
/// [`Error::Unique`] when it exists.
pub async fn insert(tx: &mut Tx, key: &SigningKey) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO signing_key (kid, private_pem, public_pem, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
        &[
            (&key.kid).into(),
            (&key.private_pem).into(),
            (&key.public_pem).into(),
            key.created_at_us.into(),
            key.expires_at_us.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Forgets all other keys; what they signed is worth nothing from then on. Returns how many they were.
///
/// # Errors
/// The database failed.
pub async fn delete_all_but(tx: &mut Tx, kid: &str) -> Result<u64, Error> {
    tx.execute("DELETE FROM signing_key WHERE kid <> $1", &[kid.into()]).await
}

/// Forgets keys by which nothing valid can be signed any more.
///
/// # Errors
/// The database failed.
pub async fn delete_expired(tx: &mut Tx, now_us: i64) -> Result<u64, Error> {
    tx.execute("DELETE FROM signing_key WHERE expires_at <= $1", &[now_us.into()]).await
}

/// The key that a token names.
///
/// # Errors
/// The database failed.
pub async fn find(tx: &mut Tx, kid: &str) -> Result<Option<SigningKey>, Error> {
    tx.fetch_optional(
        "SELECT kid, private_pem, public_pem, created_at, expires_at FROM signing_key WHERE kid = $1",
        &[kid.into()],
    )
    .await?
    .as_ref()
    .map(from_row)
    .transpose()
}

fn from_row(row: &Row) -> Result<SigningKey, Error> {
    Ok(SigningKey {
        kid: row.text(0)?,
        private_pem: row.text(1)?,
        public_pem: row.text(2)?,
        created_at_us: row.int(3)?,
        expires_at_us: row.int(4)?,
    })
}
