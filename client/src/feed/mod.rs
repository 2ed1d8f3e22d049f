//! Reads control's feeds of slug reservations: that of one region ([`RegionFeed`]), or those of all regions on one stream
//! ([`AllFeeds`]).
//!
//! Both ask the control that answered last. When a feed ends, for whatever reason, the next one that is opened asks
//! another control, as what is wrong may be wrong with this one only. A feed also ends when control is silent: control
//! sends a heartbeat every 5 s unless it is configured otherwise, so a longer silence means that the connection or the
//! control is dead.

mod all;
mod reader;
mod region;

use std::time::Duration;

use tonic::{Status, Streaming};

pub use all::{AllFeeds, AllFeedsUpdate};
pub use reader::{BrokenFeed, FeedChange, FeedReader, FeedUpdate};
pub use region::RegionFeed;

use crate::{CallError, Client};

/// How long control may be silent by default: four heartbeats.
pub const SILENCE: Duration = Duration::from_secs(20);

/// Why a feed ended. It can be opened again at the version up to which it was read.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Control refused, or the connection broke.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Control was silent for too long.
    #[error("control has sent nothing for {0:?}")]
    Silent(Duration),
    /// Control ended the stream.
    #[error("control has ended the stream of the feed")]
    Ended,
    /// Control sent something that does not follow what it sent before.
    #[error(transparent)]
    Broken(#[from] BrokenFeed),
}

/// A stream of messages that ends when it is silent, and the control that it comes from.
#[derive(Debug)]
struct Messages<M> {
    client: Client,
    /// The index of the control among the addresses of the client.
    control: usize,
    stream: Streaming<M>,
    silence: Duration,
}

impl<M> Messages<M> {
    /// Opens a stream at the control that answered last. `open` makes the call on its channel.
    async fn open<F>(
        client: &Client,
        silence: Duration,
        open: impl FnOnce(tonic::transport::Channel) -> F,
    ) -> Result<Self, FeedError>
    where
        F: Future<Output = Result<tonic::Response<Streaming<M>>, Status>>,
    {
        let (control, channel) = client.endpoints().current();
        let failed = match tokio::time::timeout(silence, open(channel)).await {
            Ok(Ok(response)) => {
                return Ok(Self { client: client.clone(), control, stream: response.into_inner(), silence });
            }
            Ok(Err(status)) => client.failed(status).into(),
            Err(_) => FeedError::Silent(silence),
        };
        client.endpoints().leave(control);
        Err(failed)
    }

    /// The next message. Safe to be dropped half way.
    async fn next(&mut self) -> Result<M, FeedError> {
        match tokio::time::timeout(self.silence, self.stream.message()).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(self.end(FeedError::Ended)),
            Ok(Err(status)) => Err(self.end(self.client.failed(status).into())),
            Err(_) => Err(self.end(FeedError::Silent(self.silence))),
        }
    }

    /// Has the next feed ask another control.
    fn end(&self, error: FeedError) -> FeedError {
        self.client.endpoints().leave(self.control);
        error
    }
}
