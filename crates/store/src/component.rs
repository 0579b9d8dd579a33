//! Agents that report that they are alive.

use crate::db::Tx;
use crate::{Entity, Error, Table, entity_table};

/// Columns: `type` (number of the contract), `identifier`, `reported_at` (microseconds since 1970). One row per type and
/// identifier. The body is the contract's `Component`.
pub const TABLE: Table =
    Table { name: "component", columns: &["type", "identifier", "reported_at"] };

pub(crate) const SCHEMA: &[&str] = &[
    entity_table!(
        "component",
        ", type bigint NOT NULL, identifier text NOT NULL, reported_at bigint NOT NULL, UNIQUE (type, identifier)"
    ),
    "CREATE INDEX component_reported ON component (reported_at)",
];

/// Writes what a component reports; the first report sets the id, later ones keep it.
///
/// # Errors
/// The database failed.
pub async fn report(tx: &mut Tx, row: &Entity, kind: i64, identifier: &str) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO component (id, body, generation, created_at, updated_at, type, identifier, reported_at)
         VALUES ($1, $2, 0, $3, $3, $4, $5, $3)
         ON CONFLICT (type, identifier) DO UPDATE SET body = excluded.body, generation = component.generation + 1,
         updated_at = excluded.updated_at, reported_at = excluded.reported_at",
        &[
            (&row.id).into(),
            (&row.body).into(),
            row.created_at_us.into(),
            kind.into(),
            identifier.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Forgets components that were silent since `before_us`.
///
/// # Errors
/// The database failed.
pub async fn delete_silent(tx: &mut Tx, before_us: i64) -> Result<u64, Error> {
    tx.execute("DELETE FROM component WHERE reported_at < $1", &[before_us.into()]).await
}
