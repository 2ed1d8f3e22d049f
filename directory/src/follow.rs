//! What a directory does in the background: finds the regions, and reads the feed of each.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, PoisonError},
    time::Duration,
};

use causeway_proto::{
    control::v1::{
        ListRegionsRequest, Region, WatchSlugReservationsRequest, region_service_client::RegionServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    endpoints::Endpoints,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Status};

use crate::{
    Followed, Following, Known, Options,
    replica::{Broken, Reader, Replica},
};

/// The largest page.
const PAGE_SIZE: i32 = 1_000;

/// Why a feed, or the list of regions, is not heard any more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    /// Control refused, or the connection broke.
    #[error("{}", .0.message())]
    Refused(#[from] Status),
    /// Control has said nothing for too long.
    #[error("control has said nothing for {0:?}")]
    Silent(Duration),
    /// The stream has come to an end.
    #[error("the feed has ended")]
    Ended,
    /// What it said makes no sense.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// The pauses between attempts at one thing.
struct Pauses<'a> {
    options: &'a Options,
    /// Of each process and thing another one.
    spread: RandomState,
    attempts: u32,
}

impl<'a> Pauses<'a> {
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
    fn tell(&self, region: &str, error: &Lost) {
        if self.attempts == 0 {
            tracing::warn!(region, %error, "the directory has lost control, and tries again");
        } else {
            tracing::debug!(region, %error, attempts = self.attempts, "the directory cannot reach control");
        }
    }

    /// It went well.
    fn end(&mut self, region: &str) {
        if self.attempts > 0 {
            tracing::info!(region, "the directory hears control again");
        }
        self.attempts = 0;
    }
}

/// Follows all regions that there are, for ever. What is followed ends with this.
pub(crate) async fn regions(known: Arc<Known>, endpoints: Endpoints, options: Options) {
    let mut feeds: HashMap<Arc<str>, Following> = HashMap::new();
    let mut pauses = Pauses::new(&options);
    loop {
        let asked = Instant::now();
        match list(&endpoints, &options).await {
            Ok(listed) => {
                pauses.end("");
                for followed in known.set_regions(listed, asked) {
                    let (known, endpoints) = (Arc::clone(&known), endpoints.clone());
                    let name = Arc::clone(&followed.name);
                    let feed = async move { match feed(&known, &followed, &endpoints, &options).await {} };
                    feeds.insert(name, Following(tokio::spawn(feed)));
                }
                let there = known.names();
                feeds.retain(|name, _| there.contains(name));
                known.look_if_ready();
                sleep(options.regions_interval).await;
            }
            Err(error) => {
                pauses.tell("", &error);
                sleep(pauses.next()).await;
            }
        }
    }
}

/// All regions, by name.
async fn list(endpoints: &Endpoints, options: &Options) -> Result<Vec<Region>, Lost> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = endpoints.call(|channel| {
            let mut request =
                Request::new(ListRegionsRequest { page_size: PAGE_SIZE, page_token: page_token.clone() });
            request.set_timeout(options.call_timeout);
            async move {
                let asking = async { RegionServiceClient::new(channel).list_regions(request).await };
                let late = || Status::deadline_exceeded("no answer in time");
                timeout(options.call_timeout, asking).await.unwrap_or_else(|_| Err(late()))
            }
        });
        let page = page.await?.into_inner();
        all.extend(page.regions);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        page_token = page.next_page_token;
    }
}

/// Reads the feed of a region, for ever.
async fn feed(known: &Known, followed: &Followed, endpoints: &Endpoints, options: &Options) -> Infallible {
    let mut pauses = Pauses::new(options);
    loop {
        let (number, channel) = endpoints.current();
        let client = SlugReservationServiceClient::new(channel);
        let error = match stream(client, known, followed, options, &mut pauses).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        // What is wrong may be wrong with this control alone.
        endpoints.leave(number);
        pauses.tell(&followed.name, &error);
        sleep(pauses.next()).await;
    }
}

/// Reads one stream of a feed, until it breaks.
async fn stream(
    mut client: SlugReservationServiceClient<tonic::transport::Channel>,
    known: &Known,
    followed: &Followed,
    options: &Options,
    pauses: &mut Pauses<'_>,
) -> Result<Infallible, Lost> {
    let request = WatchSlugReservationsRequest {
        region: followed.name.as_ref().to_owned(),
        after_version: followed.replica.version(),
    };
    let silent = |_| Lost::Silent(options.silence);
    let opening = client.watch_slug_reservations(request);
    let mut messages = timeout(options.silence, opening).await.map_err(silent)??.into_inner();
    let mut reader = Reader::new(&followed.replica);
    let mut was_known = followed.replica.version() > 0;
    loop {
        let message = timeout(options.silence, messages.message()).await.map_err(silent)??;
        reader.take(message.ok_or(Lost::Ended)?, Instant::now())?;
        pauses.end(&followed.name);
        if !was_known && followed.replica.version() > 0 {
            was_known = true;
            known.look_if_ready();
        }
    }
}

impl Known {
    /// Sets which regions there are, as control was asked for them at that time. Answers those that are new.
    fn set_regions(&self, listed: Vec<Region>, asked: Instant) -> Vec<Followed> {
        let before = self.listed.write().unwrap_or_else(PoisonError::into_inner).replace(asked);
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        let old: HashMap<Arc<str>, Followed> =
            regions.drain(..).map(|region| (Arc::clone(&region.name), region)).collect();
        let mut new = Vec::new();
        for Region { name, address, .. } in listed {
            let followed = match old.get(name.as_str()) {
                Some(old) if *old.address == *address => old.clone(),
                Some(old) => Followed { address: address.into(), ..old.clone() },
                None => {
                    let replica = Arc::new(Replica::new(before));
                    let followed = Followed { name: name.into(), address: address.into(), replica };
                    new.push(followed.clone());
                    followed
                }
            };
            regions.push(followed);
        }
        new
    }

    fn names(&self) -> HashSet<Arc<str>> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        regions.iter().map(|region| Arc::clone(&region.name)).collect()
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
