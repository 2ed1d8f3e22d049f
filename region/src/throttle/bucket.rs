//! A limit on a rate. What was taken is paid off as time passes, and nothing more can be taken until it is. So a chunk of
//! any size passes, and the chunk after it waits all the longer. Unused time is not saved up: after a rest, imports write no
//! faster than before it.

use std::{num::NonZeroU64, time::Duration};

use tokio::time::Instant;

const NANOS: u128 = 1_000_000_000;

/// What is still to be paid off, as of some time.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Billionths of a unit, so that no part of a unit gets lost between two looks.
    owed: u128,
    at: Instant,
    /// Since when it has counted what is taken: when what was owed was last forgotten.
    since: Instant,
}

impl Bucket {
    /// Owes nothing.
    pub(super) fn new(now: Instant) -> Self {
        Self { owed: 0, at: now, since: now }
    }

    /// Pays off what the time since the last look allows.
    pub(super) fn pay(&mut self, rate: NonZeroU64, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_nanos();
        self.owed = self.owed.saturating_sub(passed.saturating_mul(rate.get().into()));
        self.at = self.at.max(now);
    }

    /// Forgets what is owed, because there is no limit.
    pub(super) fn clear(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Takes this much.
    pub(super) fn take(&mut self, amount: u64) {
        self.owed = self.owed.saturating_add(u128::from(amount).saturating_mul(NANOS));
    }

    /// Gives back what was taken at `taken`, unless it has been forgotten since.
    pub(super) fn give_back(&mut self, amount: u64, taken: Instant) {
        if taken >= self.since {
            self.owed = self.owed.saturating_sub(u128::from(amount).saturating_mul(NANOS));
        }
    }

    /// When everything is paid off at this rate, as of the last look; `None` if it is.
    pub(super) fn free_at(&self, rate: NonZeroU64) -> Option<Instant> {
        if self.owed == 0 {
            return None;
        }
        let nanos = u64::try_from(self.owed.div_ceil(rate.get().into())).unwrap_or(u64::MAX);
        // Too far away for the clock: whoever waits looks again.
        let far = Duration::from_secs(3_600);
        Some(self.at.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.at + far))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(value: u64) -> NonZeroU64 {
        NonZeroU64::new(value).expect("it is not zero")
    }

    #[test]
    fn chunks_of_any_size_come_to_the_rate_and_no_time_is_saved_up() {
        let begin = Instant::now();
        let mut now = begin;
        let mut bucket = Bucket::new(now);
        let mut taken = 0;
        for chunk in [2_500, 1, 10, 5_000, 3] {
            bucket.pay(rate(100), now);
            if let Some(free) = bucket.free_at(rate(100)) {
                now = free;
                bucket.pay(rate(100), now);
            }
            assert_eq!(bucket.free_at(rate(100)), None);
            assert_eq!(now.duration_since(begin), Duration::from_millis(taken * 10));
            bucket.take(chunk);
            taken += chunk;
        }
        // An hour later, one chunk passes at once, and only one.
        now += Duration::from_secs(3_600);
        bucket.pay(rate(100), now);
        assert_eq!(bucket.free_at(rate(100)), None);
        bucket.take(100);
        assert_eq!(bucket.free_at(rate(100)), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn what_is_owed_is_paid_at_the_rate_of_the_moment() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        bucket.take(1_000);
        assert_eq!(bucket.free_at(rate(1)), Some(now + Duration::from_secs(1_000)));
        bucket.pay(rate(1), now + Duration::from_secs(500));
        assert_eq!(bucket.free_at(rate(1_000)), Some(now + Duration::from_millis(500_500)));
        // A clock that seems to go back pays nothing and breaks nothing.
        bucket.pay(rate(1), now);
        assert_eq!(bucket.free_at(rate(1_000)), Some(now + Duration::from_millis(500_500)));
        bucket.clear(now);
        assert_eq!(bucket.free_at(rate(1)), None);
        for _ in 0..3 {
            bucket.take(u64::MAX);
        }
        assert!(bucket.free_at(rate(1)).is_some_and(|free| free > now));
    }
}
