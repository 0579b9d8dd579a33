//! Who belongs to a tenant or a project: the same table twice.

use crate::Error;
use crate::db::{Row, Tx};

/// A member of a tenant or project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Tenant or project.
    pub of: String,
    /// Login of the member, which is a tenant, too.
    pub member: String,
    /// Number of the role in the contract.
    pub role: i64,
    /// Microseconds since 1970.
    pub created_at_us: i64,
}

/// Direct members of all entities of one kind.
pub struct Members {
    /// Kind of the entity: the name of its column and the first half of the table's.
    of: &'static str,
}

impl Members {
    pub(crate) const fn new(of: &'static str) -> Self {
        Self { of }
    }

    /// A direct membership.
    ///
    /// # Errors
    /// The database failed.
    pub async fn get(&self, tx: &mut Tx, of: &str, member: &str) -> Result<Option<Member>, Error> {
        let kind = self.of;
        let sql = format!(
            "SELECT {kind}, member, role, created_at FROM {kind}_member WHERE {kind} = $1 AND member = $2"
        );
        let row = tx.fetch_optional(&sql, &[of.into(), member.into()]).await?;
        row.as_ref().map(from_row).transpose()
    }

    /// Direct members, ordered by login.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(&self, tx: &mut Tx, of: &str) -> Result<Vec<Member>, Error> {
        let kind = self.of;
        let sql = format!(
            "SELECT {kind}, member, role, created_at FROM {kind}_member WHERE {kind} = $1 ORDER BY member"
        );
        list(tx, &sql, of).await
    }

    /// Adds a member.
    ///
    /// # Errors
    /// [`Error::Unique`] when it is one, [`Error::ForeignKey`] when one of the two does not exist.
    pub async fn add(&self, tx: &mut Tx, member: &Member) -> Result<(), Error> {
        self.insert(tx, member, "").await
    }

    /// Adds a member, or gives a member the role when it is stronger than the one that it has.
    ///
    /// # Errors
    /// [`Error::ForeignKey`] when one of the two does not exist.
    pub async fn strengthen(&self, tx: &mut Tx, member: &Member) -> Result<(), Error> {
        let kind = self.of;
        let otherwise = format!(
            " ON CONFLICT ({kind}, member) DO UPDATE SET role = excluded.role WHERE excluded.role < {kind}_member.role"
        );
        self.insert(tx, member, &otherwise).await
    }

    async fn insert(&self, tx: &mut Tx, member: &Member, otherwise: &str) -> Result<(), Error> {
        let kind = self.of;
        let sql = format!(
            "INSERT INTO {kind}_member ({kind}, member, role, created_at) VALUES ($1, $2, $3, $4){otherwise}"
        );
        let values = [
            (&member.of).into(),
            (&member.member).into(),
            member.role.into(),
            member.created_at_us.into(),
        ];
        tx.execute(&sql, &values).await?;
        Ok(())
    }

    /// Changes the role of a direct member; false when there is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_role(
        &self,
        tx: &mut Tx,
        of: &str,
        member: &str,
        role: i64,
    ) -> Result<bool, Error> {
        let kind = self.of;
        let sql = format!("UPDATE {kind}_member SET role = $3 WHERE {kind} = $1 AND member = $2");
        Ok(tx.execute(&sql, &[of.into(), member.into(), role.into()]).await? == 1)
    }

    /// Removes a direct member; false when there is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn remove(&self, tx: &mut Tx, of: &str, member: &str) -> Result<bool, Error> {
        let kind = self.of;
        let sql = format!("DELETE FROM {kind}_member WHERE {kind} = $1 AND member = $2");
        Ok(tx.execute(&sql, &[of.into(), member.into()]).await? == 1)
    }
}

/// Memberships of a query whose columns are those of [`Member`] in their order.
pub(crate) async fn list(tx: &mut Tx, sql: &str, of: &str) -> Result<Vec<Member>, Error> {
    tx.fetch_all(sql, &[of.into()]).await?.iter().map(from_row).collect()
}

fn from_row(row: &Row) -> Result<Member, Error> {
    Ok(Member {
        of: row.text(0)?,
        member: row.text(1)?,
        role: row.int(2)?,
        created_at_us: row.int(3)?,
    })
}
