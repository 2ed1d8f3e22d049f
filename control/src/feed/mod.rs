//! The feed of each region: all changes of its reservations, in order and without a gap.
//!
//! Every transaction that changes a region's reservations locks the region's row in `causeway_feed`, gives its events
//! the next versions, and commits changes and events together. So a reader that has version 7 has everything up to 7,
//! and the next event is 8, through whichever control it reads. Reservations of an import become part of the feed when
//! they are confirmed: the region made them itself, and no other reader may see them before.
//!
//! A reader holds no transaction open. Control reads events in batches as it sends them, and pauses while the reader
//! does not take them. One task in each control polls the versions of all feeds, whichever control made the changes.

pub mod all;
mod messages;
mod old_copy;
mod reader_slots;

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use causeway_proto::era::{LAST_ERA, era_of};
use causeway_relocation::catalog::Catalog;
use causeway_silo::{
    db::{Db, count},
    env::Environment,
    transact,
};
use chrono::{DateTime, Utc};
use tokio::{
    sync::{Mutex, Notify, mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::{debug, warn};
use uuid::Uuid;

pub use self::messages::Messages;
use self::reader_slots::{ReaderSlot, ReaderSlots};
use crate::{
    Error,
    model::feed::{Event, FeedReservation},
    regions,
    store::{
        feed as store,
        feed_transaction::{self, RegionFeed, Writer},
        product_tables::ProductDb,
        region,
    },
};

/// The most reservations or events of one message. Even with the longest slugs, it stays far below the message limit.
pub(crate) const BATCH: i64 = 2_000;
/// How many messages wait for a reader at most. While that many wait, control reads no more for it.
const BUFFERED_MESSAGES: usize = 2;
/// How long the poll task waits after a failed query.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often a control removes old events.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// Configuration of the feeds of a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How often control polls for changes that another control made. It notices its own changes at once.
    pub poll_interval: Duration,
    /// How often a reader receives a heartbeat while nothing happens.
    pub heartbeat: Duration,
    /// How many events of each region control keeps; at least one. A reader that needs older events begins
    /// with a snapshot.
    pub keep_events: i64,
    /// The most reservations or events that one transaction changes, at least one. Until it ends, other changes of that
    /// region's reservations wait, and on SQLite all other writes.
    pub changes_a_transaction: usize,
    /// How often control checks whether the product has renamed organizations, in a database that is the
    /// product's.
    pub product_interval: Duration,
    /// The most readers at once, not counting regions, which have places of their own. Control refuses further readers.
    pub watches: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(200),
            heartbeat: Duration::from_secs(5),
            keep_events: 200_000,
            changes_a_transaction: 10_000,
            product_interval: Duration::from_secs(10),
            watches: 1_000,
        }
    }
}

/// The content of a message to a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A part of a snapshot, which has all reservations of the region.
    Snapshot {
        /// The version that the reader has after the last part. The snapshot may contain some later changes already.
        version: i64,
        /// Reservations, sorted by slug.
        reservations: Vec<FeedReservation>,
        /// Whether this is the first part: what the reader had before is void.
        first: bool,
        /// Whether this is the last part.
        last: bool,
    },
    /// Changes, in the order of their versions.
    Events(Vec<Event>),
    /// Nothing has happened for a while. A stream that needs no snapshot also begins with a heartbeat.
    Heartbeat,
}

/// A message of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What the message contains: a part of a snapshot, events, or nothing new.
    pub part: Part,
    /// A lower bound of the feed's version when control read the part. A reader that has this version had everything at
    /// that time.
    pub current_version: i64,
}

/// The version of each region's feed, as this control last read it.
pub(crate) type Versions = HashMap<String, i64>;

/// The feeds of a control. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feeds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    env: Environment,
    catalog: Arc<Catalog>,
    /// The product's own tables, if the database is the product's.
    product_db: Option<ProductDb>,
    options: Options,
    versions: watch::Sender<Versions>,
    /// Notified when a reader subscribes, or when this control has committed events.
    changed: Notify,
    reader_slots: ReaderSlots,
    /// The regions by which this control has begun an era since it started.
    eras_begun: Mutex<HashSet<String>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Feeds {
    pub(crate) fn start(
        db: Db,
        env: Environment,
        catalog: Arc<Catalog>,
        product_db: Option<ProductDb>,
        options: Options,
    ) -> Self {
        let feeds = Self(Arc::new(Inner {
            db,
            env,
            catalog,
            product_db,
            options: Options {
                keep_events: options.keep_events.max(1),
                changes_a_transaction: options.changes_a_transaction.max(1),
                ..options
            },
            versions: watch::Sender::new(Versions::new()),
            changed: Notify::new(),
            reader_slots: ReaderSlots::new(options.watches),
            eras_begun: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }));
        let (polling, pruning, stop) = (feeds.clone(), feeds.clone(), feeds.0.stop.clone());
        feeds.0.tasks.spawn(stop.clone().run_until_cancelled_owned(async move { polling.poll().await }));
        feeds.0.tasks.spawn(stop.run_until_cancelled_owned(async move { pruning.prune_forever().await }));
        feeds
    }

    /// Ends all streams and background tasks, and waits for them.
    pub(crate) async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Runs `task` in the background until it ends or the control stops.
    pub(crate) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let until_stopped = self.0.stop.clone().run_until_cancelled_owned(task);
        self.0.tasks.spawn(async move {
            let _ended_or_stopped = until_stopped.await;
        });
    }

    /// Returns when the control begins to stop.
    pub(crate) async fn stopping(&self) {
        self.0.stop.cancelled().await;
    }

    /// The feed of a region, to begin transactions that change its reservations for a call. They do not begin while the
    /// region is suspended.
    pub(crate) fn of<'a>(&'a self, region: &'a str) -> RegionFeed<'a> {
        self.written_by(Writer::Region, region)
    }

    /// The same for what control does by itself, which goes on while the region is suspended.
    pub(crate) fn of_control<'a>(&'a self, region: &'a str) -> RegionFeed<'a> {
        self.written_by(Writer::Control, region)
    }

    fn written_by<'a>(&'a self, writer: Writer, region: &'a str) -> RegionFeed<'a> {
        RegionFeed::new(&self.0.db, region, &self.0.changed, self.0.product_db.as_ref(), writer)
    }

    /// The product's own tables, if the database is the product's.
    pub(crate) fn product_db(&self) -> Option<&ProductDb> {
        self.0.product_db.as_ref()
    }

    /// Subscribes to the versions of all feeds, and has them queried at once.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Versions> {
        let versions = self.0.versions.subscribe();
        self.0.changed.notify_one();
        versions
    }

    /// Polls the versions of all feeds as long as there is a subscriber.
    async fn poll(&self) {
        loop {
            if self.0.versions.is_closed() {
                self.0.changed.notified().await;
            }
            match store::versions(&self.0.db).await {
                Ok(versions) => {
                    self.0.versions.send_if_modified(|known_versions| {
                        let new = *known_versions != versions;
                        *known_versions = versions;
                        new
                    });
                    let _either = timeout(self.0.options.poll_interval, self.0.changed.notified()).await;
                }
                Err(error) => {
                    warn!(%error, "control cannot query the versions of the feeds");
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
                Ok(pruned) => debug!(pruned, "control removed old events from the feeds"),
                Err(error) => warn!(%error, "control cannot remove old events from the feeds"),
            }
        }
    }

    /// Removes old events of all feeds and returns how many. Control also does this by itself once a minute.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn prune(&self) -> Result<u64, Error> {
        let keep = self.0.options.keep_events;
        let most = self.changes_a_transaction();
        let mut pruned = 0;
        for region in store::to_prune(&self.0.db, keep).await? {
            loop {
                let part = transact!(Error, self.of_control(&region), |feed| {
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

    /// The most reservations or events that one transaction changes.
    pub(crate) fn changes_a_transaction(&self) -> i64 {
        i64::try_from(self.0.options.changes_a_transaction).unwrap_or(i64::MAX)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn reader_slots(&self) -> &ReaderSlots {
        &self.0.reader_slots
    }

    /// Runs a reader until it fails, its messages are dropped, another stream gets its place, or this control
    /// stops.
    pub(crate) fn read<M, R>(
        &self,
        place: ReaderSlot,
        reading: impl FnOnce(mpsc::Sender<M>) -> R,
    ) -> Messages<M>
    where
        R: Future<Output = Result<Infallible, Error>> + Send + 'static,
    {
        let (sender, messages) = mpsc::channel(BUFFERED_MESSAGES);
        let (feeds, reading) = (self.clone(), reading(sender));
        let sending = self.0.tasks.spawn(async move {
            tokio::select! {
                Err(error) = reading => error,
                lost = place.lost() => lost,
                () = feeds.stopping() => Error::ShuttingDown,
            }
        });
        Messages::new(messages, AbortOnDropHandle::new(sending))
    }

    /// Streams the feed of a region after version `after`; 0 if the reader has nothing. If the reader is the region itself, it
    /// passes the id of its database as `instance_id`, and gets one of the region's own places.
    ///
    /// # Errors
    /// If the region has not registered or has another database, the version is negative or of no era, or the maximum number
    /// of readers is reached. If the region has read more than there is: if it is suspended, or no era begins by it.
    pub async fn watch(
        &self,
        region: &str,
        after: i64,
        instance_id: Option<Uuid>,
    ) -> Result<Messages<Message>, Error> {
        if after < 0 {
            return Err(Error::invalid("after_version", "must not be negative"));
        }
        if era_of(after) > LAST_ERA {
            return Err(Error::invalid("after_version", "is of no era that a feed can have"));
        }
        let place = match instance_id {
            None => self.0.reader_slots.take()?,
            Some(instance_id) => {
                let name = regions::registered(&self.0.db, "region", region).await?.name;
                if region::is_instance(&self.0.db, &name, instance_id).await? != Some(true) {
                    return Err(Error::RegionNameTaken { region: name });
                }
                self.notice_old_copy(&name, after).await?;
                self.0.reader_slots.take_own(&name, instance_id)
            }
        };
        let region = regions::registered(&self.0.db, "region", region).await?.name;
        let (feeds, is_own, sent) = (self.clone(), instance_id.is_some(), place.sent());
        Ok(self.read(place, |messages| {
            Reader { feeds, region, is_own, contact: None, at: after, known: 0, sent, messages }.follow()
        }))
    }
}

/// A lower bound of a feed's version after reading a batch of its events. If the batch is not full, that is the version
/// of its last event or `known`. If it is full, there may be more events, so this queries the version.
async fn known_version(db: &Db, region: &str, events: &[Event], known: i64) -> Result<i64, Error> {
    let last = events.last().map_or(known, |event| event.version.max(known));
    Ok(match count(events.len())? < BATCH {
        true => last,
        false => store::position(db, region).await?.version.max(last),
    })
}

/// One reader of one feed.
struct Reader {
    feeds: Feeds,
    region: String,
    /// Whether the region itself reads.
    is_own: bool,
    /// When it was last noted that the region reads.
    contact: Option<DateTime<Utc>>,
    /// The version that the reader has.
    at: i64,
    /// A lower bound of the feed's version.
    known: i64,
    /// Where the version that was sent is stored for the metrics, if the region itself reads.
    sent: Option<Arc<AtomicI64>>,
    messages: mpsc::Sender<Message>,
}

impl Reader {
    fn db(&self) -> &Db {
        &self.feeds.0.db
    }

    async fn send(&mut self, part: Part) {
        self.known = self.known.max(self.at);
        let message = Message { part, current_version: self.known };
        // If nobody reads any more, this task ends.
        let _gone = self.messages.send(message).await;
        if let Some(sent) = &self.sent {
            sent.store(self.at, Ordering::Relaxed);
        }
    }

    async fn follow(mut self) -> Result<Infallible, Error> {
        let mut versions = self.feeds.subscribe();
        let heartbeat = self.feeds.0.options.heartbeat;
        self.send_position().await?;
        loop {
            self.note_contact().await;
            let events = store::events(self.db(), &self.region, self.at, BATCH).await?;
            if let (Some(first), Some(last)) = (events.first(), events.last()) {
                if first.version != self.at + 1 {
                    // The events in between have been removed meanwhile.
                    self.snapshot().await?;
                    continue;
                }
                self.at = last.version;
                self.known = known_version(self.db(), &self.region, &events, self.known).await?;
                self.send(Part::Events(events)).await;
                continue;
            }
            if self.known > self.at {
                // No event leads there: a new era has begun.
                self.send_position().await?;
                continue;
            }
            let next = Instant::now() + heartbeat;
            let (region, at) = (self.region.as_str(), self.at);
            let changed = versions
                .wait_for(|known_versions| known_versions.get(region).is_some_and(|version| *version > at));
            let known = tokio::time::timeout_at(next, changed).await.ok().and_then(|known_versions| {
                let known_versions = known_versions.ok()?;
                known_versions.get(region).copied()
            });
            match known {
                Some(known) => self.known = known,
                None => self.send_position().await?,
            }
        }
    }

    /// Notes now and then that the region reads its feed. A failure is only logged: the feed goes on.
    async fn note_contact(&mut self) {
        let now = self.feeds.0.env.now();
        if !self.is_own || self.contact.is_some_and(|noted| now - noted < region::NOTE_CONTACT) {
            return;
        }
        self.contact = Some(now);
        let noted: Result<(), Error> = transact!(Error, self.db(), |tx| {
            region::note_contact(tx, &self.region, now).await?;
        });
        if let Err(error) = noted {
            debug!(%error, region = self.region, "it cannot be noted that the region reads its feed");
        }
    }

    /// Reads the position of the feed and sends a heartbeat, or a snapshot if no events lead from the reader's version
    /// to the feed's.
    async fn send_position(&mut self) -> Result<(), Error> {
        let position = store::position(self.db(), &self.region).await?;
        if self.at < position.oldest || self.at > position.version {
            return self.snapshot().await;
        }
        self.known = position.version;
        self.send(Part::Heartbeat).await;
        Ok(())
    }

    /// Sends a snapshot. It reads the version first, so what changes while it reads the pages is sent again as an
    /// event.
    async fn snapshot(&mut self) -> Result<(), Error> {
        let version = store::position(self.db(), &self.region).await?.version;
        let mut after = String::new();
        let mut first = true;
        loop {
            let reservations = store::snapshot(self.db(), &self.region, &after, BATCH).await?;
            let full = count(reservations.len())? == BATCH;
            if let Some(reservation) = reservations.last() {
                after.clone_from(&reservation.slug);
            }
            if !full {
                self.at = version;
                // Reading the pages may have taken a while.
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
