//! How often somebody may call: fixed windows of a minute, counted in memory. Replicas tell each other through the database
//! about those who come near their limit, so that most calls cost no write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::Db;

/// So often replicas tell each other.
const SHARE: Duration = Duration::from_secs(1);
/// Who used less than this part of their limit is not worth a write.
const WORTH_TELLING: u32 = 4;

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
    subjects: HashMap<String, Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    limit: u32,
    here: u32,
    /// How many of them the database knows.
    told: u32,
    elsewhere: u32,
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

    /// Counts a call.
    ///
    /// # Errors
    /// It is one too many.
    pub fn count(&self, subject: Subject<'_>, now: jiff::Timestamp) -> Result<(), Exceeded> {
        let (key, limit) = match subject {
            Subject::Token(id) => (format!("token/{id}"), self.config.token_per_minute),
            Subject::Address(address) => {
                (format!("address/{address}"), self.config.address_per_minute)
            }
        };
        if limit == 0 {
            return Ok(());
        }
        let minute = now.as_second().div_euclid(60);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.minute != minute {
            *window = Window { minute, subjects: HashMap::new() };
        }
        let count = window.subjects.entry(key).or_default();
        count.limit = limit;
        if count.here.saturating_add(count.elsewhere) >= limit {
            return Err(Exceeded { limit, wait: 60 - now.as_second().rem_euclid(60) });
        }
        count.here += 1;
        Ok(())
    }

    /// What the other replicas should know: the minute, and who called how often since it was told last.
    fn news(&self) -> (i64, Vec<(String, u32)>) {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let news = window
            .subjects
            .iter()
            .filter(|(_, count)| {
                count.here > count.told && count.here >= count.limit / WORTH_TELLING
            })
            .map(|(subject, count)| (subject.clone(), count.here - count.told))
            .collect();
        (window.minute, news)
    }

    /// Notes that the database knows `told` more calls of a subject, of which all replicas have `total`.
    fn shared(&self, minute: i64, subject: &str, told: u32, total: i64) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.minute == minute
            && let Some(count) = window.subjects.get_mut(subject)
        {
            count.told += told;
            let total = u32::try_from(total).unwrap_or(u32::MAX);
            count.elsewhere = total.saturating_sub(count.told);
        }
    }
}

/// Tells the other replicas for as long as the limiter is used.
pub fn share(limiter: &Arc<Limiter>, db: Db) {
    let limiter = Arc::downgrade(limiter);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SHARE).await;
            let Some(limiter) = limiter.upgrade() else { return };
            if let Err(error) = tell(&limiter, &db).await {
                tracing::warn!(%error, "cannot share how often somebody called");
            }
        }
    });
}

async fn tell(limiter: &Limiter, db: &Db) -> Result<(), store::Error> {
    let (minute, news) = limiter.news();
    if news.is_empty() {
        return Ok(());
    }
    let mut tx = db.begin_write().await?;
    store::rate::forget(&mut tx, minute - 1).await?;
    let mut totals = Vec::new();
    for (subject, calls) in &news {
        totals.push(store::rate::add(&mut tx, subject, minute, i64::from(*calls)).await?);
    }
    tx.commit().await?;
    for ((subject, calls), total) in news.iter().zip(totals) {
        limiter.shared(minute, subject, *calls, total);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> Limiter {
        Limiter::new(Config { token_per_minute: 8, address_per_minute: 2 })
    }

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn the_call_behind_the_limit_is_refused_until_the_next_minute() {
        let limiter = limiter();
        let address = Subject::Address([192, 0, 2, 1].into());
        assert_eq!(limiter.count(address, at(70)), Ok(()));
        assert_eq!(limiter.count(address, at(71)), Ok(()));
        assert_eq!(limiter.count(address, at(75)), Err(Exceeded { limit: 2, wait: 45 }));
        assert_eq!(limiter.count(Subject::Address([192, 0, 2, 2].into()), at(75)), Ok(()));
        assert_eq!(limiter.count(Subject::Token("a"), at(75)), Ok(()));
        assert_eq!(limiter.count(address, at(120)), Ok(()));
    }

    #[test]
    fn nothing_is_no_limit() {
        let limiter = Limiter::new(Config { token_per_minute: 0, address_per_minute: 0 });
        for _ in 0..1000 {
            assert_eq!(limiter.count(Subject::Token("a"), at(0)), Ok(()));
        }
    }

    #[test]
    fn two_replicas_together_keep_the_limit() {
        let (one, two) = (limiter(), limiter());
        for _ in 0..4 {
            one.count(Subject::Token("a"), at(0)).expect("below");
            two.count(Subject::Token("a"), at(0)).expect("below");
        }
        one.count(Subject::Token("b"), at(0)).expect("below");
        let (minute, news) = one.news();
        assert_eq!(news, [("token/a".to_owned(), 4)], "b is far from its limit");
        one.shared(minute, "token/a", 4, 4);
        assert_eq!(one.news().1, [], "told once");
        two.shared(minute, "token/a", 4, 8);
        assert!(two.count(Subject::Token("a"), at(1)).is_err());
        assert!(one.count(Subject::Token("a"), at(1)).is_ok(), "it does not know yet");
    }
}
