//! Who may read feeds at once: each region its own, and so many others.
//!
//! A region that loses its feed does no renames, so nobody else can take its places. It has few; a stream that it opens
//! beyond those ends its oldest one, which is most likely one that has broken and does not know yet. When another database
//! has taken the name of a region over, the streams of the one before end: it has to hear of that.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Error;

/// How many streams of its own feed a region may have open at a control.
pub(crate) const OF_A_REGION: usize = 4;

/// The places of a control. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    others: Arc<Semaphore>,
    limit: usize,
    regions: Arc<Mutex<Streams>>,
}

/// The open streams of regions of their own feeds, oldest first.
type Streams = HashMap<String, VecDeque<Stream>>;

#[derive(Debug)]
struct Stream {
    /// The database of the region that reads it.
    instance_id: Uuid,
    /// Cancelled when it loses its place.
    taken: CancellationToken,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) enum Place {
    /// A region's own.
    Own {
        /// All places.
        places: Places,
        /// The region.
        region: String,
        /// Its database.
        instance_id: Uuid,
        /// Cancelled when a newer stream of the region takes the place.
        taken: CancellationToken,
    },
    /// One of those for everybody.
    Other(#[expect(dead_code, reason = "given back when it is dropped")] OwnedSemaphorePermit),
}

impl Places {
    pub(crate) fn new(limit: usize) -> Self {
        Self { others: Arc::new(Semaphore::new(limit)), limit, regions: Arc::default() }
    }

    fn regions(&self) -> MutexGuard<'_, Streams> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the places for everybody.
    ///
    /// # Errors
    /// If there is none left.
    pub(crate) fn take(&self) -> Result<Place, Error> {
        let place = Arc::clone(&self.others).try_acquire_owned();
        place.map(Place::Other).map_err(|_| Error::TooManyWatches { limit: self.limit })
    }

    /// One of a region's own places. If it has them all, its oldest stream loses the one that it has. Streams of a database
    /// that had the region's name before lose theirs in any case.
    pub(crate) fn take_own(&self, region: &str, instance_id: Uuid) -> Place {
        let taken = CancellationToken::new();
        let mut regions = self.regions();
        let streams = regions.entry(region.to_owned()).or_default();
        if streams.len() >= OF_A_REGION
            && let Some(oldest) = streams.pop_front()
        {
            oldest.taken.cancel();
        }
        for stream in streams.iter().filter(|stream| stream.instance_id != instance_id) {
            stream.taken.cancel();
        }
        streams.retain(|stream| !stream.taken.is_cancelled());
        streams.push_back(Stream { instance_id, taken: taken.clone() });
        Place::Own { places: self.clone(), region: region.to_owned(), instance_id, taken }
    }
}

impl Place {
    /// Ends when a newer stream has taken the place.
    pub(crate) async fn lost(&self) -> Error {
        let Self::Own { places, region, instance_id, taken } = self else {
            return std::future::pending().await;
        };
        taken.cancelled().await;
        let is_of_another = |stream: &Stream| stream.instance_id != *instance_id;
        match places.regions().get(region).is_some_and(|streams| streams.iter().any(is_of_another)) {
            true => Error::RegionNameTaken { region: region.clone() },
            false => Error::TooManyWatches { limit: OF_A_REGION },
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self::Own { places, region, taken, .. } = self else { return };
        // Those that were not taken are in the list still; the token that is cancelled here is this one alone.
        taken.cancel();
        let mut regions = places.regions();
        if let Some(streams) = regions.get_mut(region) {
            streams.retain(|stream| !stream.taken.is_cancelled());
            if streams.is_empty() {
                regions.remove(region);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    #[tokio::test]
    async fn streams_of_a_database_that_has_lost_the_name_end() {
        let places = Places::new(1);
        let (before, elsewhere) = (places.take_own("us", ONE), places.take_own("de", ONE));
        let after = places.take_own("us", OTHER);
        assert!(matches!(before.lost().await, Error::RegionNameTaken { region } if region == "us"));
        for place in [&after, &elsewhere] {
            assert!(futures::poll!(Box::pin(place.lost())).is_pending());
        }
        // Its end takes nothing from the new one.
        drop(before);
        assert!(futures::poll!(Box::pin(after.lost())).is_pending());
        drop((after, elsewhere));
        assert!(places.regions().is_empty());
    }

    #[tokio::test]
    async fn a_region_always_has_its_own_places_and_the_oldest_stream_gives_way() {
        let places = Places::new(1);
        let other = places.take().unwrap();
        assert!(matches!(places.take(), Err(Error::TooManyWatches { limit: 1 })));
        let mut own: Vec<Place> = (0..OF_A_REGION).map(|_| places.take_own("us", ONE)).collect();
        let another = places.take_own("de", ONE);
        for place in own.iter().chain([&another]) {
            assert!(futures::poll!(Box::pin(place.lost())).is_pending());
        }
        own.push(places.take_own("us", ONE));
        assert!(futures::poll!(Box::pin(own[0].lost())).is_ready());
        for place in own[1..].iter().chain([&another]) {
            assert!(futures::poll!(Box::pin(place.lost())).is_pending());
        }
        // One that was given back is free.
        drop(own.split_off(2));
        let next = places.take_own("us", ONE);
        assert!(futures::poll!(Box::pin(own[1].lost())).is_pending());
        drop((own, another, next));
        assert!(places.regions().is_empty());
        drop(other);
        assert!(places.take().is_ok());
    }
}
