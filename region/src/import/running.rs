//! What is known of an import only while it runs: the progress of the current step, and that something changed.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use causeway_relocation::plan::PlanningProgress;
use tokio::sync::{Notify, watch};

use super::types::Waiting;
use crate::throttle::{SlowedBy, ThrottleKind};

/// The progress of an import in its current state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The current model; empty while planning, and before the first chunk.
    pub model: String,
    /// Records handled in this state.
    pub records_done: i64,
    /// Records to handle in this state; 0 if unknown.
    pub records_total: i64,
    /// Bytes of the file read; only while planning.
    pub bytes_done: i64,
    /// What holds the import back; `None` if nothing does.
    pub throttled: Option<Throttled>,
}

/// What holds an import back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttled {
    /// Which limit.
    pub by: ThrottleKind,
    /// The limit: rows or bytes in a second, or the latency of the probe statement in milliseconds.
    pub limit: u64,
    /// The part of the time in which imports may write because of that latency, in percent.
    pub percent: u32,
}

/// An import that is running in this process.
#[derive(Debug)]
pub(crate) struct RunningImport {
    /// The progress of planning, and the flag that stops it.
    pub(crate) planning: Arc<PlanningProgress>,
    model: Mutex<String>,
    done: AtomicI64,
    total: AtomicI64,
    /// How many steps have ended. Watchers are notified of each change.
    changed: watch::Sender<u64>,
    /// Whether this run must check the import once more before it ends.
    recheck: AtomicBool,
    /// Notified when the import has been moved to another state: the current work should end soon, and what it waits
    /// for no longer matters.
    interrupted: Notify,
    /// How often that has happened. A step that waits for the throttle or for its turn ends then.
    moves: watch::Sender<u64>,
    /// What holds it back.
    throttled: Mutex<Option<Throttled>>,
    /// What it waits for, while the store itself is what it waits for and cannot store that.
    waiting: Mutex<Option<Waiting>>,
}

impl Default for RunningImport {
    fn default() -> Self {
        Self {
            planning: Arc::default(),
            model: Mutex::default(),
            done: AtomicI64::new(0),
            total: AtomicI64::new(0),
            changed: watch::Sender::new(0),
            recheck: AtomicBool::new(false),
            interrupted: Notify::new(),
            moves: watch::Sender::new(0),
            throttled: Mutex::default(),
            waiting: Mutex::default(),
        }
    }
}

impl RunningImport {
    /// Restarts counting, towards `total` records.
    pub(crate) fn begin(&self, total: i64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        *self.throttled.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.model("");
    }

    /// Sets the current model.
    pub(crate) fn model(&self, name: &str) {
        name.clone_into(&mut self.model.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed();
    }

    /// Adds to the records that are done.
    pub(crate) fn add(&self, records: i64) {
        self.done.fetch_add(records, Ordering::Relaxed);
        self.changed();
    }

    /// Requests one more check before this run ends, because the run may be about to end.
    pub(crate) fn request_recheck(&self) {
        self.recheck.store(true, Ordering::Release);
    }

    /// Whether that was requested since this was last called.
    pub(crate) fn take_recheck(&self) -> bool {
        self.recheck.swap(false, Ordering::Acquire)
    }

    /// Ends planning or a pause, because the import has been moved to another state.
    pub(crate) fn interrupt(&self) {
        self.planning.stop.store(true, Ordering::Relaxed);
        self.moves.send_modify(|moves| *moves += 1);
        self.interrupted.notify_one();
    }

    /// Lets planning begin again. Call this before the state of the import is read: an interruption comes after the change
    /// of the state.
    pub(crate) fn take_interruption(&self) -> watch::Receiver<u64> {
        let moves = self.moves.subscribe();
        self.planning.stop.store(false, Ordering::Relaxed);
        moves
    }

    /// Sets what holds the import back.
    pub(crate) fn throttled(&self, slowed_by: Option<SlowedBy>) {
        let slowed_by = slowed_by.map(|SlowedBy { by, limit, percent }| Throttled { by, limit, percent });
        let before =
            std::mem::replace(&mut *self.throttled.lock().unwrap_or_else(PoisonError::into_inner), slowed_by);
        if before != slowed_by {
            self.changed();
        }
    }

    /// Returns when the import has been moved to another state.
    pub(crate) async fn interrupted(&self) {
        self.interrupted.notified().await;
    }

    /// Notifies watchers that something changed.
    pub(crate) fn changed(&self) {
        self.changed.send_modify(|_| {});
    }

    /// Notifies watchers that a step has ended, which they should report at once.
    pub(crate) fn stepped(&self) {
        self.changed.send_modify(|steps| *steps += 1);
    }

    /// Watches changes from now on. The number increases with each step that ends.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Keeps what it waits for in memory, if that could not be stored.
    pub(crate) fn keep_waiting(&self, waiting: Option<Waiting>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
    }

    /// What it waits for, if that could not be stored.
    pub(crate) fn waiting(&self) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The progress of planning, or of the current step.
    pub(crate) fn progress(&self, planning: bool) -> Progress {
        if planning {
            return Progress {
                records_done: self.planning.records.load(Ordering::Relaxed),
                bytes_done: self.planning.bytes.load(Ordering::Relaxed),
                ..Progress::default()
            };
        }
        Progress {
            model: self.model.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            records_done: self.done.load(Ordering::Relaxed),
            records_total: self.total.load(Ordering::Relaxed),
            bytes_done: 0,
            throttled: *self.throttled.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}
