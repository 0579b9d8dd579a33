//! What all tables of entities have in common: the key, the columns that are searched, and the contract's message as JSON
//! (docs/adr/0004). A file per entity says which columns it has and adds what only it needs.

use crate::Error;
use crate::db::{Row, Tx, Value};

/// A row: the key, the message, and what optimistic locking needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Primary key.
    pub id: String,
    /// The contract's message as JSON, without the times and generation of its meta.
    pub body: String,
    /// Number of changes since it was made.
    pub generation: i64,
    /// Microseconds since 1970.
    pub created_at_us: i64,
    /// Microseconds since 1970; grows with every change.
    pub updated_at_us: i64,
}

impl Entity {
    /// A row that is not stored yet.
    #[must_use]
    pub fn new(id: impl Into<String>, body: String, now_us: i64) -> Self {
        Self { id: id.into(), body, generation: 0, created_at_us: now_us, updated_at_us: now_us }
    }

    /// The row after a change.
    #[must_use]
    pub fn next(&self, body: String, now_us: i64) -> Self {
        Self {
            id: self.id.clone(),
            body,
            generation: self.generation + 1,
            created_at_us: self.created_at_us,
            // two changes in one microsecond, or a clock that went back, still differ
            updated_at_us: now_us.max(self.updated_at_us + 1),
        }
    }
}

/// A table of entities. Its columns are `id, body, generation, created_at, updated_at` and then `columns`.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Name of the table.
    pub name: &'static str,
    /// Columns beside the common ones; all statements list them in this order.
    pub columns: &'static [&'static str],
}

/// The columns of every table of entities, to begin a `CREATE TABLE` with.
#[macro_export]
macro_rules! entity_table {
    ($name:literal, $columns:literal) => {
        concat!(
            "CREATE TABLE ",
            $name,
            " (id text PRIMARY KEY, body text NOT NULL, generation bigint NOT NULL, ",
            "created_at bigint NOT NULL, updated_at bigint NOT NULL",
            $columns,
            ")"
        )
    };
}

pub(crate) const COMMON: &str = "id, body, generation, created_at, updated_at";

impl Table {
    /// Begins a query.
    #[must_use]
    pub fn select(&self) -> Select {
        Select::new(self.name)
    }

    /// Stores a new row; `columns` in the order of the table's.
    ///
    /// # Errors
    /// [`Error::Unique`] when the id or another unique column exists, [`Error::ForeignKey`] when something referred to does not.
    pub async fn insert(&self, tx: &mut Tx, row: &Entity, columns: &[Value]) -> Result<(), Error> {
        self.insert_or(tx, row, columns, "").await?;
        Ok(())
    }

    /// As [`Self::insert`] unless there is a row with this id already; whether it did. Who makes the same row at the same time is
    /// waited for.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub async fn insert_if_absent(
        &self,
        tx: &mut Tx,
        row: &Entity,
        columns: &[Value],
    ) -> Result<bool, Error> {
        Ok(self.insert_or(tx, row, columns, " ON CONFLICT (id) DO NOTHING").await? == 1)
    }

    async fn insert_or(
        &self,
        tx: &mut Tx,
        row: &Entity,
        columns: &[Value],
        otherwise: &str,
    ) -> Result<u64, Error> {
        assert_eq!(columns.len(), self.columns.len(), "{}", self.name);
        let mut names = COMMON.to_owned();
        let mut holes = "$1, $2, $3, $4, $5".to_owned();
        for (i, column) in self.columns.iter().enumerate() {
            names += ", ";
            names += column;
            holes += &format!(", ${}", i + 6);
        }
        let mut values = vec![
            (&row.id).into(),
            (&row.body).into(),
            row.generation.into(),
            row.created_at_us.into(),
            row.updated_at_us.into(),
        ];
        values.extend_from_slice(columns);
        let sql = format!("INSERT INTO {} ({names}) VALUES ({holes}){otherwise}", self.name);
        tx.execute(sql, &values).await
    }

    /// The row with this id.
    ///
    /// # Errors
    /// The database failed.
    pub async fn get(&self, tx: &mut Tx, id: &str) -> Result<Option<Entity>, Error> {
        self.select().eq("id", id).one(tx).await
    }

    /// The row with this id, which then stays as it is until the transaction ends.
    ///
    /// # Errors
    /// The database failed.
    pub async fn get_for_update(&self, tx: &mut Tx, id: &str) -> Result<Option<Entity>, Error> {
        self.select().eq("id", id).for_update().one(tx).await
    }

    /// The row with this id, which nobody removes until the transaction ends; others may change it. For what a row that is made
    /// in this transaction refers to without a foreign key.
    ///
    /// # Errors
    /// The database failed.
    pub async fn keep(&self, tx: &mut Tx, id: &str) -> Result<Option<Entity>, Error> {
        self.select().eq("id", id).lock(Lock::Keep).one(tx).await
    }

    /// As [`Self::get_for_update`]; none also when somebody else holds it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn seize(&self, tx: &mut Tx, id: &str) -> Result<Option<Entity>, Error> {
        self.select().eq("id", id).lock(Lock::Seize).one(tx).await
    }

    /// Replaces the row `old` by `new` and sets all `columns`; false when somebody changed it meanwhile.
    ///
    /// # Errors
    /// A constraint forbids it.
    pub async fn update(
        &self,
        tx: &mut Tx,
        new: &Entity,
        columns: &[Value],
    ) -> Result<bool, Error> {
        assert_eq!(columns.len(), self.columns.len(), "{}", self.name);
        let mut sets = "body = $3, generation = $4, updated_at = $5".to_owned();
        for (i, column) in self.columns.iter().enumerate() {
            sets += &format!(", {column} = ${}", i + 6);
        }
        let mut values = vec![
            (&new.id).into(),
            (new.generation - 1).into(),
            (&new.body).into(),
            new.generation.into(),
            new.updated_at_us.into(),
        ];
        values.extend_from_slice(columns);
        let sql = format!("UPDATE {} SET {sets} WHERE id = $1 AND generation = $2", self.name);
        Ok(tx.execute(sql, &values).await? == 1)
    }

    /// Removes a row; false when there was none.
    ///
    /// # Errors
    /// [`Error::ForeignKey`] when something still refers to it.
    pub async fn delete(&self, tx: &mut Tx, id: &str) -> Result<bool, Error> {
        let sql = format!("DELETE FROM {} WHERE id = $1", self.name);
        Ok(tx.execute(sql, &[id.into()]).await? == 1)
    }
}

/// A query of one table: equality of columns, ordered by id. What no column holds is filtered by the caller.
#[derive(Clone, Debug)]
pub struct Select {
    table: &'static str,
    terms: Vec<String>,
    values: Vec<Value>,
    lock: Lock,
    limit: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    None,
    Update,
    SkipLocked,
    Keep,
    Seize,
}

impl Select {
    fn new(table: &'static str) -> Self {
        Self { table, terms: Vec::new(), values: Vec::new(), lock: Lock::None, limit: None }
    }

    /// Only rows whose column has this value.
    #[must_use]
    pub fn eq(mut self, column: &'static str, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self.terms.push(format!("{column} = ${}", self.values.len()));
        self
    }

    /// As [`Self::eq`] when there is a value, else no condition.
    #[must_use]
    pub fn eq_opt(self, column: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.eq(column, value),
            None => self,
        }
    }

    /// Only rows whose column is empty (`true`) or not (`false`).
    #[must_use]
    pub fn is_null(mut self, column: &'static str, null: bool) -> Self {
        self.terms.push(format!("{column} IS {}NULL", if null { "" } else { "NOT " }));
        self
    }

    fn lock(mut self, lock: Lock) -> Self {
        self.lock = lock;
        self
    }

    /// The rows found stay as they are until the transaction ends.
    #[must_use]
    pub fn for_update(self) -> Self {
        self.lock(Lock::Update)
    }

    /// As [`Self::for_update`], leaving out rows that somebody else holds.
    #[must_use]
    pub fn skip_locked(mut self) -> Self {
        self.lock = Lock::SkipLocked;
        self
    }

    /// At most so many rows.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    fn filter(&self) -> String {
        if self.terms.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", self.terms.join(" AND "))
        }
    }

    /// The rows, ordered by id.
    ///
    /// # Errors
    /// The database failed.
    pub async fn all(self, tx: &mut Tx) -> Result<Vec<Entity>, Error> {
        let lock = match self.lock {
            Lock::None => "",
            Lock::Update => tx.for_update(),
            Lock::SkipLocked => tx.skip_locked(),
            Lock::Keep => tx.keep(),
            Lock::Seize => tx.seize(),
        };
        let limit = self.limit.map_or_else(String::new, |limit| format!(" LIMIT {limit}"));
        let sql = format!(
            "SELECT {COMMON} FROM {}{} ORDER BY id{limit}{lock}",
            self.table,
            self.filter()
        );
        tx.fetch_all(sql, &self.values).await?.iter().map(from_row).collect()
    }

    /// The first row.
    ///
    /// # Errors
    /// The database failed.
    pub async fn one(self, tx: &mut Tx) -> Result<Option<Entity>, Error> {
        Ok(self.limit(1).all(tx).await?.into_iter().next())
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// The database failed.
    pub async fn count(self, tx: &mut Tx) -> Result<i64, Error> {
        let sql = format!("SELECT count(*) FROM {}{}", self.table, self.filter());
        match tx.fetch_optional(sql, &self.values).await? {
            Some(row) => row.int(0),
            None => Ok(0),
        }
    }
}

/// An entity from the common columns in their order.
pub(crate) fn from_row(row: &Row) -> Result<Entity, Error> {
    Ok(Entity {
        id: row.text(0)?,
        body: row.text(1)?,
        generation: row.int(2)?,
        created_at_us: row.int(3)?,
        updated_at_us: row.int(4)?,
    })
}
