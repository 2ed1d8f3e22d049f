//! A collector of traces: takes OTLP over gRPC and keeps all spans.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span as Sent, span::SpanKind, status::StatusCode},
};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// A span as the collector got it.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// The name of the service that has sent it.
    pub(crate) service: String,
    pub(crate) trace_id: Vec<u8>,
    pub(crate) id: Vec<u8>,
    /// Empty in a root.
    pub(crate) parent: Vec<u8>,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) has_failed: bool,
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Span {
    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// The spans of one trace.
#[derive(Debug)]
pub(crate) struct Trace(pub(crate) Vec<Span>);

impl Trace {
    /// Those with this name.
    pub(crate) fn named(&self, name: &str) -> Vec<&Span> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    pub(crate) fn roots(&self) -> Vec<&Span> {
        self.0.iter().filter(|span| span.parent.is_empty()).collect()
    }

    pub(crate) fn parent_of(&self, span: &Span) -> Option<&Span> {
        self.0.iter().find(|parent| parent.id == span.parent)
    }

    /// The names of the spans above a span, from the root down to its parent.
    pub(crate) fn path_to(&self, span: &Span) -> Vec<String> {
        let above = std::iter::successors(self.parent_of(span), |span| self.parent_of(span));
        let mut path: Vec<String> = above.map(|span| span.name.clone()).collect();
        path.reverse();
        path
    }

    /// Spans whose parent is not in the trace.
    pub(crate) fn orphans(&self) -> Vec<&Span> {
        self.0.iter().filter(|span| !span.parent.is_empty() && self.parent_of(span).is_none()).collect()
    }

    pub(crate) fn services(&self) -> BTreeSet<&str> {
        self.0.iter().map(|span| span.service.as_str()).collect()
    }
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// A running collector. It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) url: String,
    spans: Spans,
    _stop: DropGuard,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let spans = Spans::default();
        let stop = CancellationToken::new();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Receiver(Arc::clone(&spans))))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.clone().cancelled_owned());
        tokio::spawn(server);
        Self { url, spans, _stop: stop.drop_guard() }
    }

    /// The argument with which services and commands send their traces here.
    pub(crate) fn argument(&self) -> String {
        format!("--otlp-endpoint={}", self.url)
    }

    /// All traces that have come so far, by their ids.
    pub(crate) fn traces(&self) -> HashMap<Vec<u8>, Trace> {
        let mut traces: HashMap<Vec<u8>, Trace> = HashMap::new();
        for span in self.spans.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            traces.entry(span.trace_id.clone()).or_insert_with(|| Trace(Vec::new())).0.push(span.clone());
        }
        traces
    }

    /// The only trace with a span of this name.
    pub(crate) fn trace_with(&self, name: &str) -> Trace {
        let mut with: Vec<Trace> =
            self.traces().into_values().filter(|trace| !trace.named(name).is_empty()).collect();
        assert_eq!(with.len(), 1, "{name:?} is in several traces, or in none: {with:#?}");
        with.remove(0)
    }
}

struct Receiver(Spans);

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is_so)) => is_so.to_string(),
        other => format!("{other:?}"),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

fn span(service: &str, sent: Sent) -> Span {
    Span {
        service: service.to_owned(),
        kind: sent.kind(),
        has_failed: sent.status.is_some_and(|status| status.code() == StatusCode::Error),
        trace_id: sent.trace_id,
        id: sent.span_id,
        parent: sent.parent_span_id,
        name: sent.name,
        attributes: texts(sent.attributes),
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_process in request.into_inner().resource_spans {
            let resource = texts(of_process.resource.unwrap_or_default().attributes);
            let service = resource.get("service.name").cloned().unwrap_or_default();
            assert!(resource.contains_key("service.version"), "{resource:?}");
            let sent = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            spans.extend(sent.map(|sent| span(&service, sent)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
