//! Projects and who belongs to them.

use crate::db::Tx;
use crate::member::{Member, Members, list};
use crate::{Entity, Error, Table, entity_table};

/// Columns: `tenant`. The body is the contract's `Project`.
pub const TABLE: Table = Table { name: "project", columns: &["tenant"] };

/// Direct members of projects.
pub const MEMBERS: Members = Members::new("project");

pub(crate) const SCHEMA: &[&str] = &[
    entity_table!("project", ", tenant text NOT NULL REFERENCES tenant (id)"),
    "CREATE INDEX project_tenant ON project (tenant)",
    "CREATE TABLE project_member (
        project text NOT NULL REFERENCES project (id),
        member text NOT NULL REFERENCES tenant (id),
        role bigint NOT NULL,
        created_at bigint NOT NULL,
        PRIMARY KEY (project, member)
    )",
    "CREATE INDEX project_member_member ON project_member (member)",
];

/// A question for the role of a user in a project, with the words of a statement that stand for both.
pub(crate) fn role_of(project: &str, user: &str) -> String {
    format!(
        "SELECT min(role) FROM (
            SELECT role FROM project_member WHERE project = {project} AND member = {user}
            UNION ALL
            SELECT tenant_member.role FROM tenant_member
            JOIN project ON project.tenant = tenant_member.tenant
            WHERE project.id = {project} AND tenant_member.member = {user} AND tenant_member.role <= 3) AS roles"
    )
}

/// Role of a user in a project: the stronger of their own and the one that they have in the project's tenant, where
/// guests have none.
///
/// # Errors
/// The database failed.
pub async fn role(tx: &mut Tx, project: &str, user: &str) -> Result<Option<i64>, Error> {
    match tx.fetch_optional(role_of("$1", "$2"), &[project.into(), user.into()]).await? {
        Some(row) => row.opt_int(0),
        None => Ok(None),
    }
}

/// Roles of a user in all projects, own ones and inherited ones.
///
/// # Errors
/// The database failed.
pub async fn roles_of_user(tx: &mut Tx, user: &str) -> Result<Vec<(String, i64)>, Error> {
    tx.fetch_all(
        "SELECT project, min(role) FROM (
            SELECT project, role FROM project_member WHERE member = $1
            UNION ALL
            SELECT project.id AS project, tenant_member.role FROM project
            JOIN tenant_member ON tenant_member.tenant = project.tenant
            WHERE tenant_member.member = $1 AND tenant_member.role <= 3) AS roles
         GROUP BY project ORDER BY project",
        &[user.into()],
    )
    .await?
    .iter()
    .map(|row| Ok((row.text(0)?, row.int(1)?)))
    .collect()
}

/// Tables whose rows keep their project, with what a human calls them.
const CONTENTS: &[(&str, &str)] = &[
    ("machine", "machines"),
    ("ip", "addresses"),
    ("network", "networks"),
    ("size_reservation", "size reservations"),
];

/// What is in a project, of each kind how many.
///
/// # Errors
/// The database failed.
pub async fn contents(tx: &mut Tx, project: &str) -> Result<Vec<(&'static str, i64)>, Error> {
    let mut found = Vec::new();
    for (table, kind) in CONTENTS {
        let sql = format!("SELECT count(*) FROM {table} WHERE project = $1");
        if let Some(row) = tx.fetch_optional(sql, &[project.into()]).await?
            && row.int(0)? > 0
        {
            found.push((*kind, row.int(0)?));
        }
    }
    Ok(found)
}

/// Removes all direct members.
///
/// # Errors
/// The database failed.
pub async fn remove_all_members(tx: &mut Tx, project: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM project_member WHERE project = $1", &[project.into()]).await?;
    Ok(())
}

/// Direct memberships of all projects of a tenant, ordered by member and project.
///
/// # Errors
/// The database failed.
pub async fn members_of_tenant(tx: &mut Tx, tenant: &str) -> Result<Vec<Member>, Error> {
    list(
        tx,
        "SELECT project_member.project, project_member.member, project_member.role, project_member.created_at
         FROM project_member JOIN project ON project.id = project_member.project
         WHERE project.tenant = $1 ORDER BY project_member.member, project_member.project",
        tenant,
    )
    .await
}

/// Projects in which a user takes part, directly or through their tenant, ordered by id.
///
/// # Errors
/// The database failed.
pub async fn of_user(tx: &mut Tx, user: &str) -> Result<Vec<Entity>, Error> {
    tx.fetch_all(
        "SELECT id, body, generation, created_at, updated_at FROM project WHERE id IN (
            SELECT project FROM project_member WHERE member = $1
            UNION SELECT project.id FROM project JOIN tenant_member ON tenant_member.tenant = project.tenant
            WHERE tenant_member.member = $1) ORDER BY id",
        &[user.into()],
    )
    .await?
    .iter()
    .map(crate::table::from_row)
    .collect()
}
