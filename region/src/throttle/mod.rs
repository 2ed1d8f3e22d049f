//! Holds imports back: a limit on rows and one on bytes in a second, and giving way to the application when its own
//! statements get slow. One object for all imports of a process; each process of a region has its own.
//!
//! Every chunk passes here before it begins. Whoever waits holds no transaction and no connection, and can be cancelled at
//! any moment. The clock is tokio's, which only goes forward: with the clock of the environment, an import would stand still
//! after somebody has set the machine's clock back.

mod bucket;
mod giving_way;
mod limits;
mod state;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use causeway_silo::db::ProbeError;
use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, watch},
    time::{Instant, sleep_until},
};

pub use self::limits::{Change, Choice, Chosen, Options, PROBE_STATEMENT, ThrottleKind, ThrottleLimits};
use self::state::State;
pub(crate) use self::state::{Cost, SlowedBy};

/// The least that a limit leaves of a batch. Smaller ones would only cost more transactions.
const LEAST_RECORDS: usize = 50;
const LEAST_BYTES: usize = 16 * 1024;

/// What holds the imports of this process back, and how much they wrote. The numbers only grow while the process lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThrottleStatus {
    /// The limits that hold now.
    pub limits: ThrottleLimits,
    /// What operators have chosen.
    pub chosen: Chosen,
    /// How far imports give way: 0 is full speed, and each step halves the time in which they write.
    pub step: u32,
    /// The part of the time in which they may write, in percent.
    pub percent: u32,
    /// What the probe statement last took; `None` if it was not measured, or failed.
    pub latency: Option<Duration>,
    /// Why the last measurement failed; `None` if it did not.
    pub probe_error: Option<String>,
    /// How often it was measured.
    pub probes: u64,
    /// How many of these were above the bound.
    pub slow_probes: u64,
    /// How many have failed, so that nothing is known of the latency.
    pub failed_probes: u64,
    /// Rows that chunks wrote, or that a revert deleted.
    pub rows: u64,
    /// Bytes in the file of the records that chunks wrote.
    pub bytes: u64,
    /// How long chunks have waited, all together.
    pub waited: Duration,
}

/// The throttle of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Throttle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    state: Mutex<State>,
    /// Chunks wait in turn: the first one waits for the limits, the others for it.
    queue: AsyncMutex<()>,
    /// Locked while limits are set or read, so that what was read before a change does not come after it.
    choosing: AsyncMutex<()>,
    /// Notified when limits or steps have changed, and when a cost was given back.
    changed: watch::Sender<()>,
}

/// The right to write one chunk. If it is dropped before the chunk is [written](Self::written), its cost is given back,
/// because the chunk will be written again.
#[derive(Debug)]
pub(crate) struct Pass {
    throttle: Throttle,
    cost: Cost,
    begun: Instant,
    is_written: bool,
}

impl Pass {
    /// The chunk is written.
    pub(crate) fn written(mut self) {
        self.is_written = true;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let throttle = &self.throttle;
        {
            let mut state = throttle.state();
            match self.is_written {
                true => state.written(self.cost),
                false => state.give_back(self.cost, self.begun),
            }
            state.end(Instant::now());
        }
        if !self.is_written {
            // Others wait for less now.
            throttle.0.changed.send_replace(());
        }
    }
}

impl Throttle {
    /// A throttle with what the process was started with.
    pub(crate) fn new(options: Options) -> Self {
        let state = Mutex::new(State::new(options.limits, Instant::now()));
        Self(Arc::new(Inner {
            options,
            state,
            queue: AsyncMutex::new(()),
            choosing: AsyncMutex::new(()),
            changed: watch::Sender::new(()),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the process was started with.
    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    /// Waits until a chunk may begin. Calls `shown` with what the chunk waits for, and with `None` when it may begin.
    pub(crate) async fn pass(&self, cost: Cost, shown: impl Fn(Option<SlowedBy>)) -> Pass {
        let asked = Instant::now();
        if let Some((slowed_by, _)) = self.state().slowed_by(asked, cost) {
            shown(Some(slowed_by));
        }
        // What writes nothing does not wait for those who have to pay.
        let _first = match cost == Cost::default() {
            true => None,
            false => Some(self.0.queue.lock().await),
        };
        let mut changed = self.0.changed.subscribe();
        loop {
            let now = Instant::now();
            let slowed_by = {
                let mut state = self.state();
                let slowed_by = state.slowed_by(now, cost);
                if slowed_by.is_none() {
                    state.begin(cost, now.saturating_duration_since(asked), now);
                }
                slowed_by
            };
            let Some((slowed_by, until)) = slowed_by else {
                shown(None);
                return Pass { throttle: self.clone(), cost, begun: now, is_written: false };
            };
            shown(Some(slowed_by));
            tokio::select! {
                () = sleep_until(until) => {}
                // Never an error: the sender lives as long as this.
                _ = changed.changed() => {}
            }
        }
    }

    /// Whether a chunk would have to wait now.
    pub(crate) fn holds(&self, cost: Cost) -> bool {
        self.state().slowed_by(Instant::now(), cost).is_some()
    }

    /// The most records and bytes of a batch of this region, so that a limit is no row of floods: half a second's worth.
    pub(crate) fn largest_batch(&self, records: usize, bytes: usize) -> (usize, usize) {
        let state = self.state();
        let limits = state.limits();
        let half = |limit: Option<std::num::NonZeroU64>| {
            limit.map_or(usize::MAX, |limit| usize::try_from(limit.get() / 2).unwrap_or(usize::MAX))
        };
        (
            records
                .min(half(limits.rows_per_second))
                .min(records >> state.step())
                .max(LEAST_RECORDS.min(records)),
            bytes.min(half(limits.bytes_per_second)).max(LEAST_BYTES.min(bytes)),
        )
    }

    /// Waits until nobody else sets or reads limits. Keep the guard until they have been taken over.
    pub(crate) async fn choosing(&self) -> AsyncMutexGuard<'_, ()> {
        self.0.choosing.lock().await
    }

    /// Takes over what operators have chosen.
    pub(crate) fn choose(&self, chosen: Chosen) {
        let changed = {
            let mut state = self.state();
            let before = state.limits();
            state.choose(chosen, self.0.options.limits, Instant::now());
            before != state.limits()
        };
        if changed {
            self.0.changed.send_replace(());
        }
    }

    /// The bound on the latency of the probe statement; `None` if it is not to be measured.
    pub(crate) fn bound(&self) -> Option<Duration> {
        self.state().limits().probe_latency
    }

    /// Takes a measurement of the probe statement.
    pub(crate) fn measured(&self, outcome: Result<Duration, ProbeError>) {
        if self.state().measured(outcome, Instant::now()) {
            self.0.changed.send_replace(());
        }
    }

    /// What holds imports back now, and how much they wrote.
    pub(crate) fn status(&self) -> ThrottleStatus {
        self.state().status()
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, sync::atomic::AtomicUsize, sync::atomic::Ordering};

    use futures::poll;

    use super::*;

    fn throttle(rows: u64) -> Throttle {
        let limits = ThrottleLimits { rows_per_second: NonZeroU64::new(rows), ..ThrottleLimits::default() };
        Throttle::new(Options { limits, ..Options::default() })
    }

    const ROWS: Cost = Cost { rows: 100, bytes: 0 };

    /// The clock stands still except where the test moves it.
    #[tokio::test(start_paused = true)]
    async fn all_that_write_share_one_limit_and_wait_in_turn() {
        let throttle = throttle(100);
        let begun = Instant::now();
        let times: Vec<u64> = {
            let passes = (0..4).map(|_| async {
                throttle.pass(ROWS, |_| {}).await.written();
                begun.elapsed().as_secs()
            });
            futures::future::join_all(passes).await
        };
        assert_eq!(times, [0, 1, 2, 3]);
        let status = throttle.status();
        assert_eq!((status.rows, status.waited), (400, Duration::from_secs(6)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_set_holds_at_once_for_those_who_wait() {
        let throttle = throttle(1);
        throttle.pass(ROWS, |_| {}).await.written();
        let shows = AtomicUsize::new(0);
        let begun = Instant::now();
        {
            let mut waiting = Box::pin(throttle.pass(ROWS, |slowed_by| {
                if slowed_by
                    .is_some_and(|slowed_by| slowed_by.by == ThrottleKind::Rows && slowed_by.limit == 1)
                {
                    shows.fetch_add(1, Ordering::Relaxed);
                }
            }));
            assert!(poll!(&mut waiting).is_pending());
            let faster = Choice::Limit(NonZeroU64::new(100).expect("it is not zero"));
            throttle.choose(Chosen { rows: faster, ..Chosen::default() });
            waiting.await.written();
        }
        assert!(shows.load(Ordering::Relaxed) > 0, "nobody was told");
        assert_eq!(begun.elapsed().as_secs(), 1);
        let begun = Instant::now();
        {
            let mut waiting = Box::pin(throttle.pass(ROWS, |_| {}));
            assert!(poll!(&mut waiting).is_pending());
            throttle.choose(Chosen { rows: Choice::Unlimited, ..Chosen::default() });
            waiting.await.written();
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_while_it_waits_costs_the_others_nothing() {
        let throttle = throttle(100);
        throttle.pass(ROWS, |_| {}).await.written();
        let mut gone = Box::pin(throttle.pass(Cost { rows: 1_000_000, bytes: 0 }, |_| {}));
        assert!(poll!(&mut gone).is_pending());
        drop(gone);
        let begun = Instant::now();
        throttle.pass(ROWS, |_| {}).await.written();
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunk_that_fails_costs_the_next_one_nothing() {
        let throttle = throttle(1);
        let failing = throttle.pass(ROWS, |_| {}).await;
        let begun = Instant::now();
        let mut waiting = Box::pin(throttle.pass(ROWS, |_| {}));
        assert!(poll!(&mut waiting).is_pending());
        drop(failing);
        waiting.await.written();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(throttle.status().rows, ROWS.rows);
    }

    #[tokio::test(start_paused = true)]
    async fn what_writes_nothing_does_not_wait_for_what_does() {
        let throttle = throttle(1);
        throttle.pass(ROWS, |_| {}).await.written();
        let mut waiting = Box::pin(throttle.pass(ROWS, |_| {}));
        assert!(poll!(&mut waiting).is_pending());
        let begun = Instant::now();
        throttle.pass(Cost::default(), |_| {}).await.written();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[test]
    fn batches_get_smaller_under_a_limit_and_when_the_application_is_slow() {
        assert_eq!(throttle(u64::MAX).largest_batch(5_000, 1 << 20), (5_000, 1 << 20));
        assert_eq!(throttle(1_000).largest_batch(5_000, 1 << 20), (500, 1 << 20));
        assert_eq!(throttle(1).largest_batch(5_000, 1 << 20), (50, 1 << 20));
        assert_eq!(throttle(1).largest_batch(10, 100), (10, 100));
        let limits = ThrottleLimits {
            bytes_per_second: NonZeroU64::new(100_000),
            probe_latency: Some(Duration::from_millis(1)),
            ..ThrottleLimits::default()
        };
        let throttle = Throttle::new(Options { limits, ..Options::default() });
        assert_eq!(throttle.largest_batch(5_000, 1 << 20), (5_000, 50_000));
        throttle.measured(Ok(Duration::from_millis(2)));
        throttle.measured(Ok(Duration::from_millis(2)));
        assert_eq!(throttle.largest_batch(5_000, 1 << 20), (1_250, 50_000));
    }
}
