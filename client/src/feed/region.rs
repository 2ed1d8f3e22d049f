//! The feed of one region.

use std::time::Duration;

use causeway_proto::control::v1::{
    WatchSlugReservationsRequest, WatchSlugReservationsResponse,
    slug_reservation_service_client::SlugReservationServiceClient,
};
use uuid::Uuid;

use super::{FeedError, FeedReader, FeedUpdate, Messages};
use crate::Client;

/// A stream of the feed of one region.
#[derive(Debug)]
pub struct RegionFeed {
    messages: Messages<WatchSlugReservationsResponse>,
    reader: FeedReader,
}

impl RegionFeed {
    /// Opens the feed of `region` after `after_version`, up to which it has been read; 0 for a snapshot. `instance_id`
    /// is the id of the region's database. Control may be silent for `silence` at most.
    ///
    /// # Errors
    /// If control does not open it.
    pub async fn open(
        control: &Client,
        region: &str,
        after_version: i64,
        instance_id: Uuid,
        silence: Duration,
    ) -> Result<Self, FeedError> {
        let request = WatchSlugReservationsRequest {
            region: region.to_owned(),
            after_version,
            instance_id: instance_id.to_string(),
        };
        let open =
            async |channel| SlugReservationServiceClient::new(channel).watch_slug_reservations(request).await;
        let messages = Messages::open(control, silence, open).await?;
        Ok(Self { messages, reader: FeedReader::new(after_version) })
    }

    /// The next message. Safe to be dropped half way.
    ///
    /// # Errors
    /// If the feed has ended. It gives nothing more then.
    pub async fn next(&mut self) -> Result<FeedUpdate, FeedError> {
        let message = self.messages.next().await?;
        self.reader.read(message).map_err(|broken| self.messages.end(broken.into()))
    }
}
