//! Tenants and who belongs to them.

use crate::db::Tx;
use crate::member::{Member, Members, list};
use crate::{Entity, Error, Table, entity_table};

/// The body is the contract's `Tenant`; the id is its login.
pub const TABLE: Table = Table { name: "tenant", columns: &[] };

/// Direct members of tenants.
pub const MEMBERS: Members = Members::new("tenant");

pub(crate) const SCHEMA: &[&str] = &[
    entity_table!("tenant", ""),
    // roles are the contract's numbers: a smaller one is stronger
    "CREATE TABLE tenant_member (
        tenant text NOT NULL REFERENCES tenant (id),
        member text NOT NULL REFERENCES tenant (id),
        role bigint NOT NULL,
        created_at bigint NOT NULL,
        PRIMARY KEY (tenant, member)
    )",
    "CREATE INDEX tenant_member_member ON tenant_member (member)",
];

/// A question for the role of a user in a tenant, with the words of a statement that stand for both.
pub(crate) fn role_of(tenant: &str, user: &str) -> String {
    format!(
        "SELECT min(role) FROM (
            SELECT role FROM tenant_member WHERE tenant = {tenant} AND member = {user}
            UNION ALL
            SELECT 4 AS role FROM project_member JOIN project ON project.id = project_member.project
            WHERE project.tenant = {tenant} AND project_member.member = {user}) AS roles"
    )
}

/// Role of a user in a tenant: their own, or guest when they are a member of one of its projects.
///
/// # Errors
/// The database failed.
pub async fn role(tx: &mut Tx, tenant: &str, user: &str) -> Result<Option<i64>, Error> {
    match tx.fetch_optional(role_of("$1", "$2"), &[tenant.into(), user.into()]).await? {
        Some(row) => row.opt_int(0),
        None => Ok(None),
    }
}

/// Stores a new tenant unless there is one with its id; whether it did.
///
/// # Errors
/// The database failed.
pub async fn insert_if_absent(tx: &mut Tx, row: &Entity) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "INSERT INTO tenant (id, body, generation, created_at, updated_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO NOTHING",
            &[
                (&row.id).into(),
                (&row.body).into(),
                row.generation.into(),
                row.created_at_us.into(),
                row.updated_at_us.into(),
            ],
        )
        .await?;
    Ok(rows == 1)
}

/// Removes all memberships of and in a tenant.
///
/// # Errors
/// The database failed.
pub async fn remove_all_members(tx: &mut Tx, tenant: &str) -> Result<(), Error> {
    for sql in [
        "DELETE FROM tenant_member WHERE tenant = $1 OR member = $1",
        "DELETE FROM project_member WHERE member = $1",
    ] {
        tx.execute(sql, &[tenant.into()]).await?;
    }
    Ok(())
}

/// Memberships of a user, ordered by tenant.
///
/// # Errors
/// The database failed.
pub async fn memberships(tx: &mut Tx, member: &str) -> Result<Vec<Member>, Error> {
    list(tx, "SELECT tenant, member, role, created_at FROM tenant_member WHERE member = $1 ORDER BY tenant", member).await
}

/// Tenants in which a user takes part, directly or as a member of one of their projects, ordered by login.
///
/// # Errors
/// The database failed.
pub async fn of_user(tx: &mut Tx, user: &str) -> Result<Vec<Entity>, Error> {
    tx.fetch_all(
        "SELECT id, body, generation, created_at, updated_at FROM tenant WHERE id IN (
            SELECT tenant FROM tenant_member WHERE member = $1
            UNION SELECT project.tenant FROM project JOIN project_member ON project_member.project = project.id
            WHERE project_member.member = $1) ORDER BY id",
        &[user.into()],
    )
    .await?
    .iter()
    .map(crate::table::from_row)
    .collect()
}

/// Tenants (and then projects) whose only owner is this tenant, itself left out. Who owns them stays as it is until the
/// transaction ends: whoever changes members holds the tenant or project first.
///
/// # Errors
/// The database failed.
pub async fn sole_owner_of(tx: &mut Tx, login: &str) -> Result<Vec<String>, Error> {
    for kind in ["tenant", "project"] {
        let sql = format!(
            "SELECT id FROM {kind} WHERE id IN (SELECT {kind} FROM {kind}_member WHERE member = $1 AND role = 1)
             ORDER BY id{}",
            tx.for_update()
        );
        tx.fetch_all(sql, &[login.into()]).await?;
    }
    let mut found = Vec::new();
    for sql in [
        "SELECT tenant FROM tenant_member AS own WHERE member = $1 AND tenant <> $1 AND role = 1 AND NOT EXISTS (
            SELECT 1 FROM tenant_member WHERE tenant = own.tenant AND member <> $1 AND role = 1) ORDER BY tenant",
        "SELECT project FROM project_member AS own WHERE member = $1 AND role = 1 AND NOT EXISTS (
            SELECT 1 FROM project_member WHERE project = own.project AND member <> $1 AND role = 1) ORDER BY project",
    ] {
        for row in tx.fetch_all(sql, &[login.into()]).await? {
            found.push(row.text(0)?);
        }
    }
    Ok(found)
}

/// Roles of a user in all tenants, own ones and those as a guest.
///
/// # Errors
/// The database failed.
pub async fn roles_of_user(tx: &mut Tx, user: &str) -> Result<Vec<(String, i64)>, Error> {
    tx.fetch_all(
        "SELECT tenant, min(role) FROM (
            SELECT tenant, role FROM tenant_member WHERE member = $1
            UNION ALL
            SELECT project.tenant, 4 AS role FROM project
            JOIN project_member ON project_member.project = project.id WHERE project_member.member = $1) AS roles
         GROUP BY tenant ORDER BY tenant",
        &[user.into()],
    )
    .await?
    .iter()
    .map(|row| Ok((row.text(0)?, row.int(1)?)))
    .collect()
}
