//! Rows that are added although the file has no records for them.

use causeway_harness::{
    account::{Audit, AuditReport, Cell},
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export::Export,
};
use causeway_proto::{
    region::v1::{Import, ImportState},
    relocation::v1::{Finding, FindingKind, Severity},
};
use causeway_silo::db::Statement;
use serde_json::json;

use crate::support::{USER, accounted, cluster, import, revert_all, rows_now};

const KEY: &str = "sentry.projectkey";
const ADDRESS: &str = "sentry.useremail";
const VIEW: &str = "sentry.groupsearchview";
const STARRED: &str = "sentry.groupsearchviewstarred";

/// How many rows of a model an import added.
fn added(import: &Import, model: &str) -> i64 {
    import.models.iter().find(|counts| counts.model == model).map_or(0, |counts| counts.added)
}

/// The records that rows were added for: model and primary key.
fn added_for(findings: &[Finding]) -> Vec<(&str, i64)> {
    let of_kind = findings.iter().filter(|finding| finding.kind() == FindingKind::RowAdded);
    let mut found: Vec<_> = of_kind.map(|finding| (finding.model.as_str(), finding.source_pk)).collect();
    found.sort_unstable();
    found
}

fn text<'a>(report: &'a AuditReport, model: &str, field: &str) -> Vec<&'a str> {
    report.after.rows(model).values().filter_map(|row| row[field].as_text()).collect()
}

fn two_projects_and_users() -> Export {
    let mut export = Export::new();
    export.organization(1, "acme").user(11, "ann").user(12, "bob").member(21, 1, 11).member(22, 1, 12);
    export.user_email(31, 12, "second@example.com");
    export.project(41, 1, "with").project(42, 1, "without").project_key(51, 41, &"a".repeat(32));
    export
}

/// A dry run predicts them, and warns of nothing because of them.
pub(crate) async fn a_project_without_a_key_and_a_user_without_an_address_get_one(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let export = two_projects_and_users();
    let before = rows_now(&cluster, 0).await;
    let dry = ImportOptions { dry_run: true, ..ImportOptions::default() };
    let planned = cluster.region(0).import(&export.to_bytes(), &dry).await.expect("it ends");
    assert_eq!(planned.state(), ImportState::Planned, "{:?}", planned.failure);
    let predicted = cluster.region(0).findings(&planned.import_id).await.expect("findings");
    assert_eq!(added_for(&predicted), [("sentry.project", 42), (USER, 11)]);
    assert!(predicted.iter().all(|finding| finding.severity() == Severity::Info), "{predicted:?}");
    assert_eq!(rows_now(&cluster, 0).await, before);

    let (done, report) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(added_for(&report.findings), [("sentry.project", 42), (USER, 11)]);
    assert_eq!((added(&done, KEY), added(&done, ADDRESS)), (1, 1));
    assert_eq!((added(&planned, KEY), added(&planned, ADDRESS)), (1, 1));
    let mut addresses = text(&report, ADDRESS, "email");
    addresses.sort_unstable();
    assert_eq!(addresses, ["ann@example.com", "second@example.com"]);
    assert!(text(&report, KEY, "label").contains(&"Default"));
    revert_all(&cluster, &[done.import_id]).await;
    assert_eq!(rows_now(&cluster, 0).await, before);
    cluster.stop().await;
}

/// Nothing is added to what the filter leaves out, or to a user who was here before.
pub(crate) async fn rows_are_added_for_what_is_imported_and_new(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "acme").organization(2, "other").user(11, "ann").user(12, "bob").user(13, "cat");
    export.member(21, 1, 11).member(22, 2, 12);
    export.project(41, 1, "one").project(42, 2, "two");
    // Nothing can be made of an address that is not there.
    export.find(USER, 13).expect("a user").fields.insert("email".to_owned(), json!(""));
    export.member(23, 1, 13);
    let (first, report) = import(&cluster, &export, &ImportOptions::default().filter(&["acme"])).await;
    assert_eq!(added_for(&report.findings), [("sentry.project", 41), (USER, 11)]);
    assert_eq!((added(&first, KEY), added(&first, ADDRESS)), (1, 1));
    let (second, report) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    assert_eq!(added_for(&report.findings), [("sentry.project", 41), ("sentry.project", 42), (USER, 12)]);
    assert_eq!((added(&second, KEY), added(&second, ADDRESS)), (2, 1));
    revert_all(&cluster, &[first.import_id, second.import_id]).await;
    cluster.stop().await;
}

/// In releases before 25.3, two views of a user in an organization had different positions.
pub(crate) async fn a_row_that_another_one_keeps_out_is_not_added(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "acme").user(11, "ann").user_email(31, 11, "a@example.com").member(21, 1, 11);
    for pk in [1, 2] {
        let view = json!({"name": "v", "user_id": 11, "organization": 1, "query": "", "position": 4});
        export.push(VIEW, pk, &view);
    }
    let done =
        cluster.region(0).import(&export.to_bytes(), &ImportOptions::default()).await.expect("it ends");
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    assert_eq!(added(&done, STARRED), 1);
    assert_eq!(rows_now(&cluster, 0).await.rows(STARRED).len(), 1);
    let findings = cluster.region(0).findings(&done.import_id).await.expect("findings");
    let about = findings.iter().filter(|finding| finding.model == VIEW);
    let mut about: Vec<_> =
        about.map(|finding| (finding.kind(), finding.source_pk, finding.ordinal)).collect();
    about.sort_unstable_by_key(|(kind, ..)| *kind as i32);
    let [(FindingKind::DuplicateDropped, lost, _), (FindingKind::RowAdded, kept, _)] = about[..] else {
        panic!("{findings:?}")
    };
    assert_eq!((lost.min(kept), lost.max(kept)), (1, 2));
    cluster.stop().await;
}

/// The view itself arrives.
pub(crate) async fn a_project_of_a_view_that_is_not_imported_is_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "acme").user(11, "ann").user_email(31, 11, "a@example.com").member(21, 1, 11);
    export.project(41, 1, "one").project_key(51, 41, &"a".repeat(32));
    let view =
        json!({"name": "v", "user_id": 11, "organization": 1, "query": "", "projects": "[41, 99, 41, -1]"});
    export.push(VIEW, 1, &view);
    let done =
        cluster.region(0).import(&export.to_bytes(), &ImportOptions::default()).await.expect("it ends");
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    assert_eq!(added(&done, "sentry.groupsearchviewproject"), 1);
    let findings = cluster.region(0).findings(&done.import_id).await.expect("findings");
    let mut found: Vec<_> =
        findings.iter().map(|finding| (finding.kind(), finding.model.as_str(), finding.source_pk)).collect();
    found.sort_unstable_by_key(|(kind, ..)| *kind as i32);
    assert_eq!(found, [(FindingKind::DroppedReference, VIEW, 1), (FindingKind::RowAdded, VIEW, 1)]);
    let lost = findings.iter().find(|finding| finding.kind() == FindingKind::DroppedReference).expect("one");
    assert!(lost.reason.contains("sentry.project 99"), "{}", lost.reason);
    let all = &rows_now(&cluster, 0).await;
    let view = all.rows(VIEW).values().next().expect("it is there");
    assert_eq!(view["is_all_projects"], Cell::Bool(true));
    cluster.stop().await;
}

/// An older release, which has planned an import, has no counts of models of which the file has no records.
pub(crate) async fn an_import_that_an_older_release_has_planned_gets_added_rows_too(store: Store) {
    let failpoints = Failpoints::default();
    let built = Cluster::builder(store).region("us").failpoints(&failpoints).start().await;
    let cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    let mut export = Export::new();
    export.organization(1, "acme").user(11, "ann").member(21, 1, 11).project(41, 1, "one");
    let import_id = "0f2c1b7e-6b0a-4a39-8a83-3f5b8a1f9d11".to_owned();
    let (bytes, options) = (export.to_bytes(), ImportOptions::default().import_id(&import_id));
    let before = rows_now(&cluster, 0).await;
    failpoints.arm("region.plan.stored", Act::Kill, 0);
    // The region may die before its answer arrives.
    let _begun = cluster.region(0).begin(&bytes, &options).await;
    cluster.killed().await;
    let older = Statement::new("DELETE FROM causeway_import_model WHERE seen = 0");
    cluster.change(Silo::Region(0), &[older]).await.expect("changed");
    cluster.revive().await.expect("it starts again");
    let done = cluster.region(0).wait(&import_id).await.expect("it ends");
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    assert_eq!((added(&done, KEY), added(&done, ADDRESS)), (1, 1));
    accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &done).run().await);
    revert_all(&cluster, &[import_id]).await;
    assert_eq!(rows_now(&cluster, 0).await, before);
    cluster.stop().await;
}

/// There may be one for each record.
pub(crate) async fn many_added_rows_leave_room_for_other_findings(store: Store) {
    const USERS: i64 = 1_003;
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "acme");
    for pk in 1..=USERS {
        export.user(pk, &format!("user-{pk}"));
    }
    let done =
        cluster.region(0).import(&export.to_bytes(), &ImportOptions::default()).await.expect("it ends");
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    assert_eq!(added(&done, ADDRESS), USERS);
    let count = done.finding_counts.iter().find(|count| count.kind() == FindingKind::RowAdded);
    assert_eq!(count.map(|count| count.count), Some(USERS), "the counts are exact");
    let findings = cluster.region(0).findings(&done.import_id).await.expect("findings");
    assert_eq!(added_for(&findings).len(), 1_000);
    let others = findings.iter().filter(|finding| finding.kind() != FindingKind::RowAdded);
    let mut kinds: Vec<FindingKind> = others.map(Finding::kind).collect();
    kinds.sort_unstable_by_key(|kind| *kind as i32);
    assert_eq!(kinds, [FindingKind::FindingsNotStored, FindingKind::OrganizationWithoutOwner]);
    cluster.stop().await;
}
