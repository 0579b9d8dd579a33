//! Machines, and the narrow tables beside them that change without the machine changing.

use crate::db::{Row, Tx, Value};
use crate::event::Events;
use crate::table::{COMMON, from_row};
use crate::{Entity, Error, Table, entity_table};

/// Columns: `partition`, `rack`, `size` (empty when not known), `project` and `allocation` (absent when free), `state` (the
/// contract's `MachineState` as a number). The body is the contract's `Machine` with references by id.
pub const TABLE: Table = Table {
    name: "machine",
    columns: &["partition", "rack", "size", "project", "allocation", "state"],
};

/// As [`TABLE`], for those who write the message in its binary form as well: `encoded` says what the body of `encoded_generation`
/// says. Who does not know of it leaves it behind, and then the body alone counts (docs/adr/0010).
pub const ENCODED: Table = Table {
    name: TABLE.name,
    columns: &[
        "partition",
        "rack",
        "size",
        "project",
        "allocation",
        "state",
        "encoded",
        "encoded_generation",
    ],
};

pub(crate) const ENCODED_SCHEMA: &[&str] = &[
    "ALTER TABLE machine ADD COLUMN encoded bytea",
    "ALTER TABLE machine ADD COLUMN encoded_generation bigint",
];

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

/// A machine with what the narrow tables know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The machine. Its body is empty when there is a binary form, which is half as long and read in a fraction of the time.
    pub row: Entity,
    /// The binary form of the message, if whoever wrote the row knew of it.
    pub encoded: Option<Vec<u8>>,
    /// What happened to it.
    pub events: Option<Events>,
    /// What is known of its BMC.
    pub bmc: Option<Bmc>,
    /// Whether its installer waits for an allocation.
    pub waits: bool,
    /// Id of the partition.
    pub partition: String,
    /// Id of the size.
    pub size: String,
}

/// Which machines are wanted; what is absent does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter<'a> {
    /// Id in lower case.
    pub id: Option<&'a str>,
    /// Id of the partition.
    pub partition: Option<&'a str>,
    /// Rack.
    pub rack: Option<&'a str>,
    /// Id of the size.
    pub size: Option<&'a str>,
    /// Id of the project.
    pub project: Option<&'a str>,
}

const WHOLE: &str =
    "m.id, CASE WHEN m.encoded_generation = m.generation THEN '' ELSE m.body END, m.generation, m.created_at,
    m.updated_at, e.body, e.last_event_at, e.liveliness, e.crash_loop, e.failed_reclaim, b.address, b.body, b.updated_at,
    w.stream, m.partition, m.size, CASE WHEN m.encoded_generation = m.generation THEN m.encoded END";
const BESIDE: &str = "machine m LEFT JOIN machine_event e ON e.machine = m.id
    LEFT JOIN machine_bmc b ON b.machine = m.id LEFT JOIN waiting w ON w.machine = m.id";

fn whole_from(row: &Row) -> Result<Whole, Error> {
    let machine = from_row(row)?;
    let events = match row.opt_text(5)? {
        Some(body) => Some(Events {
            machine: machine.id.clone(),
            body,
            last_event_at_us: row.int(6)?,
            liveliness: row.int(7)?,
            crash_loop: row.bool(8)?,
            failed_reclaim: row.bool(9)?,
        }),
        None => None,
    };
    let bmc = match row.opt_text(10)? {
        Some(address) => Some(Bmc {
            machine: machine.id.clone(),
            address,
            body: row.text(11)?,
            updated_at_us: row.int(12)?,
        }),
        None => None,
    };
    Ok(Whole {
        row: machine,
        encoded: row.opt_bytes(16)?,
        events,
        bmc,
        waits: row.opt_text(13)?.is_some(),
        partition: row.text(14)?,
        size: row.text(15)?,
    })
}

/// Machines with what the narrow tables know of them, ordered by id.
///
/// # Errors
/// The database failed.
pub async fn wholes(tx: &mut Tx, filter: Filter<'_>) -> Result<Vec<Whole>, Error> {
    let mut values: Vec<Value> = Vec::new();
    let mut terms = Vec::new();
    for (column, wanted) in [
        ("id", filter.id),
        ("partition", filter.partition),
        ("rack", filter.rack),
        ("size", filter.size),
        ("project", filter.project),
    ] {
        if let Some(wanted) = wanted {
            values.push(wanted.into());
            terms.push(format!("m.{column} = ${}", values.len()));
        }
    }
    let terms = match terms.as_slice() {
        [] => String::new(),
        terms => format!(" WHERE {}", terms.join(" AND ")),
    };
    let sql = format!("SELECT {WHOLE} FROM {BESIDE}{terms}");
    let rows = tx.fetch_all(sql, &values).await?;
    let mut found = rows.iter().map(whole_from).collect::<Result<Vec<_>, _>>()?;
    // PostgreSQL would sort the bodies as well, on disk
    found.sort_unstable_by(|a, b| a.row.id.cmp(&b.row.id));
    Ok(found)
}

/// A machine with what the narrow tables know of it, its partition and its size, in one question.
///
/// # Errors
/// The database failed.
pub async fn whole(
    tx: &mut Tx,
    id: &str,
) -> Result<Option<(Whole, Option<Entity>, Option<Entity>)>, Error> {
    const OF: fn(&str) -> String =
        |of| format!("{of}.id, {of}.body, {of}.generation, {of}.created_at, {of}.updated_at");
    let sql = format!(
        "SELECT {WHOLE}, {}, {} FROM {BESIDE} LEFT JOIN partition p ON p.id = m.partition
         LEFT JOIN size s ON s.id = m.size WHERE m.id = $1",
        OF("p"),
        OF("s")
    );
    let Some(row) = tx.fetch_optional(sql, &[id.into()]).await? else { return Ok(None) };
    let entity = |first: usize| match row.opt_text(first)? {
        Some(id) => Ok::<_, Error>(Some(Entity {
            id,
            body: row.text(first + 1)?,
            generation: row.int(first + 2)?,
            created_at_us: row.int(first + 3)?,
            updated_at_us: row.int(first + 4)?,
        })),
        None => Ok(None),
    };
    Ok(Some((whole_from(&row)?, entity(17)?, entity(22)?)))
}

/// Machines without a binary form of what they say now, ordered by id, from behind `after`, at most `limit`.
///
/// # Errors
/// The database failed.
pub async fn unencoded(tx: &mut Tx, after: &str, limit: u32) -> Result<Vec<Entity>, Error> {
    let sql = format!(
        "SELECT {COMMON} FROM machine WHERE id > $1 AND (encoded_generation IS NULL OR encoded_generation <> generation)
         ORDER BY id LIMIT {limit}"
    );
    tx.fetch_all(sql, &[after.into()]).await?.iter().map(from_row).collect()
}

/// Adds the binary form of what a row says, unless the row was changed since; the machine itself does not change.
///
/// # Errors
/// The database failed.
pub async fn encode(tx: &mut Tx, row: &Entity, encoded: Vec<u8>) -> Result<(), Error> {
    tx.execute(
        "UPDATE machine SET encoded = $3, encoded_generation = $2 WHERE id = $1 AND generation = $2",
        &[(&row.id).into(), row.generation.into(), encoded.into()],
    )
    .await?;
    Ok(())
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
