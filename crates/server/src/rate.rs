//! How often somebody may call: fixed windows of a minute. On a database that replicas share they count together, so that the limit
//! is one for all of them; who is above it is refused from memory and costs nobody a write.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use store::Db;

/// How often somebody may call the methods for users.
#[derive(Clone, Debug)]
pub struct Config {
    /// Calls per minute with one token; 0 for any number. Tokens of operators are not limited.
    pub token_per_minute: u32,
    /// Calls per minute without a valid token from one address; 0 for any number.
    pub address_per_minute: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { token_per_minute: 100, address_per_minute: 20 }
    }
}

/// Counts calls.
#[derive(Debug, Default)]
pub struct Limiter {
    config: Config,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    minute: i64,
    /// Calls in this minute, by who called.
    calls: HashMap<String, u32>,
}

/// Who is counted.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// A token, by its id.
    Token(&'a str),
    /// An address, without a valid token.
    Address(std::net::IpAddr),
}

/// More calls than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Calls per minute.
    pub limit: u32,
    /// Seconds until it begins anew.
    pub wait: i64,
}

impl Limiter {
    /// Counts from nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, window: Mutex::default() }
    }

    /// Counts a call, together with the other replicas if there can be any. A database that fails lets nobody in or out: then this
    /// replica counts alone.
    ///
    /// # Errors
    /// It is one too many.
    pub async fn count(
        &self,
        db: &Db,
        subject: Subject<'_>,
        now: Timestamp,
    ) -> Result<(), Exceeded> {
        let Some(call) = self.count_here(&subject, now)? else { return Ok(()) };
        if !db.is_shared() {
            return Ok(());
        }
        match count_together(db, &call).await {
            Ok(total) => self.learn(&call, total, now),
            Err(error) => {
                tracing::warn!(%error, "cannot count together how often somebody called");
                Ok(())
            }
        }
    }

    /// Counts a call of this replica; nothing when there is no limit.
    fn count_here(&self, subject: &Subject<'_>, now: Timestamp) -> Result<Option<Call>, Exceeded> {
        let (key, limit) = match subject {
            Subject::Token(id) => (format!("token/{id}"), self.config.token_per_minute),
            Subject::Address(address) => {
                (format!("address/{address}"), self.config.address_per_minute)
            }
        };
        if limit == 0 {
            return Ok(None);
        }
        let minute = now.as_second().div_euclid(60);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = window.minute != minute;
        if begins {
            *window = Window { minute, calls: HashMap::new() };
        }
        let calls = window.calls.entry(key.clone()).or_default();
        if *calls >= limit {
            return Err(exceeded(limit, now));
        }
        *calls += 1;
        Ok(Some(Call { key, limit, minute, begins }))
    }

    /// Notes how many calls all replicas have counted.
    fn learn(&self, call: &Call, total: i64, now: Timestamp) -> Result<(), Exceeded> {
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.minute == call.minute
            && let Some(calls) = window.calls.get_mut(&call.key)
        {
            *calls = (*calls).max(total);
        }
        if total > call.limit { Err(exceeded(call.limit, now)) } else { Ok(()) }
    }
}

/// A call that was counted here.
#[derive(Debug)]
struct Call {
    key: String,
    limit: u32,
    minute: i64,
    /// Whether it is the first of its minute.
    begins: bool,
}

fn exceeded(limit: u32, now: Timestamp) -> Exceeded {
    Exceeded { limit, wait: 60 - now.as_second().rem_euclid(60) }
}

async fn count_together(db: &Db, call: &Call) -> Result<i64, store::Error> {
    let mut tx = db.begin_write().await?;
    if call.begins {
        store::rate::forget(&mut tx, call.minute - 1).await?;
    }
    let total = store::rate::add(&mut tx, &call.key, call.minute, 1).await?;
    tx.commit().await?;
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> Limiter {
        Limiter::new(Config { token_per_minute: 8, address_per_minute: 2 })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn count(limiter: &Limiter, subject: Subject<'_>, second: i64) -> Result<(), Exceeded> {
        limiter.count_here(&subject, at(second)).map(|_| ())
    }

    #[test]
    fn the_call_behind_the_limit_is_refused_until_the_next_minute() {
        let limiter = limiter();
        let address = Subject::Address([192, 0, 2, 1].into());
        assert_eq!(count(&limiter, address, 70), Ok(()));
        assert_eq!(count(&limiter, address, 71), Ok(()));
        assert_eq!(count(&limiter, address, 75), Err(Exceeded { limit: 2, wait: 45 }));
        assert_eq!(count(&limiter, Subject::Address([192, 0, 2, 2].into()), 75), Ok(()));
        assert_eq!(count(&limiter, Subject::Token("a"), 75), Ok(()));
        assert_eq!(count(&limiter, address, 120), Ok(()));
    }

    #[test]
    fn nothing_is_no_limit() {
        let limiter = Limiter::new(Config { token_per_minute: 0, address_per_minute: 0 });
        for _ in 0..1000 {
            assert_eq!(count(&limiter, Subject::Token("a"), 0), Ok(()));
        }
    }

    #[test]
    fn two_replicas_together_keep_the_limit() {
        let (one, two) = (limiter(), limiter());
        let mut total = 0;
        for number in 1..=20 {
            let replica = if number % 2 == 0 { &one } else { &two };
            let passed = match replica.count_here(&Subject::Token("a"), at(0)) {
                Ok(call) => {
                    total += 1;
                    replica.learn(&call.expect("a limit"), total, at(0)).is_ok()
                }
                Err(_) => false,
            };
            assert_eq!(passed, number <= 8, "call {number}");
        }
        assert!(total <= 10, "who is above the limit is not counted any more: {total}");
    }
}
