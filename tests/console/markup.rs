//! What regions report is text, whatever is in it.

use causeway_harness::cluster::{Service, Store};
use causeway_proto::{
    control::v1::{
        ReportComparisonRequest, ReportImportsRequest, ReportedDifference, ReportedImport, ReportedProgress,
        ReportedReason, report_service_client::ReportServiceClient,
    },
    relocation::v1::{ErrorReason, Finding, FindingKind, ModelCounts, Severity},
    time::to_proto,
};
use chrono::TimeDelta;

use crate::{
    http::Answer,
    support::{before, operation, started},
};

/// Markup with the name of the field that has it. What is in backticks is shown as code.
fn markup(field: &str) -> String {
    format!("<b id=\"{field}\">`<i>{field}`")
}

fn reason(field: &str) -> Option<ReportedReason> {
    Some(ReportedReason { reason: ErrorReason::ControlUnavailable.into(), message: markup(field) })
}

/// Asserts that a page has the markup of all these fields, as text.
fn shows(page: &Answer, fields: &[&str]) {
    for field in fields {
        page.says(200, &[&format!("&lt;b id=&quot;{field}&quot;&gt;"), &format!("&lt;i&gt;{field}")]);
    }
    page.lacks(&["<b id", "<i>"]);
}

/// One that waits, and one that has failed.
fn imports() -> Vec<ReportedImport> {
    let time = Some(to_proto(before(TimeDelta::minutes(1))));
    let import = |number, state: &str| ReportedImport {
        import_id: operation(number),
        state: state.to_owned(),
        create_time: time,
        update_time: time,
        begun_by: markup("begun_by"),
        ..Default::default()
    };
    let progress = ReportedProgress {
        model: markup("progress"),
        records_done: 1,
        records_total: 2,
        ..Default::default()
    };
    let finding = Finding {
        kind: FindingKind::SlugChanged.into(),
        severity: Severity::Warning.into(),
        model: markup("model"),
        source_pk: 1,
        field: markup("field"),
        reason: markup("reason"),
        remedy: markup("remedy"),
        ..Default::default()
    };
    vec![
        ReportedImport {
            progress: Some(progress),
            waiting: reason("waiting"),
            waiting_since: time,
            ..import(1, "WRITING")
        },
        ReportedImport {
            ended: true,
            failure: reason("failure"),
            models: vec![ModelCounts { model: markup("counts"), ..Default::default() }],
            slugs: vec![markup("slug")],
            findings: vec![finding],
            ..import(2, "FAILED")
        },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markup_in_a_report_is_shown_as_text() {
    let (cluster, visitor) = started(Store::Sqlite).await;
    // It reports its version, too.
    cluster.kill(Service::Region(0)).await;
    let mut reports = ReportServiceClient::new(cluster.control().channel());
    let report = ReportImportsRequest {
        region: "us".to_owned(),
        version: markup("version"),
        imports: imports(),
        ..Default::default()
    };
    reports.report_imports(report).await.expect("stored");
    let difference = ReportedDifference {
        kind: "SLUG_DIFFERS".to_owned(),
        organization_id: 77,
        message: markup("message"),
        remedy: markup("difference_remedy"),
        repaired: false,
    };
    // Later than any comparison of the region itself.
    let compared = ReportComparisonRequest {
        region: "us".to_owned(),
        compare_time: Some(to_proto(before(TimeDelta::minutes(-1)))),
        compared: 1,
        difference_count: 1,
        differences: vec![difference],
        ..Default::default()
    };
    reports.report_comparison(compared).await.expect("stored");
    shows(&visitor.get("/regions").await, &["version"]);
    for list in ["/", "/imports"] {
        shows(&visitor.get(list).await, &["progress", "waiting", "failure"]);
    }
    let of = |number| format!("/imports/us/{}", operation(number));
    shows(&visitor.get(&of(1)).await, &["progress", "waiting", "begun_by"]);
    let failed = ["failure", "begun_by", "counts", "model", "field", "reason", "remedy"];
    shows(&visitor.get(&of(2)).await, &failed);
    shows(&visitor.get("/differences").await, &["message", "difference_remedy"]);
    cluster.stop().await;
}
