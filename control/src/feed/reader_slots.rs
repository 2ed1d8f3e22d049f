//! Limits the readers of feeds: each region has places for streams of its own feed, and all other readers share the
//! rest.
//!
//! A region without its feed does no renames, so no other reader can take its places. A region has few places: a stream
//! that it opens beyond them ends its oldest one, which most likely broke without noticing. When another database takes
//! over the name of a region, the streams of the former database end, so that it learns that it has lost the name.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Error;

/// The most streams of its own feed that a region may have open at one control.
pub(crate) const MAX_PER_REGION: usize = 4;

/// All places of a control. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ReaderSlots {
    others: Arc<Semaphore>,
    limit: usize,
    regions: Arc<Mutex<Streams>>,
}

/// The open streams that regions have of their own feeds, by region; oldest first.
type Streams = HashMap<String, VecDeque<Stream>>;

#[derive(Debug)]
struct Stream {
    /// The id of the region database that reads it.
    instance_id: Uuid,
    /// Cancelled when the stream loses its place.
    lost: CancellationToken,
    /// The version that was sent last.
    sent: Arc<AtomicI64>,
}

/// A place that is in use. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) enum ReaderSlot {
    /// One of a region's own places.
    Own {
        /// All places, to which this one is given back.
        reader_slots: ReaderSlots,
        /// The name of the region whose place it is.
        region: String,
        /// The id of the region's database.
        instance_id: Uuid,
        /// Cancelled when a newer stream of the region takes the place.
        lost: CancellationToken,
        /// The version that was sent last, for the metrics. The stream keeps it.
        sent: Arc<AtomicI64>,
    },
    /// One of the places that all other readers share.
    Other(#[expect(dead_code, reason = "given back when it is dropped")] OwnedSemaphorePermit),
}

impl ReaderSlots {
    pub(crate) fn new(limit: usize) -> Self {
        Self { others: Arc::new(Semaphore::new(limit)), limit, regions: Arc::default() }
    }

    /// How many of the shared places are in use, and how many there are.
    pub(crate) fn open(&self) -> (usize, usize) {
        (self.limit.saturating_sub(self.others.available_permits()), self.limit)
    }

    /// The version that was last sent to each region that has a stream of its own feed here.
    pub(crate) fn sent_versions(&self) -> HashMap<String, i64> {
        let sent = |streams: &VecDeque<Stream>| {
            streams.iter().map(|stream| stream.sent.load(Ordering::Relaxed)).max().unwrap_or(0)
        };
        self.regions().iter().map(|(region, streams)| (region.clone(), sent(streams))).collect()
    }

    fn regions(&self) -> MutexGuard<'_, Streams> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one of the shared places.
    ///
    /// # Errors
    /// If none is left.
    pub(crate) fn take(&self) -> Result<ReaderSlot, Error> {
        let place = Arc::clone(&self.others).try_acquire_owned();
        place.map(ReaderSlot::Other).map_err(|_| Error::TooManyWatches { limit: self.limit })
    }

    /// Takes one of a region's own places. If all are in use, the region's oldest stream loses its place.
    /// Streams of a database that had the region's name before always lose theirs.
    pub(crate) fn take_own(&self, region: &str, instance_id: Uuid) -> ReaderSlot {
        let (lost, sent) = (CancellationToken::new(), Arc::new(AtomicI64::new(0)));
        let mut regions = self.regions();
        let streams = regions.entry(region.to_owned()).or_default();
        if streams.len() >= MAX_PER_REGION
            && let Some(oldest) = streams.pop_front()
        {
            oldest.lost.cancel();
        }
        for stream in streams.iter().filter(|stream| stream.instance_id != instance_id) {
            stream.lost.cancel();
        }
        streams.retain(|stream| !stream.lost.is_cancelled());
        streams.push_back(Stream { instance_id, lost: lost.clone(), sent: Arc::clone(&sent) });
        ReaderSlot::Own { reader_slots: self.clone(), region: region.to_owned(), instance_id, lost, sent }
    }
}

impl ReaderSlot {
    /// Where the stream stores the version that it has sent; `None` in a shared place.
    pub(crate) fn sent(&self) -> Option<Arc<AtomicI64>> {
        match self {
            Self::Own { sent, .. } => Some(Arc::clone(sent)),
            Self::Other(_) => None,
        }
    }

    /// Waits until a newer stream takes the place, and returns the error for the stream that lost it. A shared place is
    /// never lost.
    pub(crate) async fn lost(&self) -> Error {
        let Self::Own { reader_slots, region, instance_id, lost, .. } = self else {
            return std::future::pending().await;
        };
        lost.cancelled().await;
        let is_of_another = |stream: &Stream| stream.instance_id != *instance_id;
        match reader_slots.regions().get(region).is_some_and(|streams| streams.iter().any(is_of_another)) {
            true => Error::RegionNameTaken { region: region.clone() },
            false => Error::TooManyWatches { limit: MAX_PER_REGION },
        }
    }
}

impl Drop for ReaderSlot {
    fn drop(&mut self) {
        let Self::Own { reader_slots, region, lost, .. } = self else { return };
        // If the stream still has its place, it is in the list. No other stream has this token.
        lost.cancel();
        let mut regions = reader_slots.regions();
        if let Some(streams) = regions.get_mut(region) {
            streams.retain(|stream| !stream.lost.is_cancelled());
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
        let reader_slots = ReaderSlots::new(1);
        let (before, elsewhere) = (reader_slots.take_own("us", ONE), reader_slots.take_own("de", ONE));
        let after = reader_slots.take_own("us", OTHER);
        assert!(matches!(before.lost().await, Error::RegionNameTaken { region } if region == "us"));
        for place in [&after, &elsewhere] {
            assert!(futures::poll!(Box::pin(place.lost())).is_pending());
        }
        // Dropping the old place does not end the new one.
        drop(before);
        assert!(futures::poll!(Box::pin(after.lost())).is_pending());
        drop((after, elsewhere));
        assert!(reader_slots.regions().is_empty());
    }

    #[tokio::test]
    async fn a_region_always_has_its_own_places_and_the_oldest_stream_gives_way() {
        let reader_slots = ReaderSlots::new(1);
        let other = reader_slots.take().unwrap();
        assert_eq!(reader_slots.open(), (1, 1));
        assert!(matches!(reader_slots.take(), Err(Error::TooManyWatches { limit: 1 })));
        let mut own: Vec<ReaderSlot> =
            (0..MAX_PER_REGION).map(|_| reader_slots.take_own("us", ONE)).collect();
        let another = reader_slots.take_own("de", ONE);
        for place in own.iter().chain([&another]) {
            assert!(futures::poll!(Box::pin(place.lost())).is_pending());
        }
        own.push(reader_slots.take_own("us", ONE));
        assert!(futures::poll!(Box::pin(own[0].lost())).is_ready());
        for place in own[1..].iter().chain([&another]) {
            assert!(futures::poll!(Box::pin(place.lost())).is_pending());
        }
        // A place that was given back is free.
        drop(own.split_off(2));
        let next = reader_slots.take_own("us", ONE);
        assert!(futures::poll!(Box::pin(own[1].lost())).is_pending());
        drop((own, another, next));
        assert!(reader_slots.regions().is_empty());
        drop(other);
        assert!(reader_slots.take().is_ok());
    }
}
