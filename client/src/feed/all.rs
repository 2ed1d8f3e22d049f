//! The feeds of all regions, on one stream.

use std::{collections::HashMap, time::Duration};

use causeway_proto::control::v1::{
    FeedPosition, FeedPositions, FeedRegion, FeedRegions, RegionFeed, WatchAllSlugReservationsRequest,
    WatchAllSlugReservationsResponse, WatchSlugReservationsResponse, region_feed,
    slug_reservation_service_client::SlugReservationServiceClient,
    watch_all_slug_reservations_response::Part, watch_slug_reservations_response::Part as OfOne,
};

use super::{BrokenFeed, FeedError, FeedReader, FeedUpdate, Messages};
use crate::Client;

/// What a message of the feeds of all regions contains.
#[derive(Debug, Clone, PartialEq)]
pub enum AllFeedsUpdate {
    /// These are all regions from now on. Comes first, and again when a region registers or moves.
    Regions(Vec<FeedRegion>),
    /// Something about the feed of one region.
    Feed {
        /// The region, one of those that were listed.
        region: String,
        /// The change of its feed.
        update: FeedUpdate,
    },
    /// Nothing else has changed: the feeds of these regions are at these versions. Comes with each heartbeat.
    Positions(Vec<FeedPosition>),
}

/// A stream of the feeds of all regions.
#[derive(Debug)]
pub struct AllFeeds {
    messages: Messages<WatchAllSlugReservationsResponse>,
    /// The reader of each region's feed, for the regions that control has listed.
    readers: HashMap<String, FeedReader>,
    /// The versions at which the stream was opened.
    positions: HashMap<String, i64>,
    /// The regions of a list that comes in parts.
    listing: Vec<FeedRegion>,
}

impl AllFeeds {
    /// Opens the feeds, each after the version up to which it has been read. A region without a position gets a
    /// snapshot. Control may be silent for `silence` at most.
    ///
    /// # Errors
    /// If control does not open them.
    pub async fn open(
        control: &Client,
        positions: Vec<FeedPosition>,
        silence: Duration,
    ) -> Result<Self, FeedError> {
        let known = positions.iter().map(|it| (it.region.clone(), it.version)).collect();
        let request = WatchAllSlugReservationsRequest { positions };
        let open = async |channel| {
            SlugReservationServiceClient::new(channel).watch_all_slug_reservations(request).await
        };
        let messages = Messages::open(control, silence, open).await?;
        Ok(Self { messages, readers: HashMap::new(), positions: known, listing: Vec::new() })
    }

    /// The next message. Safe to be dropped half way.
    ///
    /// # Errors
    /// If the feeds have ended. They give nothing more then.
    pub async fn next(&mut self) -> Result<AllFeedsUpdate, FeedError> {
        loop {
            let message = self.messages.next().await?;
            match self.read(message) {
                Ok(Some(update)) => return Ok(update),
                Ok(None) => {}
                Err(broken) => return Err(self.messages.end(broken.into())),
            }
        }
    }

    fn read(
        &mut self,
        message: WatchAllSlugReservationsResponse,
    ) -> Result<Option<AllFeedsUpdate>, BrokenFeed> {
        Ok(match message.part {
            Some(Part::Regions(FeedRegions { regions, first, last })) => {
                if first {
                    self.listing.clear();
                }
                self.listing.extend(regions);
                last.then(|| self.list())
            }
            Some(Part::Feed(RegionFeed { region, part, current_version })) => {
                let Some(reader) = self.readers.get_mut(&region) else {
                    return Err(BrokenFeed::UnknownRegion(region));
                };
                let part = part.map(|part| match part {
                    region_feed::Part::Snapshot(snapshot) => OfOne::Snapshot(snapshot),
                    region_feed::Part::Events(events) => OfOne::Events(events),
                });
                let update = reader.read(WatchSlugReservationsResponse { part, current_version })?;
                Some(AllFeedsUpdate::Feed { region, update })
            }
            Some(Part::Positions(FeedPositions { positions })) => Some(AllFeedsUpdate::Positions(positions)),
            // A newer control has sent a part that this release does not know.
            None => None,
        })
    }

    /// Takes over the list of all regions when its last part has arrived.
    fn list(&mut self) -> AllFeedsUpdate {
        let regions = std::mem::take(&mut self.listing);
        let mut before = std::mem::take(&mut self.readers);
        for FeedRegion { name, .. } in &regions {
            let reader = before.remove(name).unwrap_or_else(|| {
                // A region that was gone in between begins with a snapshot.
                FeedReader::new(self.positions.remove(name).unwrap_or(0))
            });
            self.readers.insert(name.clone(), reader);
        }
        AllFeedsUpdate::Regions(regions)
    }
}
