//! What happens around every call: a span of the log and one of a trace, a log line when it has ended, and the count of open calls. Nothing
//! of a body is read but the status in the trailers.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use causeway_audit::Call;
use causeway_metrics::{areas::CallMetrics, counted::There};
use causeway_proto::calls::REQUEST_ID;
use causeway_silo::env::Environment;
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::{
    Status,
    body::Body,
    codegen::{
        Bytes,
        http::{HeaderMap, HeaderValue, Request, Response},
    },
};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, debug, info_span};
use uuid::Uuid;

use super::{
    connections::{OpenCall, Origin},
    metrics::{Ending, rpc_label},
    traced::{self, call_span},
};

/// The most bytes of an error message as a header, where one byte may take three. Clients accept at least 8 KiB of
/// headers, which include the error details.
const MAX_ERROR_MESSAGE: usize = 3_000;
/// How many bytes of a longer message are retained, counted before it becomes a header.
const SHORT_MESSAGE: usize = 900;

/// The calls of one server. A tower layer.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    open: TaskTracker,
    region: Option<Arc<str>>,
    env: Environment,
    metrics: CallMetrics,
}

impl Calls {
    /// No open calls yet. `region` names the region that serves them; without it, control does. `env` makes the ids of
    /// requests that come without one.
    pub(super) fn new(region: Option<String>, env: Environment) -> Self {
        let metrics = CallMetrics::default();
        Self { open: TaskTracker::new(), region: region.map(Arc::from), env, metrics }
    }

    /// The name of the region that serves them; `None` if control does.
    pub(super) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// What they count.
    pub(super) fn metrics(&self) -> &CallMetrics {
        &self.metrics
    }

    /// How many are open now. Endless ones are not counted.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Waits until none of the counted ones is open.
    pub(super) async fn none_open(&self) {
        self.open.close();
        self.open.wait().await;
    }
}

/// Whether a call of `method` ends only when the caller or the service ends it, such as a watch. Shutdown does not wait
/// for those.
fn is_endless(method: &str) -> bool {
    let (service, call) = method.rsplit_once('/').unwrap_or(("", method));
    call.starts_with("Watch") || service.starts_with("grpc.reflection.")
}

impl<S> Layer<S> for Calls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, calls: self.clone() }
    }
}

/// A service that counts its calls.
#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    inner: S,
    calls: Calls,
}

impl<S> Service<Request<Body>> for Counted<S>
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let origin = request.extensions_mut().remove::<Origin>();
        let on_connection = origin.as_ref().map(Origin::call);
        let (mut caller, mut address) = (None, String::new());
        if let Some(origin) = origin {
            if let Some(peer) = origin.peer() {
                caller = peer.as_ref().ok().map(ToString::to_string);
                request.extensions_mut().insert(peer.clone());
            }
            if let Some(end) = origin.certificate_end() {
                request.extensions_mut().insert(end);
            }
            // The address of the connection, never one that a caller writes into headers.
            address = origin.tcp.remote_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
            // Where tonic searches for the address of a caller.
            request.extensions_mut().insert(origin.tcp);
        }
        let request_id = request_id(request.headers()).unwrap_or_else(|| self.calls.env.uuid());
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let method = method.as_str();
        let call = Call::new(request_id, caller.as_deref().unwrap_or_default(), address, method);
        request.extensions_mut().insert(call);
        let span = info_span!("call", method, region = self.calls.region.as_deref(), caller, request_id = %request_id);
        let (is_endless, rpc) = (is_endless(method), rpc_label(method));
        let trace = call_span(method, rpc, self.calls.region.as_deref(), request_id, request.headers());
        let mut ending = CallGuard {
            _open: (!is_endless).then(|| self.calls.open.token()),
            _on_connection: on_connection,
            _in_progress: self.calls.metrics.begin(rpc),
            begun: Instant::now(),
            code: None,
            ending: None,
            rpc: Arc::from(rpc),
            is_endless,
            metrics: self.calls.metrics.clone(),
            request_id: HeaderValue::from_str(&request_id.to_string()).ok(),
            span: span.clone(),
            trace: trace.clone(),
        };
        let answer = span.in_scope(|| trace.in_scope(|| self.inner.call(request)));
        Box::pin(
            async move {
                let mut response = answer.await?;
                shorten(response.headers_mut());
                ending.answer_to(response.headers_mut());
                ending.note(response.headers());
                Ok(response.map(|body| Body::new(CountedBody { body, ending })))
            }
            .instrument(trace)
            .instrument(span),
        )
    }
}

/// The id of a request, if its sender has given it a valid one.
fn request_id(headers: &HeaderMap) -> Option<Uuid> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    Uuid::try_parse(id).ok().filter(|id| !id.is_nil())
}

/// Cuts an error message that is too long for headers. Messages of Causeway's own services never are; those of
/// libraries may repeat what the caller sent.
fn shorten(headers: &mut HeaderMap) {
    if headers.get(Status::GRPC_MESSAGE).is_none_or(|message| message.len() <= MAX_ERROR_MESSAGE) {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else { return };
    let end = status.message().floor_char_boundary(SHORT_MESSAGE);
    let message = format!("{}...", status.message().get(..end).unwrap_or_default());
    let details = Bytes::copy_from_slice(status.details());
    let short = Status::with_details_and_metadata(status.code(), message, details, status.metadata().clone());
    // This fails only for values that are not valid headers, and all of these came from headers.
    if let Err(error) = short.add_header(headers) {
        debug!(%error, "an error message could not be shortened");
    }
}

/// Lives as long as a call is open: until its last byte is sent or the caller gives up. Its drop writes the log line.
struct CallGuard {
    _open: Option<TaskTrackerToken>,
    _on_connection: Option<OpenCall>,
    _in_progress: There,
    begun: Instant,
    code: Option<i32>,
    /// How it has ended, for the metrics; `None` as long as it has not.
    ending: Option<Ending>,
    /// Its label in the metrics.
    rpc: Arc<str>,
    is_endless: bool,
    metrics: CallMetrics,
    /// The id of the request, which is always a valid value.
    request_id: Option<HeaderValue>,
    span: Span,
    /// Its span in a trace.
    trace: Span,
}

impl CallGuard {
    /// Adds the id of the request to the answer. An error may only have trailers, so they contain it too.
    fn answer_to(&self, headers: &mut HeaderMap) {
        if let Some(id) = &self.request_id {
            headers.insert(REQUEST_ID, id.clone());
        }
    }

    /// Takes the status code from the headers or trailers, if it is there.
    fn note(&mut self, headers: &HeaderMap) {
        let code = headers.get("grpc-status").and_then(|code| code.to_str().ok());
        self.code = code.and_then(|code| code.parse().ok()).or(self.code);
        traced::note(&self.trace, headers);
        self.ending = Ending::of(headers).or(self.ending);
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if self.code.is_none() {
            traced::given_up(&self.trace);
        }
        let code = self.code.map_or("given up".to_owned(), |code| format!("{:?}", tonic::Code::from(code)));
        let elapsed = self.begun.elapsed();
        debug!(parent: &self.span, code, ?elapsed, "ended");
        let Ending { code, reason } = self.ending.unwrap_or_default();
        self.metrics.ended(&self.rpc, code, reason, (!self.is_endless).then_some(elapsed));
    }
}

struct CountedBody {
    body: Body,
    ending: CallGuard,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // A stream fetches and sends its rows in here, so their log events belong to the call too.
        let (span, trace) = (self.ending.span.clone(), self.ending.trace.clone());
        let mut polled = span.in_scope(|| trace.in_scope(|| Pin::new(&mut self.body).poll_frame(cx)));
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            shorten(trailers);
            self.ending.answer_to(trailers);
            self.ending.note(trailers);
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

#[cfg(test)]
mod tests {
    use tonic::{Code, Status, codegen::http::HeaderMap};

    use super::{MAX_ERROR_MESSAGE, is_endless, shorten};

    #[test]
    fn only_a_message_that_is_too_long_for_headers_is_cut() {
        let shortened = |message: &str| {
            let status = Status::with_details(Code::NotFound, message, vec![1, 2, 3].into());
            let mut headers = HeaderMap::new();
            status.add_header(&mut headers).expect("headers");
            shorten(&mut headers);
            assert!(headers["grpc-message"].len() <= MAX_ERROR_MESSAGE);
            let status = Status::from_header_map(&headers).expect("a status");
            assert_eq!((status.code(), status.details()), (Code::NotFound, &[1, 2, 3][..]));
            status.message().to_owned()
        };
        assert_eq!(shortened("it is not there"), "it is not there");
        assert_eq!(shortened(&"x".repeat(5_000)), format!("{}...", "x".repeat(900)));
        assert_eq!(shortened(&"\u{1f600}".repeat(5_000)), format!("{}...", "\u{1f600}".repeat(225)));
    }

    #[test]
    fn shutdown_waits_for_all_but_endless_calls() {
        assert!(is_endless("grpc.health.v1.Health/Watch"));
        assert!(is_endless("causeway.region.v1.ImportService/WatchImport"));
        assert!(is_endless("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"));
        assert!(!is_endless("grpc.health.v1.Health/Check"));
        assert!(!is_endless("causeway.region.v1.ImportService/ImportOrganizations"));
        assert!(!is_endless(""));
    }
}
