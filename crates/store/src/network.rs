//! Networks.

use crate::db::Tx;
use crate::{Entity, Error, Table, entity_table};

/// Columns: `project`, `partition`, `type` (number of the contract), `parent`, `vrf`; all but the type may be empty. The body
/// is the contract's `Network` without its consumption.
pub const TABLE: Table =
    Table { name: "network", columns: &["project", "partition", "type", "parent", "vrf"] };

pub(crate) const SCHEMA: &[&str] = &[
    entity_table!(
        "network",
        ", project text REFERENCES project (id), partition text REFERENCES partition (id),
        type bigint NOT NULL CHECK (type BETWEEN 1 AND 6), parent text REFERENCES network (id), vrf bigint"
    ),
    "CREATE INDEX network_project ON network (project)",
    "CREATE INDEX network_partition ON network (partition)",
    "CREATE INDEX network_parent ON network (parent)",
    "CREATE INDEX network_vrf ON network (vrf)",
    // one super network in a partition, one shared private network of a project
    "CREATE UNIQUE INDEX network_one_super ON network (partition) WHERE type = 3 AND partition IS NOT NULL",
    "CREATE UNIQUE INDEX network_one_shared ON network (project) WHERE type = 6",
];

/// What a project may build on: its own networks, those that others share, and the global ones that users see, ordered by id.
///
/// # Errors
/// The database failed.
pub async fn base(tx: &mut Tx, project: &str) -> Result<Vec<Entity>, Error> {
    tx.fetch_all(
        "SELECT id, body, generation, created_at, updated_at FROM network
         WHERE project = $1 OR type = 6 OR (project IS NULL AND type <> 2) ORDER BY id",
        &[project.into()],
    )
    .await?
    .iter()
    .map(crate::table::from_row)
    .collect()
}
