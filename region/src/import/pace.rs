//! How long the region waits for an upload. Only bytes of the file show that the caller is alive: neither the
//! connection does, nor messages without bytes. Only time spent on waiting counts, so that no caller pays for a slow
//! disk here.

use std::time::Duration;

use crate::error::Error;

/// The pace of one upload.
#[derive(Debug)]
pub(crate) struct Pace {
    /// How long the caller may send nothing, and the length of the stretches over which the rate is measured.
    idle: Duration,
    /// The least bytes a second; 0 if any rate will do.
    rate: u64,
    /// Time spent on waiting since the last bytes.
    silent: Duration,
    /// Time spent on waiting in this stretch, and bytes that came in it.
    waited: Duration,
    bytes: u64,
}

impl Pace {
    pub(crate) fn new(idle: Duration, rate: u64) -> Self {
        Self { idle, rate, silent: Duration::ZERO, waited: Duration::ZERO, bytes: 0 }
    }

    /// How long to wait for the next message before checking again.
    pub(crate) fn patience(&self) -> Duration {
        self.idle.saturating_sub(self.silent).min(self.idle.saturating_sub(self.waited))
    }

    /// Notes how long the region waited for a message, and how many bytes of the file the message had.
    ///
    /// # Errors
    /// If the caller has stopped sending, or sends too slowly.
    pub(crate) fn went_on(&mut self, waited: Duration, bytes: usize) -> Result<(), Error> {
        self.silent = if bytes > 0 { Duration::ZERO } else { self.silent.saturating_add(waited) };
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.silent >= self.idle {
            return Err(Error::UploadStalled(self.idle));
        }
        if self.waited < self.idle {
            return Ok(());
        }
        let least = u128::from(self.rate) * self.waited.as_millis() / 1_000;
        if u128::from(self.bytes) < least {
            return Err(Error::UploadTooSlow { rate: self.rate });
        }
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace() -> Pace {
        Pace::new(10 * SECOND, 100)
    }

    #[test]
    fn an_upload_may_be_silent_for_as_long_as_is_waited_and_no_longer() {
        let mut pace = pace();
        assert_eq!(pace.patience(), 10 * SECOND);
        pace.went_on(9 * SECOND, 0).expect("not yet");
        assert_eq!(pace.patience(), SECOND);
        assert!(matches!(pace.went_on(SECOND, 0), Err(Error::UploadStalled(_))));
    }

    #[test]
    fn messages_without_bytes_are_no_sign_of_life() {
        let mut pace = pace();
        let stalled = (0..20).map(|_| pace.went_on(SECOND, 0)).position(|outcome| outcome.is_err());
        assert_eq!(stalled, Some(9));
    }

    #[test]
    fn an_upload_that_trickles_is_ended_after_a_stretch() {
        let mut slow = pace();
        let ended = (0..100)
            .map(|_| slow.went_on(SECOND, 99))
            .position(|outcome| matches!(outcome, Err(Error::UploadTooSlow { rate: 100 })));
        assert_eq!(ended, Some(9));
        let mut right = pace();
        for _ in 0..100 {
            right.went_on(SECOND, 100).expect("it is fast enough");
        }
        // A fast stretch does not make up for a later slow one.
        let mut fast_once = pace();
        fast_once.went_on(10 * SECOND, 1 << 30).expect("it is fast");
        assert!((0..10).any(|_| fast_once.went_on(SECOND, 1).is_err()));
    }

    #[test]
    fn time_that_is_not_waited_does_not_count_and_any_rate_may_be_enough() {
        let mut pace = pace();
        for _ in 0..10_000 {
            pace.went_on(Duration::ZERO, 1).expect("nothing was waited");
        }
        let mut unhurried = Pace::new(10 * SECOND, 0);
        for _ in 0..100 {
            unhurried.went_on(9 * SECOND, 1).expect("something comes");
        }
    }
}
