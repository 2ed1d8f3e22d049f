//! What a span costs while traces are off, as they are by default: nothing.

use allocation_counter::measure;
use causeway_traces::{NOT_IN_LOG, TraceContext, client_call, dropped_spans, ended, start};
use tonic::{Code, codegen::http::HeaderMap};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _};

/// What a call and a chunk do for their trace, a hundred times.
fn work(caller: &HeaderMap) {
    for number in 0..100 {
        let span = causeway_traces::span!(
            parent: None,
            "chunk",
            model = "sentry.project",
            number,
            // It would be allocated if it were computed.
            text = %format!("{number}"),
            code = tracing::field::Empty,
            reason = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        );
        if !span.is_disabled()
            && let Some(caller) = TraceContext::of_caller(caller)
        {
            caller.adopt(&span);
        }
        span.in_scope(|| {
            let call = client_call("causeway.control.v1.RegionService/LeaseIds");
            let _sent = call.in_scope(causeway_traces::current_trace_parent);
            ended(&call, Code::NotFound, Some("NOT_FOUND"));
        });
    }
}

#[test]
fn a_span_without_a_collector_allocates_nothing() {
    let mut caller = HeaderMap::new();
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    caller.insert("traceparent", context.parse().unwrap());
    for level in ["info", "trace"] {
        let filter = EnvFilter::new(level).add_directive(NOT_IN_LOG.parse().unwrap());
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        let log = tracing_subscriber::registry().with(log).with(filter);
        tracing::subscriber::with_default(log, || {
            // The first time, each place in the code asks the log once.
            work(&caller);
            let cost = measure(|| work(&caller));
            assert_eq!((cost.count_total, cost.bytes_total), (0, 0), "{level}: {cost:?}");
        });
    }
    assert_eq!(dropped_spans(), 0);

    // The same work allocates once there is a collector, so the measurement above can tell.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let (_traces, layer) = start(&"http://127.0.0.1:1".parse().unwrap(), "test", []).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        work(&caller);
        assert!(measure(|| work(&caller)).count_total > 200);
    });
}
