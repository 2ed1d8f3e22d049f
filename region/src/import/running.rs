//! What is known of an import only while it runs: how far the step in hand is, and that something changed.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use causeway_relocation::plan::Watch;
use tokio::sync::{Notify, watch};

use super::{Progress, Waiting};

/// An import that is running in this process.
#[derive(Debug)]
pub(crate) struct RunningImport {
    /// How far the plan is.
    pub(crate) planning: Arc<Watch>,
    model: Mutex<String>,
    done: AtomicI64,
    total: AtomicI64,
    /// How many steps have ended.
    changed: watch::Sender<u64>,
    /// Somebody wants it to be looked at once more before it ends.
    again: AtomicBool,
    /// Somebody has moved it elsewhere: what it does is to end soon, and what it waits for is of no interest.
    interrupted: Notify,
    /// What it waits for, while that cannot be stored because it is the store.
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
            again: AtomicBool::new(false),
            interrupted: Notify::new(),
            waiting: Mutex::default(),
        }
    }
}

impl RunningImport {
    /// Begins to count anew, towards `total` records.
    pub(crate) fn begin(&self, total: i64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.model("");
    }

    /// Says which model is in hand.
    pub(crate) fn model(&self, name: &str) {
        name.clone_into(&mut self.model.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed();
    }

    /// Counts records that are done.
    pub(crate) fn add(&self, records: i64) {
        self.done.fetch_add(records, Ordering::Relaxed);
        self.changed();
    }

    /// Has it looked at once more before it ends: it may have come to its end just now.
    pub(crate) fn ask_again(&self) {
        self.again.store(true, Ordering::Release);
    }

    /// Whether somebody asked for that since this was called last.
    pub(crate) fn asked_again(&self) -> bool {
        self.again.swap(false, Ordering::Acquire)
    }

    /// Ends a plan or a pause, because the import has been moved elsewhere.
    pub(crate) fn interrupt(&self) {
        self.planning.stop.store(true, Ordering::Relaxed);
        self.interrupted.notify_one();
    }

    /// Ends when the import has been moved elsewhere.
    pub(crate) async fn interrupted(&self) {
        self.interrupted.notified().await;
    }

    /// Tells everybody who watches to look again.
    pub(crate) fn changed(&self) {
        self.changed.send_modify(|_| {});
    }

    /// Tells them that a step has ended, of which they should hear at once.
    pub(crate) fn stepped(&self) {
        self.changed.send_modify(|steps| *steps += 1);
    }

    /// Hears of changes from now on. The number rises with each step that ends.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Keeps what it waits for, if that could not be stored.
    pub(crate) fn keep_waiting(&self, waiting: Option<Waiting>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
    }

    /// What it waits for, if that could not be stored.
    pub(crate) fn waiting(&self) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far it is.
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
        }
    }
}
