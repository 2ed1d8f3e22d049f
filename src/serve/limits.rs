//! What one caller may have in progress, so that no caller takes the service from the others: for callers
//! with an identity, for each of them and each kind of call. It also limits what all callers together may
//! use, with or without identities: how many bytes of requests are in memory, and how long a request may take
//! to arrive. A tower layer, between the one that finds out who calls and the one that knows who may.

use std::{
    collections::HashMap,
    convert::Infallible,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use causeway_proto::{
    access::{self, CallKind, NoRule},
    failure::Failure,
    relocation::v1::ErrorReason,
};
use causeway_tls::{Caller, Identity};
use futures::future::BoxFuture;
use governor::{DefaultDirectRateLimiter, Quota};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until},
};
use tonic::{
    Status,
    body::Body,
    codegen::{
        Bytes,
        http::{Request, Response},
    },
};
use tower::{Layer, Service};

/// Asks a service whether it serves. It has no limits: a probe must be answered even if there is no room for any other call.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// The same for as long as the caller listens. It is a stream whose rate is not limited.
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
/// With so many callers, those without a call are forgotten.
const MANY_CALLERS: usize = 10_000;

/// Limits on each caller that has an identity, and on all callers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most calls in progress, for each kind but uploads: those that read, questions, those that change something,
    /// and streams.
    pub calls: u32,
    /// The most calls that begin in a second, for each kind but questions.
    pub rate: NonZeroU32,
    /// The most calls that begin in a second and whose answers show what exists (`FindRows`, `CheckSlugs`).
    pub questions: NonZeroU32,
    /// The most uploads and bulk creations in progress.
    pub uploads: u32,
    /// The most bytes of requests in progress, for each kind. Uploads and bulk creations have limits of their own.
    pub bytes: u64,
    /// The most bytes of requests in progress of all callers together, also of those without an identity.
    pub all_bytes: u64,
    /// How long a request may take to arrive, after its call has begun. Uploads and bulk creations have limits of their
    /// own.
    pub arrival: Duration,
}

impl Limits {
    /// The most calls of a kind in progress.
    fn places(&self, kind: CallKind) -> u32 {
        if kind == CallKind::Upload { self.uploads } else { self.calls }
    }

    /// The most calls of a kind that begin in a second.
    fn rate(&self, kind: CallKind) -> NonZeroU32 {
        if kind == CallKind::Question { self.questions } else { self.rate }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (rate, questions) = (NonZeroU32::MIN.saturating_add(4_999), NonZeroU32::MIN.saturating_add(19));
        Self {
            calls: 200,
            rate,
            questions,
            uploads: 4,
            bytes: 64 << 20,
            all_bytes: 512 << 20,
            arrival: Duration::from_secs(60),
        }
    }
}

/// One caller's calls of one kind.
#[derive(Debug)]
struct Shared {
    places: Arc<Semaphore>,
    rate: DefaultDirectRateLimiter,
    bytes: AtomicU64,
}

impl Shared {
    fn new(limits: Limits, kind: CallKind) -> Self {
        let places = usize::try_from(limits.places(kind)).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            rate: DefaultDirectRateLimiter::direct(Quota::per_second(limits.rate(kind))),
            bytes: AtomicU64::new(0),
        }
    }
}

/// The callers that have called, and the limits on each and on all of them. A tower layer. For calls without a
/// [`Caller`], only the limits on all hold: the service needs no identities then.
#[derive(Debug, Clone)]
pub(super) struct CallerLimits {
    limits: Limits,
    /// What each call is. One that is not of the contract only reads.
    calls: Arc<HashMap<String, CallKind>>,
    callers: Arc<Mutex<Callers>>,
    /// The bytes of all requests in progress.
    all_bytes: Arc<AtomicU64>,
}

/// What the callers have in progress.
#[derive(Debug)]
struct Callers {
    /// By the caller's first identity and the kind of call. As many as the CA has issued certificates for.
    shared: HashMap<(Identity, CallKind), Arc<Shared>>,
    /// With so many, those without a call are forgotten.
    most: usize,
}

fn refused(limit: impl std::fmt::Display, of: &str, what: &str) -> Status {
    let message = format!("{what}; nothing was done, call again a little later");
    Failure::new(ErrorReason::TooManyCalls, message).with("limit", limit).with("of", of).into()
}

impl CallerLimits {
    /// Nobody has called yet.
    ///
    /// # Errors
    /// If a call of the contract has no rule.
    pub(super) fn new(limits: Limits) -> Result<Self, NoRule> {
        let calls = access::rules()?.into_iter().map(|(path, rule)| (path, rule.kind));
        let callers = Callers { shared: HashMap::new(), most: MANY_CALLERS };
        Ok(Self {
            limits,
            calls: Arc::new(calls.collect()),
            callers: Arc::new(Mutex::new(callers)),
            all_bytes: Arc::default(),
        })
    }

    fn of(&self, caller: &Identity, kind: CallKind) -> Arc<Shared> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.shared.len() >= callers.most {
            // Whoever has no call now starts with all its limits unused.
            callers.shared.retain(|_, shared| Arc::strong_count(shared) > 1);
            // If many stay, not every further call searches all of them.
            callers.most = MANY_CALLERS.max(callers.shared.len().saturating_mul(2));
        }
        let shared = callers.shared.entry((caller.clone(), kind));
        Arc::clone(shared.or_insert_with(|| Arc::new(Shared::new(self.limits, kind))))
    }

    /// Begins a call. What it takes is given back when the answer has been sent, or nobody wants it any more. `has_rate`:
    /// whether it counts among the calls of a second.
    fn begin(&self, caller: Option<&Caller>, kind: CallKind, has_rate: bool) -> Result<InProgress, Status> {
        let of_caller = match caller {
            Some(caller) => {
                let shared = self.of(caller.first(), kind);
                Some((self.admit(&shared, kind, has_rate)?, shared))
            }
            None => None,
        };
        let (all_bytes, bytes) = (Arc::clone(&self.all_bytes), AtomicU64::new(0));
        Ok(InProgress { of_caller, limits: self.limits, all_bytes, bytes })
    }

    /// A place for a call of a caller.
    fn admit(&self, shared: &Shared, kind: CallKind, has_rate: bool) -> Result<OwnedSemaphorePermit, Status> {
        let rate = self.limits.rate(kind);
        if has_rate && shared.rate.check().is_err() {
            return Err(refused(rate, "rate", &format!("a caller may make {rate} such calls a second")));
        }
        let calls = self.limits.places(kind);
        Arc::clone(&shared.places).try_acquire_owned().map_err(|_| {
            let what =
                format!("{calls} such calls of the caller are in progress, and it may have no more at once");
            refused(calls, "calls", &what)
        })
    }
}

/// A call in progress, with the bytes of its request.
#[derive(Debug)]
struct InProgress {
    /// What it takes of its caller's share, if the caller has an identity.
    of_caller: Option<(OwnedSemaphorePermit, Arc<Shared>)>,
    limits: Limits,
    all_bytes: Arc<AtomicU64>,
    bytes: AtomicU64,
}

impl InProgress {
    /// Counts bytes of the request.
    fn add(&self, bytes: usize) -> Result<(), Status> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let Limits { bytes: of_one, all_bytes: of_all, .. } = self.limits;
        let all = self.all_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if let Some((_, shared)) = &self.of_caller
            && shared.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > of_one
        {
            let what =
                format!("the requests of the caller that are in progress have more than {of_one} bytes");
            return Err(refused(of_one, "bytes", &what));
        }
        if all > of_all {
            let what =
                format!("the requests of all callers that are in progress have more than {of_all} bytes");
            return Err(refused(of_all, "all_bytes", &what));
        }
        Ok(())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let bytes = self.bytes.load(Ordering::Relaxed);
        self.all_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some((_, shared)) = &self.of_caller {
            shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// A body of a request that must arrive in time, and whose bytes are counted until the call has ended.
struct CountedRequest {
    body: Body,
    call: Arc<InProgress>,
    began: Instant,
    /// How long it may take to arrive; `None` for as long as it likes.
    arrival: Option<Duration>,
    /// Set once something is waited for. Most requests are here with their call.
    late: Option<Pin<Box<Sleep>>>,
}

impl CountedRequest {
    fn new(body: Body, call: Arc<InProgress>, arrival: Option<Duration>) -> Self {
        Self { body, call, began: Instant::now(), arrival, late: None }
    }

    /// Fails once the request should have arrived.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(arrival) = self.arrival else { return Poll::Pending };
        let end = self.began + arrival;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(end)));
        late.as_mut().poll(cx).map(|()| {
            let message =
                format!("the request has not arrived within {arrival:?}; nothing was done, send it again");
            Failure::new(ErrorReason::StreamStalled, message).into()
        })
    }
}

impl HttpBody for CountedRequest {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() {
            return self.poll_late(cx).map(|late| Some(Err(late)));
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(status) = self.call.add(data.len())
        {
            return Poll::Ready(Some(Err(status)));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<S> Layer<S> for CallerLimits {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, limits: self.clone() }
    }
}

/// A service that is called only within the limits.
#[derive(Debug, Clone)]
pub(super) struct Limited<S> {
    inner: S,
    limits: CallerLimits,
}

impl<S> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if path == HEALTH_CHECK {
            return Box::pin(self.inner.call(request));
        }
        let known = self.limits.calls.get(path).copied();
        let is_health = path == HEALTH_WATCH;
        let kind = known.unwrap_or(if is_health { CallKind::Stream } else { CallKind::Read });
        let call = match self.limits.begin(request.extensions().get::<Caller>(), kind, !is_health) {
            Ok(call) => Arc::new(call),
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let request = if kind == CallKind::Upload {
            request
        } else {
            // Reflection is not of the contract. Its requests are streams, as long as a tool keeps them open.
            let arrival = known.map(|_| self.limits.limits.arrival);
            request.map(|body| Body::new(CountedRequest::new(body, Arc::clone(&call), arrival)))
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            // The body keeps the place until it has been sent.
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _place = &call;
                    frame
                }))
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::failure::{metadata_of, reason_of};
    use causeway_tls::{Identity, Role};
    use http_body_util::Full;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;

    /// Answers when it has read all of its request, with a body that somebody holds.
    #[derive(Debug, Clone)]
    struct Handler;

    impl Service<Request<Body>> for Handler {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            Box::pin(async move {
                match request.into_body().collect().await {
                    Ok(_) => Ok(Response::new(Body::new(Full::new(Bytes::from_static(b"answer"))))),
                    Err(status) => Ok(status.into_http()),
                }
            })
        }
    }

    fn caller(name: &str) -> Caller {
        let domain = "test.example".parse().expect("a domain");
        Caller::new(Identity::new(domain, Role::Region, name).expect("a name"))
    }

    async fn call(
        limits: &CallerLimits,
        path: &str,
        by: &str,
        bytes: usize,
    ) -> Result<Response<Body>, Status> {
        let body = Body::new(Full::new(Bytes::from(vec![0; bytes])));
        let mut request = Request::builder().uri(path).body(body).expect("a request");
        request.extensions_mut().insert(caller(by));
        let response = limits.layer(Handler).call(request).await.expect("it cannot fail");
        match Status::from_header_map(response.headers()) {
            Some(status) => Err(status),
            None => Ok(response),
        }
    }

    fn limits(limits: Limits) -> CallerLimits {
        CallerLimits::new(limits).expect("every call has a rule")
    }

    fn refused_for(outcome: Result<Response<Body>, Status>, of: &str) {
        let status = outcome.map(|_| ()).expect_err("it is refused");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(reason_of(&status), Some(ErrorReason::TooManyCalls));
        assert_eq!(metadata_of(&status, "of").as_deref(), Some(of));
        let retry = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
        assert_eq!(retry, Some(Duration::from_secs(1)), "it says when to call again: {status:?}");
    }

    const LEASE: &str = "/causeway.control.v1.RegionService/LeaseIds";
    const LIST: &str = "/causeway.control.v1.RegionService/ListRegions";
    const WATCH: &str = "/causeway.control.v1.SlugReservationService/WatchSlugReservations";
    const FIND: &str = "/causeway.control.v1.ControlImportService/FindRows";
    const BULK: &str = "/causeway.control.v1.SlugReservationService/BulkCreateOrganizationSlugReservations";

    #[tokio::test]
    async fn a_caller_has_so_many_calls_of_a_kind_at_once_and_takes_none_from_others() {
        let limits = limits(Limits { calls: 2, ..Limits::default() });
        let first = call(&limits, LEASE, "us", 1).await.expect("a place");
        let _second = call(&limits, LEASE, "us", 1).await.expect("a place");
        refused_for(call(&limits, LEASE, "us", 1).await, "calls");
        for (path, by) in [(LIST, "us"), (WATCH, "us"), (FIND, "us"), (BULK, "us"), (LEASE, "eu")] {
            call(&limits, path, by, 1).await.expect("a place of another kind, or of another caller");
        }
        drop(first);
        call(&limits, LEASE, "us", 1).await.expect("the place was given back");
    }

    #[tokio::test]
    async fn a_caller_cannot_take_all_places_for_uploads() {
        let limits = limits(Limits::default());
        let mut open = Vec::new();
        for _ in 0..4 {
            open.push(call(&limits, BULK, "us", 1).await.expect("a place"));
        }
        refused_for(call(&limits, BULK, "us", 1).await, "calls");
        call(&limits, BULK, "eu", 1).await.expect("of another caller");
    }

    #[tokio::test]
    async fn a_caller_begins_so_many_calls_a_second() {
        let one = NonZeroU32::MIN;
        let limits = limits(Limits { rate: one, questions: one, ..Limits::default() });
        for path in [LEASE, LIST, WATCH, FIND] {
            call(&limits, path, "us", 1).await.expect("the first one");
            refused_for(call(&limits, path, "us", 1).await, "rate");
        }
        call(&limits, LEASE, "eu", 1).await.expect("of another caller");
    }

    #[tokio::test]
    async fn questions_have_a_limit_of_their_own() {
        let limits = limits(Limits { questions: NonZeroU32::MIN, ..Limits::default() });
        call(&limits, FIND, "us", 1).await.expect("the first one");
        refused_for(call(&limits, FIND, "us", 1).await, "rate");
        call(&limits, LIST, "us", 1).await.expect("it is not a question");
    }

    #[tokio::test]
    async fn the_bytes_of_a_caller_are_counted_while_its_calls_are_in_progress() {
        let limits = limits(Limits { bytes: 100, ..Limits::default() });
        let first = call(&limits, LEASE, "us", 60).await.expect("few bytes");
        refused_for(call(&limits, LEASE, "us", 60).await, "bytes");
        call(&limits, LEASE, "eu", 60).await.expect("of another caller");
        call(&limits, BULK, "us", 1_000).await.expect("it has limits of its own");
        drop(first);
        call(&limits, LEASE, "us", 60).await.expect("the bytes were given back");
    }

    /// A call by somebody without an identity.
    async fn anybody(limits: &CallerLimits, body: Body) -> Result<Response<Body>, Status> {
        let request = Request::builder().uri(LEASE).body(body).expect("a request");
        let response = limits.layer(Handler).call(request).await.expect("it cannot fail");
        match Status::from_header_map(response.headers()) {
            Some(status) => Err(status),
            None => Ok(response),
        }
    }

    #[tokio::test]
    async fn a_caller_without_an_identity_has_no_limits_of_its_own() {
        let limits = limits(Limits { calls: 0, bytes: 0, ..Limits::default() });
        anybody(&limits, Body::new(Full::new(Bytes::from_static(b"a request"))))
            .await
            .expect("it is answered");
    }

    #[tokio::test]
    async fn the_bytes_of_all_callers_are_counted_whoever_they_are() {
        let limits = limits(Limits { all_bytes: 100, ..Limits::default() });
        let bytes = |count| Body::new(Full::new(Bytes::from(vec![0; count])));
        let first = anybody(&limits, bytes(60)).await.expect("few bytes");
        refused_for(anybody(&limits, bytes(60)).await, "all_bytes");
        refused_for(call(&limits, LEASE, "us", 60).await, "all_bytes");
        drop(first);
        let _second = call(&limits, LEASE, "us", 60).await.expect("the bytes were given back");
        refused_for(anybody(&limits, bytes(60)).await, "all_bytes");
        call(&limits, HEALTH_CHECK, "us", 60).await.expect("the health service answers all the same");
        refused_for(call(&limits, HEALTH_WATCH, "us", 60).await, "all_bytes");
    }

    #[tokio::test]
    async fn a_watch_of_the_health_takes_a_place_among_the_streams_and_a_check_takes_none() {
        let limits = limits(Limits { calls: 2, rate: NonZeroU32::MIN, ..Limits::default() });
        let first = call(&limits, HEALTH_WATCH, "us", 1).await.expect("a place");
        let _second = call(&limits, HEALTH_WATCH, "us", 1).await.expect("its rate is not limited");
        refused_for(call(&limits, HEALTH_WATCH, "us", 1).await, "calls");
        let mut checks = Vec::new();
        for _ in 0..4 {
            checks.push(call(&limits, HEALTH_CHECK, "us", 1).await.expect("it has no limits"));
        }
        call(&limits, LIST, "us", 1).await.expect("of another kind");
        call(&limits, HEALTH_WATCH, "eu", 1).await.expect("of another caller");
        drop(first);
        call(&limits, WATCH, "us", 1).await.expect("a place among all streams was given back");
        // What is not the health service but looks like it is an ordinary call.
        call(&limits, "/grpc.health.v1.Health/Other", "eu", 1).await.expect("the first one");
        refused_for(call(&limits, "/grpc.health.v1.Health/Other", "eu", 1).await, "rate");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_must_arrive_in_time() {
        let arrival = Duration::from_secs(60);
        let limits = limits(Limits { arrival, ..Limits::default() });
        let began = Instant::now();
        // A byte every ten seconds, and no end.
        let trickle = futures::stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Some((Ok::<_, Status>(Frame::data(Bytes::from_static(b"."))), ()))
        });
        let body = Body::new(http_body_util::StreamBody::new(trickle));
        let status = anybody(&limits, body).await.map(|_| ()).expect_err("it has no end");
        assert_eq!(reason_of(&status), Some(ErrorReason::StreamStalled));
        assert_eq!(began.elapsed(), arrival);
        assert_eq!(limits.all_bytes.load(Ordering::Relaxed), 0, "its bytes were given back");
    }
}
