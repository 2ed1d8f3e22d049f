//! Lets the code below a call know the call, for the audit log, and records calls that fail.

use std::{
    collections::HashSet,
    convert::Infallible,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use causeway_audit::{Audit, Call, scope};
use causeway_proto::{calls, json::NoContract};
use futures::future::{BoxFuture, Either};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        Bytes,
        http::{HeaderMap, Request, Response},
    },
};
use tower::{Layer, Service};

/// The full names of the rpcs that change something.
static CHANGING: LazyLock<Result<HashSet<String>, NoContract>> =
    LazyLock::new(|| Ok(calls::changing()?.into_iter().collect()));

/// Whether a call may change something. A server does not start with a contract that cannot be read.
fn may_change(call: &str) -> bool {
    CHANGING.as_ref().map_or(true, |changing| changing.contains(call))
}

/// The audit log of one server. A tower layer, inside of the one that makes [`Call`]s and of the one that finds
/// identities, and outside of all that may refuse a call because of what it is.
#[derive(Debug, Clone)]
pub(super) struct Audited(pub(super) Option<Audit>);

impl<S> Layer<S> for Audited {
    type Service = Recorded<S>;

    fn layer(&self, inner: S) -> Recorded<S> {
        Recorded { inner, audit: self.0.clone() }
    }
}

/// A service whose failed calls are recorded.
#[derive(Debug, Clone)]
pub(super) struct Recorded<S> {
    inner: S,
    audit: Option<Audit>,
}

impl<S> Service<Request<Body>> for Recorded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(call) = request.extensions_mut().remove::<Call>() else {
            return Either::Left(self.inner.call(request));
        };
        let recorder = Recorder {
            audit: self.audit.clone().filter(|_| may_change(call.name())),
            call: call.clone(),
            is_noted: false,
        };
        let answer = call.sync_scope(|| self.inner.call(request));
        Either::Right(Box::pin(scope(call, async move {
            let mut recorder = recorder;
            let response = answer.await?;
            recorder.note(response.headers());
            Ok(response.map(|body| Body::new(RecordedBody { body, recorder })))
        })))
    }
}

/// A call, and where its failure goes if it was to change something.
#[derive(Debug)]
struct Recorder {
    audit: Option<Audit>,
    call: Call,
    /// Whether it is known how the call ended.
    is_noted: bool,
}

impl Recorder {
    /// Notes how a call ended, if the headers or trailers of its answer contain that. Records a failure.
    fn note(&mut self, headers: &HeaderMap) {
        let Some(status) = Status::from_header_map(headers) else { return };
        self.is_noted = true;
        if let Some(audit) = &self.audit
            && status.code() != Code::Ok
        {
            audit.failed(&self.call, &status);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Its deadline has passed, or the caller has gone. What it had changed by then has a row of its own.
        if let Some(audit) = &self.audit
            && !self.is_noted
        {
            audit.failed(&self.call, &Status::cancelled("the call was given up before its end"));
        }
    }
}

struct RecordedBody {
    body: Body,
    recorder: Recorder,
}

impl HttpBody for RecordedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, recorder } = &mut *self;
        // A stream does its work in here.
        let polled = recorder.call.sync_scope(|| Pin::new(body).poll_frame(cx));
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            recorder.note(trailers);
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
