//! Machines, and the narrow tables beside them that change without the machine changing.

use crate::db::Tx;
use crate::{Entity, Error, Table, entity_table};

/// Columns: `partition`, `rack`, `size` (empty when not known), `project` and `allocation` (absent when free), `state` (the
/// contract's `MachineState` as a number). The body is the contract's `Machine` with references by id.
pub const TABLE: Table = Table {
    name: "machine",
    columns: &["partition", "rack", "size", "project", "allocation", "state"],
};

pub(crate) const SCHEMA: &[&str] = &[
    entity_table!(
        "machine",
        ", partition text NOT NULL, rack text NOT NULL, size text NOT NULL, project text, allocation text, state bigint NOT NULL"
    ),
    "CREATE INDEX machine_partition ON machine (partition, size)",
    "CREATE INDEX machine_project ON machine (project, partition, size)",
    "CREATE UNIQUE INDEX machine_allocation ON machine (allocation)",
    "CREATE TABLE machine_bmc (
        machine text PRIMARY KEY REFERENCES machine (id) ON DELETE CASCADE,
        address text NOT NULL,
        body text NOT NULL,
        updated_at bigint NOT NULL
    )",
    "CREATE INDEX machine_bmc_address ON machine_bmc (address)",
    "CREATE TABLE machine_secret (
        machine text PRIMARY KEY REFERENCES machine (id) ON DELETE CASCADE,
        console_password text NOT NULL
    )",
];

/// The machines of a project of one partition and size.
///
/// # Errors
/// The database failed.
pub async fn of_project(
    tx: &mut Tx,
    project: &str,
    partition: &str,
    size: &str,
) -> Result<Vec<Entity>, Error> {
    TABLE.select().eq("project", project).eq("partition", partition).eq("size", size).all(tx).await
}

/// Ids, partitions, sizes and states of all machines: what capacity is counted from.
///
/// # Errors
/// The database failed.
pub async fn counts(tx: &mut Tx, partition: Option<&str>) -> Result<Vec<Count>, Error> {
    let mut sql =
        "SELECT partition, size, coalesce(project, ''), state, count(*) FROM machine".to_owned();
    let mut values = Vec::new();
    if let Some(partition) = partition {
        sql += " WHERE partition = $1";
        values.push(partition.into());
    }
    sql += " GROUP BY partition, size, coalesce(project, ''), state ORDER BY 1, 2, 3, 4";
    tx.fetch_all(sql, &values)
        .await?
        .iter()
        .map(|row| {
            Ok(Count {
                partition: row.text(0)?,
                size: row.text(1)?,
                project: row.text(2)?,
                state: row.int(3)?,
                machines: row.int(4)?,
            })
        })
        .collect()
}

/// How many machines share partition, size, project (empty: free) and state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Id of the partition.
    pub partition: String,
    /// Id of the size.
    pub size: String,
    /// Id of the project, empty when free.
    pub project: String,
    /// The contract's `MachineState`.
    pub state: i64,
    /// How many.
    pub machines: i64,
}

/// What the BMC agent and the installer told about the BMC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bmc {
    /// Id of the machine.
    pub machine: String,
    /// Address, empty when not known.
    pub address: String,
    /// The contract's `MachineBMCReport` as JSON.
    pub body: String,
    /// Microseconds since 1970 of the agent's last report; 0 when it never reported.
    pub updated_at_us: i64,
}

/// The BMC of a machine.
///
/// # Errors
/// The database failed.
pub async fn bmc(tx: &mut Tx, machine: &str) -> Result<Option<Bmc>, Error> {
    Ok(bmcs(tx, Some(machine)).await?.into_iter().next())
}

/// The BMC of a machine, or of all, sorted by id.
///
/// # Errors
/// The database failed.
pub async fn bmcs(tx: &mut Tx, machine: Option<&str>) -> Result<Vec<Bmc>, Error> {
    let mut sql = "SELECT machine, address, body, updated_at FROM machine_bmc".to_owned();
    let mut values = Vec::new();
    if let Some(machine) = machine {
        sql += " WHERE machine = $1";
        values.push(machine.into());
    }
    sql += " ORDER BY machine";
    tx.fetch_all(sql, &values)
        .await?
        .iter()
        .map(|row| {
            Ok(Bmc {
                machine: row.text(0)?,
                address: row.text(1)?,
                body: row.text(2)?,
                updated_at_us: row.int(3)?,
            })
        })
        .collect()
}

/// Stores what is known of a BMC.
///
/// # Errors
/// The machine does not exist.
pub async fn set_bmc(tx: &mut Tx, bmc: &Bmc) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO machine_bmc (machine, address, body, updated_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (machine) DO UPDATE SET address = excluded.address, body = excluded.body, updated_at = excluded.updated_at",
        &[(&bmc.machine).into(), (&bmc.address).into(), (&bmc.body).into(), bmc.updated_at_us.into()],
    )
    .await?;
    Ok(())
}

/// Stores the password of the installed system's console; `None` forgets it.
///
/// # Errors
/// The machine does not exist.
pub async fn set_console_password(
    tx: &mut Tx,
    machine: &str,
    password: Option<&str>,
) -> Result<(), Error> {
    tx.execute("DELETE FROM machine_secret WHERE machine = $1", &[machine.into()]).await?;
    if let Some(password) = password {
        tx.execute(
            "INSERT INTO machine_secret (machine, console_password) VALUES ($1, $2)",
            &[machine.into(), password.into()],
        )
        .await?;
    }
    Ok(())
}

/// The password of the installed system's console.
///
/// # Errors
/// The database failed.
pub async fn console_password(tx: &mut Tx, machine: &str) -> Result<Option<String>, Error> {
    let row = tx
        .fetch_optional(
            "SELECT console_password FROM machine_secret WHERE machine = $1",
            &[machine.into()],
        )
        .await?;
    row.map(|row| row.text(0)).transpose()
}
