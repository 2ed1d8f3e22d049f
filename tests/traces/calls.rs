//! Trace contexts that callers send.

use std::{collections::HashMap, io::Write as _};

use causeway_harness::cluster::{Failpoints, Store};
use causeway_proto::{
    calls::REQUEST_ID,
    relocation::v1::{GetVersionRequest, version_service_client::VersionServiceClient},
};
use tonic::{
    Request,
    body::Body,
    codegen::http,
    metadata::{AsciiMetadataKey, MetadataValue},
    transport::Channel,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::Service as _;
use uuid::Uuid;

use crate::{
    collector::{Collector, Span},
    support::{cluster, run_with, stderr},
};

const RPC: &str = "causeway.relocation.v1.VersionService/GetVersion";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
/// The number of the first call with a forged one.
const FORGED: u128 = 100;

/// Makes a call with this metadata, and with a request id of this number.
async fn call(channel: &Channel, number: u128, metadata: &[(&'static str, String)]) {
    let mut request = Request::new(GetVersionRequest::default());
    let id = MetadataValue::try_from(Uuid::from_u128(number).to_string()).expect("a value");
    request.metadata_mut().insert(REQUEST_ID, id);
    for (name, value) in metadata {
        let value = MetadataValue::try_from(value.as_str()).expect("a value");
        request.metadata_mut().append(AsciiMetadataKey::from_static(name), value);
    }
    VersionServiceClient::new(channel.clone()).get_version(request).await.expect("it is answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_or_overlong_trace_context_is_ignored() {
    let collector = Collector::start().await;
    let cluster = cluster(Store::Sqlite, &collector.argument(), &Failpoints::default()).await;
    let channel = Channel::from_shared(cluster.region(0).url().to_owned()).expect("a URL");
    let channel = channel.connect().await.expect("it listens");
    let valid = format!("00-{TRACE}-{SPAN}-01");
    call(&channel, 1, &[("traceparent", valid.clone())]).await;
    // Only `traceparent` is looked at.
    let long = format!("a={}", "x".repeat(5_000));
    let others = [("tracestate", long.clone()), ("baggage", long)];
    call(&channel, 2, &[&[("traceparent", valid.clone())], &others[..]].concat()).await;
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    call(&channel, 3, &[("traceparent", unsampled)]).await;
    let forged = [
        vec![("traceparent", format!("{valid}-{}", "a".repeat(5_000)))],
        vec![("traceparent", format!("{valid}-"))],
        vec![("traceparent", valid.replacen("00", "ff", 1))],
        vec![("traceparent", valid.to_uppercase())],
        vec![("traceparent", valid.replace(TRACE, &"0".repeat(32)))],
        vec![("traceparent", valid.replace(SPAN, &"0".repeat(16)))],
        vec![("traceparent", "';DROP TABLE causeway_import;--".to_owned())],
        vec![("traceparent", String::new())],
        vec![("traceparent", valid.clone()), ("traceparent", valid.clone())],
    ];
    for (number, metadata) in (FORGED..).zip(&forged) {
        call(&channel, number, metadata).await;
    }
    cluster.stop().await;

    let traces = collector.traces();
    let spans: HashMap<&str, &Span> = traces
        .values()
        .flat_map(|trace| trace.named(RPC))
        .map(|span| (span.attribute("request_id"), span))
        .collect();
    let span_of = |number| spans.get(Uuid::from_u128(number).to_string().as_str()).copied();
    for number in [1, 2] {
        let span = span_of(number).expect("it is traced");
        assert_eq!((hex::encode(&span.trace_id), hex::encode(&span.parent)), (TRACE.into(), SPAN.into()));
    }
    assert!(span_of(3).is_none(), "the caller does not want it to be recorded");
    for (number, metadata) in (FORGED..).zip(&forged) {
        let span = span_of(number).expect("it is traced");
        assert!(span.parent.is_empty() && hex::encode(&span.trace_id) != TRACE, "{metadata:?}: {span:?}");
        assert!(span.attributes.values().all(|value| value.len() < 100), "{span:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_refused_says_so_in_its_span() {
    let collector = Collector::start().await;
    // Here the address is in a file, and for the command in a variable.
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "otlp_endpoint = {:?}", collector.url).expect("it is written");
    let config = format!("--config={}", file.path().display());
    let cluster = cluster(Store::Sqlite, &config, &Failpoints::default()).await;
    let id = "00000000-0000-4000-8000-000000000001";
    let region = cluster.region(0).url().to_owned();
    let variable = [("CAUSEWAY_OTLP_ENDPOINT", collector.url.as_str())];
    let output = run_with(&variable, &["imports", "show", id, "--region", &region]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    // Probes are not traced.
    let channel = Channel::from_shared(region).expect("a URL").connect().await.expect("it listens");
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.expect("it answers");
    // Names that a caller invents become no names of spans.
    let invented = "causeway.region.v1.ImportService/Invented";
    let request = http::Request::post(format!("/{invented}")).header("content-type", "application/grpc");
    let request = request.body(Body::empty()).expect("a request");
    let mut channel = channel;
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.expect("it listens");
    let refused = channel.call(request).await.expect("it is answered");
    assert_eq!(refused.headers().get("grpc-status").map(http::HeaderValue::as_bytes), Some(&b"12"[..]));
    cluster.stop().await;

    let trace = collector.trace_with("command imports");
    let call = trace.named("causeway.region.v1.ImportService/GetImport");
    assert_eq!(call.len(), 1, "{trace:#?}");
    assert!(call[0].has_failed);
    assert_eq!((call[0].attribute("code"), call[0].attribute("reason")), ("NotFound", "IMPORT_NOT_FOUND"));
    assert!(trace.roots().iter().all(|root| root.has_failed), "{trace:#?}");
    assert_eq!(collector.trace_with("unknown").named("unknown")[0].attribute("code"), "Unimplemented");
    let traces = collector.traces();
    let all = traces.values().flat_map(|trace| &trace.0);
    assert!(all.clone().all(|span| !format!("{span:?}").contains("Invented")), "{traces:#?}");
    assert!(all.into_iter().all(|span| !span.attribute("rpc").starts_with("grpc.")));
}
