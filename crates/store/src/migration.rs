//! Brings the schema up to date, once, also when several replicas start together.

use crate::{Db, Error};

/// Steps in order; a step that has shipped is never changed.
const STEPS: &[&[&str]] = &[&[
    "CREATE TABLE signing_key (
        kid text PRIMARY KEY,
        private_pem text NOT NULL,
        public_pem text NOT NULL,
        created_at bigint NOT NULL,
        expires_at bigint NOT NULL CHECK (expires_at > created_at)
    )",
    "CREATE TABLE token (
        owner text NOT NULL,
        uuid text NOT NULL,
        kind text NOT NULL,
        description text NOT NULL,
        body text NOT NULL,
        issued_at bigint NOT NULL,
        expires_at bigint NOT NULL CHECK (expires_at > issued_at),
        PRIMARY KEY (owner, uuid)
    )",
    "CREATE INDEX token_expiry ON token (expires_at)",
]];

/// Any number that nothing else locks.
const LOCK: i64 = 7_243_001;

pub(crate) async fn run(db: &Db) -> Result<(), Error> {
    let mut tx = db.begin_write().await?;
    tx.lock(LOCK).await?;
    tx.execute("CREATE TABLE IF NOT EXISTS migration (step bigint PRIMARY KEY)", &[]).await?;
    let done = match tx.fetch_optional("SELECT coalesce(max(step), 0) FROM migration", &[]).await? {
        Some(row) => row.int(0)?,
        None => 0,
    };
    for (step, statements) in (1_i64..).zip(STEPS) {
        if step <= done {
            continue;
        }
        for statement in *statements {
            tx.execute(statement, &[]).await?;
        }
        tx.execute("INSERT INTO migration (step) VALUES ($1)", &[step.into()]).await?;
    }
    tx.commit().await
}
