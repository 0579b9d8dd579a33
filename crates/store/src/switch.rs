//! Switches: what they should be (the entity), what hangs on them (relational), and what their agent reported (a narrow row that
//! can never touch the first two).

use crate::db::{Row, Tx};
use crate::table::{COMMON, from_row};
use crate::{Entity, Error, Table, entity_table};

/// Columns: `partition`, `rack`. The body is the contract's `Switch` without connections and without what heartbeats tell.
/// Its generation grows with every change of what the switch should be.
pub const TABLE: Table = Table { name: "switch", columns: &["partition", "rack"] };

pub(crate) const SCHEMA: &[&str] = &[
    entity_table!("switch", ", partition text NOT NULL, rack text NOT NULL"),
    "CREATE INDEX switch_rack ON switch (partition, rack)",
    "CREATE TABLE switch_connection (
        switch text NOT NULL REFERENCES switch (id) ON DELETE CASCADE,
        nic text NOT NULL,
        machine text NOT NULL REFERENCES machine (id) ON DELETE CASCADE,
        PRIMARY KEY (switch, nic)
    )",
    "CREATE INDEX switch_connection_machine ON switch_connection (machine)",
    "CREATE TABLE switch_status (
        switch text PRIMARY KEY REFERENCES switch (id) ON DELETE CASCADE,
        last_sync text NOT NULL,
        last_sync_error text NOT NULL,
        ports text NOT NULL,
        read_generation bigint NOT NULL,
        confirmed_generation bigint NOT NULL,
        heartbeat_at bigint NOT NULL
    )",
];

/// A cable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Id of the switch.
    pub switch: String,
    /// Name of its port.
    pub nic: String,
    /// Id of the machine.
    pub machine: String,
}

fn connection(row: &Row) -> Result<Connection, Error> {
    Ok(Connection { switch: row.text(0)?, nic: row.text(1)?, machine: row.text(2)? })
}

/// The cables of a machine.
///
/// # Errors
/// The database failed.
pub async fn connections_of_machine(tx: &mut Tx, machine: &str) -> Result<Vec<Connection>, Error> {
    tx.fetch_all(
        "SELECT switch, nic, machine FROM switch_connection WHERE machine = $1 ORDER BY switch, nic",
        &[machine.into()],
    )
    .await?
    .iter()
    .map(connection)
    .collect()
}

/// The cables of a switch.
///
/// # Errors
/// The database failed.
pub async fn connections_of_switch(tx: &mut Tx, switch: &str) -> Result<Vec<Connection>, Error> {
    tx.fetch_all(
        "SELECT switch, nic, machine FROM switch_connection WHERE switch = $1 ORDER BY machine, nic",
        &[switch.into()],
    )
    .await?
    .iter()
    .map(connection)
    .collect()
}

/// Ids of the switches on which machines of a project hang.
///
/// # Errors
/// The database failed.
pub async fn of_project(tx: &mut Tx, project: &str) -> Result<Vec<String>, Error> {
    of_projects(tx, &[project]).await
}

async fn of_projects(tx: &mut Tx, projects: &[&str]) -> Result<Vec<String>, Error> {
    let (holes, values) = crate::db::list(projects);
    let sql = format!(
        "SELECT DISTINCT switch_connection.switch FROM switch_connection
         JOIN machine ON machine.id = switch_connection.machine WHERE machine.project IN ({holes})
         ORDER BY 1"
    );
    tx.fetch_all(sql, &values).await?.iter().map(|row| row.text(0)).collect()
}

/// Replaces the cables of a machine.
///
/// # Errors
/// A switch or the machine does not exist, or a port is another machine's.
pub async fn set_connections(
    tx: &mut Tx,
    machine: &str,
    connections: &[Connection],
) -> Result<(), Error> {
    tx.execute("DELETE FROM switch_connection WHERE machine = $1", &[machine.into()]).await?;
    for one in connections {
        // a machine that was replaced by another one at the same port has lost it
        tx.execute(
            "DELETE FROM switch_connection WHERE switch = $1 AND nic = $2",
            &[(&one.switch).into(), (&one.nic).into()],
        )
        .await?;
        tx.execute(
            "INSERT INTO switch_connection (switch, nic, machine) VALUES ($1, $2, $3)",
            &[(&one.switch).into(), (&one.nic).into(), (&one.machine).into()],
        )
        .await?;
        nudge(tx, &one.switch);
    }
    Ok(())
}

/// Moves all cables of one switch to another; `rename` gives the new name of each port.
///
/// # Errors
/// The database failed.
pub async fn move_connections(
    tx: &mut Tx,
    from: &str,
    to: &str,
    moved: &[(Connection, String)],
) -> Result<(), Error> {
    tx.execute("DELETE FROM switch_connection WHERE switch = $1", &[from.into()]).await?;
    for (old, nic) in moved {
        tx.execute(
            "INSERT INTO switch_connection (switch, nic, machine) VALUES ($1, $2, $3)",
            &[to.into(), nic.into(), (&old.machine).into()],
        )
        .await?;
    }
    nudge(tx, from);
    nudge(tx, to);
    Ok(())
}

/// What the agent of a switch told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Id of the switch.
    pub switch: String,
    /// The contract's `SwitchSync` as JSON, empty when it never succeeded.
    pub last_sync: String,
    /// The same for failures.
    pub last_sync_error: String,
    /// Port states and BGP sessions as JSON.
    pub ports: String,
    /// Newest generation that the agent has read.
    pub read_generation: i64,
    /// Newest generation that it has applied.
    pub confirmed_generation: i64,
    /// Microseconds since 1970 of the last heartbeat.
    pub heartbeat_at_us: i64,
}

const STATUS: &str = "switch, last_sync, last_sync_error, ports, read_generation, confirmed_generation, heartbeat_at";

/// From the columns of [`STATUS`], of which the first is this one.
fn status_row(row: &Row, first: usize) -> Result<Status, Error> {
    Ok(Status {
        switch: row.text(first)?,
        last_sync: row.text(first + 1)?,
        last_sync_error: row.text(first + 2)?,
        ports: row.text(first + 3)?,
        read_generation: row.int(first + 4)?,
        confirmed_generation: row.int(first + 5)?,
        heartbeat_at_us: row.int(first + 6)?,
    })
}

/// What the agent of a switch told.
///
/// # Errors
/// The database failed.
pub async fn status(tx: &mut Tx, switch: &str) -> Result<Option<Status>, Error> {
    let sql = format!("SELECT {STATUS} FROM switch_status WHERE switch = $1{}", tx.for_update());
    tx.fetch_optional(sql, &[switch.into()])
        .await?
        .as_ref()
        .map(|row| status_row(row, 0))
        .transpose()
}

/// The same without holding the row.
///
/// # Errors
/// The database failed.
pub async fn peek_status(tx: &mut Tx, switch: &str) -> Result<Option<Status>, Error> {
    let sql = format!("SELECT {STATUS} FROM switch_status WHERE switch = $1");
    tx.fetch_optional(sql, &[switch.into()])
        .await?
        .as_ref()
        .map(|row| status_row(row, 0))
        .transpose()
}

/// A switch with what its agent told, in one question.
///
/// # Errors
/// The database failed.
pub async fn with_status(
    tx: &mut Tx,
    switch: &str,
) -> Result<Option<(Entity, Option<Status>)>, Error> {
    let sql = format!(
        "SELECT {COMMON}, {STATUS} FROM switch LEFT JOIN switch_status ON switch_status.switch = switch.id
         WHERE switch.id = $1"
    );
    let Some(row) = tx.fetch_optional(sql, &[switch.into()]).await? else { return Ok(None) };
    let status = match row.opt_text(5)? {
        Some(_) => Some(status_row(&row, 5)?),
        None => None,
    };
    Ok(Some((from_row(&row)?, status)))
}

/// Stores what the agent told in a heartbeat; generations only grow.
///
/// # Errors
/// The switch does not exist.
pub async fn put_status(tx: &mut Tx, status: &Status) -> Result<(), Error> {
    tx.execute(
        format!(
            "INSERT INTO switch_status ({STATUS}) VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (switch) DO UPDATE SET last_sync = excluded.last_sync, last_sync_error = excluded.last_sync_error,
             ports = excluded.ports, heartbeat_at = excluded.heartbeat_at,
             read_generation = CASE WHEN excluded.read_generation > switch_status.read_generation
                THEN excluded.read_generation ELSE switch_status.read_generation END,
             confirmed_generation = CASE WHEN excluded.confirmed_generation > switch_status.confirmed_generation
                THEN excluded.confirmed_generation ELSE switch_status.confirmed_generation END"
        ),
        &[
            (&status.switch).into(),
            (&status.last_sync).into(),
            (&status.last_sync_error).into(),
            (&status.ports).into(),
            status.read_generation.into(),
            status.confirmed_generation.into(),
            status.heartbeat_at_us.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Wakes the agent of a switch.
pub fn nudge(tx: &mut Tx, switch: &str) {
    tx.nudge(format!("switch/{switch}"));
}

/// Wakes the agents of all switches on which machines of a project hang, because what these may announce has changed.
///
/// # Errors
/// The database failed.
pub async fn nudge_project(tx: &mut Tx, project: &str) -> Result<(), Error> {
    nudge_projects(tx, &[project]).await
}

/// As [`nudge_project`] of several projects, in one question.
///
/// # Errors
/// The database failed.
pub async fn nudge_projects(tx: &mut Tx, projects: &[&str]) -> Result<(), Error> {
    for switch in of_projects(tx, projects).await? {
        nudge(tx, &switch);
    }
    Ok(())
}

/// The switches of a rack.
///
/// # Errors
/// The database failed.
pub async fn of_rack(tx: &mut Tx, partition: &str, rack: &str) -> Result<Vec<Entity>, Error> {
    TABLE.select().eq("partition", partition).eq("rack", rack).all(tx).await
}
