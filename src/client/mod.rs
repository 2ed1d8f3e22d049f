//! Talking to a control or a region that runs: connecting, deadlines, paging, and errors that say what to do.

mod error;
mod export;
mod pages;
mod watch;

use std::{fmt, time::Duration};

use causeway_proto::{
    control::v1::{
        directory_service_client::DirectoryServiceClient, region_service_client::RegionServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    region::v1::{
        import_service_client::ImportServiceClient, organization_service_client::OrganizationServiceClient,
        reconciliation_service_client::ReconciliationServiceClient,
    },
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

pub use error::CallError;
pub use export::{ExportFile, UploadError, upload};
pub use pages::{Page, collect_pages};
pub use watch::{Watch, WatchEvent, has_ended};

/// How long a connection may take to come about.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take that has one request and one answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Which of the two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A control.
    Control,
    /// A region.
    Region,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Region => "the region",
        })
    }
}

/// A service at an address, and the channel to it. The channel reconnects by itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Peer {
    kind: Kind,
    address: String,
    channel: Channel,
}

/// A request with the deadline of a call that has one answer. Calls with streams have none: an upload takes as long
/// as its file is big.
pub fn unary<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

impl Peer {
    /// Connects to the service of this kind at `address`, a URL that begins with `http://`.
    ///
    /// # Errors
    /// If the address is malformed or nobody listens there.
    pub async fn connect(kind: Kind, address: &str) -> Result<Self, CallError> {
        let cannot = |error| CallError::connect(kind, address, error);
        let channel = Endpoint::from_shared(address.to_owned())
            .map_err(cannot)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .tcp_nodelay(true)
            .connect()
            .await
            .map_err(cannot)?;
        Ok(Self { kind, address: address.to_owned(), channel })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits for the answer of a call and takes it out of its envelope.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        match call.await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(self.failed(status)),
        }
    }

    /// A failed call to this service as an error.
    #[must_use]
    pub fn failed(&self, status: Status) -> CallError {
        CallError::call(self.kind, &self.address, status)
    }

    /// A region's imports.
    #[must_use]
    pub fn imports(&self) -> ImportServiceClient<Channel> {
        ImportServiceClient::new(self.channel.clone())
    }

    /// A region's organizations.
    #[must_use]
    pub fn organizations(&self) -> OrganizationServiceClient<Channel> {
        OrganizationServiceClient::new(self.channel.clone())
    }

    /// Whether a region and control agree.
    #[must_use]
    pub fn reconciliation(&self) -> ReconciliationServiceClient<Channel> {
        ReconciliationServiceClient::new(self.channel.clone())
    }

    /// The regions that control knows.
    #[must_use]
    pub fn regions(&self) -> RegionServiceClient<Channel> {
        RegionServiceClient::new(self.channel.clone())
    }

    /// Control's directory.
    #[must_use]
    pub fn directory(&self) -> DirectoryServiceClient<Channel> {
        DirectoryServiceClient::new(self.channel.clone())
    }

    /// Control's reservations.
    #[must_use]
    pub fn reservations(&self) -> SlugReservationServiceClient<Channel> {
        SlugReservationServiceClient::new(self.channel.clone())
    }
}
