//! The spans that an import adds to its trace: one for each time that a process runs it, in it one for each step, and in
//! that one for each chunk. Without a collector there are none.

use causeway_proto::failure::reason_name;
use causeway_relocation::{catalog::Silo, keys::ChunkKeys};
use causeway_silo::db::count;
use tracing::{Span, field::Empty};
use uuid::Uuid;

use super::{Import, context::ImportContext, mapped::Mapped};
use crate::{error::Error, store};

/// The span of an import while this process runs it: a part of the trace of the call that began the import, whichever
/// process took that call.
pub(super) async fn import_span(context: &ImportContext, id: Uuid) -> Span {
    let span =
        causeway_traces::span!(parent: None, "import", import_id = %id, region = context.region.as_str());
    if span.is_disabled() {
        return span;
    }
    match store::import_trace::get(&context.db, id).await {
        Ok(Some(trace)) => trace.adopt(&span),
        // Begun while the region sent no traces.
        Ok(None) => {}
        Err(error) => tracing::debug!(import_id = %id, %error, "an import begins a trace of its own"),
    }
    span
}

/// The span of one attempt at the step of an import's state.
pub(super) fn step_span(import: &Import) -> Span {
    let state = import.state.name();
    causeway_traces::span!(
        "step",
        otel.name = state,
        import_id = %import.id,
        state,
        reason = Empty,
        otel.status_code = Empty,
    )
}

/// Records how a step has ended. A step that is interrupted because the region stops has not failed.
pub(super) fn step_ended<T>(span: &Span, ended: &Result<T, Error>) {
    if let Err(error) = ended
        && !span.is_disabled()
    {
        if error.is_stop() {
            span.record("reason", reason_name(error.reason()));
        } else {
            causeway_traces::failed(span, reason_name(error.reason()));
        }
    }
}

/// The span of a chunk that is written, or that a dry run goes through.
pub(super) fn chunk_span(model: &str, silo: Silo, mapped: &Mapped) -> Span {
    causeway_traces::span!(
        "chunk",
        model,
        silo = silo_name(silo),
        min_ordinal = mapped.covered.max_ordinal - mapped.covered.count + 1,
        max_ordinal = mapped.covered.max_ordinal,
        rows = Empty,
    )
}

/// The span of a chunk that is reverted.
pub(super) fn reverted_chunk_span(model: &str, silo: Silo, min_ordinal: i64, max_ordinal: i64) -> Span {
    causeway_traces::span!(
        "chunk",
        otel.name = "revert chunk",
        model,
        silo = silo_name(silo),
        min_ordinal,
        max_ordinal,
        rows = Empty,
    )
}

/// Records how many rows a chunk has added or, in a revert, had added.
pub(super) fn rows(span: &Span, keys: &ChunkKeys) {
    if !span.is_disabled()
        && let Ok(rows) = count(keys.inserted.len())
    {
        span.record("rows", rows);
    }
}

fn silo_name(silo: Silo) -> &'static str {
    match silo {
        Silo::Control => "control",
        Silo::Region => "region",
    }
}
