//! Records of tokens. The record, not the token, says what its owner may do.

use crate::{Error, Row, Tx};

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Id.
    pub uuid: String,
    /// Login of the owner.
    pub user: String,
    /// Name of the contract's enum value, for instance `TOKEN_TYPE_API`.
    pub kind: String,
    /// What it is for.
    pub description: String,
    /// Rights as JSON.
    pub body: String,
    /// Microseconds since 1970.
    pub issued_at_us: i64,
    /// Microseconds since 1970.
    pub expires_at_us: i64,
}

/// Stores a new token.
///
/// # Errors
/// [`Error::Unique`] when it exists.
pub async fn insert(tx: &mut Tx, token: &Token) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO token (owner, uuid, kind, description, body, issued_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            (&token.user).into(),
            (&token.uuid).into(),
            (&token.kind).into(),
            (&token.description).into(),
            (&token.body).into(),
            token.issued_at_us.into(),
            token.expires_at_us.into(),
        ],
    )
    .await?;
    Ok(())
}

/// A token of a user.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, user: &str, uuid: &str) -> Result<Option<Token>, Error> {
    tx.fetch_optional(
        "SELECT uuid, owner, kind, description, body, issued_at, expires_at FROM token
         WHERE owner = $1 AND uuid = $2",
        &[user.into(), uuid.into()],
    )
    .await?
    .as_ref()
    .map(from_row)
    .transpose()
}

/// Revokes a token; false when there was none.
///
/// # Errors
/// The database failed.
pub async fn delete(tx: &mut Tx, user: &str, uuid: &str) -> Result<bool, Error> {
    let rows = tx
        .execute("DELETE FROM token WHERE owner = $1 AND uuid = $2", &[user.into(), uuid.into()])
        .await?;
    Ok(rows == 1)
}

fn from_row(row: &Row) -> Result<Token, Error> {
    Ok(Token {
        uuid: row.text(0)?,
        user: row.text(1)?,
        kind: row.text(2)?,
        description: row.text(3)?,
        body: row.text(4)?,
        issued_at_us: row.int(5)?,
        expires_at_us: row.int(6)?,
    })
}
