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

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About<'a> {
    /// Neither project nor tenant.
    Nothing,
    /// A project, by its id.
    Project(&'a str),
    /// A tenant, by its login.
    Tenant(&'a str),
}

/// Who names a token, as its signature proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Login of the owner.
    pub owner: String,
    /// Id of the token.
    pub token: String,
    /// Key that signed it.
    pub kid: String,
}

/// A token and what its owner is right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The record of the token.
    pub token: Entity,
    /// The owner's role in the tenant of the operators.
    pub operator: Option<i64>,
    /// The owner's role in what the call is about.
    pub role: Option<i64>,
}

/// All that decides about a call, in one question, because each call asks it. Nothing when the token has expired or was revoked
/// or its key was.
///
/// # Errors
/// The database failed.
pub async fn standing(
    tx: &mut Tx,
    bearer: &Bearer,
    operators: &str,
    about: About<'_>,
    now_us: i64,
) -> Result<Option<Standing>, Error> {
    let (role, subject) = match about {
        About::Nothing => ("CAST(NULL AS bigint)".to_owned(), None),
        About::Project(id) => (crate::project::role_of("$6", "$2"), Some(id)),
        About::Tenant(login) => (crate::tenant::role_of("$6", "$2"), Some(login)),
    };
    let sql = format!(
        "SELECT id, body, generation, created_at, updated_at,
            (SELECT role FROM tenant_member WHERE tenant = $5 AND member = $2), ({role})
         FROM token WHERE id = $1 AND owner = $2 AND expires_at > $3
            AND EXISTS (SELECT 1 FROM signing_key WHERE kid = $4)"
    );
    let mut values = vec![
        (&bearer.token).into(),
        (&bearer.owner).into(),
        now_us.into(),
        (&bearer.kid).into(),
        operators.into(),
    ];
    values.extend(subject.map(Into::into));
    let row = tx.fetch_optional(sql, &values).await?;
    row.map(|row| {
        Ok(Standing {
            token: crate::table::from_row(&row)?,
            operator: row.opt_int(5)?,
            role: row.opt_int(6)?,
        })
    })
    .transpose()
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
