//! What this process knows about the region's registration with control.

use std::sync::{
    Mutex as StdMutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use causeway_proto::relocation::v1::ErrorReason;
use tokio::sync::{Mutex, watch};

/// The state of the registration with control, as far as this process knows.
#[derive(Debug, Default)]
pub(crate) struct Registration {
    /// Whether control knows this region: set by a registration, and reset when control refuses a call.
    pub(crate) known: watch::Sender<bool>,
    /// Whether control has received the ids of this region's rows.
    pub(crate) ids_are_known: AtomicBool,
    /// Locked by the task that registers, so that there is only one.
    pub(crate) registering: Mutex<()>,
    /// Why the region cannot register, as it was last logged. A successful registration resets it.
    logged: StdMutex<Option<ErrorReason>>,
}

impl Registration {
    /// Whether control knows this region, as far as this process knows.
    pub(crate) fn is_known(&self) -> bool {
        *self.known.borrow()
    }

    /// A receiver that is notified when [`Registration::is_known`] changes.
    pub(crate) fn follow(&self) -> watch::Receiver<bool> {
        self.known.subscribe()
    }

    /// Notes why the region cannot register, `None` if it can. Returns whether that is not in the log yet.
    pub(crate) fn note_outcome(&self, reason: Option<ErrorReason>) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *logged, reason) != reason
    }

    /// Notes that control has refused a call. If control does not know this region, or knows another database by its
    /// name, the region has to register again.
    pub(crate) fn note_refusal(&self, reason: ErrorReason) {
        if matches!(reason, ErrorReason::RegionNotRegistered | ErrorReason::RegionNameTaken) {
            self.known.send_if_modified(|known| std::mem::replace(known, false));
        }
    }

    /// Makes the next registration report all ids again, because there are rows with ids that control does not know.
    pub(crate) fn report_ids_again(&self) {
        self.ids_are_known.store(false, Ordering::Relaxed);
    }
}
