//! What a directory does in the background: reads the stream of all feeds, which says too which regions there are.

use std::{
    collections::HashMap,
    convert::Infallible,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, PoisonError},
    time::Duration,
};

use causeway_proto::{
    control::v1::{
        FeedHeartbeat, FeedPosition, FeedPositions, FeedRegion, FeedRegions, RegionFeed,
        WatchAllSlugReservationsRequest, WatchSlugReservationsResponse, region_feed,
        slug_reservation_service_client::SlugReservationServiceClient,
        watch_all_slug_reservations_response::Part, watch_slug_reservations_response::Part as OfOne,
    },
    endpoints::Endpoints,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use crate::{
    Followed, Known, Options,
    replica::{Broken, Reader, Replica},
};

/// Why the feeds are not heard any more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    /// Control refused, or the connection broke.
    #[error("{}", .0.message())]
    Refused(#[from] Status),
    /// Control has said nothing for too long.
    #[error("control has said nothing for {0:?}")]
    Silent(Duration),
    /// The stream has come to an end.
    #[error("the stream of the feeds has ended")]
    Ended,
    /// What it said makes no sense.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// The pauses between attempts at one thing.
struct Backoff<'a> {
    options: &'a Options,
    /// Of each process and thing another one.
    spread: RandomState,
    attempts: u32,
}

impl<'a> Backoff<'a> {
    fn new(options: &'a Options) -> Self {
        Self { options, spread: RandomState::new(), attempts: 0 }
    }

    /// The pause behind the next attempt that failed, and up to a quarter more: all who lost the same control are not to
    /// come back at once.
    fn next(&mut self) -> Duration {
        let doubled = self.options.first_pause.saturating_mul(1 << self.attempts.min(30));
        let pause = doubled.min(self.options.longest_pause);
        self.attempts = self.attempts.saturating_add(1);
        let quarter = u64::try_from((pause / 4).as_micros()).unwrap_or(0);
        pause + Duration::from_micros(self.spread.hash_one(self.attempts).checked_rem(quarter).unwrap_or(0))
    }

    /// Tells of an attempt that failed: the first one aloud.
    fn tell(&self, error: &Lost) {
        if self.attempts == 0 {
            tracing::warn!(%error, "the directory has lost control, and tries again");
        } else {
            tracing::debug!(%error, attempts = self.attempts, "the directory cannot reach control");
        }
    }

    /// It went well.
    fn end(&mut self) {
        if self.attempts > 0 {
            tracing::info!("the directory hears control again");
        }
        self.attempts = 0;
    }
}

/// Follows all regions that there are, for ever.
pub(crate) async fn regions(known: Arc<Known>, endpoints: Endpoints, options: Options) {
    let mut backoff = Backoff::new(&options);
    loop {
        let (number, channel) = endpoints.current();
        let client = SlugReservationServiceClient::new(channel);
        let error = match stream(client, &known, &options, &mut backoff).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        // What is wrong may be wrong with this control alone.
        endpoints.leave(number);
        backoff.tell(&error);
        sleep(backoff.next()).await;
    }
}

/// Reads one stream of the feeds of all regions, until it breaks.
async fn stream(
    mut client: SlugReservationServiceClient<tonic::transport::Channel>,
    known: &Known,
    options: &Options,
    backoff: &mut Backoff<'_>,
) -> Result<Infallible, Lost> {
    let request = WatchAllSlugReservationsRequest { positions: known.positions() };
    let silent = |_| Lost::Silent(options.silence);
    let opening = client.watch_all_slug_reservations(request);
    let mut messages = timeout(options.silence, opening).await.map_err(silent)??.into_inner();
    let mut readers: HashMap<Arc<str>, Reader<Arc<Replica>>> = HashMap::new();
    let mut listing: Vec<FeedRegion> = Vec::new();
    loop {
        let message = timeout(options.silence, messages.message()).await.map_err(silent)??;
        let now = Instant::now();
        match message.ok_or(Lost::Ended)?.part {
            Some(Part::Regions(FeedRegions { regions, first, last })) => {
                if first {
                    listing.clear();
                }
                listing.extend(regions);
                if last {
                    known.set_regions(std::mem::take(&mut listing), now);
                    let followed = known.replicas();
                    readers.retain(|name, _| followed.contains_key(name));
                    for (name, replica) in followed {
                        readers.entry(name).or_insert_with(|| Reader::new(replica));
                    }
                }
            }
            Some(Part::Feed(RegionFeed { region, part, current_version })) => {
                let reader =
                    readers.get_mut(region.as_str()).ok_or_else(|| Broken::Unknown(region.clone()))?;
                let part = part.map(|part| match part {
                    region_feed::Part::Snapshot(snapshot) => OfOne::Snapshot(snapshot),
                    region_feed::Part::Events(events) => OfOne::Events(events),
                });
                reader.take(WatchSlugReservationsResponse { part, current_version }, now)?;
            }
            Some(Part::Positions(FeedPositions { positions })) => {
                for FeedPosition { region, version } in positions {
                    let Some(reader) = readers.get_mut(region.as_str()) else { continue };
                    let part = Some(OfOne::Heartbeat(FeedHeartbeat {}));
                    reader.take(WatchSlugReservationsResponse { part, current_version: version }, now)?;
                }
                known.hear_regions(now);
            }
            // Of a control that is newer than this.
            None => {}
        }
        backoff.end();
        known.look_if_ready();
    }
}

impl Known {
    /// Sets which regions there are, as control has said at that time.
    fn set_regions(&self, listed: Vec<FeedRegion>, heard: Instant) {
        let before = self.listed.write().unwrap_or_else(PoisonError::into_inner).replace(heard);
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        let old: HashMap<Arc<str>, Followed> =
            regions.drain(..).map(|region| (Arc::clone(&region.name), region)).collect();
        for FeedRegion { name, address } in listed {
            let followed = match old.get(name.as_str()) {
                Some(old) if *old.address == *address => old.clone(),
                Some(old) => Followed { address: address.into(), ..old.clone() },
                None => {
                    let replica = Arc::new(Replica::new(before));
                    Followed { name: name.into(), address: address.into(), replica }
                }
            };
            regions.push(followed);
        }
    }

    /// The regions that there were are those that there are.
    fn hear_regions(&self, heard: Instant) {
        self.listed.write().unwrap_or_else(PoisonError::into_inner).replace(heard);
    }

    /// How far the feeds are known.
    fn positions(&self) -> Vec<FeedPosition> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        let position = |region: &Followed| FeedPosition {
            region: region.name.as_ref().to_owned(),
            version: region.replica.version(),
        };
        regions.iter().map(position).collect()
    }

    fn replicas(&self) -> HashMap<Arc<str>, Arc<Replica>> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        regions.iter().map(|region| (Arc::clone(&region.name), Arc::clone(&region.replica))).collect()
    }

    /// Tells those who wait if the snapshots of all regions are in.
    fn look_if_ready(&self) {
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner).is_some();
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        if listed && regions.iter().all(|region| region.replica.version() > 0) {
            self.ready.send_replace(true);
        }
    }
}
