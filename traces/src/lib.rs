//! OpenTelemetry traces of the services and of the command, sent over OTLP.
//!
//! - [`span!`] makes a span of a trace. Without a collector it makes none: nothing is allocated, and the values of its
//!   fields are not computed.
//! - [`TraceContext`] is the place in a trace that goes along with a call, and that a region stores with an import.
//! - [`start`] begins to send spans, and [`Traces::stop`] sends the last ones. Nothing ever waits for the collector:
//!   what it does not take in time is dropped and counted, see [`dropped_spans`].
//!
//! Spans of traces are not spans of the log: they have a target of their own, [`TARGET`], that the log leaves out
//! ([`NOT_IN_LOG`]). No environment variable of OpenTelemetry is read.

mod collector;
mod context;
mod counts;
mod endpoint;
mod start;

use tracing::{Span, field::Empty};

pub use context::TraceContext;
pub use counts::dropped_spans;
pub use endpoint::{InvalidEndpoint, OtlpEndpoint};
pub use start::{Traces, are_on, start};

#[doc(hidden)]
pub use tracing as __tracing;

/// The target of all spans of traces, and of nothing else.
pub const TARGET: &str = "causeway_trace_spans";

/// The directive of a log filter that leaves spans of traces out of the log.
pub const NOT_IN_LOG: &str = "causeway_trace_spans=off";

/// Makes a span of a trace with a name and fields, like those of [`tracing::info_span!`]. It is a child of the current
/// one; with `parent: None` first, it begins a trace.
#[macro_export]
macro_rules! span {
    (parent: $parent:expr, $name:literal $(, $($fields:tt)*)?) => {
        $crate::__tracing::info_span!(target: "causeway_trace_spans", parent: $parent, $name $(, $($fields)*)?)
    };
    ($name:literal $(, $($fields:tt)*)?) => {
        $crate::__tracing::info_span!(target: "causeway_trace_spans", $name $(, $($fields)*)?)
    };
}

/// A span for a call to another service, named after its rpc, e.g. `causeway.control.v1.RegionService/LeaseIds`. When
/// the call has ended, [`ended`] records how.
#[must_use]
pub fn client_call(rpc: &'static str) -> Span {
    span!(
        "call",
        otel.name = rpc,
        otel.kind = "client",
        rpc,
        code = Empty,
        reason = Empty,
        otel.status_code = Empty,
    )
}

/// The trace context of the current span as text, to be sent with calls; `None` without one.
#[must_use]
pub fn current_trace_parent() -> Option<String> {
    TraceContext::current().map(|context| context.to_string())
}

/// Records in the span of a call with which gRPC code it ended, and, if it failed, for which reason. For spans with the
/// fields `code`, `reason` and `otel.status_code`.
pub fn ended(span: &Span, code: tonic::Code, reason: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    span.record("code", tracing::field::debug(code));
    if code != tonic::Code::Ok {
        failed(span, reason.unwrap_or_default());
    }
}

/// Records in a span why its work failed. For spans with the fields `reason` and `otel.status_code`.
pub fn failed(span: &Span, reason: &str) {
    if !reason.is_empty() {
        span.record("reason", reason);
    }
    span.record("otel.status_code", "ERROR");
}
