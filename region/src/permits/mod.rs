//! How much a region does at once: uploads, watches, and imports that are worked on.

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
    /// How many watches there may be.
    watch_limit: usize,
    /// Turns of imports that read their file.
    pub(crate) plans: Turns,
    /// Turns of imports that do anything else.
    pub(crate) turns: Turns,
}

impl Permits {
    /// As many as the limits say.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            uploads: UploadPlaces::new(limits.uploads, limits.uploads_per_address),
            watches: Arc::new(Semaphore::new(limits.watches)),
            watch_limit: limits.watches,
            plans: Turns::new(limits.imports_at_once),
            turns: Turns::new(limits.imports_at_once),
        }
    }

    /// A place for an upload from this address, if it is known; given back when it is dropped.
    ///
    /// # Errors
    /// If there is none left.
    pub(crate) fn upload(&self, address: Option<IpAddr>) -> Result<UploadPlace, Error> {
        self.uploads.take(address)
    }

    /// A place for somebody who watches an import, given back when it is dropped.
    ///
    /// # Errors
    /// If there is none left.
    pub(crate) fn watch(&self) -> Result<OwnedSemaphorePermit, Error> {
        let place = Arc::clone(&self.watches).try_acquire_owned();
        place.map_err(|_| Error::TooManyWatches { limit: self.watch_limit })
    }
}
