//! One import is one trace, through command, region and control.

use std::collections::{BTreeMap, BTreeSet};

use causeway_harness::cluster::{Act, Failpoints, LinkState, Silo, Store};
use causeway_silo::db::Statement;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::{
    collector::{Collector, Trace},
    support::{ID, REGION, cluster, eventually, example, import, stderr},
};

const COMMAND: &str = "command import organizations";
const UPLOAD: &str = "causeway.region.v1.ImportService/ImportOrganizations";
/// All attributes that spans have. None of them has what is in the export but the names of its models.
const ATTRIBUTES: [&str; 14] = [
    "import_id",
    "state",
    "model",
    "silo",
    "min_ordinal",
    "max_ordinal",
    "rows",
    "region",
    "rpc",
    "request_id",
    "code",
    "reason",
    // What the layer between tracing and OpenTelemetry adds.
    "level",
    "otel.status_code",
];

/// Checks that there is one root, the command, and that every other span is under it.
fn assert_connected(trace: &Trace) {
    let roots: Vec<&str> = trace.roots().into_iter().map(|root| root.name.as_str()).collect();
    assert_eq!(roots, [COMMAND], "{trace:#?}");
    assert!(trace.orphans().is_empty(), "{:#?}", trace.orphans());
    for span in &trace.0 {
        let path = trace.path_to(span);
        assert!(span.name == COMMAND || path.first().is_some_and(|root| root == COMMAND), "{path:?}");
    }
    let ids: BTreeSet<_> = trace.0.iter().map(|span| &span.id).collect();
    assert_eq!(ids.len(), trace.0.len(), "a span was sent twice");
}

/// How many records of each model the chunks of a trace cover.
fn covered(trace: &Trace) -> BTreeMap<String, i64> {
    let mut covered = BTreeMap::new();
    for chunk in trace.named("chunk") {
        let number = |name| chunk.attribute(name).parse::<i64>().expect("a number");
        *covered.entry(chunk.attribute("model").to_owned()).or_default() +=
            number("max_ordinal") - number("min_ordinal") + 1;
        assert!(number("rows") <= number("max_ordinal"), "{chunk:?}");
    }
    covered
}

pub(crate) async fn an_import_is_one_connected_trace(store: Store) {
    let collector = Collector::start().await;
    let cluster = cluster(store, &collector.argument(), &Failpoints::default()).await;
    let output = import(cluster.region(0).url(), &[&collector.argument()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // The region reports to control's directory after the import has succeeded, and a stop would cut that call off.
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    eventually("the import is reported", async || {
        let row = db.fetch_optional(Statement::new("SELECT reported FROM causeway_import")).await;
        row.expect("it answers").expect("an import").bool("reported").expect("a flag")
    })
    .await;
    db.close().await;
    // Services send their last spans when they stop.
    cluster.stop().await;

    let trace = collector.trace_with(COMMAND);
    assert_connected(&trace);
    assert_eq!(trace.services(), BTreeSet::from(["causeway", "causeway-control", "causeway-region"]));

    let watch = trace.named("causeway.region.v1.ImportService/WatchImport");
    assert!(!watch.is_empty() && watch.iter().all(|watch| trace.path_to(watch) == [COMMAND]), "{watch:?}");

    // A span for each state, in the import that the upload began.
    let imports = trace.named("import");
    assert_eq!(imports.len(), 1);
    assert_eq!(trace.path_to(imports[0]), [COMMAND, UPLOAD]);
    assert_eq!((imports[0].attribute("import_id"), imports[0].attribute("region")), (ID, "us"));
    for state in ["planning", "writing", "resolving_slugs", "finishing"] {
        let steps = trace.named(state);
        assert!(!steps.is_empty(), "there is no step {state}: {trace:#?}");
        for step in steps {
            assert_eq!(trace.path_to(step), [COMMAND, UPLOAD, "import"]);
            assert_eq!((step.attribute("state"), step.has_failed), (state, false));
        }
    }

    // A span for each chunk: together they cover all records that are written.
    let file = std::fs::read_to_string(example()).expect("it is there");
    let records: Vec<serde_json::Value> = serde_json::from_str(&file).expect("JSON");
    let mut in_file: BTreeMap<String, i64> = BTreeMap::new();
    for record in &records {
        *in_file.entry(record["model"].as_str().expect("a name").to_owned()).or_default() += 1;
    }
    // An option of a whole installation is part of no organization, and not imported.
    assert_eq!(in_file.remove("sentry.controloption"), Some(1));
    assert_eq!(covered(&trace), in_file);
    for chunk in trace.named("chunk") {
        assert_eq!(trace.path_to(chunk).get(..3).expect("three"), [COMMAND, UPLOAD, "import"]);
    }

    // A span for each call of control, on both sides.
    let asked: Vec<_> = trace.0.iter().filter(|span| span.kind == SpanKind::Client).collect();
    for call in &asked {
        assert_eq!((call.service.as_str(), call.attribute("code")), ("causeway-region", "Ok"), "{call:?}");
        let served: Vec<_> = trace.0.iter().filter(|span| span.parent == call.id).collect();
        assert_eq!(served.len(), 1, "{call:?}");
        assert_eq!((served[0].service.as_str(), served[0].kind), ("causeway-control", SpanKind::Server));
        assert_eq!((served[0].attribute("rpc"), served[0].attribute("code")), (call.attribute("rpc"), "Ok"));
    }
    let asked: BTreeSet<&str> = asked.iter().map(|call| call.attribute("rpc")).collect();
    for rpc in ["ControlImportService/ImportModels", "RegionService/LeaseIds"] {
        assert!(asked.contains(format!("causeway.control.v1.{rpc}").as_str()), "{asked:?}");
    }
    assert!(asked.iter().any(|rpc| rpc.ends_with("/BulkCreateOrganizationSlugReservations")), "{asked:?}");

    // Nothing of the content of the export is in it.
    for span in &trace.0 {
        for (name, value) in &span.attributes {
            assert!(ATTRIBUTES.contains(&name.as_str()), "{name} of {span:?}");
            assert!(!value.contains('@'), "{span:?}");
        }
    }
}

/// The region is stopped while the import waits for control, and another process goes on with it.
pub(crate) async fn an_import_that_another_process_continues_stays_in_its_trace(store: Store) {
    let collector = Collector::start().await;
    let mut cluster = cluster(store, &collector.argument(), &Failpoints::default()).await;
    cluster.set_link_state(0, LinkState::Cut);
    let (url, argument) = (cluster.region(0).url().to_owned(), collector.argument());
    let command = tokio::spawn(async move { import(&url, &[&argument]).await });
    eventually("the import waits", async || {
        let region = cluster.region(0);
        region.wait_until(ID, |import| import.waiting.is_some()).await.is_ok()
    })
    .await;
    cluster.stop_region(0).await;
    cluster.set_link_state(0, LinkState::Open);
    cluster.start_region(0).await.expect("it starts");
    let output = command.await.expect("it does not panic");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    cluster.stop().await;

    let trace = collector.trace_with(COMMAND);
    assert_connected(&trace);
    let imports = trace.named("import");
    assert_eq!(imports.len(), 2, "one for each process: {trace:#?}");
    for import in imports {
        assert_eq!(trace.path_to(import), [COMMAND, UPLOAD]);
    }
    // The step that failed says why.
    let failed: Vec<_> =
        trace.0.iter().filter(|span| span.has_failed && !span.attribute("state").is_empty()).collect();
    assert!(!failed.is_empty(), "{trace:#?}");
    for step in failed {
        assert_eq!(step.attribute("reason"), "CONTROL_UNAVAILABLE");
    }
}

/// The region dies without sending its last spans. What the next process does is in the same trace all the same.
pub(crate) async fn an_import_that_is_killed_and_continued_stays_in_its_trace(store: Store) {
    let collector = Collector::start().await;
    let failpoints = Failpoints::default();
    failpoints.arm("region.chunk.committed", Act::Kill, 3);
    let mut cluster = cluster(store, &collector.argument(), &failpoints).await;
    let (url, argument) = (cluster.region(0).url().to_owned(), collector.argument());
    let command = tokio::spawn(async move { import(&url, &[&argument]).await });
    cluster.ended(REGION).await.expect("it dies");
    failpoints.disarm();
    cluster.start_region(0).await.expect("it starts");
    let output = command.await.expect("it does not panic");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    cluster.stop().await;

    let traces = collector.traces();
    let with_import: Vec<_> = traces
        .values()
        .filter(|trace| trace.0.iter().any(|span| span.attribute("import_id") == ID))
        .collect();
    assert_eq!(with_import.len(), 1, "{traces:#?}");
    let trace = with_import[0];
    let roots: Vec<&str> = trace.roots().into_iter().map(|root| root.name.as_str()).collect();
    assert_eq!(roots, [COMMAND]);
    let imports = trace.named("import");
    assert_eq!(imports.len(), 1, "the process that died has sent no span of the import");
    let finishing = trace.named("finishing");
    assert!(finishing.iter().any(|step| step.parent == imports[0].id), "{trace:#?}");
}
