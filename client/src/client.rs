//! Connections to a service, and calls with a deadline.

use std::{fmt, sync::Arc, time::Duration};

use causeway_proto::{
    calls::{REQUEST_ID, TRACE_PARENT},
    control::v1::{
        control_import_service_client::ControlImportServiceClient,
        directory_service_client::DirectoryServiceClient, region_service_client::RegionServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    region::v1::{
        import_service_client::ImportServiceClient, organization_service_client::OrganizationServiceClient,
        reconciliation_service_client::ReconciliationServiceClient,
        throttle_service_client::ThrottleServiceClient,
    },
    relocation::v1::audit_service_client::AuditServiceClient,
};
use causeway_tls::ClientTls;
use tokio::time::{Instant, sleep};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

use crate::{
    CallError, Endpoints,
    asking::wait_before,
    connect::{Connector, Trouble},
};

/// An idle connection is checked this often, so that a dead one is noticed before the next call.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// A connection that does not answer the check for so long is given up.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Which of the two services a client calls; for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The control service, which all regions share.
    Control,
    /// The service of one region.
    Region,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Region => "the region",
        })
    }
}

/// How long connecting and calls may take. A call that takes longer has failed; every call that writes may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To get a connection. 5 s by default.
    pub connect: Duration,
    /// For a call that touches a bounded number of rows. 30 s by default.
    pub call: Duration,
    /// For a call over all organizations of an import. 10 min by default.
    pub bulk: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(30),
            bulk: Duration::from_secs(600),
        }
    }
}

/// A text that should be the URL of a service and is not; empty if there is no URL at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the URL of a service")]
pub struct InvalidUrl(pub String);

/// A client of one service, at one address or at several that answer alike, such as controls on one database.
/// Connections are made when they are needed, and made again when they are lost. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    service: Service,
    urls: Arc<[String]>,
    endpoints: Endpoints,
    timeouts: Timeouts,
    trouble: Trouble,
    origin: Origin,
}

/// Gives the id of the request that a call is made for.
type RequestId = fn() -> Option<Uuid>;

/// Gives the trace context of what a call is made for, as W3C trace context writes it.
type TraceParent = fn() -> Option<String>;

/// What calls are made for: the functions that know it.
#[derive(Debug, Clone, Copy)]
struct Origin {
    request_id: RequestId,
    trace_parent: TraceParent,
}

/// Calls are made for nothing that the service should know.
const NO_ORIGIN: Origin = Origin { request_id: || None, trace_parent: || None };

fn configure(endpoint: Endpoint, timeouts: Timeouts) -> Endpoint {
    endpoint
        .connect_timeout(timeouts.connect)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .tcp_nodelay(true)
}

/// A request that says what it is made for.
fn request_of<M>(message: M, origin: Origin) -> Request<M> {
    let mut request = Request::new(message);
    if let Some(id) = (origin.request_id)()
        && let Ok(id) = id.to_string().parse()
    {
        request.metadata_mut().insert(REQUEST_ID, id);
    }
    if let Some(context) = (origin.trace_parent)()
        && let Ok(context) = context.parse()
    {
        request.metadata_mut().insert(TRACE_PARENT, context);
    }
    request
}

/// Makes a call that fails after `limit`. The service gets the limit too. gRPC's own deadline ends with the headers
/// of the answer; this one covers all that `call` awaits.
async fn within<M, T, F: Future<Output = Result<T, Status>>>(
    limit: Duration,
    origin: Origin,
    message: M,
    call: impl FnOnce(Request<M>) -> F,
) -> Result<T, Status> {
    let mut request = request_of(message, origin);
    request.set_timeout(limit);
    match tokio::time::timeout(limit, call(request)).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))),
    }
}

impl Client {
    /// A client of the services at these URLs, which begin with `http://`. Connects when a call is made.
    ///
    /// # Errors
    /// If there is no URL, or a text is not one.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(service: Service, urls: &[String], timeouts: Timeouts) -> Result<Self, InvalidUrl> {
        Self::with_tls(service, urls, timeouts, None)
    }

    /// Like [`new`](Self::new), for URLs that may begin with `https://` too. The services there are checked by the CAs
    /// of `tls`, and get its certificate if they want one. The files are read again, if they have changed, for each new
    /// connection. Without `tls`, calls to an `https://` address fail.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn with_tls(
        service: Service,
        urls: &[String],
        timeouts: Timeouts,
        tls: Option<Arc<ClientTls>>,
    ) -> Result<Self, InvalidUrl> {
        let trouble = Trouble::default();
        let connector = Connector::new(tls, trouble.clone());
        let endpoints = Endpoints::new(urls, |endpoint| {
            configure(endpoint, timeouts).connect_with_connector_lazy(connector.clone())
        })?;
        let urls = urls.into();
        Ok(Self { service, urls, endpoints, timeouts, trouble, origin: NO_ORIGIN })
    }

    /// Connects to the service at `url` now, so that an address where nobody listens is an error at once.
    ///
    /// # Errors
    /// If the URL is malformed or nobody listens there.
    pub async fn connect(service: Service, url: &str, timeouts: Timeouts) -> Result<Self, CallError> {
        Self::connect_with_tls(service, url, timeouts, None).await
    }

    /// Like [`connect`](Self::connect), for a URL that may begin with `https://` too. A server that does not accept the
    /// client's certificate is an error at once.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect), and if one side does not accept the certificate of the other.
    pub async fn connect_with_tls(
        service: Service,
        url: &str,
        timeouts: Timeouts,
        tls: Option<Arc<ClientTls>>,
    ) -> Result<Self, CallError> {
        let failed = |error| CallError::connect(service, url, error);
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(failed)?;
        let trouble = Trouble::default();
        let connector = Connector::new(tls, trouble.clone()).confirmed();
        let channel =
            configure(endpoint, timeouts).connect_with_connector(connector).await.map_err(failed)?;
        let (urls, endpoints) = ([url.to_owned()].into(), channel.into());
        Ok(Self { service, urls, endpoints, timeouts, trouble, origin: NO_ORIGIN })
    }

    /// The same client, which sends the id of the request with each call, if there is one: the service then has it in
    /// its log and in its audit log.
    #[must_use]
    pub fn with_request_ids(self, request_id: fn() -> Option<Uuid>) -> Self {
        Self { origin: Origin { request_id, ..self.origin }, ..self }
    }

    /// The same client, which sends a W3C trace context with each call, if there is one: the service then adds its part
    /// to the trace.
    #[must_use]
    pub fn with_trace_context(self, trace_parent: fn() -> Option<String>) -> Self {
        Self { origin: Origin { trace_parent, ..self.origin }, ..self }
    }

    /// The addresses, in the order in which they were given.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The addresses as one text, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        self.urls.join(", ")
    }

    /// How long calls may take.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// The connections, for streams that choose when to go to the next service.
    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Makes a call that takes `limit` at most, at the service that answered last and, if that cannot take
    /// it, at each of the others. `call` awaits the whole answer: a stream of answers counts as one call if
    /// it is read there. If the service reports that the client calls too much, it waits as long as the
    /// service asks, and calls again within `limit`.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn call<M: Clone, T, F>(
        &self,
        limit: Duration,
        message: M,
        call: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + limit;
        loop {
            let limit = deadline.saturating_duration_since(Instant::now());
            let answer = self
                .endpoints
                .call(|channel| within(limit, self.origin, message.clone(), |request| call(channel, request)))
                .await;
            match answer {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => match wait_before(&status, deadline) {
                    Some(wait) => sleep(wait).await,
                    None => return Err(self.failed(status)),
                },
            }
        }
    }

    /// A request without a deadline, for uploads and watches: an upload takes as long as its file is big.
    pub fn request<M>(&self, message: M) -> Request<M> {
        request_of(message, self.origin)
    }

    /// A request with the deadline of a unary call, for services without limits on their callers, such as health. For
    /// others, [`ask`](Self::ask) makes the call again when the service asks for that.
    pub fn unary<M>(&self, message: M) -> Request<M> {
        let mut request = self.request(message);
        request.set_timeout(self.timeouts.call);
        request
    }

    /// Awaits a call and unwraps its response. Makes it once only.
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
        CallError::call(self.service, &self.address(), self.timeouts.call, status, self.trouble.get())
    }

    /// The connection to the service that answered last, for calls that have no method here.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.endpoints.current().1
    }

    /// A region's imports: upload, watch, list, resume and revert.
    #[must_use]
    pub fn imports(&self) -> ImportServiceClient<Channel> {
        ImportServiceClient::new(self.channel())
    }

    /// A region's visible organizations, and the approval of hidden ones.
    #[must_use]
    pub fn organizations(&self) -> OrganizationServiceClient<Channel> {
        OrganizationServiceClient::new(self.channel())
    }

    /// What holds a region's imports back.
    #[must_use]
    pub fn throttle(&self) -> ThrottleServiceClient<Channel> {
        ThrottleServiceClient::new(self.channel())
    }

    /// A region's comparison with control.
    #[must_use]
    pub fn reconciliation(&self) -> ReconciliationServiceClient<Channel> {
        ReconciliationServiceClient::new(self.channel())
    }

    /// The audit log of either service.
    #[must_use]
    pub fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel())
    }

    /// The regions that control knows, and the ids that they lease.
    #[must_use]
    pub fn regions(&self) -> RegionServiceClient<Channel> {
        RegionServiceClient::new(self.channel())
    }

    /// Control's directory: slugs and organizations of all regions.
    #[must_use]
    pub fn directory(&self) -> DirectoryServiceClient<Channel> {
        DirectoryServiceClient::new(self.channel())
    }

    /// Control's slug reservations, renames, and the feeds of the regions.
    #[must_use]
    pub fn reservations(&self) -> SlugReservationServiceClient<Channel> {
        SlugReservationServiceClient::new(self.channel())
    }

    /// Control's part of an import: users and their addresses.
    #[must_use]
    pub fn control_imports(&self) -> ControlImportServiceClient<Channel> {
        ControlImportServiceClient::new(self.channel())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let limit = Duration::from_millis(1);
        let status = within(limit, NO_ORIGIN, (), |_| std::future::pending::<Result<(), Status>>()).await;
        let urls = ["http://127.0.0.1:7".to_owned()];
        let client = Client::new(Service::Control, &urls, Timeouts::default()).expect("a client");
        let error = client.failed(status.expect_err("there is no answer"));
        assert!(error.is_transient(), "it is asked again");
    }

    #[tokio::test]
    async fn a_text_that_is_no_url_is_named() {
        let client = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            Client::new(Service::Control, &urls, Timeouts::default()).map(|_| ())
        };
        assert_eq!(client(&["http://127.0.0.1:1"]), Ok(()));
        assert_eq!(client(&["http://127.0.0.1:1", "no url"]), Err(InvalidUrl("no url".to_owned())));
        assert_eq!(client(&[]), Err(InvalidUrl(String::new())));
    }
}
