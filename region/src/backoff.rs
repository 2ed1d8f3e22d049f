//! How long to wait before something is tried again.

use std::time::Duration;

use causeway_silo::env::Environment;

/// How long a region waits between two attempts at the same thing. Only tests have reason to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failed attempt; each further one is twice as long. 20 ms by default: most transient errors
    /// have passed by then, and a service that is killed again and again has no time to lose.
    pub first: Duration,
    /// The longest pause. 15 s by default.
    pub longest: Duration,
    /// How long a comparison with control waits for the one before it. 30 s by default: as long as the lease of a process
    /// that is gone may last.
    pub turn: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(20),
            longest: Duration::from_secs(15),
            turn: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// The pause behind the attempt of this number, counted from 1, and up to a quarter more: those who failed together
    /// are not to try again together.
    pub(crate) fn after(&self, attempts: i64, env: &Environment) -> Duration {
        let doubled = u32::try_from(attempts.clamp(1, 31) - 1).unwrap_or(0);
        let pause = self.first.saturating_mul(1 << doubled).min(self.longest);
        let quarter = u64::try_from((pause / 4).as_micros()).unwrap_or(0);
        pause + Duration::from_micros(env.below(quarter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let (backoff, env) = (Backoff::default(), Environment::system().seeded(1));
        let bounds = [(-1, 20), (1, 20), (2, 40), (10, 10_240), (11, 15_000), (1_000_000, 15_000)];
        for (attempts, least) in bounds {
            let (pause, least) = (backoff.after(attempts, &env), Duration::from_millis(least));
            assert!((least..least + least / 4).contains(&pause), "{attempts}: {pause:?}");
        }
    }
}
