//! How long to wait before something is tried again.

use std::time::Duration;

/// Pauses between attempts that double up to a longest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failed attempt; each further one is twice as long.
    pub first: Duration,
    /// No pause is longer than this, except for the random quarter that [`Backoff::after`] adds.
    pub longest: Duration,
}

impl Backoff {
    /// The pause after the attempt of this number, counted from 1, and up to a quarter more: clients that failed
    /// together must not try again together. `random` gives a number below its argument, which is at least 1.
    pub fn after(&self, attempts: i64, random: impl FnOnce(u64) -> u64) -> Duration {
        let doubled = u32::try_from(attempts.clamp(1, 31) - 1).unwrap_or(0);
        let pause = self.first.saturating_mul(1 << doubled).min(self.longest);
        match u64::try_from((pause / 4).as_micros()) {
            Ok(0) => pause,
            Ok(quarter) => pause.saturating_add(Duration::from_micros(random(quarter))),
            // A pause of 2 million years.
            Err(_) => pause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_millis(20), longest: Duration::from_secs(15) };
        let bounds = [(-1, 20), (1, 20), (2, 40), (10, 10_240), (11, 15_000), (1_000_000, 15_000)];
        for (attempts, least) in bounds {
            let least = Duration::from_millis(least);
            assert_eq!(backoff.after(attempts, |_| 0), least, "{attempts}");
            let longest = backoff.after(attempts, |bound| bound - 1);
            assert!(longest > least && longest < least + least / 4, "{attempts}: {longest:?}");
        }
    }

    #[test]
    fn a_pause_of_nothing_asks_for_no_random_number() {
        let none = Backoff { first: Duration::ZERO, longest: Duration::ZERO };
        assert_eq!(none.after(1, |_| 1), Duration::ZERO);
        let long = Backoff { first: Duration::MAX, longest: Duration::MAX };
        assert_eq!(long.after(31, |_| 0), Duration::MAX);
    }
}
