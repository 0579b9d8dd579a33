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
    // a machine may be attached without an address
    "CREATE TABLE network_machine (
        network text NOT NULL REFERENCES network (id),
        machine text NOT NULL,
        PRIMARY KEY (network, machine)
    )",
    "CREATE INDEX network_machine_machine ON network_machine (machine)",
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

/// Notes that a machine is attached to a network, which then cannot be deleted. Twice is no error.
///
/// # Errors
/// [`Error::ForeignKey`] when the network does not exist.
pub async fn join(tx: &mut Tx, network: &str, machine: &str) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO network_machine (network, machine) VALUES ($1, $2) ON CONFLICT (network, machine) DO NOTHING",
        &[network.into(), machine.into()],
    )
    .await?;
    Ok(())
}

/// Forgets all networks of a machine.
///
/// # Errors
/// The database failed.
pub async fn leave(tx: &mut Tx, machine: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM network_machine WHERE machine = $1", &[machine.into()]).await?;
    Ok(())
}

/// How many machines are attached to a network.
///
/// # Errors
/// The database failed.
pub async fn machines(tx: &mut Tx, network: &str) -> Result<i64, Error> {
    let row = tx
        .fetch_optional(
            "SELECT count(*) FROM network_machine WHERE network = $1",
            &[network.into()],
        )
        .await?;
    row.map_or(Ok(0), |row| row.int(0))
}
