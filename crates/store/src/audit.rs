//! The audit log: who called what, and how it ended.

use crate::Error;
use crate::db::{Row, Tx, Value};

pub(crate) const SCHEMA: &[&str] = &[
    "CREATE TABLE audit (
        call text NOT NULL,
        phase bigint NOT NULL,
        at bigint NOT NULL,
        caller text NOT NULL,
        tenant text NOT NULL,
        project text,
        method text NOT NULL,
        source text NOT NULL,
        code bigint,
        body text,
        PRIMARY KEY (call, phase)
    )",
    "CREATE INDEX audit_at ON audit (at)",
    "CREATE INDEX audit_tenant ON audit (tenant, at)",
];

/// One entry. Both entries of a call have the same `call`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Id of the call; ids of later calls are greater.
    pub call: String,
    /// The contract's `AuditPhase`.
    pub phase: i64,
    /// Microseconds since 1970.
    pub at_us: i64,
    /// Who called, empty when nobody is known.
    pub caller: String,
    /// Tenant in which the call acted, empty for none.
    pub tenant: String,
    /// Project in which the call acted.
    pub project: Option<String>,
    /// Procedure with a leading slash.
    pub method: String,
    /// Address of the caller.
    pub source: String,
    /// Number of the status code, in the response only.
    pub code: Option<i64>,
    /// Request, response or error as JSON, without secrets.
    pub body: Option<String>,
}

/// Which entries are wanted; what is absent is not asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Not before, microseconds since 1970.
    pub from_us: Option<i64>,
    /// Not after.
    pub to_us: Option<i64>,
    /// Id of the call.
    pub call: Option<String>,
    /// Phase.
    pub phase: Option<i64>,
    /// Who called.
    pub caller: Option<String>,
    /// Tenant.
    pub tenant: Option<String>,
    /// Project.
    pub project: Option<String>,
    /// Address of the caller.
    pub source: Option<String>,
    /// Status code.
    pub code: Option<i64>,
    /// Part of the method's name, in whatever case.
    pub method: Option<String>,
    /// Words that all occur in the body, in whatever case.
    pub words: Vec<String>,
    /// At most so many, the newest.
    pub limit: u32,
}

const COLUMNS: &str = "call, phase, at, caller, tenant, project, method, source, code, body";
/// So many entries go into one statement at most, always a power of two: few different statements, which connections keep prepared.
const BATCH: usize = 64;

/// Writes entries; one that is there already stays as it is, so that a batch may be tried again.
///
/// # Errors
/// The database failed.
pub async fn insert(tx: &mut Tx, entries: &[Entry]) -> Result<(), Error> {
    let mut rest = entries;
    while let Some(power) = rest.len().min(BATCH).checked_ilog2() {
        let (batch, others) = rest.split_at(1 << power);
        rest = others;
        let mut values: Vec<Value> = Vec::with_capacity(batch.len() * 10);
        let mut rows = Vec::with_capacity(batch.len());
        for entry in batch {
            let first = values.len() + 1;
            let holes: Vec<_> = (first..first + 10).map(|n| format!("${n}")).collect();
            rows.push(format!("({})", holes.join(", ")));
            values.extend([
                (&entry.call).into(),
                entry.phase.into(),
                entry.at_us.into(),
                (&entry.caller).into(),
                (&entry.tenant).into(),
                entry.project.as_deref().into(),
                (&entry.method).into(),
                (&entry.source).into(),
                entry.code.into(),
                entry.body.as_deref().into(),
            ]);
        }
        let sql = format!(
            "INSERT INTO audit ({COLUMNS}) VALUES {} ON CONFLICT (call, phase) DO NOTHING",
            rows.join(", ")
        );
        tx.execute(sql, &values).await?;
    }
    Ok(())
}

/// The newest entries of a query, oldest first.
///
/// # Errors
/// The database failed.
pub async fn find(tx: &mut Tx, query: &Query) -> Result<Vec<Entry>, Error> {
    let mut filter = Filter::default();
    filter.term("at >=", query.from_us);
    filter.term("at <=", query.to_us);
    filter.term("call =", query.call.clone());
    filter.term("phase =", query.phase);
    filter.term("caller =", query.caller.clone());
    filter.term("tenant =", query.tenant.clone());
    filter.term("project =", query.project.clone());
    filter.term("source =", query.source.clone());
    filter.term("code =", query.code);
    filter.contains("method", query.method.as_deref());
    for word in &query.words {
        filter.contains("body", Some(word));
    }
    let conditions =
        if filter.terms.is_empty() { "1 = 1".to_owned() } else { filter.terms.join(" AND ") };
    let sql = format!(
        "SELECT {COLUMNS} FROM audit WHERE {conditions} ORDER BY at DESC, call DESC, phase DESC LIMIT {}",
        query.limit
    );
    tx.fetch_all(sql, &filter.values).await?.iter().rev().map(from_row).collect()
}

/// Removes entries that are older than a time and returns how many they were.
///
/// # Errors
/// The database failed.
pub async fn delete_before(tx: &mut Tx, before_us: i64) -> Result<u64, Error> {
    tx.execute("DELETE FROM audit WHERE at < $1", &[before_us.into()]).await
}

#[derive(Default)]
struct Filter {
    terms: Vec<String>,
    values: Vec<Value>,
}

impl Filter {
    fn term(&mut self, column_and_operator: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.values.push(value.into());
            self.terms.push(format!("{column_and_operator} ${}", self.values.len()));
        }
    }

    /// SQLite's `LIKE` ignores case and PostgreSQL's does not: both sides are made small.
    fn contains(&mut self, column: &str, part: Option<&str>) {
        if let Some(part) = part {
            let mut pattern = "%".to_owned();
            for c in part.chars() {
                if matches!(c, '%' | '_' | '!') {
                    pattern.push('!');
                }
                pattern.push(c);
            }
            pattern.push('%');
            self.values.push(pattern.into());
            let n = self.values.len();
            self.terms.push(format!("lower({column}) LIKE lower(${n}) ESCAPE '!'"));
        }
    }
}

fn from_row(row: &Row) -> Result<Entry, Error> {
    Ok(Entry {
        call: row.text(0)?,
        phase: row.int(1)?,
        at_us: row.int(2)?,
        caller: row.text(3)?,
        tenant: row.text(4)?,
        project: row.opt_text(5)?,
        method: row.text(6)?,
        source: row.text(7)?,
        code: row.opt_int(8)?,
        body: row.opt_text(9)?,
    })
}
