//! Address space (docs/adr/0005): the prefixes of networks, aligned free blocks for child prefixes, free ranges for addresses
//! and for other numbers.

pub mod block;
pub mod range;

use model::prefix::{Block, from_key, key};

use crate::db::{Row, Tx, Value};
use crate::{Entity, Error};

pub(crate) const SCHEMA: &[&str] = &[
    // `pool` is empty for a prefix that an operator made, else where it was carved from; first and last address are keys
    // that sort like addresses
    "CREATE TABLE prefix (
        id text PRIMARY KEY,
        network text NOT NULL REFERENCES network (id),
        namespace text NOT NULL,
        ordinal bigint NOT NULL,
        first text NOT NULL,
        last text NOT NULL,
        length bigint NOT NULL,
        pool text
    )",
    "CREATE INDEX prefix_network ON prefix (network, ordinal)",
    "CREATE INDEX prefix_roots ON prefix (first, last) WHERE pool IS NULL",
    "CREATE UNIQUE INDEX prefix_pool_first ON prefix (pool, first)",
    block::SCHEMA_POOL,
    block::SCHEMA_FREE,
    range::SCHEMA_FREE,
    range::SCHEMA_TAKEN,
    // model::pool::VRF and model::pool::ASN
    "INSERT INTO free_range (space, first, last) VALUES
        ('vrf', '00000000000000000000000000000001', '00000000000000000000000000020000'),
        ('asn', '00000000000000000000000000000001', '00000000000000000000000000020000')",
];

/// Space of VRFs.
pub const VRF: &str = "vrf";
/// Space of the numbers of autonomous systems.
pub const ASN: &str = "asn";

/// Any number that nothing else locks.
const LOCK: i64 = 7_243_020;

/// A prefix of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Primary key.
    pub id: String,
    /// Whose it is.
    pub network: String,
    /// Project whose namespace it lives in; empty for the one that all share.
    pub namespace: String,
    /// Its place among the prefixes of the network.
    pub ordinal: i64,
    /// The addresses.
    pub block: Block,
    /// Pool that it was carved from.
    pub pool: Option<String>,
}

const COLUMNS: &str = "id, network, namespace, ordinal, first, length, pool";

fn from_row(row: &Row) -> Result<Prefix, Error> {
    Ok(Prefix {
        id: row.text(0)?,
        network: row.text(1)?,
        namespace: row.text(2)?,
        ordinal: row.int(3)?,
        block: block_from(row, 4)?,
        pool: row.opt_text(6)?,
    })
}

/// From a column with the key of its first address and the next one with its length.
fn block_from(row: &Row, column: usize) -> Result<Block, Error> {
    let first = row.text(column)?;
    let length = u8::try_from(row.int(column + 1)?).unwrap_or(u8::MAX);
    from_key(&first)
        .and_then(|address| Block::new(address, length))
        .ok_or_else(|| Error::Database(format!("damaged prefix {first}/{length}")))
}

/// Keys of the first and the last address of a block.
fn keys(block: &Block) -> (String, String) {
    (key(block.family.address(block.first)), key(block.family.address(block.last())))
}

/// Stores a prefix; `addresses` are given out of it if it is no pool of child prefixes.
///
/// # Errors
/// [`Error::ForeignKey`] when the network does not exist.
pub async fn insert(tx: &mut Tx, prefix: &Prefix, addresses: bool) -> Result<(), Error> {
    let (first, last) = keys(&prefix.block);
    tx.execute(
        "INSERT INTO prefix (id, network, namespace, ordinal, first, last, length, pool)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            (&prefix.id).into(),
            (&prefix.network).into(),
            (&prefix.namespace).into(),
            prefix.ordinal.into(),
            first.into(),
            last.into(),
            i64::from(prefix.block.length).into(),
            Value::OptText(prefix.pool.clone()),
        ],
    )
    .await?;
    if addresses {
        let (first, last) = prefix.block.hosts();
        range::fill(tx, &prefix.id, model::pool::Range { first, last }).await?;
    }
    Ok(())
}

/// The prefixes of a network in their order.
///
/// # Errors
/// The database failed.
pub async fn of_network(tx: &mut Tx, network: &str) -> Result<Vec<Prefix>, Error> {
    tx.fetch_all(
        format!("SELECT {COLUMNS} FROM prefix WHERE network = $1 ORDER BY ordinal"),
        &[network.into()],
    )
    .await?
    .iter()
    .map(from_row)
    .collect()
}

/// A network and its prefixes in their order, in one question.
///
/// # Errors
/// The database failed.
pub async fn with_network(
    tx: &mut Tx,
    network: &str,
) -> Result<Option<(Entity, Vec<Prefix>)>, Error> {
    Ok(with_networks(tx, &[network]).await?.into_iter().next())
}

/// Networks and the prefixes of each in their order, in one question; those that do not exist are left out.
///
/// # Errors
/// The database failed.
pub async fn with_networks(
    tx: &mut Tx,
    networks: &[&str],
) -> Result<Vec<(Entity, Vec<Prefix>)>, Error> {
    let (holes, values) = crate::db::list(networks);
    let sql = format!(
        "SELECT p.id, p.network, p.namespace, p.ordinal, p.first, p.length, p.pool,
            n.id, n.body, n.generation, n.created_at, n.updated_at
         FROM network n LEFT JOIN prefix p ON p.network = n.id WHERE n.id IN ({holes})
         ORDER BY n.id, p.ordinal"
    );
    let mut found: Vec<(Entity, Vec<Prefix>)> = Vec::new();
    for row in &tx.fetch_all(sql, &values).await? {
        let id = row.text(7)?;
        if found.last().is_none_or(|(network, _)| network.id != id) {
            let network = Entity {
                id,
                body: row.text(8)?,
                generation: row.int(9)?,
                created_at_us: row.int(10)?,
                updated_at_us: row.int(11)?,
            };
            found.push((network, Vec::new()));
        }
        // a network without prefixes is one row that has none
        if let Some((_, prefixes)) = found.last_mut()
            && row.opt_text(0)?.is_some()
        {
            prefixes.push(from_row(row)?);
        }
    }
    Ok(found)
}

/// Moves a prefix to another place among those of its network.
///
/// # Errors
/// The database failed.
pub async fn set_ordinal(tx: &mut Tx, id: &str, ordinal: i64) -> Result<(), Error> {
    tx.execute("UPDATE prefix SET ordinal = $2 WHERE id = $1", &[id.into(), ordinal.into()])
        .await?;
    Ok(())
}

/// Removes a prefix and gives its space back to where it was carved from.
///
/// # Errors
/// [`Error::ForeignKey`] when addresses or child prefixes are taken from it.
pub async fn delete(tx: &mut Tx, prefix: &Prefix) -> Result<(), Error> {
    tx.execute("DELETE FROM prefix WHERE id = $1", &[(&prefix.id).into()]).await?;
    range::clear(tx, &prefix.id).await?;
    if let Some(pool) = &prefix.pool {
        block::give(tx, pool, prefix.block).await?;
    }
    Ok(())
}

/// A prefix made by an operator that has an address in common with this one. Nobody else can make one until the transaction
/// ends.
///
/// # Errors
/// The database failed.
pub async fn overlapping(tx: &mut Tx, block: &Block) -> Result<Option<Prefix>, Error> {
    tx.lock(LOCK).await?;
    let (first, last) = keys(block);
    tx.fetch_optional(
        format!(
            "SELECT {COLUMNS} FROM prefix WHERE pool IS NULL AND first <= $2 AND last >= $1
             ORDER BY first LIMIT 1"
        ),
        &[first.into(), last.into()],
    )
    .await?
    .as_ref()
    .map(from_row)
    .transpose()
}

/// How much of a prefix is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The prefix.
    pub prefix: String,
    /// Its network.
    pub network: String,
    /// Its space.
    pub block: Block,
    /// Addresses taken.
    pub addresses: i64,
    /// Child prefixes carved.
    pub children: i64,
    /// Free blocks that child prefixes of at least four addresses fit into, when children were carved.
    pub free_blocks: i64,
}

/// Usage of all prefixes of some networks: of one, of those of a project, or of all.
///
/// # Errors
/// The database failed.
pub async fn usage(tx: &mut Tx, of: Usages<'_>) -> Result<Vec<Usage>, Error> {
    let (filter, values): (&str, Vec<Value>) = match of {
        Usages::Network(id) => (" WHERE p.network = $1", vec![id.into()]),
        Usages::Project(id) => {
            (" WHERE p.network IN (SELECT id FROM network WHERE project = $1)", vec![id.into()])
        }
        Usages::All => ("", vec![]),
    };
    tx.fetch_all(
        format!(
            "SELECT p.id, p.network,
                (SELECT count(*) FROM ip WHERE ip.prefix = p.id),
                (SELECT count(*) FROM prefix c WHERE c.pool = p.id),
                (SELECT count(*) FROM free_block f WHERE f.pool = p.id
                    AND f.length <= CASE WHEN p.first < '5' THEN 30 ELSE 126 END),
                p.first, p.length
             FROM prefix p{filter}"
        ),
        &values,
    )
    .await?
    .iter()
    .map(|row| {
        Ok(Usage {
            prefix: row.text(0)?,
            network: row.text(1)?,
            block: block_from(row, 5)?,
            addresses: row.int(2)?,
            children: row.int(3)?,
            free_blocks: row.int(4)?,
        })
    })
    .collect()
}

/// Whose usage is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Usages<'a> {
    /// Of a network.
    Network(&'a str),
    /// Of the networks of a project.
    Project(&'a str),
    /// Of all.
    All,
}
