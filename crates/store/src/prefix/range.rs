//! Free numbers of a space as ranges: the addresses of a prefix (its space is the prefix's id), VRFs, numbers of autonomous systems.
//!
//! The lowest number is taken from the lowest range that nobody holds, so that those who take at the same time do not wait
//! for each other. When all ranges are held, whoever had to wait cuts the last one into pieces: a space that is asked for
//! by many at once gets as many ranges as it needs, all others have few.

use std::collections::HashMap;

use model::pool::Range;

use crate::Error;
use crate::db::{Row, Tx, Value};

use super::block::{from_hex, to_hex};

pub(super) const SCHEMA_FREE: &str = "CREATE TABLE free_range (
    space text NOT NULL,
    first text NOT NULL,
    last text NOT NULL,
    PRIMARY KEY (space, first)
)";

// numbers that are no rows elsewhere; makes sure that none is taken or given back twice
pub(super) const SCHEMA_TAKEN: &str = "CREATE TABLE taken_number (
    space text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (space, number)
)";

/// Numbers of a piece: big enough that cutting is rare, small enough that a /24 is sixteen of them.
const PIECE: u128 = 16;
/// Ranges of a space that many ask for at once.
const PIECES: usize = 32;
/// How often to look again when others were faster.
const TRIES: u32 = 100;

/// Makes numbers free that no range holds yet.
///
/// # Errors
/// The database failed.
pub async fn fill(tx: &mut Tx, space: &str, range: Range) -> Result<(), Error> {
    insert(tx, space, &[range]).await
}

/// Forgets a space.
///
/// # Errors
/// The database failed.
pub async fn clear(tx: &mut Tx, space: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM free_range WHERE space = $1", &[space.into()]).await?;
    Ok(())
}

/// Takes the lowest free number; nothing when there is none.
///
/// # Errors
/// The database failed.
pub async fn take(tx: &mut Tx, space: &str) -> Result<Option<u128>, Error> {
    let mut waited = false;
    for _ in 0..TRIES {
        let skip = tx.skip_locked();
        let lowest = format!(
            "SELECT first, last FROM free_range WHERE space = $1 ORDER BY first LIMIT 1{skip}"
        );
        if let Some(row) = tx.fetch_optional(lowest, &[space.into()]).await? {
            let range = from_row(&row)?;
            shrink(tx, space, range, waited).await?;
            return Ok(Some(range.first));
        }
        if skip.is_empty() {
            return Ok(None);
        }
        // either nothing is left, or others hold all that is: wait for the one who holds the last range
        waited = true;
        let last = format!(
            "SELECT first FROM free_range WHERE space = $1 ORDER BY first DESC LIMIT 1{}",
            tx.for_update()
        );
        let held = tx.fetch_optional(last, &[space.into()]).await?;
        if held.is_none() && !exists(tx, space).await? {
            return Ok(None);
        }
    }
    Err(Error::Conflict)
}

/// Takes the lowest free numbers of several spaces, so many of each, in few statements and without waiting for anybody. It is
/// fewer of a space when others hold what is free, or when its lowest two ranges hold no more.
///
/// # Errors
/// The database failed.
pub async fn take_many(tx: &mut Tx, wanted: &[(&str, usize)]) -> Result<Vec<Vec<u128>>, Error> {
    let mut free = lowest_two(tx, wanted).await?;
    let (mut numbers, mut moved, mut used_up) = (Vec::new(), Vec::new(), Vec::new());
    for (space, count) in wanted {
        let mut taken = Vec::new();
        for range in free.remove(*space).unwrap_or_default() {
            let missing = count - taken.len();
            let some: Vec<_> = (range.first..=range.last).take(missing).collect();
            match some.last() {
                Some(last) if *last == range.last => used_up.push((*space, range.first)),
                Some(last) => moved.push((*space, range.first, last + 1)),
                None => {}
            }
            taken.extend(some);
        }
        numbers.push(taken);
    }
    set_firsts(tx, &moved).await?;
    for (space, first) in used_up {
        remove(tx, space, first).await?;
        replenish(tx, space).await?;
    }
    Ok(numbers)
}

/// The lowest two ranges of each space that nobody holds, which are held then. Of others there is nothing.
async fn lowest_two<'a>(
    tx: &mut Tx,
    spaces: &[(&'a str, usize)],
) -> Result<HashMap<&'a str, Vec<Range>>, Error> {
    let names: Vec<_> = spaces.iter().map(|(space, _)| *space).collect();
    let skip = tx.skip_locked();
    // the same space twice would be held by ourselves already, which is no harm: a range that was told is told again
    let (_, values) = crate::db::list(&names);
    let parts: Vec<_> = (1..=values.len())
        .map(|number| {
            format!(
                "SELECT space, first, last FROM (SELECT space, first, last FROM free_range
                 WHERE space = ${number} ORDER BY first LIMIT 2{skip}) AS r{number}"
            )
        })
        .collect();
    let mut found: HashMap<&str, Vec<Range>> = HashMap::new();
    if parts.is_empty() {
        return Ok(found);
    }
    for row in &tx.fetch_all(parts.join(" UNION ALL "), &values).await? {
        let (space, first, last) =
            (row.text(0)?, from_hex(&row.text(1)?)?, from_hex(&row.text(2)?)?);
        let Some(name) = names.iter().find(|name| **name == space) else { continue };
        let ranges = found.entry(*name).or_default();
        let range = Range { first, last };
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    Ok(found)
}

/// Takes numbers off the fronts of held ranges: space, first number, new first number.
async fn set_firsts(tx: &mut Tx, ranges: &[(&str, u128, u128)]) -> Result<(), Error> {
    // not more different statements than powers of two, see [`crate::db::list`]
    let mut rest = ranges;
    while !rest.is_empty() {
        let (some, others) = rest.split_at(1 << rest.len().ilog2());
        let mut values: Vec<Value> = Vec::new();
        let (mut cases, mut terms) = (String::new(), Vec::new());
        for (space, old, new) in some {
            let n = values.len();
            let term = format!("space = ${} AND first = ${}", n + 1, n + 2);
            cases += &format!(" WHEN {term} THEN ${}", n + 3);
            terms.push(format!("({term})"));
            values.extend([(*space).into(), to_hex(*old).into(), to_hex(*new).into()]);
        }
        // each by the primary key, whatever the planner thinks of the size of the table
        let sql =
            format!("UPDATE free_range SET first = CASE{cases} END WHERE {}", terms.join(" OR "));
        tx.execute(sql, &values).await?;
        rest = others;
    }
    Ok(())
}

/// Takes this very number; false when it is not free.
///
/// # Errors
/// The database failed.
pub async fn take_exact(tx: &mut Tx, space: &str, number: u128) -> Result<bool, Error> {
    // a range that was changed while we waited for it is not looked at again by the same statement
    for _ in 0..3 {
        let sql = format!(
            "SELECT first, last FROM free_range WHERE space = $1 AND first <= $2
             ORDER BY first DESC LIMIT 1{}",
            tx.for_update()
        );
        let row = tx.fetch_optional(sql, &[space.into(), to_hex(number).into()]).await?;
        if let Some(range) = row.as_ref().map(from_row).transpose()?
            && range.contains(number)
        {
            match range.without(number) {
                (None, None) => remove(tx, space, range.first).await?,
                (None, Some(above)) => set_first(tx, space, range.first, above.first).await?,
                (Some(below), above) => {
                    set_last(tx, space, below.first, below.last).await?;
                    if let Some(above) = above {
                        insert(tx, space, &[above]).await?;
                    }
                }
            }
            return Ok(true);
        }
        if !tx.skip_locked().is_empty() {
            continue;
        }
        break;
    }
    Ok(false)
}

/// Gives a number back that was taken. That it was is what the caller knows.
///
/// # Errors
/// The database failed.
pub async fn give(tx: &mut Tx, space: &str, number: u128) -> Result<(), Error> {
    // neighbours that somebody holds are left alone: more ranges than necessary do no harm
    let below = format!(
        "SELECT first, last FROM free_range WHERE space = $1 AND first < $2
         ORDER BY first DESC LIMIT 1{}",
        tx.skip_locked()
    );
    let below = tx
        .fetch_optional(below, &[space.into(), to_hex(number).into()])
        .await?
        .as_ref()
        .map(from_row)
        .transpose()?
        .filter(|range| Some(range.last) == number.checked_sub(1));
    let above = match number.checked_add(1) {
        Some(next) => {
            let sql = format!(
                "SELECT first, last FROM free_range WHERE space = $1 AND first = $2{}",
                tx.skip_locked()
            );
            let row = tx.fetch_optional(sql, &[space.into(), to_hex(next).into()]).await?;
            row.as_ref().map(from_row).transpose()?
        }
        None => None,
    };
    match (below, above) {
        (Some(below), Some(above)) => {
            remove(tx, space, above.first).await?;
            set_last(tx, space, below.first, above.last).await
        }
        (Some(below), None) => set_last(tx, space, below.first, number).await,
        (None, Some(above)) => set_first(tx, space, above.first, number).await,
        (None, None) => insert(tx, space, &[Range { first: number, last: number }]).await,
    }
}

/// Notes that a number is taken; false when it was.
///
/// # Errors
/// The database failed.
pub async fn note(tx: &mut Tx, space: &str, number: i64) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "INSERT INTO taken_number (space, number) VALUES ($1, $2) ON CONFLICT (space, number) DO NOTHING",
            &[space.into(), number.into()],
        )
        .await?;
    Ok(rows == 1)
}

/// Forgets that a number is taken; false when it was not.
///
/// # Errors
/// The database failed.
pub async fn forget(tx: &mut Tx, space: &str, number: i64) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "DELETE FROM taken_number WHERE space = $1 AND number = $2",
            &[space.into(), number.into()],
        )
        .await?;
    Ok(rows == 1)
}

/// How many numbers are noted.
///
/// # Errors
/// The database failed.
pub async fn noted(tx: &mut Tx, space: &str) -> Result<i64, Error> {
    let row = tx
        .fetch_optional("SELECT count(*) FROM taken_number WHERE space = $1", &[space.into()])
        .await?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// Whether any number is free, also one that somebody is just taking.
///
/// # Errors
/// The database failed.
pub async fn exists(tx: &mut Tx, space: &str) -> Result<bool, Error> {
    let row = tx
        .fetch_optional(
            "SELECT 1::bigint FROM free_range WHERE space = $1 LIMIT 1",
            &[space.into()],
        )
        .await?;
    Ok(row.is_some())
}

/// The free ranges of a space in order.
///
/// # Errors
/// The database failed.
pub async fn all(tx: &mut Tx, space: &str) -> Result<Vec<Range>, Error> {
    tx.fetch_all(
        "SELECT first, last FROM free_range WHERE space = $1 ORDER BY first",
        &[space.into()],
    )
    .await?
    .iter()
    .map(from_row)
    .collect()
}

/// Takes the first number off a held range.
async fn shrink(tx: &mut Tx, space: &str, range: Range, contended: bool) -> Result<(), Error> {
    let (_, Some(rest)) = range.without(range.first) else {
        remove(tx, space, range.first).await?;
        return replenish(tx, space).await;
    };
    if !contended {
        return set_first(tx, space, range.first, rest.first).await;
    }
    let (pieces, rest) = rest.cut(PIECE, PIECES);
    set_first(tx, space, range.first, rest.first).await?;
    insert(tx, space, &pieces).await
}

/// Cuts another piece off the last range, if nobody holds it, when a piece was used up.
async fn replenish(tx: &mut Tx, space: &str) -> Result<(), Error> {
    let skip = tx.skip_locked();
    if skip.is_empty() {
        return Ok(());
    }
    let count = format!(
        "SELECT count(*) FROM (SELECT 1 FROM free_range WHERE space = $1 LIMIT {PIECES}) AS few"
    );
    let count = tx.fetch_optional(count, &[space.into()]).await?;
    // one range or none: nobody else is here
    let some = 2..i64::try_from(PIECES).unwrap_or(i64::MAX);
    if !count.is_some_and(|row| row.int(0).is_ok_and(|count| some.contains(&count))) {
        return Ok(());
    }
    let last = format!(
        "SELECT first, last FROM free_range WHERE space = $1 ORDER BY first DESC LIMIT 1{skip}"
    );
    if let Some(row) = tx.fetch_optional(last, &[space.into()]).await? {
        let range = from_row(&row)?;
        let (pieces, rest) = range.cut(PIECE, 1);
        if !pieces.is_empty() {
            set_first(tx, space, range.first, rest.first).await?;
            insert(tx, space, &pieces).await?;
        }
    }
    Ok(())
}

fn from_row(row: &Row) -> Result<Range, Error> {
    Ok(Range { first: from_hex(&row.text(0)?)?, last: from_hex(&row.text(1)?)? })
}

async fn set_first(tx: &mut Tx, space: &str, old: u128, new: u128) -> Result<(), Error> {
    tx.execute(
        "UPDATE free_range SET first = $3 WHERE space = $1 AND first = $2",
        &[space.into(), to_hex(old).into(), to_hex(new).into()],
    )
    .await?;
    Ok(())
}

async fn set_last(tx: &mut Tx, space: &str, first: u128, last: u128) -> Result<(), Error> {
    tx.execute(
        "UPDATE free_range SET last = $3 WHERE space = $1 AND first = $2",
        &[space.into(), to_hex(first).into(), to_hex(last).into()],
    )
    .await?;
    Ok(())
}

async fn remove(tx: &mut Tx, space: &str, first: u128) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM free_range WHERE space = $1 AND first = $2",
        &[space.into(), to_hex(first).into()],
    )
    .await?;
    Ok(())
}

async fn insert(tx: &mut Tx, space: &str, ranges: &[Range]) -> Result<(), Error> {
    if ranges.is_empty() {
        return Ok(());
    }
    let mut values: Vec<Value> = vec![space.into()];
    let mut rows = Vec::new();
    for range in ranges {
        rows.push(format!("($1, ${}, ${})", values.len() + 1, values.len() + 2));
        values.push(to_hex(range.first).into());
        values.push(to_hex(range.last).into());
    }
    let sql = format!("INSERT INTO free_range (space, first, last) VALUES {}", rows.join(", "));
    tx.execute(sql, &values).await?;
    Ok(())
}
