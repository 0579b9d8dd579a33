//! Records of tokens. The record, not the token, says what its owner may do.

use crate::db::Tx;
use crate::entity_table;
use crate::{Entity, Error, Table};

/// Columns: `owner` (login), `expires_at` (microseconds since 1970). The body is the contract's `Token`.
pub const TABLE: Table = Table { name: "token", columns: &["owner", "expires_at"] };

pub(crate) const SCHEMA: &[&str] = &[
    entity_table!(
        "token",
        ", owner text NOT NULL, expires_at bigint NOT NULL CHECK (expires_at > created_at)"
    ),
    "CREATE INDEX token_owner ON token (owner, id)",
    "CREATE INDEX token_expiry ON token (expires_at)",
];

/// Stores a new token.
///
/// # Errors
/// [`Error::Unique`] when it exists.
pub async fn insert(
    tx: &mut Tx,
    owner: &str,
    token: &Entity,
    expires_at_us: i64,
) -> Result<(), Error> {
    TABLE.insert(tx, token, &[owner.into(), expires_at_us.into()]).await
}

/// A token of a user that has not expired.
///
/// # Errors
/// The database failed.
pub async fn get(
    tx: &mut Tx,
    owner: &str,
    uuid: &str,
    now_us: i64,
) -> Result<Option<Entity>, Error> {
    let row = tx
        .fetch_optional(
            "SELECT id, body, generation, created_at, updated_at FROM token
             WHERE id = $1 AND owner = $2 AND expires_at > $3",
            &[uuid.into(), owner.into(), now_us.into()],
        )
        .await?;
    row.as_ref().map(crate::table::from_row).transpose()
}

/// Revokes a token; false when there was none.
///
/// # Errors
/// The database failed.
pub async fn delete(tx: &mut Tx, owner: &str, uuid: &str) -> Result<bool, Error> {
    let rows = tx
        .execute("DELETE FROM token WHERE owner = $1 AND id = $2", &[owner.into(), uuid.into()])
        .await?;
    Ok(rows == 1)
}

/// Forgets tokens that expired before `now_us`.
///
/// # Errors
/// The database failed.
pub async fn delete_expired(tx: &mut Tx, now_us: i64) -> Result<u64, Error> {
    tx.execute("DELETE FROM token WHERE expires_at <= $1", &[now_us.into()]).await
}

/// Revokes all tokens of a user.
///
/// # Errors
/// The database failed.
pub async fn delete_all(tx: &mut Tx, owner: &str) -> Result<u64, Error> {
    tx.execute("DELETE FROM token WHERE owner = $1", &[owner.into()]).await
}

/// As [`get`], and the row stays as it is until the transaction ends.
///
/// # Errors
/// The database failed.
pub async fn hold(
    tx: &mut Tx,
    owner: &str,
    uuid: &str,
    now_us: i64,
) -> Result<Option<Entity>, Error> {
    match TABLE.select().eq("id", uuid).eq("owner", owner).for_update().one(tx).await? {
        Some(_) => get(tx, owner, uuid, now_us).await,
        None => Ok(None),
    }
}

/// Tokens that have not expired, of one user or of all, ordered by id, which is the order in which they were made.
///
/// # Errors
/// The database failed.
pub async fn list(tx: &mut Tx, owner: Option<&str>, now_us: i64) -> Result<Vec<Entity>, Error> {
    let sql =
        "SELECT id, body, generation, created_at, updated_at FROM token WHERE expires_at > $1";
    let rows = match owner {
        Some(owner) => {
            let sql = format!("{sql} AND owner = $2 ORDER BY id");
            tx.fetch_all(sql, &[now_us.into(), owner.into()]).await?
        }
        None => tx.fetch_all(format!("{sql} ORDER BY id"), &[now_us.into()]).await?,
    };
    rows.iter().map(crate::table::from_row).collect()
}
