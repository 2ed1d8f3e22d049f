//! How imports give way to the application, by the latency of the probe statement.
//!
//! The rule: a measurement above the bound makes imports one step slower. Five in a row that are not above it make them
//! one step faster. On each step they write half as much of the time as on the one before: all of it on step 0, a
//! thirty-second part on step 5, which is the last. So an application that suffers is relieved within seconds, and an
//! import never stops.

use std::time::Duration;

/// The last step.
pub(super) const SLOWEST: u32 = 5;
/// So many quick measurements in a row make imports one step faster.
const QUICK_IN_A_ROW: u32 = 5;
/// The longest rest, so that an import is seen to go on.
pub(super) const LONGEST_REST: Duration = Duration::from_secs(60);

/// The step at which imports are.
#[derive(Debug, Default)]
pub(super) struct GivingWay {
    step: u32,
    quick: u32,
}

impl GivingWay {
    /// The current step; 0 is full speed.
    pub(super) fn step(&self) -> u32 {
        self.step
    }

    /// The part of the time in which imports may write, in percent; rounded up.
    pub(super) fn percent(&self) -> u32 {
        100_u32.div_ceil(1 << self.step)
    }

    /// Takes a measurement. Returns whether the step has changed.
    pub(super) fn measured(&mut self, latency: Duration, bound: Duration) -> bool {
        let before = self.step;
        if latency > bound {
            self.quick = 0;
            self.step = (self.step + 1).min(SLOWEST);
        } else {
            self.quick += 1;
            if self.quick == QUICK_IN_A_ROW {
                self.quick = 0;
                self.step = self.step.saturating_sub(1);
            }
        }
        self.step != before
    }

    /// How long nothing may be written after something was written for this long.
    pub(super) fn rest(&self, wrote: Duration) -> Duration {
        let factor = (1 << self.step) - 1;
        wrote.saturating_mul(factor).min(LONGEST_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(20);
    const SLOW: Duration = Duration::from_millis(21);

    #[test]
    fn a_slow_answer_is_one_step_and_five_quick_ones_are_one_step_back() {
        let mut it = GivingWay::default();
        assert_eq!((it.step(), it.percent()), (0, 100));
        let steps: Vec<(u32, u32)> = (0..7)
            .map(|_| {
                it.measured(SLOW, BOUND);
                (it.step(), it.percent())
            })
            .collect();
        assert_eq!(steps, [(1, 50), (2, 25), (3, 13), (4, 7), (5, 4), (5, 4), (5, 4)]);
        // As quick as the bound is quick enough.
        let steps: Vec<u32> = (0..26)
            .map(|_| {
                it.measured(BOUND, BOUND);
                it.step()
            })
            .collect();
        assert_eq!(steps, [5, 5, 5, 5, 4, 4, 4, 4, 4, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn one_slow_answer_among_quick_ones_begins_the_count_again() {
        let mut it = GivingWay::default();
        assert!(it.measured(SLOW, BOUND));
        for _ in 0..4 {
            assert!(!it.measured(BOUND, BOUND));
        }
        assert!(it.measured(SLOW, BOUND));
        for _ in 0..4 {
            assert!(!it.measured(BOUND, BOUND));
        }
        assert_eq!(it.step(), 2);
        assert!(it.measured(BOUND, BOUND));
        assert_eq!(it.step(), 1);
    }

    #[test]
    fn a_chunk_is_followed_by_a_rest_that_leaves_the_share_of_its_step() {
        let mut it = GivingWay::default();
        let second = Duration::from_secs(1);
        assert_eq!(it.rest(second), Duration::ZERO);
        let rests: Vec<u64> = (0..SLOWEST)
            .map(|_| {
                it.measured(SLOW, BOUND);
                it.rest(second).as_secs()
            })
            .collect();
        assert_eq!(rests, [1, 3, 7, 15, 31]);
        assert_eq!(it.rest(Duration::MAX), LONGEST_REST);
    }
}
