//! Addresses that are taken.

use crate::db::{Tx, Value};
use crate::{Entity, Error, Select, Table, entity_table};

/// Columns: `project`, `network`, `prefix` (id), `namespace` (empty for the one that all share), `address` (a key that sorts like
/// addresses), `machine` (may be empty). An address is taken once in its namespace. The id is the contract's uuid, the body
/// its `IP`.
pub const TABLE: Table = Table {
    name: "ip",
    columns: &["project", "network", "prefix", "namespace", "address", "machine"],
};

// the prefix refers to the network, so the network cannot go either
pub(crate) const SCHEMA: &[&str] = &[
    entity_table!(
        "ip",
        ", project text NOT NULL REFERENCES project (id), network text NOT NULL, prefix text NOT NULL REFERENCES prefix (id),
        namespace text NOT NULL, address text NOT NULL, machine text"
    ),
    "CREATE UNIQUE INDEX ip_address ON ip (address, namespace)",
    "CREATE INDEX ip_project ON ip (project)",
    "CREATE INDEX ip_network ON ip (network)",
    "CREATE INDEX ip_prefix ON ip (prefix)",
    "CREATE INDEX ip_machine ON ip (machine) WHERE machine IS NOT NULL",
];

/// An address as it is stored, with what its body does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The row.
    pub row: Entity,
    /// Prefix that it was taken from.
    pub prefix: String,
    /// Key of the address.
    pub address: String,
}

/// The row of an address in a namespace, which then stays as it is until the transaction ends.
///
/// # Errors
/// The database failed.
pub async fn hold(tx: &mut Tx, address: &str, namespace: &str) -> Result<Option<Taken>, Error> {
    rows(tx, "address = $1 AND namespace = $2", &[address.into(), namespace.into()])
        .await
        .map(|rows| rows.into_iter().next())
}

/// The row of an address of a network, which then stays as it is until the transaction ends.
///
/// # Errors
/// The database failed.
pub async fn hold_in_network(
    tx: &mut Tx,
    network: &str,
    address: &str,
) -> Result<Option<Taken>, Error> {
    rows(tx, "address = $1 AND network = $2", &[address.into(), network.into()])
        .await
        .map(|rows| rows.into_iter().next())
}

/// The addresses of a machine, which then stay as they are until the transaction ends, ordered by id.
///
/// # Errors
/// The database failed.
pub async fn hold_of_machine(tx: &mut Tx, machine: &str) -> Result<Vec<Taken>, Error> {
    rows(tx, "machine = $1", &[machine.into()]).await
}

async fn rows(tx: &mut Tx, filter: &str, values: &[Value]) -> Result<Vec<Taken>, Error> {
    let sql = format!(
        "SELECT id, body, generation, created_at, updated_at, prefix, address FROM ip
         WHERE {filter} ORDER BY id{}",
        tx.for_update()
    );
    tx.fetch_all(sql, values)
        .await?
        .iter()
        .map(|row| {
            Ok(Taken {
                row: crate::table::from_row(row)?,
                prefix: row.text(5)?,
                address: row.text(6)?,
            })
        })
        .collect()
}

/// Stores new rows in one statement; the columns of each in the order of the table's.
///
/// # Errors
/// One of the addresses is taken, or something that one refers to does not exist: then none was stored.
pub async fn insert_all(tx: &mut Tx, rows: &[(Entity, [Value; 6])]) -> Result<(), Error> {
    let mut values: Vec<Value> = Vec::with_capacity(rows.len() * 11);
    let mut lines = Vec::with_capacity(rows.len());
    for (row, columns) in rows {
        let first = values.len() + 1;
        let holes: Vec<_> = (first..first + 11).map(|number| format!("${number}")).collect();
        lines.push(format!("({})", holes.join(", ")));
        values.extend([
            (&row.id).into(),
            (&row.body).into(),
            row.generation.into(),
            row.created_at_us.into(),
            row.updated_at_us.into(),
        ]);
        values.extend_from_slice(columns);
    }
    if lines.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO ip (id, body, generation, created_at, updated_at, {}) VALUES {}",
        TABLE.columns.join(", "),
        lines.join(", ")
    );
    tx.execute(sql, &values).await?;
    Ok(())
}

/// Replaces the row `old` by `new` and sets its machine; false when somebody changed it meanwhile.
///
/// # Errors
/// The database failed.
pub async fn update(tx: &mut Tx, new: &Entity, machine: Option<&str>) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE ip SET body = $3, generation = $4, updated_at = $5, machine = $6
             WHERE id = $1 AND generation = $2",
            &[
                (&new.id).into(),
                (new.generation - 1).into(),
                (&new.body).into(),
                new.generation.into(),
                new.updated_at_us.into(),
                machine.into(),
            ],
        )
        .await?;
    Ok(rows == 1)
}

/// Addresses of a project or of all, by what columns hold.
#[must_use]
pub fn select(project: Option<&str>) -> Select {
    TABLE.select().eq_opt("project", project)
}
