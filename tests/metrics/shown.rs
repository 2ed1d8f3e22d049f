//! What both services show.

use std::{collections::BTreeSet, sync::Arc};

use causeway_harness::{
    cluster::{Cluster, ImportOptions, Service, Store},
    export::Export,
    pki::Pki,
};
use causeway_metrics::{
    metric::{Entry, On},
    table,
};
use causeway_proto::{
    control::v1::SuspendRegionRequest,
    region::v1::{ImportState, PauseImportsRequest, ReconcileMode, SetThrottleRequest},
};
use causeway_silo::env::Environment;
use serde_json::json;
use tonic::{
    body::Body,
    codegen::http::{HeaderValue, Request},
    transport::Channel,
};
use tower::Service as _;

use crate::support::{Scrape, metrics_of};

/// Those that the services of this test need not show: a transaction of this test loses against no other.
const EXCEPT: &[&str] = &["causeway_transaction_retries_total"];

fn expected(on: On) -> BTreeSet<String> {
    let of = |entry: &&Entry| [On::Both, on].contains(&entry.definition.on);
    table::ALL.iter().filter(of).map(|entry| entry.definition.name()).collect()
}

fn compare(scrape: &Scrape, on: On) {
    let shown: BTreeSet<String> = scrape.families().collect();
    // Families of counters and histograms are there before their first series; so every one must have a series.
    let with_series = |name: &String| {
        scrape.series.keys().any(|series| {
            let series = series.split('{').next().unwrap_or_default();
            series == name || series.strip_suffix("_count") == Some(name)
        })
    };
    let shown_with_series: BTreeSet<String> =
        shown.iter().filter(|name| with_series(name)).cloned().collect();
    let expected = expected(on);
    let surplus: Vec<_> = shown.difference(&expected).collect();
    let missing: Vec<_> =
        expected.difference(&shown_with_series).filter(|name| !EXCEPT.contains(&name.as_str())).collect();
    assert!(surplus.is_empty(), "not in the table: {surplus:?}");
    assert!(missing.is_empty(), "not shown: {missing:?} in\n{}", scrape.text);
}

fn export() -> Export {
    let mut export = Export::new();
    export.organization(1, "acme").organization(2, "Acme").user(1, "ada").member(1, 1, 1);
    export.team(1, 1, "engineers");
    // A name that somebody else chose.
    export.push("chosen.byacaller", 1, &json!({"a": 1}));
    export
}

/// Calls something that no service has.
async fn call_what_is_not_there(mut channel: Channel) {
    let request = Request::post("/chosen.by.a.Caller/Call").header("content-type", "application/grpc");
    let request = request.body(Body::empty()).expect("a request");
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.expect("it listens");
    let answer = channel.call(request).await.expect("it is answered");
    assert_eq!(answer.headers().get("grpc-status").map(HeaderValue::as_bytes), Some(&b"12"[..]));
}

pub(crate) async fn both_services_show_the_metrics_of_the_table_and_no_others(store: Store) {
    let pki = Arc::new(Pki::new(Environment::system()).expect("certificates"));
    let cluster = Cluster::builder(store)
        .region("us")
        .region("de")
        .tls(&pki)
        .processes(env!("CARGO_BIN_EXE_causeway"))
        .arguments(&["--metrics-listen=127.0.0.1:0"])
        .start()
        .await
        .expect("a cluster; on PostgreSQL this test needs one installed");
    let (control, region) =
        (metrics_of(&cluster, Service::Control(0)).await, metrics_of(&cluster, Service::Region(0)).await);
    let imported = cluster.region(0).import(&export().to_bytes(), &ImportOptions::default()).await;
    let imported = imported.expect("it is imported");
    assert_eq!(imported.state(), ImportState::Succeeded);
    cluster.region(0).reconcile(ReconcileMode::Check).await.expect("they are compared");
    cluster.stop_service(Service::Region(1)).await;
    let text = "it has been switched off".to_owned();
    let suspend = SuspendRegionRequest { name: "de".to_owned(), text };
    cluster.control().regions().suspend_region(suspend).await.expect("it is suspended");
    // A path that somebody chose.
    call_what_is_not_there(cluster.control().channel()).await;

    let shown = Scrape::until(control, |scrape| {
        scrape.value("causeway_feed_lag_changes{region=\"us\"}") == Some(0.0)
            && scrape.value("causeway_slug_reservations{kind=\"primary\"}").is_some()
            && scrape.value("causeway_regions{state=\"suspended\"}") == Some(1.0)
    })
    .await;
    compare(&shown, On::Control);
    assert!(shown.value("causeway_region_silence_seconds{region=\"us\"}").is_some(), "{}", shown.text);
    assert!(!shown.text.contains("region=\"de\""), "a suspended region has series:\n{}", shown.text);
    for (series, value) in [
        ("causeway_slugs_given_total{reason=\"free\"}", 1.0),
        ("causeway_slugs_given_total{reason=\"taken\"}", 1.0),
        ("causeway_slug_suffix_rounds_count", 1.0),
        ("causeway_slug_suffix_rounds_bucket{le=\"1.0\"}", 1.0),
        ("causeway_slug_conflicts_total", 0.0),
        ("causeway_regions{state=\"registered\"}", 1.0),
        ("causeway_database_ready", 1.0),
        ("causeway_calls_total{rpc=\"unknown\",code=\"UNIMPLEMENTED\",reason=\"\"}", 1.0),
        (
            "causeway_calls_in_progress{rpc=\"causeway.control.v1.SlugReservationService/WatchSlugReservations\"}",
            1.0,
        ),
    ] {
        assert_eq!(shown.value(series), Some(value), "{series} in\n{}", shown.text);
    }

    let version = shown.value("causeway_feed_version{region=\"us\"}").expect("a version");
    assert!(version >= 2.0, "{version}");

    // The next import waits for control.
    cluster.kill(Service::Control(0)).await;
    let begun = cluster.region(0).begin(&export().to_bytes(), &ImportOptions::default()).await;
    let begun = begun.expect("it is taken").import.expect("an import");
    let waits = cluster.region(0).wait_until(&begun.import_id, |import| import.waiting.is_some()).await;
    waits.expect("it waits");
    // Another one is paused, and limits are set.
    let paused = cluster.region(0).begin(&export().to_bytes(), &ImportOptions::default()).await;
    let import_id = paused.expect("it is taken").import.expect("an import").import_id;
    let pause = PauseImportsRequest { import_id, all: false };
    cluster.region(0).imports().pause_imports(pause).await.expect("it is paused");
    let limits = SetThrottleRequest {
        max_rows_per_second: Some(1_000_000),
        max_bytes_per_second: Some(1 << 40),
        max_probe_latency_ms: Some(60_000),
        ..SetThrottleRequest::default()
    };
    cluster.region(0).throttle().set_throttle(limits).await.expect("they are set");
    let shown = Scrape::until(region, |scrape| {
        scrape.series.keys().any(|series| series.starts_with("causeway_imports_waiting{"))
            && scrape.value("causeway_imports_paused") == Some(1.0)
            && scrape.value("causeway_throttle_probe_latency_seconds").is_some()
            && scrape.value("causeway_replica_staleness_seconds").is_some_and(|seconds| seconds > 0.0)
            && scrape.series.iter().any(|(name, seconds)| {
                name.starts_with("causeway_import_wait_seconds{reason=\"CONTROL_UNAVAILABLE\"")
                    && *seconds > 0.0
            })
    })
    .await;
    compare(&shown, On::Region);
    for (series, value) in [
        ("causeway_imports{state=\"succeeded\"}", 1.0),
        ("causeway_imports{state=\"failed\"}", 0.0),
        ("causeway_throttle_limit{kind=\"rows\"}", 1_000_000.0),
        ("causeway_throttle_limit{kind=\"bytes\"}", (1_u64 << 40) as f64),
        ("causeway_throttle_limit{kind=\"latency\"}", 60.0),
        ("causeway_throttle_write_ratio", 1.0),
        ("causeway_trace_spans_dropped_total", 0.0),
        ("causeway_import_records_total{model=\"sentry.organization\",outcome=\"inserted\"}", 2.0),
        ("causeway_import_records_total{model=\"sentry.user\",outcome=\"inserted\"}", 1.0),
        ("causeway_differences", 0.0),
        ("causeway_registered", 1.0),
        ("causeway_replica_version", version),
        ("causeway_replica_lag_changes", 0.0),
        ("causeway_database_ready", 1.0),
    ] {
        assert_eq!(shown.value(series), Some(value), "{series} in\n{}", shown.text);
    }
    let waited = shown.value("causeway_throttle_wait_seconds_total").expect("how long chunks have waited");
    assert!((0.0..60.0).contains(&waited), "{waited}");
    let probe = shown.value("causeway_throttle_probe_latency_seconds").expect("it is measured");
    assert!((1e-7..60.0).contains(&probe), "{probe}");
    let bytes = shown.value("causeway_import_read_bytes_total{model=\"sentry.team\"}").expect("its bytes");
    assert!((20.0..2_000.0).contains(&bytes), "{bytes}");
    assert!(shown.value("causeway_spool_bytes").expect("its size") > 100.0, "the file of the one that waits");
    for certificate in ["server", "client_ca", "control_client", "control_ca"] {
        let series = format!("causeway_certificate_end_timestamp_seconds{{certificate=\"{certificate}\"}}");
        assert!(shown.value(&series).expect("the end of a certificate") > 1e9, "{series}");
    }
    let build = shown.series.keys().find(|series| series.starts_with("causeway_build_info{"));
    let build = build.expect("which program it is");
    assert!(build.contains("name=\"us\"") && build.contains("commit=\"development build\""), "{build}");
    assert!(!shown.text.contains("chosen"), "a name that a caller chose is a label:\n{}", shown.text);
    cluster.stop().await;
}
