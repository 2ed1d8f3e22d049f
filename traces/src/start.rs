//! Begins and ends the sending of spans.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_sdk::{
    Resource,
    trace::{RandomIdGenerator, Sampler, SdkTracerProvider, SpanLimits},
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use crate::{
    InvalidEndpoint, OtlpEndpoint, TARGET,
    collector::{CALL_TIMEOUT, Queue, Report, Sender},
    counts::Counts,
};

/// How long a process that ends waits for the collector to take the last spans.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// The most attributes of a span. Those of Causeway have fewer.
const MAX_ATTRIBUTES: u32 = 16;

/// Whether this process sends traces.
static ON: AtomicBool = AtomicBool::new(false);

/// Whether this process sends traces.
#[must_use]
pub fn are_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The sending of spans of this process.
#[derive(Debug)]
pub struct Traces {
    sending: JoinHandle<()>,
    reporting: JoinHandle<Report>,
    counts: Arc<Counts>,
    stopping: CancellationToken,
}

/// Begins to send spans to a collector, which need not be there. `service` is the name under which the collector shows
/// them, and `attributes` say more about this process. Returns the layer that makes spans of traces, for the subscriber
/// of the process.
///
/// # Errors
/// If the address is not one.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn start<S>(
    endpoint: &OtlpEndpoint,
    service: &'static str,
    attributes: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<(Traces, impl Layer<S> + Send + Sync + 'static), InvalidEndpoint>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let channel = Endpoint::from_shared(endpoint.to_string())
        .map_err(|_| InvalidEndpoint::NoUrl)?
        .connect_timeout(CALL_TIMEOUT)
        .connect_lazy();
    let attributes = attributes.into_iter().map(|(key, value)| KeyValue::new(key, value));
    // An empty one: the usual ones also take attributes from variables of the environment.
    let resource = Resource::builder_empty().with_service_name(service).with_attributes(attributes).build();

    let counts = Arc::new(Counts::default());
    counts.of_process();
    let stopping = CancellationToken::new();
    let (spans, queue) = Queue::new(&counts);
    let sender = Sender {
        queue,
        client: TraceServiceClient::new(channel),
        resource: (&resource).into(),
        counts: Arc::clone(&counts),
        stopping: stopping.clone(),
    };
    let report = Report::new(endpoint.clone(), Arc::clone(&counts));

    let limits = SpanLimits {
        max_attributes_per_span: MAX_ATTRIBUTES,
        max_events_per_span: 0,
        max_links_per_span: 0,
        max_attributes_per_event: 0,
        max_attributes_per_link: 0,
    };
    // All of this is set here, because what is not set is taken from variables of the environment.
    let provider = SdkTracerProvider::builder()
        .with_span_processor(spans)
        .with_id_generator(RandomIdGenerator::default())
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_span_limits(limits)
        .with_resource(resource)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("causeway"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(TARGET, LevelFilter::INFO));
    ON.store(true, Ordering::Relaxed);
    let traces = Traces {
        sending: tokio::spawn(sender.run()),
        reporting: tokio::spawn(report.run(stopping.clone())),
        counts,
        stopping,
    };
    Ok((traces, layer))
}

impl Traces {
    /// Sends what has not been sent yet, for two seconds at most, and logs what was dropped since the last report.
    pub async fn stop(self) {
        self.stopping.cancel();
        let mut sending = self.sending;
        if timeout(STOP_TIMEOUT, &mut sending).await.is_err() {
            sending.abort();
            // It has ended by now, or will not send any more.
            let _cancelled = sending.await;
            self.counts.give_up("the process ended before the collector took them");
        }
        if let Ok(mut report) = self.reporting.await {
            report.report();
        }
    }
}
