//! A token bucket: how much somebody may still ask for, refilled by a clock that the caller reads.

use crate::ids::Millis;

/// Tokens are counted in millionths: what comes back in a millisecond is a whole number of them.
#[derive(Debug, Clone)]
pub struct Bucket {
    burst_micro: u64,
    per_second_milli: u64,
    tokens_micro: u64,
    at: Millis,
}

impl Bucket {
    /// Full at first. `per_second_milli`: thousandths of a token that come back each second; it must not be 0.
    pub fn new(burst: u32, per_second_milli: u64, now: Millis) -> Self {
        let burst_micro = u64::from(burst) * 1_000_000;
        Self { burst_micro, per_second_milli, tokens_micro: burst_micro, at: now }
    }

    /// Takes `tokens`, or says in how many milliseconds they will be there.
    pub fn take(&mut self, now: Millis, tokens: u32) -> Result<(), u32> {
        let elapsed = now.0.saturating_sub(self.at.0);
        self.at = self.at.max(now);
        self.tokens_micro = self.burst_micro.min(self.tokens_micro.saturating_add(elapsed.saturating_mul(self.per_second_milli)));
        let wanted = u64::from(tokens) * 1_000_000;
        let missing = wanted.saturating_sub(self.tokens_micro);
        if missing > 0 {
            return Err(u32::try_from(missing.div_ceil(self.per_second_milli)).unwrap_or(u32::MAX));
        }
        self.tokens_micro -= wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_refilled_by_the_clock_and_never_beyond_its_burst() {
        let mut bucket = Bucket::new(3, 500, Millis(0));
        (0..3).for_each(|_| assert_eq!(bucket.take(Millis(0), 1), Ok(())));
        assert_eq!(bucket.take(Millis(0), 1), Err(2_000));
        assert_eq!(bucket.take(Millis(1_999), 1), Err(1), "almost");
        assert_eq!(bucket.take(Millis(2_000), 1), Ok(()));
        assert_eq!(bucket.take(Millis(1_000), 1), Err(2_000), "a clock that goes back gives nothing");
        assert_eq!(bucket.take(Millis(1_000_000), 4), Err(2_000), "no more than the burst");
        assert_eq!(bucket.take(Millis(1_000_000), 3), Ok(()));
    }
}
