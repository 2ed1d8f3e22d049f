//! The place in a trace, as W3C trace context writes it.

use std::{fmt, str::FromStr};

use causeway_proto::calls::TRACE_PARENT;
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tonic::codegen::http::HeaderMap;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::are_on;

/// A trace and a span in it, to which spans of another process can be added. As text it is the value of the metadata
/// `traceparent`. The metadata `tracestate` and `baggage` are neither read nor sent: callers could fill them with
/// anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    is_sampled: bool,
}

/// A text that is not a trace context of version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no trace context")]
pub struct InvalidTraceContext;

impl TraceContext {
    /// That of the current span; `None` if there is none, or traces are off.
    #[must_use]
    pub fn current() -> Option<Self> {
        if !are_on() {
            return None;
        }
        Context::map_current(|context| {
            let span = context.span();
            let of_span = span.span_context();
            of_span.is_valid().then(|| Self {
                trace_id: of_span.trace_id(),
                span_id: of_span.span_id(),
                is_sampled: of_span.is_sampled(),
            })
        })
    }

    /// That of a caller, from the metadata [`TRACE_PARENT`]. `None` if it has sent none, or one that is not valid, or several, and if traces are off.
    #[must_use]
    pub fn of_caller(metadata: &HeaderMap) -> Option<Self> {
        if !are_on() {
            return None;
        }
        let mut sent = metadata.get_all(TRACE_PARENT).iter();
        let (only, None) = (sent.next()?, sent.next()) else { return None };
        only.to_str().ok()?.parse().ok()
    }

    /// Makes a span a child of this one. The span must be new.
    pub fn adopt(self, span: &Span) {
        let flags = if self.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let parent = SpanContext::new(self.trace_id, self.span_id, flags, true, TraceState::NONE);
        // This fails only if the span is not recorded, or has begun.
        if span.set_parent(Context::new().with_remote_span_context(parent)).is_err() {
            tracing::debug!("a span stays without its parent");
        }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    /// Reads version, trace id, span id and flags, all in hex and of a fixed length, with hyphens between them.
    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = text.split('-');
        let (Some("00"), Some(trace_id), Some(span_id), Some(flags), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidTraceContext);
        };
        if (trace_id.len(), span_id.len(), flags.len()) != (32, 16, 2)
            || ![trace_id, span_id, flags].into_iter().all(is_hex)
        {
            return Err(InvalidTraceContext);
        }
        let trace_id = TraceId::from_hex(trace_id).map_err(|_| InvalidTraceContext)?;
        let span_id = SpanId::from_hex(span_id).map_err(|_| InvalidTraceContext)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| InvalidTraceContext)?;
        if trace_id == TraceId::INVALID || span_id == SpanId::INVALID {
            return Err(InvalidTraceContext);
        }
        Ok(Self { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_context_is_read_and_written_alike() {
        let context: TraceContext = VALID.parse().expect("it is valid");
        assert!(context.is_sampled);
        assert_eq!(context.to_string(), VALID);
        let unsampled = VALID.replace("-01", "-00");
        assert_eq!(unsampled.parse::<TraceContext>().expect("it is valid").to_string(), unsampled);
        // Flags that are not defined yet are not passed on.
        let flags = VALID.replace("-01", "-ff");
        assert_eq!(flags.parse::<TraceContext>().expect("it is valid").to_string(), VALID);
    }

    #[test]
    fn what_is_no_trace_context_is_refused() {
        let overlong = format!("{VALID}-{}", "a".repeat(100_000));
        for text in [
            "",
            "00",
            &overlong,
            &VALID[..54],
            &VALID.to_uppercase(),
            &VALID.replacen("00", "ff", 1),
            &VALID.replacen("00", "01", 1),
            &VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &VALID.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &VALID.replace("4bf9", "+bf9"),
            &VALID.replace("-01", "-0g"),
            &VALID.replace('-', "_"),
            &"-".repeat(55),
            // As long as a valid one, with the hyphens elsewhere.
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            &format!("00-{}-00f067aa0ba902b7-01", "ü".repeat(16)),
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(InvalidTraceContext), "{text:.80}");
        }
    }
}
