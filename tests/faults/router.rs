//! A reader of the feeds of all regions on one stream, such as a router. It leaves the stream now and then, continues
//! from what it has, or had, of each region, and compares what it receives with what the stream promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, bail, ensure};
use causeway_harness::cluster::Cluster;
use causeway_proto::control::v1::{
    FeedPosition, RegionFeed, WatchAllSlugReservationsRequest, WatchAllSlugReservationsResponse, region_feed,
    watch_all_slug_reservations_response::Part, watch_slug_reservations_response::Part as OfOne,
};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic::Status;

use crate::{
    driver::{Controls, PATIENCE, PAUSE, passes},
    scenario::SeededRng,
    watcher::{BySlug, Heard, all_by_region, lock},
};

/// After how many of 100 messages it goes back, and how often at most.
const GOES_BACK: usize = 10;
const TIMES: usize = 6;

/// What the reader has received of all feeds.
#[derive(Debug, Default)]
struct HeardOfAll {
    /// Regions with events that control may have deleted before the reader received them.
    forgotten: BTreeSet<String>,
    regions: BTreeMap<String, Heard>,
    /// The part of the list of regions that has arrived so far. `None` if no list is arriving.
    list: Option<BTreeSet<String>>,
    /// Whether this stream has sent a complete list of regions.
    is_listed: bool,
    /// The test has reset what the reader has, so the rest of its current stream is void.
    is_left: bool,
}

impl HeardOfAll {
    /// Starts another stream. Returns what the reader has.
    fn begin(&mut self) -> Vec<FeedPosition> {
        (self.list, self.is_listed, self.is_left) = (None, false, false);
        self.regions.values_mut().for_each(Heard::begin);
        let positions = self.regions.iter();
        positions
            .map(|(region, heard)| FeedPosition { region: region.clone(), version: heard.version() })
            .collect()
    }

    /// Applies a message and describes it for the trace.
    fn take(&mut self, message: WatchAllSlugReservationsResponse) -> anyhow::Result<String> {
        let part = message.part.context("a message of nothing")?;
        ensure!(
            self.list.is_none() || matches!(part, Part::Regions(_)),
            "something else in the middle of the list of regions"
        );
        match part {
            Part::Regions(part) => {
                ensure!(
                    part.first != self.list.is_some(),
                    "a part of the list of regions is not in its place"
                );
                let list = self.list.get_or_insert_default();
                for region in part.regions {
                    let name = region.name;
                    ensure!(!region.address.is_empty(), "{name} has no address");
                    ensure!(list.last().is_none_or(|last| *last < name), "{name} follows {list:?}");
                    list.insert(name);
                }
                if !part.last {
                    return Ok(String::new());
                }
                let list = self.list.take().unwrap_or_default();
                let gone = self.regions.keys().find(|region| !list.contains(*region));
                ensure!(gone.is_none(), "{gone:?}, which was there, is not among the regions: {list:?}");
                for region in &list {
                    let heard = || Heard::new(self.forgotten.contains(region));
                    self.regions.entry(region.clone()).or_insert_with(heard);
                }
                self.is_listed = true;
                Ok(format!("regions {list:?}"))
            }
            Part::Feed(RegionFeed { region, part, current_version }) => {
                ensure!(self.is_listed, "the feed of {region}, before a list of regions");
                let other = self.regions.iter().find(|(name, it)| **name != region && it.is_in_a_snapshot());
                ensure!(other.is_none(), "the feed of {region}, in the middle of a snapshot of {other:?}");
                let heard = self.regions.get_mut(&region);
                let heard = heard.with_context(|| format!("{region} was not listed"))?;
                let part = match part.context("a message of nothing")? {
                    region_feed::Part::Snapshot(part) => OfOne::Snapshot(part),
                    region_feed::Part::Events(part) => OfOne::Events(part),
                };
                let text = heard.take(part, current_version).with_context(|| format!("of {region}"))?;
                Ok(format!("{region}: {text}"))
            }
            Part::Positions(part) => {
                ensure!(self.is_listed, "positions, before a list of regions");
                for FeedPosition { region, version } in part.positions {
                    let heard = self.regions.get(&region).with_context(|| format!("{region} is unknown"))?;
                    ensure!(
                        heard.version() == version && !heard.is_in_a_snapshot(),
                        "all of {region} has been told up to {version}, and its reader is at {}",
                        heard.version()
                    );
                }
                Ok(String::new())
            }
        }
    }

    /// Describes what differs from these reservations. `None` if nothing does.
    fn differs(&self, all: &BTreeMap<String, BySlug>) -> Option<String> {
        let nothing = BySlug::new();
        let unknown = all.keys().find(|region| !self.regions.contains_key(*region));
        if let Some(region) = unknown {
            return Some(format!("it has not heard of {region}"));
        }
        let other = self.regions.iter().find_map(|(region, heard)| {
            let (has, held) = (heard.has(), all.get(region).unwrap_or(&nothing));
            (has != Some(held)).then(|| format!("of {region} it has {has:?}; control has {held:?}"))
        });
        other.or_else(|| self.regions.is_empty().then(|| "it has heard of no region".to_owned()))
    }
}

/// A task that reads all feeds. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Router {
    heard: Arc<Mutex<HeardOfAll>>,
    restart: Arc<Notify>,
    following: JoinHandle<anyhow::Result<()>>,
}

impl Router {
    /// Starts to follow all feeds from their beginning. Control may delete events of the regions in `forgotten`.
    pub(crate) fn of(cluster: &Arc<Cluster>, forgotten: BTreeSet<String>, rng: SeededRng) -> Self {
        let heard = Arc::new(Mutex::new(HeardOfAll { forgotten, ..HeardOfAll::default() }));
        let restart = Arc::new(Notify::new());
        let reader = Reader {
            cluster: Arc::clone(cluster),
            heard: Arc::clone(&heard),
            restart: Arc::clone(&restart),
            rng,
            times: TIMES,
        };
        Self { heard, restart, following: tokio::spawn(reader.follow()) }
    }

    /// Waits until the reader has received everything that control has, in a cluster in which nothing is in progress:
    /// first by the messages received so far, and then once more from nothing.
    pub(crate) async fn has_heard_all(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let all = all_by_region(cluster).await?;
        self.has_heard(cluster, &all).await?;
        {
            let mut heard = lock(&self.heard);
            heard.regions.values_mut().for_each(Heard::forget);
            heard.is_left = true;
        }
        self.restart.notify_one();
        self.has_heard(cluster, &all).await.context("a reader of all feeds who begins from nothing")
    }

    async fn has_heard(&mut self, cluster: &Cluster, all: &BTreeMap<String, BySlug>) -> anyhow::Result<()> {
        let _wait = cluster.trace().wait("what the reader of all feeds hears");
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(differs) = lock(&self.heard).differs(all) else { return Ok(()) };
            ensure!(Instant::now() < until, "the reader of all feeds has not heard all: {differs}");
            if self.following.is_finished() {
                bail!("{:#}", self.has_ended().await);
            }
            sleep(PAUSE).await;
        }
    }

    /// Returns when the stream was wrong, and never otherwise.
    pub(crate) async fn has_ended(&mut self) -> anyhow::Error {
        let ended = match (&mut self.following).await {
            Ok(Ok(())) => anyhow::anyhow!("it has ended"),
            Ok(Err(error)) => error,
            Err(error) => error.into(),
        };
        ended.context("the reader of all feeds")
    }

    /// Stops the reader, so that it no longer uses the cluster.
    pub(crate) async fn end(mut self) {
        self.following.abort();
        let _aborted = (&mut self.following).await;
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// The task that follows the feeds.
struct Reader {
    cluster: Arc<Cluster>,
    heard: Arc<Mutex<HeardOfAll>>,
    restart: Arc<Notify>,
    rng: SeededRng,
    /// How often it may still go back.
    times: usize,
}

impl Reader {
    async fn follow(mut self) -> anyhow::Result<()> {
        let controls = Controls::default();
        loop {
            let mut positions = lock(&self.heard).begin();
            // Control ignores a region that it does not know.
            positions.push(FeedPosition { region: "nowhere".to_owned(), version: 7 });
            let mut client = controls.next(&self.cluster).reservations();
            let request = WatchAllSlugReservationsRequest { positions };
            let broken: Option<Status> = match client.watch_all_slug_reservations(request).await {
                Err(status) => Some(status),
                Ok(stream) => self.read(stream.into_inner()).await?,
            };
            let Some(broken) = broken else { continue };
            ensure!(passes(&broken), "the stream of all feeds breaks off for good: {broken:?}");
            sleep(PAUSE).await;
        }
    }

    /// Reads a stream until it breaks, or the reader leaves it.
    async fn read(
        &mut self,
        mut stream: tonic::Streaming<WatchAllSlugReservationsResponse>,
    ) -> anyhow::Result<Option<Status>> {
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.restart.notified() => return Ok(None),
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => bail!("the stream of all feeds has ended without an error"),
                Err(status) => return Ok(Some(status)),
            };
            let mut heard = lock(&self.heard);
            if heard.is_left {
                return Ok(None);
            }
            let text = heard.take(message)?;
            if text.is_empty() {
                continue;
            }
            self.cluster.trace().note(format!("all feeds: {text}"));
            if self.times > 0 && self.rng.chance(GOES_BACK) {
                self.times -= 1;
                // It goes back to a different version of each region.
                for (name, heard) in &mut heard.regions {
                    heard.go_back(&self.rng);
                    let to = heard.version();
                    self.cluster
                        .trace()
                        .note(format!("the reader of all goes back to version {to} of {name}"));
                }
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::control::v1::{FeedEvents, FeedPositions, FeedRegion, FeedRegions, FeedSnapshot};

    use super::*;

    fn message(part: Part) -> WatchAllSlugReservationsResponse {
        WatchAllSlugReservationsResponse { part: Some(part) }
    }

    fn regions(names: &[&str], first: bool, last: bool) -> WatchAllSlugReservationsResponse {
        let address = "http://somewhere.example.com";
        let regions = names.iter().map(|name| FeedRegion { name: (*name).into(), address: address.into() });
        message(Part::Regions(FeedRegions { regions: regions.collect(), first, last }))
    }

    fn snapshot(region: &str, first: bool, last: bool) -> WatchAllSlugReservationsResponse {
        let snapshot = FeedSnapshot { version: 3, reservations: Vec::new(), first, last };
        let part = Some(region_feed::Part::Snapshot(snapshot));
        message(Part::Feed(RegionFeed { region: region.to_owned(), part, current_version: 3 }))
    }

    fn positions(region: &str, version: i64) -> WatchAllSlugReservationsResponse {
        let positions = vec![FeedPosition { region: region.to_owned(), version }];
        message(Part::Positions(FeedPositions { positions }))
    }

    #[test]
    fn a_stream_of_all_feeds_that_breaks_its_promises_is_noticed() {
        let mut heard = HeardOfAll::default();
        heard.take(snapshot("de", true, true)).expect_err("it has not listed its regions");
        heard.take(positions("de", 3)).expect_err("nor of this");
        heard.take(regions(&["us"], false, true)).expect_err("it does not begin with the middle");
        heard.take(regions(&["de"], true, false)).expect("a part of the list");
        heard.take(snapshot("de", true, true)).expect_err("in the middle of the list");
        heard.take(regions(&["de"], false, true)).expect_err("a region twice");
        heard.take(regions(&["us"], false, true)).expect("the end of the list");
        heard.take(snapshot("fr", true, true)).expect_err("nobody has listed it");
        heard.take(snapshot("de", true, false)).expect("the first part");
        heard.take(snapshot("us", true, true)).expect_err("in the middle of a snapshot");
        heard.take(positions("de", 3)).expect_err("in the middle of a snapshot");
        heard.take(snapshot("de", false, true)).expect("the last part");
        heard.take(positions("de", 4)).expect_err("its reader has another version");
        heard.take(positions("de", 3)).expect("its reader has it");
        let events = Some(region_feed::Part::Events(FeedEvents::default()));
        let events = RegionFeed { region: "us".to_owned(), part: events, current_version: 3 };
        heard.take(message(Part::Feed(events))).expect_err("it has nothing of it yet");
        let all = BTreeMap::from([("de".to_owned(), BySlug::new())]);
        assert!(heard.differs(&all).is_some_and(|differs| differs.starts_with("of us")));
        heard.take(snapshot("us", true, true)).expect("all of it");
        assert_eq!(heard.differs(&all), None);
        let held = (1, causeway_proto::control::v1::ReservationType::Primary, "a".to_owned());
        let other = BTreeMap::from([("de".to_owned(), BySlug::from([("a".to_owned(), held)]))]);
        assert!(heard.differs(&other).is_some_and(|differs| differs.starts_with("of de")));
        let unknown = BTreeMap::from([("fr".to_owned(), BySlug::new())]);
        assert!(heard.differs(&unknown).is_some_and(|differs| differs.ends_with("of fr")));
        heard.begin();
        heard.take(regions(&["us"], true, true)).expect_err("one that was there is gone");
    }
}
