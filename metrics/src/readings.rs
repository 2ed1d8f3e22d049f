//! What is read when somebody scrapes: from the database, or from a directory. A reading runs in a task of its own, at
//! most one at a time, so that scrapes neither wait long for it nor pile up.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{metric::Sample, table};

/// How long a scrape waits for readings. After that it shows what was read before. Prometheus waits 10 s for a scrape if
/// it is not told otherwise.
const PATIENCE: Duration = Duration::from_secs(3);
/// A reading takes at most this part of all time, so that it cannot keep a database busy.
const SHARE: u32 = 20;

/// Reads the values of some metrics. Fails with a text for the log, without anything secret.
type Read = dyn Fn() -> BoxFuture<'static, Result<Vec<Sample>, String>> + Send + Sync;

/// Something that is read together.
pub struct Reading {
    /// The value of the label `reading`.
    name: &'static str,
    /// How old its values may become before they are read again.
    every: Duration,
    /// How long it may take.
    limit: Duration,
    read: Box<Read>,
    state: Mutex<State>,
    /// Whether it is being read.
    busy: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    samples: Vec<Sample>,
    /// When these were read.
    at: Option<Instant>,
    failed: bool,
    /// When it may be read again; `None` if it never was.
    next: Option<Instant>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Reading {
    /// A reading that has not been made yet. It is made at most once in `every`, and ended after `limit`.
    pub fn new(
        name: &'static str,
        every: Duration,
        limit: Duration,
        read: impl Fn() -> BoxFuture<'static, Result<Vec<Sample>, String>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (state, busy) = (Mutex::default(), watch::Sender::new(false));
        Arc::new(Self { name, every, limit, read: Box::new(read), state, busy })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to read if that is due, and nobody is reading.
    fn begin(self: &Arc<Self>, stop: &CancellationToken) {
        let is_due = self.state().next.is_none_or(|next| Instant::now() >= next);
        if !is_due || self.busy.send_replace(true) {
            return;
        }
        let reading = Arc::clone(self);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            // Whatever happens to the task, the next one can begin.
            let _idle = Idle(&reading.busy);
            reading.run().await;
        }));
    }

    async fn run(&self) {
        let began = Instant::now();
        let outcome = match timeout(self.limit, (self.read)()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("it was not read within {:?}", self.limit)),
        };
        let (now, took) = (Instant::now(), began.elapsed());
        let mut state = self.state();
        state.next = Some(now + self.every.max(took.saturating_mul(SHARE)));
        match outcome {
            Ok(samples) => {
                if std::mem::replace(&mut state.failed, false) {
                    tracing::info!(reading = self.name, "metrics can be read again");
                }
                (state.samples, state.at) = (samples, Some(now));
            }
            Err(error) => {
                if !std::mem::replace(&mut state.failed, true) {
                    tracing::warn!(reading = self.name, error, "metrics cannot be read, and are not shown");
                }
                state.samples = Vec::new();
            }
        }
    }

    /// Waits until nobody is reading.
    async fn ended(&self) {
        let mut busy = self.busy.subscribe();
        // Never an error: the sender lives as long as this does.
        let _idle = busy.wait_for(|busy| !*busy).await;
    }

    /// What was read last, and how that went.
    fn samples(&self) -> Vec<Sample> {
        let state = self.state();
        let mut samples = state.samples.clone();
        samples.push(table::READING_FAILED.sample([self.name], state.failed));
        if let Some(at) = state.at {
            samples.push(table::READING_AGE.sample([self.name], at.elapsed().as_secs_f64()));
        }
        samples
    }
}

/// Says that nobody is reading when it is dropped.
struct Idle<'a>(&'a watch::Sender<bool>);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

/// All readings of a service. Those that are under way end when this is dropped, so that a service that stops need not
/// wait for them.
#[derive(Debug)]
pub struct Readings {
    all: Vec<Arc<Reading>>,
    stop: DropGuard,
}

impl Default for Readings {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Readings {
    /// These.
    #[must_use]
    pub fn new(readings: Vec<Arc<Reading>>) -> Self {
        Self { all: readings, stop: CancellationToken::new().drop_guard() }
    }

    /// Reads what is due, waits for that for at most three seconds, and returns what was read last.
    pub async fn collect(&self) -> Vec<Sample> {
        for reading in &self.all {
            reading.begin(self.stop.token());
        }
        // Who takes longer goes on, and the next scrape shows it.
        let _ended_or_not = timeout(PATIENCE, join_all(self.all.iter().map(|reading| reading.ended()))).await;
        self.all.iter().flat_map(|reading| reading.samples()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A reading that takes as long as is set, in seconds, and counts how often it was begun.
    fn slow(took: &Arc<AtomicU64>, begun: &Arc<AtomicU64>) -> Readings {
        let (took, begun) = (Arc::clone(took), Arc::clone(begun));
        let reading = Reading::new("imports", 10 * SECOND, 5 * SECOND, move || {
            let (took, begun) = (took.load(Ordering::Relaxed), Arc::clone(&begun));
            Box::pin(async move {
                let number = begun.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(SECOND * u32::try_from(took).expect("few")).await;
                Ok(vec![table::SPOOL.sample([], number)])
            })
        });
        Readings::new(vec![reading])
    }

    fn value(samples: &[Sample], name: &str) -> Option<f64> {
        samples.iter().find(|it| it.entry.definition.name() == name).map(|it| it.value)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_is_shown_until_it_is_old() {
        let (took, begun) = (Arc::default(), Arc::default());
        let readings = slow(&took, &begun);
        for (advance, shown) in [(0, 0.0), (9, 0.0), (1, 1.0), (1, 1.0)] {
            tokio::time::advance(SECOND * advance).await;
            assert_eq!(value(&readings.collect().await, "causeway_spool_bytes"), Some(shown));
        }
        assert_eq!(value(&readings.collect().await, "causeway_reading_age_seconds"), Some(1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reading_holds_no_scrape_up_and_does_not_pile_up() {
        let (took, begun) = (Arc::new(AtomicU64::new(4)), Arc::default());
        let readings = slow(&took, &begun);
        let began = Instant::now();
        let scrapes = join_all((0..50).map(|_| readings.collect())).await;
        assert_eq!(began.elapsed(), PATIENCE);
        for samples in scrapes {
            assert_eq!(value(&samples, "causeway_spool_bytes"), None);
            assert_eq!(value(&samples, "causeway_reading_failed"), Some(0.0));
        }
        // It goes on, and the next scrape has it.
        assert_eq!(value(&readings.collect().await, "causeway_spool_bytes"), Some(0.0));
        assert_eq!((began.elapsed(), begun.load(Ordering::Relaxed)), (4 * SECOND, 1));
        // It took four seconds, so it is not made again for eighty.
        tokio::time::advance(79 * SECOND).await;
        readings.collect().await;
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        tokio::time::advance(SECOND).await;
        readings.collect().await;
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_takes_too_long_is_ended_and_its_old_values_are_not_shown() {
        let (took, begun) = (Arc::default(), Arc::default());
        let readings = slow(&took, &begun);
        readings.collect().await;
        took.store(1_000, Ordering::Relaxed);
        tokio::time::advance(10 * SECOND).await;
        // While it is read, what was there before is shown.
        assert_eq!(value(&readings.collect().await, "causeway_spool_bytes"), Some(0.0));
        tokio::time::advance(2 * SECOND).await;
        let samples = readings.collect().await;
        assert_eq!(value(&samples, "causeway_spool_bytes"), None);
        assert_eq!(value(&samples, "causeway_reading_failed"), Some(1.0));
        // It works again.
        took.store(0, Ordering::Relaxed);
        tokio::time::advance(100 * SECOND).await;
        let samples = readings.collect().await;
        assert_eq!(value(&samples, "causeway_spool_bytes"), Some(2.0));
        assert_eq!(value(&samples, "causeway_reading_failed"), Some(0.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_ends_with_the_service() {
        struct Ended(watch::Sender<bool>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.send_replace(true);
            }
        }
        let (ended, mut is_over) = watch::channel(false);
        let reading = Reading::new("imports", SECOND, 100 * SECOND, move || {
            let ended = Ended(ended.clone());
            Box::pin(async move {
                std::future::pending::<()>().await;
                drop(ended);
                Ok(Vec::new())
            })
        });
        let readings = Readings::new(vec![reading]);
        readings.collect().await;
        assert!(!*is_over.borrow());
        drop(readings);
        timeout(SECOND, is_over.wait_for(|over| *over)).await.expect("it ends").expect("it is told");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_fails_leaves_the_others() {
        let failing = Reading::new("imports", SECOND, SECOND, || {
            Box::pin(async { Err("the database is away".to_owned()) })
        });
        let other = Reading::new("spool", SECOND, SECOND, || {
            Box::pin(async { Ok(vec![table::SPOOL.sample([], 1_u64)]) })
        });
        let samples = Readings::new(vec![failing, other]).collect().await;
        assert_eq!(value(&samples, "causeway_spool_bytes"), Some(1.0));
        assert!(samples.contains(&table::READING_FAILED.sample(["imports"], true)));
        assert!(samples.contains(&table::READING_FAILED.sample(["spool"], false)));
    }
}
