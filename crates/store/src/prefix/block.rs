//! Free blocks of prefixes from which child prefixes are carved: each aligned, none the other half of another, so that space
//! that comes back merges into the biggest blocks. A pool is a prefix seen from a namespace.

use model::prefix::{Block, Family};

use crate::Error;
use crate::db::{Tx, Value};

use super::Prefix;

pub(super) const SCHEMA_POOL: &str = "CREATE TABLE prefix_pool (
    id text PRIMARY KEY,
    prefix text NOT NULL REFERENCES prefix (id)
)";

// the primary key is the way to the smallest block that fits: a longer length is a smaller block
pub(super) const SCHEMA_FREE: &str = "CREATE TABLE free_block (
    pool text NOT NULL REFERENCES prefix_pool (id),
    length bigint NOT NULL,
    first text NOT NULL,
    PRIMARY KEY (pool, length, first)
)";

/// Id of the pool that a namespace sees in a prefix; the shared namespace is empty.
fn id(prefix: &str, namespace: &str) -> String {
    if namespace.is_empty() { prefix.to_owned() } else { format!("{prefix}/{namespace}") }
}

/// Carves the lowest block of a length out of the smallest free block that holds one, and says which pool it comes from;
/// nothing when there is no room. Others wait for the pool until the transaction ends.
///
/// # Errors
/// The database failed.
pub async fn carve(
    tx: &mut Tx,
    prefix: &Prefix,
    namespace: &str,
    length: u8,
) -> Result<Option<(String, Block)>, Error> {
    if length <= prefix.block.length {
        return Ok(None);
    }
    let pool = id(&prefix.id, namespace);
    open(tx, &pool, prefix).await?;
    let found = tx
        .fetch_optional(
            "SELECT length, first FROM free_block WHERE pool = $1 AND length <= $2
             ORDER BY length DESC, first LIMIT 1",
            &[(&pool).into(), i64::from(length).into()],
        )
        .await?;
    let Some(row) = found else { return Ok(None) };
    let free = Block {
        family: prefix.block.family,
        first: from_hex(&row.text(1)?)?,
        length: u8::try_from(row.int(0)?).unwrap_or(u8::MAX),
    };
    let Some((piece, rest)) = free.carve(length) else { return Ok(None) };
    remove(tx, &pool, &free).await?;
    insert(tx, &pool, &rest).await?;
    Ok(Some((pool, piece)))
}

/// Gives a block back.
///
/// # Errors
/// The database failed.
pub(super) async fn give(tx: &mut Tx, pool: &str, block: Block) -> Result<(), Error> {
    let Some((family, shortest)) = hold(tx, pool).await? else {
        return Err(Error::Database(format!("the pool {pool} is gone although it was in use")));
    };
    let mut merged = Block { family, ..block };
    while merged.length > shortest && remove(tx, pool, &merged.sibling()).await? {
        merged = merged.parent();
    }
    if merged.length == shortest {
        // nothing is taken any more: as if it had never been opened
        tx.execute("DELETE FROM prefix_pool WHERE id = $1", &[pool.into()]).await?;
        return Ok(());
    }
    insert(tx, pool, &[merged]).await
}

/// Makes a pool if there is none, and holds it.
async fn open(tx: &mut Tx, pool: &str, prefix: &Prefix) -> Result<(), Error> {
    // whoever gave the last block back may have removed it between the two statements
    for _ in 0..3 {
        let made = tx
            .execute(
                "INSERT INTO prefix_pool (id, prefix) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
                &[pool.into(), (&prefix.id).into()],
            )
            .await?;
        if made == 1 {
            return insert(tx, pool, &[prefix.block]).await;
        }
        if hold(tx, pool).await?.is_some() {
            return Ok(());
        }
    }
    Err(Error::Conflict)
}

/// Holds off everybody else from a pool; tells family and length of the whole.
async fn hold(tx: &mut Tx, pool: &str) -> Result<Option<(Family, u8)>, Error> {
    let sql = format!("SELECT prefix FROM prefix_pool WHERE id = $1{}", tx.for_update());
    let Some(row) = tx.fetch_optional(sql, &[pool.into()]).await? else { return Ok(None) };
    let prefix = row.text(0)?;
    let row = tx
        .fetch_optional("SELECT first, length FROM prefix WHERE id = $1", &[prefix.into()])
        .await?
        .ok_or(Error::Conflict)?;
    let family = if row.text(0)?.starts_with('4') { Family::V4 } else { Family::V6 };
    Ok(Some((family, u8::try_from(row.int(1)?).unwrap_or(u8::MAX))))
}

async fn remove(tx: &mut Tx, pool: &str, block: &Block) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "DELETE FROM free_block WHERE pool = $1 AND length = $2 AND first = $3",
            &[pool.into(), i64::from(block.length).into(), to_hex(block.first).into()],
        )
        .await?;
    Ok(rows == 1)
}

async fn insert(tx: &mut Tx, pool: &str, blocks: &[Block]) -> Result<(), Error> {
    if blocks.is_empty() {
        return Ok(());
    }
    let mut values: Vec<Value> = vec![pool.into()];
    let mut rows = Vec::new();
    for block in blocks {
        rows.push(format!("($1, ${}, ${})", values.len() + 1, values.len() + 2));
        values.push(i64::from(block.length).into());
        values.push(to_hex(block.first).into());
    }
    let sql = format!("INSERT INTO free_block (pool, length, first) VALUES {}", rows.join(", "));
    tx.execute(sql, &values).await?;
    Ok(())
}

/// Numbers as text that sorts like them.
pub(super) fn to_hex(number: u128) -> String {
    format!("{number:032x}")
}

pub(super) fn from_hex(text: &str) -> Result<u128, Error> {
    u128::from_str_radix(text, 16).map_err(|_| Error::Database(format!("damaged number {text}")))
}
