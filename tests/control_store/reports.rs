//! What regions report about their imports and comparisons.

use causeway_audit::store::Filter;
use causeway_control::{
    Control, Error, PageRequest,
    model::report::{
        Comparison, ImportDetails, ImportFilter, ImportPosition, ImportReport, ImportSummary, ReportedCounts,
        ReportedDifference, ReportedFinding, ReportedImport, ReportedProgress, ReportedReason,
        ReportedThrottle,
    },
};
use chrono::TimeDelta;
use uuid::Uuid;

use crate::support::{Fixture, now, operation, refused_field};

/// An import of this number, begun so many seconds before now.
fn import(number: u128, state: &str, before: i64) -> ReportedImport {
    ReportedImport {
        import_id: operation(number),
        state: state.to_owned(),
        ended: matches!(state, "SUCCEEDED" | "FAILED"),
        dry_run: false,
        created_at: now() - TimeDelta::seconds(before),
        updated_at: now() - TimeDelta::seconds(before),
        size_bytes: 1_000,
        organization_count: 3,
        summary: ImportSummary::default(),
        details: ImportDetails::default(),
    }
}

fn report(region: &str, imports: Vec<ReportedImport>) -> ImportReport {
    ImportReport {
        region: region.to_owned(),
        version: "0.1.0".to_owned(),
        feed_version: 7,
        imports,
        answers: Vec::new(),
    }
}

async fn all(control: &Control, filter: &ImportFilter, limit: u16) -> Vec<(String, ReportedImport)> {
    let mut request = PageRequest { limit, after: None };
    let mut all = Vec::new();
    loop {
        let page = control.reports().imports(filter, &request).await.expect("a page");
        assert!(page.items.len() <= usize::from(limit));
        all.extend(page.items);
        match page.next {
            Some(next) => request.after = Some(next),
            None => return all,
        }
    }
}

pub(crate) async fn a_report_replaces_the_former_one_of_the_same_import(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let reports = fixture.control.reports();
    let first = import(1, "WRITING", 5);
    let first = ReportedImport {
        summary: ImportSummary {
            progress: Some(ReportedProgress {
                model: "sentry.team".to_owned(),
                records_done: 5,
                records_total: 9,
                bytes_done: 0,
                rate: 3,
                throttled: Some(ReportedThrottle {
                    kind: "ROWS".to_owned(),
                    limit: 1_000,
                    write_percent: 100,
                }),
            }),
            waiting: Some(ReportedReason { reason: "CONTROL_UNAVAILABLE".to_owned(), message: "x".into() }),
            waiting_since: Some(now()),
            failure: None,
            begun_by: "spiffe://x/importer/ann".to_owned(),
            slug_operation: Some(Uuid::from_u128(99)),
        },
        ..first
    };
    reports.report_imports(&report("us", vec![first.clone()])).await.expect("stored");
    assert_eq!(reports.import("us", operation(1)).await.expect("read"), Some(first));
    // The same id of another region is another import.
    assert_eq!(reports.import("de", operation(1)).await.expect("read"), None);
    reports.report_imports(&report("de", vec![import(1, "PLANNING", 4)])).await.expect("stored");
    let finding = ReportedFinding {
        kind: "SLUG_CHANGED".to_owned(),
        severity: "INFO".to_owned(),
        model: "sentry.organization".to_owned(),
        source_pk: 1,
        field: "slug".to_owned(),
        reason: "acme became acme-x2".to_owned(),
        remedy: "Tell its members.".to_owned(),
    };
    let counts = ReportedCounts { model: "sentry.team".to_owned(), seen: 9, ..ReportedCounts::default() };
    let details = ImportDetails {
        models: vec![counts],
        finding_counts: Vec::new(),
        findings: vec![finding],
        slugs: vec!["acme-x2".to_owned()],
    };
    let second = ReportedImport { details, ..import(1, "SUCCEEDED", 5) };
    for _ in 0..2 {
        reports.report_imports(&report("us", vec![second.clone()])).await.expect("stored");
        assert_eq!(reports.import("us", operation(1)).await.expect("read"), Some(second.clone()));
    }
    let states: Vec<_> = all(&fixture.control, &ImportFilter::default(), 10)
        .await
        .into_iter()
        .map(|(region, import)| (region, import.state))
        .collect();
    assert_eq!(states, [("de".into(), "PLANNING".into()), ("us".into(), "SUCCEEDED".into())]);
    let regions = reports.regions().await.expect("read");
    let heard: Vec<_> =
        regions.iter().map(|it| (it.region.as_str(), it.feed_version, it.reported_at)).collect();
    assert_eq!(heard, [("de", 7, now()), ("us", 7, now())]);
}

pub(crate) async fn imports_of_all_regions_are_listed_page_by_page_the_newest_first(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    for region in ["us", "de"] {
        for part in 0..3 {
            let imports = (0..10).map(|number| {
                let state = if number % 2 == 0 { "WRITING" } else { "FAILED" };
                // Imports of both regions were begun at the same times.
                import(part * 10 + number, state, i64::try_from(part * 10 + number).expect("small"))
            });
            fixture
                .control
                .reports()
                .report_imports(&report(region, imports.collect()))
                .await
                .expect("stored");
        }
    }
    let listed = all(&fixture.control, &ImportFilter::default(), 7).await;
    let keys: Vec<ImportPosition> = listed
        .iter()
        .map(|(region, it)| ImportPosition {
            created_at: it.created_at,
            region: region.clone(),
            import_id: it.import_id,
        })
        .collect();
    assert_eq!(keys.len(), 60);
    assert!(keys.windows(2).all(|pair| {
        (pair[0].created_at, &pair[0].region, pair[0].import_id)
            > (pair[1].created_at, &pair[1].region, pair[1].import_id)
    }));
    let control = &fixture.control;
    let of = |filter: ImportFilter| async move { all(control, &filter, 50).await.len() };
    let us = Some("us".to_owned());
    assert_eq!(of(ImportFilter { region: us, ..ImportFilter::default() }).await, 30);
    for (dry_run, count) in [(Some(true), 0), (Some(false), 60)] {
        assert_eq!(of(ImportFilter { dry_run, ..ImportFilter::default() }).await, count);
    }
}

pub(crate) async fn old_and_too_many_reports_of_a_region_are_forgotten(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let reports = fixture.control.reports();
    let day = 24 * 3_600;
    let old =
        [import(1, "SUCCEEDED", 31 * day), import(2, "WRITING", 31 * day), import(3, "FAILED", 29 * day)];
    reports.report_imports(&report("us", old.to_vec())).await.expect("stored");
    let ids = |listed: Vec<(String, ReportedImport)>| {
        listed.into_iter().map(|(_, it)| it.import_id).collect::<Vec<_>>()
    };
    let listed = ids(all(&fixture.control, &ImportFilter::default(), 10).await);
    assert_eq!(listed, [operation(3), operation(2)], "one that has not ended stays, however old");
    for part in 0..50_u128 {
        let imports = (0..20).map(|number| import(1_000 + part * 20 + number, "FAILED", 1));
        reports.report_imports(&report("us", imports.collect())).await.expect("stored");
    }
    let listed = ids(all(&fixture.control, &ImportFilter::default(), 1_000).await);
    assert_eq!(listed.len(), 1_000, "the last thousand");
    assert!(!listed.contains(&operation(3)) && listed.contains(&operation(1_000)));
}

pub(crate) async fn a_malformed_report_is_refused_with_its_field(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let reports = fixture.control.reports();
    let good = || import(1, "WRITING", 1);
    let summary = |summary| ReportedImport { summary, ..good() };
    let reason =
        |message: &str| ReportedReason { reason: "INTERNAL".to_owned(), message: message.to_owned() };
    let long = "x".repeat(4_001);
    let mut many = good();
    many.details.models = vec![ReportedCounts::default(); 301];
    for (imports, field) in [
        (vec![ReportedImport { state: "<b>".to_owned(), ..good() }], "imports[0].state"),
        (vec![ReportedImport { state: String::new(), ..good() }], "imports[0].state"),
        (vec![ReportedImport { size_bytes: -1, ..good() }], "imports[0].size_bytes"),
        (
            vec![summary(ImportSummary { failure: Some(reason(&long)), ..Default::default() })],
            "imports[0].failure.message",
        ),
        (
            vec![summary(ImportSummary { begun_by: "x".repeat(513), ..Default::default() })],
            "imports[0].begun_by",
        ),
        (
            vec![summary(ImportSummary {
                progress: Some(ReportedProgress { records_done: -1, ..Default::default() }),
                ..Default::default()
            })],
            "imports[0].progress",
        ),
        (
            vec![summary(ImportSummary {
                progress: Some(ReportedProgress {
                    throttled: Some(ReportedThrottle { kind: "<b>".to_owned(), limit: 1, write_percent: 1 }),
                    ..Default::default()
                }),
                ..Default::default()
            })],
            "imports[0].progress.throttled.kind",
        ),
        (vec![many], "imports[0].models"),
        (vec![good(), good()], "imports"),
        ((0..21).map(|number| import(number, "WRITING", 1)).collect(), "imports"),
    ] {
        assert_eq!(refused_field(reports.report_imports(&report("us", imports)).await), field);
    }
    let version = ImportReport { version: "x".repeat(65), ..report("us", Vec::new()) };
    assert_eq!(refused_field(reports.report_imports(&version).await), "version");
    let behind = ImportReport { feed_version: -1, ..report("us", Vec::new()) };
    assert_eq!(refused_field(reports.report_imports(&behind).await), "feed_version");
    let absent = reports.report_imports(&report("fr", vec![good()])).await;
    assert!(matches!(absent, Err(Error::RegionNotRegistered { .. })), "{absent:?}");
    assert!(all(&fixture.control, &ImportFilter::default(), 10).await.is_empty(), "nothing was stored");
}

pub(crate) async fn the_last_comparison_of_a_region_is_stored(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let reports = fixture.control.reports();
    let compared = |before: i64, differences: usize| Comparison {
        region: "us".to_owned(),
        compared_at: now() - TimeDelta::seconds(before),
        compared: 9,
        difference_count: 200,
        repaired_count: 1,
        moving_count: 0,
        differences: vec![
            ReportedDifference {
                kind: "SLUG_DIFFERS".to_owned(),
                organization_id: 7,
                message: "it is `<b>` here".to_owned(),
                remedy: "change it".to_owned(),
                repaired: false,
            };
            differences
        ],
    };
    reports.report_comparison(&compared(10, 2)).await.expect("stored");
    reports.report_comparison(&compared(5, 1)).await.expect("stored");
    // An earlier one that comes late.
    reports.report_comparison(&compared(7, 3)).await.expect("taken");
    let request = PageRequest { limit: 10, after: None };
    assert_eq!(reports.comparisons(&request).await.expect("read").items, [compared(5, 1)]);
    assert_eq!(refused_field(reports.report_comparison(&compared(1, 101)).await), "differences");
    let negative = Comparison { compared: -1, ..compared(1, 0) };
    assert_eq!(refused_field(reports.report_comparison(&negative).await), "compared");
}

pub(crate) async fn comparisons_have_pages_and_those_with_differences_left_are_counted(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de", "fr"]).await;
    let reports = fixture.control.reports();
    assert_eq!(reports.differing().await.expect("counted"), 0);
    for (region, found, repaired) in [("us", 3, 1), ("de", 2, 2), ("fr", 1, 0)] {
        let comparison = Comparison {
            region: region.to_owned(),
            compared_at: now(),
            compared: 9,
            difference_count: found,
            repaired_count: repaired,
            moving_count: 0,
            differences: Vec::new(),
        };
        reports.report_comparison(&comparison).await.expect("stored");
    }
    let mut request = PageRequest { limit: 2, after: None };
    let mut pages = Vec::new();
    loop {
        let page = reports.comparisons(&request).await.expect("a page");
        pages.push(page.items.into_iter().map(|it| it.region).collect::<Vec<_>>());
        let Some(next) = page.next else { break };
        request.after = Some(next);
    }
    assert_eq!(pages, [vec!["de", "fr"], vec!["us"]]);
    assert_eq!(reports.differing().await.expect("counted"), 2, "what is repaired does not differ");
}

pub(crate) async fn a_report_is_recorded_for_each_version_of_a_region(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let reports = fixture.control.reports();
    let recorded = async || {
        let filter = Filter { object: Some("region/us".to_owned()), ..Filter::default() };
        let request = PageRequest { limit: 1_000, after: None };
        fixture.control.audit().entries(&filter, &request).await.expect("read").items.len()
    };
    let before = recorded().await;
    for _ in 0..3 {
        reports.report_imports(&report("us", vec![import(1, "WRITING", 1)])).await.expect("stored");
    }
    assert_eq!(recorded().await, before + 1);
    let newer = ImportReport { version: "0.2.0".to_owned(), ..report("us", Vec::new()) };
    // During an upgrade, processes of both versions report in turn.
    for _ in 0..3 {
        reports.report_imports(&newer).await.expect("stored");
        reports.report_imports(&report("us", Vec::new())).await.expect("stored");
    }
    assert_eq!(recorded().await, before + 2);
    // One that makes up a new version for each report does not fill the log.
    for number in 0..120 {
        let made_up = ImportReport { version: format!("1.0.{number}"), ..report("us", Vec::new()) };
        reports.report_imports(&made_up).await.expect("stored");
    }
    assert_eq!(recorded().await, before + 100);
}
