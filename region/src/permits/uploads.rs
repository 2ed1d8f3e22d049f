//! Places for uploads: limited in total and for each address, so that no caller can occupy all of them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// The places of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct UploadPlaces {
    limit: usize,
    limit_of_address: usize,
    all: Arc<Semaphore>,
    of: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place for one upload. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct UploadPlace {
    of: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl UploadPlaces {
    pub(crate) fn new(limit: usize, limit_of_address: usize) -> Self {
        Self { limit, limit_of_address, all: Arc::new(Semaphore::new(limit)), of: Arc::default() }
    }

    /// Takes a place for an upload. The limit for each address applies only if the address is known.
    ///
    /// # Errors
    /// If no place is left. The caller does not wait for one, because it would have opened its file for nothing.
    pub(crate) fn take(&self, address: Option<IpAddr>) -> Result<UploadPlace, Error> {
        let permit = Arc::clone(&self.all)
            .try_acquire_owned()
            .map_err(|_| Error::TooManyUploads { limit: self.limit, of_address: false })?;
        if let Some(address) = address {
            let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = of.entry(address).or_default();
            if *taken >= self.limit_of_address {
                return Err(Error::TooManyUploads { limit: self.limit_of_address, of_address: true });
            }
            *taken += 1;
        }
        Ok(UploadPlace { of: Arc::clone(&self.of), address, _permit: permit })
    }
}

impl Drop for UploadPlace {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = of.get_mut(&address) {
            *taken -= 1;
            if *taken == 0 {
                of.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn one_address_cannot_hold_all_places() {
        let places = UploadPlaces::new(3, 2);
        let [one, other] = [1, 2].map(|host| Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host))));
        let held = [places.take(one).expect("a place"), places.take(one).expect("a place")];
        let refused = places.take(one).expect_err("it has as many as one may");
        assert!(matches!(refused, Error::TooManyUploads { limit: 2, of_address: true }), "{refused:?}");
        let others = places.take(other).expect("another one gets through");
        let refused = places.take(None).expect_err("there is none");
        assert!(matches!(refused, Error::TooManyUploads { limit: 3, of_address: false }), "{refused:?}");
        drop(held);
        let held = [places.take(one).expect("a place again"), places.take(one).expect("a place again")];
        drop((held, others));
        assert!(places.of.lock().expect("nobody holds it").is_empty());
        assert_eq!(places.all.available_permits(), 3);
    }
}
