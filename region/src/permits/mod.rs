//! Limits how much a region does at once: uploads, watches, and work on imports.

mod turns;
mod uploads;

use std::{net::IpAddr, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::uploads::UploadPlaces;
pub(crate) use self::{
    turns::{Turn, Turns},
    uploads::UploadPlace,
};
use crate::{error::Error, limits::Limits};

/// The permits of a region.
#[derive(Debug)]
pub(crate) struct Permits {
    uploads: UploadPlaces,
    watches: Arc<Semaphore>,
    /// The size of `watches`, for the error.
    watch_limit: usize,
    /// Turns of imports that plan, which reads the whole file.
    pub(crate) plans: Turns,
    /// Turns of imports in any other state.
    pub(crate) turns: Turns,
}

impl Permits {
    /// As many permits as the limits allow.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            uploads: UploadPlaces::new(limits.uploads, limits.uploads_per_address),
            watches: Arc::new(Semaphore::new(limits.watches)),
            watch_limit: limits.watches,
            plans: Turns::new(limits.imports_at_once),
            turns: Turns::new(limits.imports_at_once),
        }
    }

    /// Takes a place for an upload from this address, if the address is known. Dropping the place gives it back.
    ///
    /// # Errors
    /// If no place is left.
    pub(crate) fn upload(&self, address: Option<IpAddr>) -> Result<UploadPlace, Error> {
        self.uploads.take(address)
    }

    /// How many watches are open, and how many may be.
    pub(crate) fn watches_open(&self) -> (usize, usize) {
        (self.watch_limit.saturating_sub(self.watches.available_permits()), self.watch_limit)
    }

    /// Takes a place for a watch of an import. Dropping the permit gives it back.
    ///
    /// # Errors
    /// If no place is left.
    pub(crate) fn watch(&self) -> Result<OwnedSemaphorePermit, Error> {
        let place = Arc::clone(&self.watches).try_acquire_owned();
        place.map_err(|_| Error::TooManyWatches { limit: self.watch_limit })
    }
}
