//! The span of a call in its trace. It is another one than that of the log, so that neither changes the other, and so
//! that without a collector there is none.

use causeway_proto::failure::{reason_name, reason_of};
use causeway_traces::TraceContext;
use tonic::{Code, Status, codegen::http::HeaderMap};
use tracing::{Span, field::Empty};
use uuid::Uuid;

/// What the names of all rpcs begin with that are traced. Those of health and reflection are not: probes call them every
/// few seconds.
const TRACED: &str = "causeway.";

/// The span of a call: a part of its caller's trace, if the caller has sent a valid trace context, and else the
/// beginning of a trace. `path` is what the caller wrote, and `rpc` the label of that in the metrics, so that no caller can
/// invent names of spans. `region` names the region that serves it; without it, control does.
pub(super) fn call_span(
    path: &str,
    rpc: &str,
    region: Option<&str>,
    request_id: Uuid,
    metadata: &HeaderMap,
) -> Span {
    if !path.starts_with(TRACED) {
        return Span::none();
    }
    let span = causeway_traces::span!(
        parent: None,
        "call",
        otel.name = rpc,
        otel.kind = "server",
        rpc,
        region,
        request_id = %request_id,
        code = Empty,
        reason = Empty,
        otel.status_code = Empty,
    );
    if !span.is_disabled()
        && let Some(caller) = TraceContext::of_caller(metadata)
    {
        caller.adopt(&span);
    }
    span
}

/// Records how a call has ended, from headers or trailers that may have its status.
pub(super) fn note(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() {
        return;
    }
    if let Some(status) = Status::from_header_map(headers) {
        let reason = reason_of(&status).map(reason_name);
        causeway_traces::ended(span, status.code(), reason);
    }
}

/// Records that the caller has given up, or that the connection is gone.
pub(super) fn given_up(span: &Span) {
    causeway_traces::ended(span, Code::Cancelled, None);
}
