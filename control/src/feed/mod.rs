//! The feed of each region: what happens to its reservations, in order and without a gap.
//!
//! Every change of a region's reservations takes the region's row in `causeway_feed`, gives its events the versions
//! that follow, and commits all of it together. So a reader that has seen version 7 has seen everything up to it, and
//! what follows is 8, through whichever control it reads. Reservations of an import become part of the feed when they
//! are confirmed: its region made them itself, and nobody else may see them before.
//!
//! A reader holds no transaction open. Events are read in batches as they are sent, and no more are read while the
//! reader does not take them. One task for each control looks how far all feeds are, whoever made the changes.

pub mod all;
mod places;

use std::{collections::HashMap, sync::Arc, time::Duration};

use causeway_silo::{db::Db, transact};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};
use uuid::Uuid;

use self::places::{Place, Places};
use crate::{
    Error,
    model::feed::{Event, FeedReservation},
    regions,
    store::{
        feed as store,
        feed_transaction::{self, RegionFeed},
        region,
    },
};

/// The most reservations of one message: with the longest slugs, far below what a message may have.
pub(crate) const BATCH: i64 = 2_000;
/// Messages that wait for a reader before no more are read for it.
pub(crate) const WAITING: usize = 2;
/// How long it takes until the database is asked again after it did not answer, and how often old events are removed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// How a control keeps its feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How often it looks for changes that another control has made. Its own are seen at once.
    pub poll_interval: Duration,
    /// How often a reader hears that nothing has happened.
    pub heartbeat: Duration,
    /// How many events of each region are kept; at least one. A reader that is further behind begins with a snapshot.
    pub keep_events: i64,
    /// How many reservations or events one transaction changes, at least one: whoever else changes reservations of that
    /// region waits for it, and on SQLite whoever wants to write at all.
    pub changes_a_transaction: usize,
    /// How many readers there may be at once, other than regions, which have places of their own; a further one is refused.
    pub watches: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(200),
            heartbeat: Duration::from_secs(5),
            keep_events: 200_000,
            changes_a_transaction: 10_000,
            watches: 1_000,
        }
    }
}

/// What a reader hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A part of all there is.
    Snapshot {
        /// What the reader has when it has taken all parts. It may have heard some of what follows already.
        version: i64,
        /// Reservations, by slug.
        reservations: Vec<FeedReservation>,
        /// The first part: what the reader had is void.
        first: bool,
        /// The last part.
        last: bool,
    },
    /// Changes.
    Events(Vec<Event>),
    /// Nothing has happened.
    Heartbeat,
}

/// A part of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The part.
    pub part: Part,
    /// How far the feed was, at least, when the part was read.
    pub current_version: i64,
}

/// How far the feed of each region is, as far as this control has seen.
pub(crate) type Versions = HashMap<String, i64>;

/// The feeds of a control. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feeds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    options: Options,
    versions: watch::Sender<Versions>,
    /// Somebody has begun to watch, or this control has changed something.
    changed: Notify,
    /// The places for readers.
    places: Places,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Feeds {
    pub(crate) fn start(db: Db, options: Options) -> Self {
        let feeds = Self(Arc::new(Inner {
            db,
            options: Options {
                keep_events: options.keep_events.max(1),
                changes_a_transaction: options.changes_a_transaction.max(1),
                ..options
            },
            versions: watch::Sender::new(Versions::new()),
            changed: Notify::new(),
            places: Places::new(options.watches),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }));
        let (polling, pruning, stop) = (feeds.clone(), feeds.clone(), feeds.0.stop.clone());
        feeds.0.tasks.spawn(stop.clone().run_until_cancelled_owned(async move { polling.poll().await }));
        feeds.0.tasks.spawn(stop.run_until_cancelled_owned(async move { pruning.prune_forever().await }));
        feeds
    }

    /// Ends all streams.
    pub(crate) async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Runs something in the background until the control stops.
    pub(crate) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let until_stopped = self.0.stop.clone().run_until_cancelled_owned(task);
        self.0.tasks.spawn(async move {
            let _ended_or_stopped = until_stopped.await;
        });
    }

    /// Ends when the control begins to stop.
    pub(crate) async fn stopping(&self) {
        self.0.stop.cancelled().await;
    }

    /// The feed of a region, to change its reservations.
    pub(crate) fn of<'a>(&'a self, region: &'a str) -> RegionFeed<'a> {
        RegionFeed::new(&self.0.db, region, &self.0.changed)
    }

    /// Hears of changes from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Versions> {
        let versions = self.0.versions.subscribe();
        self.0.changed.notify_one();
        versions
    }

    /// Looks how far all feeds are, as long as somebody wants to know.
    async fn poll(&self) {
        loop {
            if self.0.versions.is_closed() {
                self.0.changed.notified().await;
            }
            match store::versions(&self.0.db).await {
                Ok(versions) => {
                    self.0.versions.send_if_modified(|seen| {
                        let new = *seen != versions;
                        *seen = versions;
                        new
                    });
                    let _either = timeout(self.0.options.poll_interval, self.0.changed.notified()).await;
                }
                Err(error) => {
                    warn!(%error, "control cannot look for changes of reservations");
                    sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn prune_forever(&self) {
        loop {
            sleep(PRUNE_INTERVAL).await;
            match self.prune().await {
                Ok(0) => {}
                Ok(pruned) => debug!(pruned, "old events are removed from the feeds"),
                Err(error) => warn!(%error, "old events cannot be removed from the feeds"),
            }
        }
    }

    /// Removes old events of all feeds, and says how many there were. Done now and again by itself.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn prune(&self) -> Result<u64, Error> {
        let keep = self.0.options.keep_events;
        let most = self.changes_a_transaction();
        let mut pruned = 0;
        for region in store::to_prune(&self.0.db, keep).await? {
            loop {
                let part = transact!(Error, self.of(&region), |feed| {
                    let up_to = feed.version().saturating_sub(keep);
                    feed_transaction::prune(feed, up_to, most).await?
                })?;
                pruned += part;
                if part < most.unsigned_abs() {
                    break;
                }
            }
        }
        Ok(pruned)
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    /// How many changes one transaction makes.
    pub(crate) fn changes_a_transaction(&self) -> i64 {
        i64::try_from(self.0.options.changes_a_transaction).unwrap_or(i64::MAX)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn places(&self) -> &Places {
        &self.0.places
    }

    /// Runs a reader until it ends, its messages are not wanted any more, its place is taken, or this control stops.
    pub(crate) fn read<M: Send + 'static>(
        &self,
        place: Place,
        messages: mpsc::Sender<Result<M, Error>>,
        reading: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        let feeds = self.clone();
        self.0.tasks.spawn(async move {
            let ended = tokio::select! {
                ended = reading => ended,
                () = messages.closed() => return,
                lost = place.lost() => Err(lost),
                () = feeds.stopping() => Err(Error::Stopping),
            };
            if let Err(error) = ended {
                // If the reader does not take what it has, it sees the end alone.
                let _gone = messages.try_send(Err(error));
            }
        });
    }

    /// The feed of a region after a version; 0 if the reader has nothing. It ends when the receiver is dropped, or by
    /// an error, also when this control stops. A reader that is the region says the id of its database, and has one of the
    /// region's own places.
    ///
    /// # Errors
    /// If the region has not registered or has another database, the version is negative, or there are as many readers as
    /// there may be.
    pub async fn watch(
        &self,
        region: &str,
        after: i64,
        instance_id: Option<Uuid>,
    ) -> Result<mpsc::Receiver<Result<Message, Error>>, Error> {
        if after < 0 {
            return Err(Error::invalid("after_version", "must not be negative"));
        }
        let place = match instance_id {
            None => self.0.places.take()?,
            Some(instance_id) => {
                let name = regions::registered(&self.0.db, "region", region).await?.name;
                if region::is_instance(&self.0.db, &name, instance_id).await? != Some(true) {
                    return Err(Error::RegionNameTaken { region: name });
                }
                self.0.places.take_own(&name, instance_id)
            }
        };
        let region = regions::registered(&self.0.db, "region", region).await?.name;
        let (messages, receiver) = mpsc::channel(WAITING);
        let mut reader =
            Reader { feeds: self.clone(), region, at: after, known: 0, messages: messages.clone() };
        self.read(place, messages, async move { reader.follow().await });
        Ok(receiver)
    }
}

/// How far a feed is, at least, when a batch of its events has been read: as far as its last one, unless there may be more.
async fn how_far(db: &Db, region: &str, events: &[Event], known: i64) -> Result<i64, Error> {
    let last = events.last().map_or(known, |event| event.version.max(known));
    Ok(match i64::try_from(events.len()).is_ok_and(|count| count < BATCH) {
        true => last,
        false => store::position(db, region).await?.version.max(last),
    })
}

/// One reader of one feed.
struct Reader {
    feeds: Feeds,
    region: String,
    /// What the reader has.
    at: i64,
    /// How far the feed is, at least.
    known: i64,
    messages: mpsc::Sender<Result<Message, Error>>,
}

impl Reader {
    fn db(&self) -> &Db {
        &self.feeds.0.db
    }

    async fn send(&mut self, part: Part) {
        self.known = self.known.max(self.at);
        let message = Message { part, current_version: self.known };
        // A reader that has gone ends the task by itself.
        let _gone = self.messages.send(Ok(message)).await;
    }

    async fn follow(&mut self) -> Result<(), Error> {
        let mut versions = self.feeds.subscribe();
        let heartbeat = self.feeds.0.options.heartbeat;
        self.look().await?;
        loop {
            let events = store::events(self.db(), &self.region, self.at, BATCH).await?;
            if let (Some(first), Some(last)) = (events.first(), events.last()) {
                if first.version != self.at + 1 {
                    // What is between has been removed meanwhile.
                    self.snapshot().await?;
                    continue;
                }
                self.at = last.version;
                self.known = how_far(self.db(), &self.region, &events, self.known).await?;
                self.send(Part::Events(events)).await;
                continue;
            }
            let next = Instant::now() + heartbeat;
            let (region, at) = (self.region.as_str(), self.at);
            let changed = versions.wait_for(|seen| seen.get(region).is_some_and(|version| *version > at));
            let known = tokio::time::timeout_at(next, changed).await.ok().and_then(|seen| {
                let seen = seen.ok()?;
                seen.get(region).copied()
            });
            match known {
                Some(known) => self.known = known,
                None => self.look().await?,
            }
        }
    }

    /// Looks where the feed is, and tells the reader: all of it, if what it has does not lead there.
    async fn look(&mut self) -> Result<(), Error> {
        let position = store::position(self.db(), &self.region).await?;
        if self.at < position.oldest || self.at > position.version {
            return self.snapshot().await;
        }
        self.known = position.version;
        self.send(Part::Heartbeat).await;
        Ok(())
    }

    /// Sends everything. The version is read first: what changes while the pages are read comes as an event again.
    async fn snapshot(&mut self) -> Result<(), Error> {
        let version = store::position(self.db(), &self.region).await?.version;
        let mut after = String::new();
        let mut first = true;
        loop {
            let reservations = store::snapshot(self.db(), &self.region, &after, BATCH).await?;
            let full = i64::try_from(reservations.len()).is_ok_and(|rows| rows == BATCH);
            if let Some(reservation) = reservations.last() {
                after.clone_from(&reservation.slug);
            }
            if !full {
                self.at = version;
                // It may have taken a while.
                self.known = store::position(self.db(), &self.region).await?.version;
            }
            self.known = self.known.max(version);
            self.send(Part::Snapshot { version, reservations, first, last: !full }).await;
            if !full {
                return Ok(());
            }
            first = false;
        }
    }
}
