//! Logins of people: what the server must remember between sending a browser to the identity provider and its return, and which
//! browser is to be logged out. Replicas share it; each login is used once.

use crate::Error;
use crate::db::{Row, Tx};

pub(crate) const SCHEMA: &[&str] = &[
    // an owner is there once the login has succeeded
    "CREATE TABLE login (
        id text PRIMARY KEY,
        browser text NOT NULL,
        nonce text NOT NULL,
        verifier text NOT NULL,
        redirect text NOT NULL,
        expires_at bigint NOT NULL,
        used_at bigint,
        owner text
    )",
    "CREATE INDEX login_browser ON login (browser)",
    "CREATE INDEX login_expiry ON login (expires_at)",
];

/// What expired so long ago (microseconds) is forgotten; until then whoever comes late is told that they are late.
const KEEP_US: i64 = 3600 * 1_000_000;

/// A login that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Digest of the `state` that goes through the browser.
    pub id: String,
    /// Digest of the cookie of the browser that began it.
    pub browser: String,
    /// What the provider must write into the identity token.
    pub nonce: String,
    /// Proves to the provider that the code is redeemed by who asked for it (PKCE).
    pub verifier: String,
    /// Where the token goes.
    pub redirect: String,
    /// Microseconds since 1970.
    pub expires_at_us: i64,
}

/// What is left of a login when a browser comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was begun, not used, and is used up by this.
    Fresh(Login),
    /// Somebody came back with it before.
    Used,
    /// It took too long.
    Expired,
    /// It was never begun, or long ago.
    Unknown,
}

/// Stores a login that begins, and forgets old ones.
///
/// # Errors
/// [`Error::Unique`] when it exists.
pub async fn insert(tx: &mut Tx, login: &Login, now_us: i64) -> Result<(), Error> {
    tx.execute("DELETE FROM login WHERE expires_at <= $1", &[(now_us - KEEP_US).into()]).await?;
    tx.execute(
        "INSERT INTO login (id, browser, nonce, verifier, redirect, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            (&login.id).into(),
            (&login.browser).into(),
            (&login.nonce).into(),
            (&login.verifier).into(),
            (&login.redirect).into(),
            login.expires_at_us.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Uses a login up: of several who come at the same time one gets it.
///
/// # Errors
/// The database failed.
pub async fn take(tx: &mut Tx, id: &str, now_us: i64) -> Result<Taken, Error> {
    let row = tx
        .fetch_optional(
            "UPDATE login SET used_at = $2 WHERE id = $1 AND used_at IS NULL
             RETURNING id, browser, nonce, verifier, redirect, expires_at",
            &[id.into(), now_us.into()],
        )
        .await?;
    if let Some(row) = row {
        let login = from_row(&row)?;
        return Ok(if login.expires_at_us > now_us { Taken::Fresh(login) } else { Taken::Expired });
    }
    let known = tx.fetch_optional("SELECT id FROM login WHERE id = $1", &[id.into()]).await?;
    Ok(if known.is_some() { Taken::Used } else { Taken::Unknown })
}

/// Notes who logged in, so that the browser can log them out until `expires_at_us`.
///
/// # Errors
/// The database failed.
pub async fn succeed(tx: &mut Tx, id: &str, owner: &str, expires_at_us: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE login SET owner = $2, expires_at = $3, nonce = '', verifier = '' WHERE id = $1",
        &[id.into(), owner.into(), expires_at_us.into()],
    )
    .await?;
    Ok(())
}

/// Logs a browser out: its logins that had succeeded, each with its owner, which are forgotten by this.
///
/// # Errors
/// The database failed.
pub async fn end(tx: &mut Tx, browser: &str) -> Result<Vec<(String, String)>, Error> {
    tx.fetch_all(
        "DELETE FROM login WHERE browser = $1 AND owner IS NOT NULL RETURNING id, owner",
        &[browser.into()],
    )
    .await?
    .iter()
    .map(|row| Ok((row.text(0)?, row.text(1)?)))
    .collect()
}

fn from_row(row: &Row) -> Result<Login, Error> {
    Ok(Login {
        id: row.text(0)?,
        browser: row.text(1)?,
        nonce: row.text(2)?,
        verifier: row.text(3)?,
        redirect: row.text(4)?,
        expires_at_us: row.int(5)?,
    })
}
