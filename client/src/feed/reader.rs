//! Checks that nothing of a feed is missing.

use causeway_proto::control::v1::{
    FeedEvent, FeedSnapshot, WatchSlugReservationsResponse, watch_slug_reservations_response::Part,
};

/// What control sent does not follow what it sent before. Nothing of the message may be used; open the feed again at
/// the version up to which it was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenFeed {
    /// An event is missing, or came again.
    #[error("version {after} of the feed is followed by {version}")]
    Gap {
        /// The version up to which the feed was read; 0 before the first snapshot.
        after: i64,
        /// The version that came.
        version: i64,
    },
    /// An event contains neither a reservation nor its removal: control is of a newer release.
    #[error("event {0} of the feed is of an unknown kind")]
    UnknownChange(i64),
    /// A part of a snapshot came without the first part.
    #[error("a snapshot of the feed begins in its middle")]
    NoBeginning,
    /// Events came before the last part of a snapshot.
    #[error("a snapshot of the feed has no end")]
    NoEnd,
    /// A message is of a region that control has not listed.
    #[error("a feed is of {0}, which is not a region")]
    UnknownRegion(String),
}

/// What a message of a feed contains.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedChange {
    /// A part of a snapshot, which replaces all that was known when its last part is in.
    Snapshot(FeedSnapshot),
    /// At least one event. They follow, without a gap, the version up to which the feed was read.
    Events(Vec<FeedEvent>),
    /// Nothing has changed: a heartbeat, which shows that the feed is complete up to its version.
    Nothing,
}

/// A message of a feed that follows what came before.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedUpdate {
    /// The changes that the message contains.
    pub change: FeedChange,
    /// The newest version of the feed when control sent this. A reader that has read up to it has everything
    /// that control had then.
    pub current_version: i64,
}

/// Reads the messages of one stream of the feed of one region, in their order.
#[derive(Debug)]
pub struct FeedReader {
    version: i64,
    /// A snapshot has begun, and its last part is not in.
    in_snapshot: bool,
}

impl FeedReader {
    /// Begins after this version, at which the stream was opened; 0 if nothing is known.
    #[must_use]
    pub fn new(version: i64) -> Self {
        Self { version, in_snapshot: false }
    }

    /// Reads the next message.
    ///
    /// # Errors
    /// If it does not follow what came before.
    pub fn read(&mut self, message: WatchSlugReservationsResponse) -> Result<FeedUpdate, BrokenFeed> {
        let change = match message.part {
            Some(Part::Snapshot(snapshot)) => {
                if !snapshot.first && !self.in_snapshot {
                    return Err(BrokenFeed::NoBeginning);
                }
                self.in_snapshot = !snapshot.last;
                if snapshot.last {
                    self.version = snapshot.version;
                }
                FeedChange::Snapshot(snapshot)
            }
            Some(Part::Events(_)) if self.in_snapshot => return Err(BrokenFeed::NoEnd),
            Some(Part::Events(events)) => {
                let mut after = self.version;
                for event in &events.events {
                    if event.version != after + 1 || after == 0 {
                        return Err(BrokenFeed::Gap { after, version: event.version });
                    }
                    if event.change.is_none() {
                        return Err(BrokenFeed::UnknownChange(event.version));
                    }
                    after = event.version;
                }
                self.version = after;
                match events.events.is_empty() {
                    true => FeedChange::Nothing,
                    false => FeedChange::Events(events.events),
                }
            }
            // A heartbeat, or a part of a control that is newer than this.
            Some(Part::Heartbeat(_)) | None => FeedChange::Nothing,
        };
        Ok(FeedUpdate { change, current_version: message.current_version })
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::control::v1::{FeedEvents, FeedHeartbeat, FeedRemoval, feed_event::Change};

    use super::*;

    fn message(part: Part) -> WatchSlugReservationsResponse {
        WatchSlugReservationsResponse { part: Some(part), current_version: 9 }
    }

    fn snapshot(version: i64, first: bool, last: bool) -> WatchSlugReservationsResponse {
        message(Part::Snapshot(FeedSnapshot { version, first, last, ..FeedSnapshot::default() }))
    }

    fn events(versions: impl IntoIterator<Item = i64>) -> WatchSlugReservationsResponse {
        let event = |version| FeedEvent { version, change: Some(Change::Removed(FeedRemoval::default())) };
        message(Part::Events(FeedEvents { events: versions.into_iter().map(event).collect() }))
    }

    #[test]
    fn events_follow_the_version_that_is_known() {
        let gap = |after, version| Err(BrokenFeed::Gap { after, version });
        let mut reader = FeedReader::new(7);
        assert_eq!(reader.read(events([7])), gap(7, 7));
        assert_eq!(reader.read(events([9])), gap(7, 9));
        assert_eq!(reader.read(events([8, 10])), gap(8, 10));
        // Nothing of a message with a gap counts as read.
        let Ok(FeedUpdate { change: FeedChange::Events(read), current_version: 9 }) =
            reader.read(events([8, 9]))
        else {
            panic!("they follow");
        };
        assert_eq!(read.len(), 2);
        assert_eq!(reader.read(events([10])).map(|_| ()), Ok(()));
    }

    #[test]
    fn nothing_is_read_before_there_is_a_snapshot() {
        let mut reader = FeedReader::new(0);
        assert_eq!(reader.read(events([1])), Err(BrokenFeed::Gap { after: 0, version: 1 }));
        assert_eq!(reader.read(snapshot(7, false, true)), Err(BrokenFeed::NoBeginning));
        assert_eq!(reader.read(snapshot(7, true, false)).map(|_| ()), Ok(()));
        assert_eq!(reader.read(events([8])), Err(BrokenFeed::NoEnd));
        assert_eq!(reader.read(snapshot(7, false, true)).map(|_| ()), Ok(()));
        assert_eq!(reader.read(events([8])).map(|_| ()), Ok(()));
        assert_eq!(reader.read(snapshot(9, false, true)), Err(BrokenFeed::NoBeginning));
    }

    #[test]
    fn a_message_without_a_change_says_how_far_the_feed_is() {
        let mut reader = FeedReader::new(7);
        let nothing = Ok(FeedUpdate { change: FeedChange::Nothing, current_version: 9 });
        assert_eq!(reader.read(message(Part::Heartbeat(FeedHeartbeat {}))), nothing);
        assert_eq!(reader.read(events([])), nothing);
        assert_eq!(reader.read(WatchSlugReservationsResponse { part: None, current_version: 9 }), nothing);
    }

    #[test]
    fn an_event_of_an_unknown_kind_is_not_passed_over() {
        let unknown = Part::Events(FeedEvents { events: vec![FeedEvent { version: 8, change: None }] });
        assert_eq!(FeedReader::new(7).read(message(unknown)), Err(BrokenFeed::UnknownChange(8)));
    }
}
