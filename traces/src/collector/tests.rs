use std::{
    io,
    sync::{Mutex, PoisonError},
};

use opentelemetry::trace::{Tracer as _, TracerProvider as _};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess,
    trace_service_server::{TraceService, TraceServiceServer},
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tokio::{
    net::TcpListener,
    time::{Instant, advance},
};
use tonic::{
    Request,
    transport::{Endpoint, Server, server::TcpIncoming},
};

use super::*;

fn provider(queue: Queue, sampler: Sampler) -> SdkTracerProvider {
    SdkTracerProvider::builder().with_sampler(sampler).with_span_processor(queue).build()
}

/// Ends some spans.
fn end(provider: &SdkTracerProvider, count: usize) {
    let tracer = provider.tracer("test");
    for _ in 0..count {
        drop(tracer.start("span"));
    }
}

/// What sends spans to the collector at this address, and what they are put into.
fn sender(url: &str) -> (Sender, SdkTracerProvider) {
    let counts = Arc::new(Counts::default());
    let (spans, queue) = Queue::new(&counts);
    let channel = Endpoint::from_shared(url.to_owned()).unwrap().connect_lazy();
    let sender = Sender {
        queue,
        client: TraceServiceClient::new(channel),
        resource: (&Resource::builder_empty().build()).into(),
        counts,
        stopping: CancellationToken::new(),
    };
    (sender, provider(spans, Sampler::AlwaysOn))
}

/// The URL of a port that accepts connections and never answers, as long as the listener lives.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

#[test]
fn spans_that_find_no_place_are_dropped_and_counted() {
    let counts = Arc::new(Counts::default());
    let (queue, spans) = Queue::new(&counts);
    let provider = provider(queue, Sampler::AlwaysOn);
    end(&provider, QUEUE + 10);
    assert_eq!((spans.len(), counts.dropped()), (QUEUE, 10));
}

#[test]
fn spans_that_the_caller_does_not_want_take_no_place() {
    let counts = Arc::new(Counts::default());
    let (queue, spans) = Queue::new(&counts);
    end(&provider(queue, Sampler::AlwaysOff), 10);
    assert_eq!((spans.len(), counts.dropped()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_does_not_answer_gets_five_seconds_and_its_spans_are_dropped() {
    let (_listener, url) = silent().await;
    let (sender, provider) = sender(&url);
    let (counts, stopping) = (Arc::clone(&sender.counts), sender.stopping.clone());
    end(&provider, BATCH + 1);
    stopping.cancel();
    let begun = Instant::now();
    sender.run().await;
    // Two batches, one after the other. Whatever is left at the end is sent without a delay.
    assert!(begun.elapsed() <= 2 * CALL_TIMEOUT + Duration::from_millis(10), "{:?}", begun.elapsed());
    assert_eq!(counts.dropped(), u64::try_from(BATCH).unwrap() + 1);
    assert_eq!(counts.why(), "no answer within 5s");
}

#[tokio::test]
async fn a_collector_that_is_away_drops_the_spans_and_says_why() {
    let (listener, url) = silent().await;
    drop(listener);
    let (sender, provider) = sender(&url);
    let (counts, stopping) = (Arc::clone(&sender.counts), sender.stopping.clone());
    end(&provider, 7);
    stopping.cancel();
    sender.run().await;
    assert_eq!(counts.dropped(), 7);
    assert!(counts.why().contains("Unavailable") && counts.why().contains("refused"), "{}", counts.why());
}

/// A collector that refuses two spans of each call, and says so with a text that is not a line.
struct Picky;

#[tonic::async_trait]
impl TraceService for Picky {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let partial = ExportTracePartialSuccess {
            rejected_spans: 2,
            error_message: format!("too\nmany {}", "x".repeat(1_000)),
        };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: Some(partial) }))
    }
}

#[tokio::test]
async fn spans_that_a_collector_refuses_are_counted() {
    let (listener, url) = silent().await;
    let server = Server::builder()
        .add_service(TraceServiceServer::new(Picky))
        .serve_with_incoming(TcpIncoming::from(listener));
    let serving = tokio::spawn(server);
    let (sender, provider) = sender(&url);
    let (counts, stopping) = (Arc::clone(&sender.counts), sender.stopping.clone());
    end(&provider, 5);
    stopping.cancel();
    sender.run().await;
    serving.abort();
    assert_eq!(counts.dropped(), 2);
    assert!(counts.why().starts_with("the collector has refused them: toomany"), "{}", counts.why());
    assert!(counts.why().len() <= 300);
}

/// Lines of the log.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).matches(text).count()
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_spans_are_logged_once_a_minute_at_most() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(log);
    let counts = Arc::new(Counts::default());
    let stopping = CancellationToken::new();
    let report = Report::new("http://127.0.0.1:4317".parse().unwrap(), Arc::clone(&counts));
    let reporting = tokio::spawn(report.run(stopping.clone()));
    // The minute begins.
    tokio::task::yield_now().await;
    for minute in 0..3 {
        for _ in 0..59 {
            counts.settled(0, 10, "it is away");
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(lines.count("spans of traces were dropped"), minute);
        advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        assert_eq!(lines.count("spans of traces were dropped"), minute + 1);
    }
    assert_eq!(lines.count("dropped=590"), 3);
    assert_eq!(lines.count("in_all=1770"), 1);
    assert_eq!(lines.count("`nc -vz 127.0.0.1 4317`"), 3);
    // Nothing new, no line.
    advance(Duration::from_secs(600)).await;
    tokio::task::yield_now().await;
    stopping.cancel();
    reporting.await.unwrap().report();
    assert_eq!(lines.count("spans of traces were dropped"), 3);
}
