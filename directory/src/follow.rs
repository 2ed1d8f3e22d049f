//! What a directory does in the background: reads the stream of all feeds, which also lists the regions.

use std::{
    collections::HashMap,
    convert::Infallible,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, PoisonError},
    time::Duration,
};

use causeway_client::{
    Backoff, Client,
    feed::{AllFeeds, AllFeedsUpdate, FeedChange, FeedError, FeedUpdate},
};
use causeway_proto::control::v1::{FeedPosition, FeedRegion};
use tokio::time::{Instant, sleep};

use crate::{
    Followed, Known, Options,
    holders::Holder,
    replica::{Intake, Replica},
};

/// Whether the feeds are lost, and since how many attempts.
struct Attempts {
    backoff: Backoff,
    /// Spreads the attempts of many directories: of each another one.
    spread: RandomState,
    failed: i64,
}

impl Attempts {
    fn new(options: &Options) -> Self {
        let backoff = Backoff { first: options.first_pause, longest: options.longest_pause };
        Self { backoff, spread: RandomState::new(), failed: 0 }
    }

    /// Reports an attempt that failed, the first one as a warning, and returns how long to wait.
    fn fail(&mut self, error: &FeedError) -> Duration {
        if self.failed == 0 {
            tracing::warn!(%error, "the directory has lost control, and tries again");
        } else {
            tracing::debug!(%error, attempts = self.failed, "the directory cannot reach control");
        }
        self.failed = self.failed.saturating_add(1);
        self.backoff.after(self.failed, |bound| self.spread.hash_one(self.failed) % bound)
    }

    fn succeed(&mut self) {
        if self.failed > 0 {
            tracing::info!("the directory hears control again");
        }
        self.failed = 0;
    }
}

/// Follows the feeds of all regions, for ever.
pub(crate) async fn regions(known: Arc<Known>, control: Client, options: Options) {
    let mut attempts = Attempts::new(&options);
    loop {
        let error = match stream(&control, &known, &options, &mut attempts).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        sleep(attempts.fail(&error)).await;
    }
}

/// Reads one stream of the feeds of all regions, until it breaks.
async fn stream(
    control: &Client,
    known: &Known,
    options: &Options,
    attempts: &mut Attempts,
) -> Result<Infallible, FeedError> {
    let mut feeds = AllFeeds::open(control, known.positions(), options.silence).await?;
    let mut intakes: HashMap<Arc<str>, Intake<Arc<Replica>>> = HashMap::new();
    loop {
        let update = feeds.next().await?;
        let now = Instant::now();
        match update {
            AllFeedsUpdate::Regions(regions) => {
                known.set_regions(regions, now);
                let followed = known.replicas();
                intakes.retain(|name, _| followed.contains_key(name));
                for (name, replica) in followed {
                    intakes.entry(name).or_insert_with(|| Intake::new(replica));
                }
            }
            AllFeedsUpdate::Feed { region, update } => {
                if let Some(intake) = intakes.get_mut(region.as_str()) {
                    intake.take(update, now);
                }
            }
            AllFeedsUpdate::Positions(positions) => {
                for FeedPosition { region, version } in positions {
                    if let Some(intake) = intakes.get_mut(region.as_str()) {
                        let change = FeedChange::Nothing;
                        intake.take(FeedUpdate { change, current_version: version }, now);
                    }
                }
                known.hear_regions(now);
            }
        }
        attempts.succeed();
        known.check_ready();
    }
}

impl Known {
    /// Sets which regions there are, as control listed them at that time.
    pub(crate) fn set_regions(&self, listed: Vec<FeedRegion>, heard: Instant) {
        let before = self.listed.write().unwrap_or_else(PoisonError::into_inner).replace(heard);
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        let old: HashMap<Arc<str>, Followed> =
            regions.take().into_iter().map(|region| (Arc::clone(&region.name), region)).collect();
        for FeedRegion { name, address } in listed {
            let followed = match old.get(name.as_str()) {
                Some(old) if *old.address == *address => old.clone(),
                Some(old) => Followed { address: address.into(), ..old.clone() },
                None => {
                    let holder = Holder::new(&self.holders, regions.next_number());
                    let replica = Arc::new(Replica::new(before, holder));
                    Followed { name: name.into(), address: address.into(), replica }
                }
            };
            regions.push(followed);
        }
        // First, because a region that is gone leaves the holders slug by slug, and nobody has to wait for that.
        drop(regions);
        drop(old);
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
        regions.by_name().iter().map(position).collect()
    }

    pub(crate) fn replicas(&self) -> HashMap<Arc<str>, Arc<Replica>> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        regions
            .by_name()
            .iter()
            .map(|region| (Arc::clone(&region.name), Arc::clone(&region.replica)))
            .collect()
    }

    /// Notifies those who wait if the snapshots of all regions have arrived.
    fn check_ready(&self) {
        // It stays so, and each message of each region comes here.
        if *self.ready.borrow() {
            return;
        }
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner).is_some();
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        if listed && regions.by_name().iter().all(|region| region.replica.version() > 0) {
            self.ready.send_replace(true);
        }
    }
}
