//! The feeds of all regions on one stream, for routers, which send requests to the right region.
//!
//! One query reads the positions of all feeds. Control then reads only the feeds that have something new for
//! the reader. They take turns: a batch of events of each, or a whole snapshot.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
};

use causeway_proto::limits::{MAX_BATCH, MAX_NAMES_PER_CALL};
use causeway_silo::db::count;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{BATCH, Feeds, Message, Messages, Part, known_version};
use crate::{
    Error,
    store::{
        feed::{self as store, Position},
        region,
    },
};

/// The most regions or positions in one message.
const LISTED: usize = MAX_NAMES_PER_CALL;
/// The most regions that one query reads.
const REGIONS: i64 = LISTED as i64;

/// A message to a reader of all feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllMessage {
    /// A part of the list of regions.
    Regions {
        /// Name and address of each region, sorted by name.
        regions: Vec<(String, String)>,
        /// Whether this is the first part: the list that the reader had before is void.
        first: bool,
        /// Whether this is the last part.
        last: bool,
    },
    /// A part of the feed of a region.
    Feed {
        /// The name of the region whose feed it is.
        region: String,
        /// A part of a snapshot, or events.
        message: Message,
    },
    /// The reader has received everything up to these versions, each with the name of its region.
    Positions(Vec<(String, i64)>),
}

impl Feeds {
    /// Streams the feeds of all regions after the versions that the reader has, given by region. The stream ends as
    /// that of [`Feeds::watch`] does.
    ///
    /// # Errors
    /// If there are too many positions, one is negative, a region has two, or the maximum number of readers is reached.
    pub async fn watch_all(&self, positions: Vec<(String, i64)>) -> Result<Messages<AllMessage>, Error> {
        if positions.len() > MAX_BATCH {
            return Err(Error::invalid("positions", format!("at most {MAX_BATCH}")));
        }
        let mut reader_versions = HashMap::new();
        for (index, (region, version)) in positions.into_iter().enumerate() {
            if version < 0 {
                return Err(Error::invalid(format!("positions[{index}].version"), "must not be negative"));
            }
            if reader_versions.insert(region, version).is_some() {
                return Err(Error::invalid(
                    format!("positions[{index}].region"),
                    "stands twice in the request",
                ));
            }
        }
        let place = self.reader_slots().take()?;
        let (feeds, regions) = (self.clone(), BTreeMap::new());
        Ok(self.read(place, |messages| Reader { feeds, reader_versions, regions, messages }.follow()))
    }
}

/// One reader of all feeds.
struct Reader {
    feeds: Feeds,
    /// The version that the reader has of each region's feed. The reader has nothing of a region that is
    /// missing here.
    reader_versions: HashMap<String, i64>,
    /// The regions that were sent to the reader, with their addresses.
    regions: BTreeMap<String, String>,
    messages: mpsc::Sender<AllMessage>,
}

impl Reader {
    async fn send(&self, message: AllMessage) {
        // If nobody reads any more, this task ends.
        let _gone = self.messages.send(message).await;
    }

    async fn follow(mut self) -> Result<Infallible, Error> {
        let mut versions = self.feeds.subscribe();
        let heartbeat = self.feeds.options().heartbeat;
        let mut send_all_positions = true;
        loop {
            let positions = store::positions(self.feeds.db()).await?;
            let is_known = positions.keys().all(|region| self.regions.contains_key(region));
            if send_all_positions || !is_known {
                self.list_regions().await?;
            }
            let mut sent = false;
            for region in self.regions.keys().cloned().collect::<Vec<_>>() {
                let position = match positions.get(&region) {
                    Some(position) => *position,
                    None => store::beginning(self.feeds.db()).await?,
                };
                sent |= self.send_next(&region, position).await?;
            }
            if sent {
                continue;
            }
            if send_all_positions {
                self.send_positions().await;
            }
            let next = Instant::now() + heartbeat;
            let (reader_versions, regions) = (&self.reader_versions, &self.regions);
            let changed = versions.wait_for(|seen| {
                seen.iter().any(|(region, version)| {
                    !regions.contains_key(region)
                        || reader_versions.get(region).is_none_or(|has| has < version)
                })
            });
            send_all_positions = timeout_at(next, changed).await.is_err();
        }
    }

    /// Sends the list of regions if it has changed.
    async fn list_regions(&mut self) -> Result<(), Error> {
        let mut all = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = region::list(self.feeds.db(), after.as_deref(), REGIONS).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            let registered = page.into_iter().filter_map(|region| region.registered);
            all.extend(registered.map(|region| (region.name, region.address)));
        }
        if all == self.regions && !all.is_empty() {
            return Ok(());
        }
        self.reader_versions.retain(|region, _| all.contains_key(region));
        let listed: Vec<(String, String)> = all.clone().into_iter().collect();
        let mut left = listed.as_slice();
        let mut first = true;
        // An empty list has one part too.
        while first || !left.is_empty() {
            let (part, rest) = left.split_at(left.len().min(LISTED));
            self.send(AllMessage::Regions { regions: part.to_vec(), first, last: rest.is_empty() }).await;
            (first, left) = (false, rest);
        }
        self.regions = all;
        Ok(())
    }

    async fn send_positions(&self) {
        let positions: Vec<(String, i64)> =
            self.reader_versions.iter().map(|(region, version)| (region.clone(), *version)).collect();
        for part in positions.chunks(LISTED) {
            self.send(AllMessage::Positions(part.to_vec())).await;
        }
        if positions.is_empty() {
            self.send(AllMessage::Positions(Vec::new())).await;
        }
    }

    /// Sends the next batch of events of a feed, or a snapshot. Returns `false` if the reader has everything already.
    async fn send_next(&mut self, region: &str, position: Position) -> Result<bool, Error> {
        let Some(at) = self
            .reader_versions
            .get(region)
            .copied()
            .filter(|at| (position.oldest..=position.version).contains(at))
        else {
            self.snapshot(region).await?;
            return Ok(true);
        };
        if at == position.version {
            return Ok(false);
        }
        let events = store::events(self.feeds.db(), region, at, BATCH).await?;
        match (events.first(), events.last()) {
            (Some(first), Some(last)) if first.version == at + 1 => {
                let at = last.version;
                let current_version =
                    known_version(self.feeds.db(), region, &events, position.version).await?;
                self.reader_versions.insert(region.to_owned(), at);
                let message = Message { part: Part::Events(events), current_version };
                self.send(AllMessage::Feed { region: region.to_owned(), message }).await;
            }
            // The events in between have been removed meanwhile.
            _ => self.snapshot(region).await?,
        }
        Ok(true)
    }

    /// Sends a snapshot of a region. It reads the version first, so what changes while it reads the pages is sent again
    /// as an event.
    async fn snapshot(&mut self, region: &str) -> Result<(), Error> {
        let version = store::position(self.feeds.db(), region).await?.version;
        let mut after = String::new();
        let mut first = true;
        loop {
            let reservations = store::snapshot(self.feeds.db(), region, &after, BATCH).await?;
            let last = count(reservations.len())? < BATCH;
            if let Some(reservation) = reservations.last() {
                after.clone_from(&reservation.slug);
            }
            let part = Part::Snapshot { version, reservations, first, last };
            // Reading the pages may have taken a while.
            let current_version = match last {
                true => store::position(self.feeds.db(), region).await?.version,
                false => version,
            };
            let message = Message { part, current_version };
            self.send(AllMessage::Feed { region: region.to_owned(), message }).await;
            if last {
                self.reader_versions.insert(region.to_owned(), version);
                return Ok(());
            }
            first = false;
        }
    }
}
