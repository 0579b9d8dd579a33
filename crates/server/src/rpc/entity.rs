//! What handlers of entities have in common: between a table and messages of one kind.

use proto::api;
use store::{Entity, Select, Table, Tx, Value};

use super::Error;
use crate::wire::{self, Stored};

/// A kind of entity: its table, and what it is called in errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Where it is stored.
    pub(crate) table: Table,
    /// Its name in sentences.
    pub(crate) name: &'static str,
}

impl Kind {
    /// The entity with this id.
    pub(crate) async fn get<M: Stored>(self, tx: &mut Tx, id: &str) -> Result<M, Error> {
        let row = self.table.get(tx, id).await?.ok_or_else(|| Error::not_found(self.name, id))?;
        wire::decode(&row)
    }

    /// The entity with this id, which nobody removes until the transaction ends.
    pub(crate) async fn keep<M: Stored>(self, tx: &mut Tx, id: &str) -> Result<M, Error> {
        let row = self.table.keep(tx, id).await?.ok_or_else(|| Error::not_found(self.name, id))?;
        wire::decode(&row)
    }

    /// The entity with this id and its row, which stay as they are until the transaction ends.
    pub(crate) async fn get_for_update<M: Stored>(
        self,
        tx: &mut Tx,
        id: &str,
    ) -> Result<(Entity, M), Error> {
        let row = self
            .table
            .get_for_update(tx, id)
            .await?
            .ok_or_else(|| Error::not_found(self.name, id))?;
        let message = wire::decode(&row)?;
        Ok((row, message))
    }

    /// Stores a new entity; of its meta only the labels are kept. Returns it as it is stored.
    pub(crate) async fn insert<M: Stored>(
        self,
        tx: &mut Tx,
        id: &str,
        mut message: M,
        columns: &[Value],
        now_us: i64,
    ) -> Result<M, Error> {
        let row = new_row(id, &mut message, now_us)?;
        self.table.insert(tx, &row, columns).await.map_err(|e| self.refused(id, e))?;
        wire::decode(&row)
    }

    /// Replaces an entity that was read for update. Returns it as it is stored.
    pub(crate) async fn update<M: Stored>(
        self,
        tx: &mut Tx,
        old: &Entity,
        message: &M,
        columns: &[Value],
        now_us: i64,
    ) -> Result<M, Error> {
        let row = old.next(wire::encode(message)?, now_us);
        if !self.table.update(tx, &row, columns).await.map_err(|e| self.refused(&old.id, e))? {
            return Err(Error::aborted(format!(
                "{} {} was changed meanwhile: retry",
                self.name, old.id
            )));
        }
        wire::decode(&row)
    }

    /// Removes an entity and returns it as it was. `users` names in a sentence what may refer to it.
    pub(crate) async fn delete<M: Stored>(
        self,
        tx: &mut Tx,
        id: &str,
        users: &str,
    ) -> Result<M, Error> {
        let (_, message) = self.get_for_update(tx, id).await?;
        match self.table.delete(tx, id).await {
            Ok(_) => Ok(message),
            Err(store::Error::ForeignKey(_)) => Err(self.in_use(id, users)),
            Err(error) => Err(error.into()),
        }
    }

    /// It cannot be removed yet.
    pub(crate) fn in_use(self, id: &str, users: &str) -> Error {
        Error::in_use(format!("{} {id} is in use: remove {users} first", self.name))
            .with("kind", self.name)
            .with("id", id)
    }

    fn refused(self, id: &str, error: store::Error) -> Error {
        match error {
            store::Error::Unique(_) => Error::exists(format!("{} {id} already exists", self.name)),
            other => other.into(),
        }
    }
}

/// A row for a new entity; of its meta only the labels are kept.
pub(crate) fn new_row(id: &str, message: &mut impl Stored, now_us: i64) -> Result<Entity, Error> {
    let meta = message.meta();
    *meta = api::Meta { labels: std::mem::take(&mut meta.labels), ..Default::default() };
    Ok(Entity::new(id, wire::encode(message)?, now_us))
}

/// All entities of a query.
pub(crate) async fn list<M: Stored>(tx: &mut Tx, select: Select) -> Result<Vec<M>, Error> {
    select.all(tx).await?.iter().map(wire::decode).collect()
}
