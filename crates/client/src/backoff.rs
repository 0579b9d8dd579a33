//! How long to wait before the next attempt.

use std::time::Duration;

/// Doubling delays with jitter, so that a thousand machines do not return in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    attempt: u32,
}

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

impl Backoff {
    /// Starts with the shortest delay.
    pub fn new() -> Self {
        Self { attempt: 0 }
    }

    /// Delay before the next attempt: 0.2 s doubled each time up to 5 s, less up to half of it by chance.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = ceiling(self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        ceiling.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Something worked: the next delay is a short one again.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

fn ceiling(attempt: u32) -> Duration {
    FIRST.saturating_mul(1 << attempt.min(16)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_five_seconds_and_starts_again() {
        let mut backoff = Backoff::new();
        for attempt in 0..100 {
            let delay = backoff.next_delay();
            assert!(
                delay <= ceiling(attempt) && delay >= ceiling(attempt) / 2,
                "{attempt}: {delay:?}"
            );
        }
        assert_eq!(ceiling(0), FIRST);
        assert_eq!(ceiling(99), LONGEST);
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST);
    }
}
