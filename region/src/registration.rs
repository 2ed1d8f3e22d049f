//! What this process knows of its registration with control.

use std::sync::atomic::{AtomicBool, Ordering};

use causeway_proto::relocation::v1::ErrorReason;
use tokio::sync::{Mutex, watch};

/// What is known of a region's registration with control.
#[derive(Debug, Default)]
pub(crate) struct Registration {
    /// Whether control knows this region.
    pub(crate) known: watch::Sender<bool>,
    /// Whether control has heard which ids there are.
    pub(crate) ids_are_known: AtomicBool,
    /// Held by whoever registers.
    pub(crate) registering: Mutex<()>,
    /// Whether the log says that the region cannot register, since it last could.
    pub(crate) is_logged: AtomicBool,
}

impl Registration {
    /// Whether control knows this region, as far as is known here.
    pub(crate) fn is_known(&self) -> bool {
        *self.known.borrow()
    }

    /// Follows [`Registration::is_known`].
    pub(crate) fn follow(&self) -> watch::Receiver<bool> {
        self.known.subscribe()
    }

    /// Control has refused a call. If it does not know this region, or knows another database by its name, the region has
    /// to register again.
    pub(crate) fn note_refusal(&self, reason: ErrorReason) {
        if matches!(reason, ErrorReason::RegionNotRegistered | ErrorReason::RegionNameTaken) {
            self.known.send_if_modified(|known| std::mem::replace(known, false));
        }
    }

    /// There are rows with ids that control has not heard of: the next registration tells it all of them again.
    pub(crate) fn tell_ids_again(&self) {
        self.ids_are_known.store(false, Ordering::Relaxed);
    }
}
