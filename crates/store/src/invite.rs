//! Invitations to tenants and projects: whoever knows the secret may use it, once, until it expires.

use crate::db::Tx;
use crate::{Entity, Error, Table, entity_table};

/// To what somebody is invited. Each kind has a table of its own, so that the secret of one never opens the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body is the contract's `TenantInvite`.
    Tenant,
    /// The body is the contract's `ProjectInvite`.
    Project,
}

pub(crate) const SCHEMA: &[&str] = &[
    entity_table!(
        "tenant_invite",
        ", target text NOT NULL REFERENCES tenant (id) ON DELETE CASCADE, expires_at bigint NOT NULL"
    ),
    "CREATE INDEX tenant_invite_target ON tenant_invite (target)",
    "CREATE INDEX tenant_invite_expiry ON tenant_invite (expires_at)",
    entity_table!(
        "project_invite",
        ", target text NOT NULL REFERENCES project (id) ON DELETE CASCADE, expires_at bigint NOT NULL"
    ),
    "CREATE INDEX project_invite_target ON project_invite (target)",
    "CREATE INDEX project_invite_expiry ON project_invite (expires_at)",
];

impl Kind {
    fn table(self) -> Table {
        let name = match self {
            Self::Tenant => "tenant_invite",
            Self::Project => "project_invite",
        };
        Table { name, columns: &["target", "expires_at"] }
    }
}

/// Stores a new invite, whose id is its secret, and forgets expired ones.
///
/// # Errors
/// [`Error::ForeignKey`] when the target does not exist.
pub async fn insert(
    tx: &mut Tx,
    kind: Kind,
    target: &str,
    invite: &Entity,
    expires_at_us: i64,
) -> Result<(), Error> {
    let sql = format!("DELETE FROM {} WHERE expires_at <= $1", kind.table().name);
    tx.execute(sql, &[invite.created_at_us.into()]).await?;
    kind.table().insert(tx, invite, &[target.into(), expires_at_us.into()]).await
}

/// The invite with this secret, unless it has expired.
///
/// # Errors
/// The database failed.
pub async fn get(
    tx: &mut Tx,
    kind: Kind,
    secret: &str,
    now_us: i64,
) -> Result<Option<Entity>, Error> {
    let sql = format!(
        "SELECT id, body, generation, created_at, updated_at FROM {} WHERE id = $1 AND expires_at > $2",
        kind.table().name
    );
    let row = tx.fetch_optional(sql, &[secret.into(), now_us.into()]).await?;
    row.as_ref().map(crate::table::from_row).transpose()
}

/// Uses an invite up: of several callers at the same time one gets it. Rolling back gives it back.
///
/// # Errors
/// The database failed.
pub async fn take(
    tx: &mut Tx,
    kind: Kind,
    secret: &str,
    now_us: i64,
) -> Result<Option<Entity>, Error> {
    let sql = format!(
        "DELETE FROM {} WHERE id = $1 AND expires_at > $2
         RETURNING id, body, generation, created_at, updated_at",
        kind.table().name
    );
    let row = tx.fetch_optional(sql, &[secret.into(), now_us.into()]).await?;
    row.as_ref().map(crate::table::from_row).transpose()
}

/// Withdraws an invite of a target; false when the target has none with this secret.
///
/// # Errors
/// The database failed.
pub async fn delete(tx: &mut Tx, kind: Kind, target: &str, secret: &str) -> Result<bool, Error> {
    let sql = format!("DELETE FROM {} WHERE id = $1 AND target = $2", kind.table().name);
    Ok(tx.execute(sql, &[secret.into(), target.into()]).await? == 1)
}

/// Invites of a target that have not expired, ordered by secret.
///
/// # Errors
/// The database failed.
pub async fn open(
    tx: &mut Tx,
    kind: Kind,
    target: &str,
    now_us: i64,
) -> Result<Vec<Entity>, Error> {
    let sql = format!(
        "SELECT id, body, generation, created_at, updated_at FROM {} WHERE target = $1 AND expires_at > $2 ORDER BY id",
        kind.table().name
    );
    let rows = tx.fetch_all(sql, &[target.into(), now_us.into()]).await?;
    rows.iter().map(crate::table::from_row).collect()
}
