//! What becomes of spans that have ended.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// Those of this process, once it sends traces.
static OF_PROCESS: OnceLock<Arc<Counts>> = OnceLock::new();

/// How many spans this process has dropped since it began, because the collector did not take them in time or refused
/// them. 0 without a collector.
#[must_use]
pub fn dropped_spans() -> u64 {
    OF_PROCESS.get().map_or(0, |counts| counts.dropped())
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    dropped: AtomicU64,
    /// Ended, and neither sent nor dropped yet.
    waiting: AtomicU64,
    /// Why spans were dropped last.
    why: Mutex<String>,
}

impl Counts {
    /// Makes these the counts of the process. Only the first ones are.
    pub(crate) fn of_process(self: &Arc<Self>) {
        let _first = OF_PROCESS.get_or_init(|| Arc::clone(self));
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn ended(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// The collector has answered about `spans`, and has not taken `dropped` of them.
    pub(crate) fn settled(&self, spans: u64, dropped: u64, why: &str) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        if dropped > 0 {
            why.clone_into(&mut self.why.lock().unwrap_or_else(PoisonError::into_inner));
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
    }

    /// Drops all that still wait.
    pub(crate) fn give_up(&self, why: &str) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        self.settled(waiting, waiting, why);
    }

    pub(crate) fn why(&self) -> String {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
