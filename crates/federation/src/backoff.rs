//! When to try a lost link again: quickly at first, then ever more slowly up to a bound, with jitter, so that a
//! neighbour's return is not met by everybody at once.

use kith_protocol::limits::{LINK_RETRY_FIRST_MS, LINK_RETRY_MS_MAX};

/// Consecutive failures since the link was last up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Milliseconds to wait now. `random` is a fresh random number; at least half of the bound is always kept.
    pub fn next_ms(&mut self, random: u64) -> u64 {
        let bound = LINK_RETRY_FIRST_MS.saturating_mul(1 << self.failures.min(16)).min(LINK_RETRY_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        bound / 2 + random % (bound / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_is_quick_and_none_is_slow() {
        for random in [0, 1, 99, u64::MAX] {
            let mut backoff = Backoff::default();
            assert!(backoff.next_ms(random) <= 250);
            for _ in 0..100 {
                let wait = backoff.next_ms(random);
                assert!((50..=LINK_RETRY_MS_MAX).contains(&wait));
            }
            backoff.reset();
            assert!(backoff.next_ms(random) <= 250);
        }
    }
}
