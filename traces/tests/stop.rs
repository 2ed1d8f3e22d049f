//! The end of a process waits for the collector, but not long.

use std::time::Duration;

use causeway_traces::{TraceContext, are_on, dropped_spans, span, start};
use tokio::{net::TcpListener, time::Instant};
use tracing_subscriber::layer::SubscriberExt as _;

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_waits_two_seconds_for_a_silent_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    assert!(!are_on());
    let (traces, layer) = start(&endpoint, "test", []).unwrap();
    assert!(are_on());
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    span!(parent: None, "outer", otel.kind = "server").in_scope(|| {
        let outer = TraceContext::current().unwrap();
        span!("inner", number = 7).in_scope(|| {
            let (outer, inner) = (outer.to_string(), TraceContext::current().unwrap().to_string());
            assert_eq!(outer.get(..35), inner.get(..35), "they are in one trace");
            assert_ne!(outer, inner);
        });
    });
    assert_eq!(TraceContext::current(), None, "no span is left open");
    let begun = Instant::now();
    traces.stop().await;
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_millis(2_100), "{waited:?}");
    assert_eq!(dropped_spans(), 2);
}
