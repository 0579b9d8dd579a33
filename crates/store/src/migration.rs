//! Brings the schema up to date, once, also when several replicas start together.

use crate::{Db, Error};

/// Steps in order; a step that has shipped is never changed. Each is a list of the statements of several tables, those that are
/// referred to first.
const STEPS: &[&[&[&str]]] = &[
    &[
        crate::signing_key::SCHEMA,
        crate::token::SCHEMA,
        crate::tenant::SCHEMA,
        crate::project::SCHEMA,
        crate::invite::SCHEMA,
        crate::partition::SCHEMA,
        crate::size::SCHEMA,
        crate::image::SCHEMA,
        crate::filesystem_layout::SCHEMA,
        crate::size_image_constraint::SCHEMA,
        crate::size_reservation::SCHEMA,
        crate::network::SCHEMA,
        crate::prefix::SCHEMA,
        crate::ip::SCHEMA,
        crate::machine::SCHEMA,
        crate::waiting::SCHEMA,
        crate::switch::SCHEMA,
        crate::event::SCHEMA,
        crate::phase::SCHEMA,
        crate::job::SCHEMA,
        crate::component::SCHEMA,
        crate::audit::SCHEMA,
        crate::rate::SCHEMA,
    ],
    &[crate::login::SCHEMA],
    &[crate::idempotency::SCHEMA, crate::vpn::SCHEMA],
    &[crate::machine::ENCODED_SCHEMA],
    &[crate::firewall::SCHEMA],
];

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
        for statement in statements.iter().copied().flatten() {
            tx.execute(*statement, &[]).await?;
        }
        tx.execute("INSERT INTO migration (step) VALUES ($1)", &[step.into()]).await?;
    }
    tx.commit().await
}
