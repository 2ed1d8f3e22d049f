//! Records for which the database has no place: they are left out, and reported in the plan and by a dry run.

use std::collections::BTreeSet;

use causeway_harness::{
    account::Audit,
    cluster::{Failpoints, ImportOptions, Service, Silo},
    export::Export,
    product::Release,
};
use causeway_proto::{
    region::v1::ImportState,
    relocation::v1::{Finding, FindingKind},
};
use causeway_relocation::catalog::Catalog;
use serde_json::json;

use super::{as_it_is, ask, cluster, cluster_of, import, of_kind, set};
use crate::support::{USER, accounted, rows_now};

/// A model whose table cannot be written is left out, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_needs_what_nobody_knows_is_left_out() {
    let cluster = cluster(
        &Failpoints::default(),
        &[],
        &["ALTER TABLE sentry_environment ADD COLUMN later integer NOT NULL"],
    )
    .await;
    let mut export = Export::new();
    export.organization(1, "one");
    export.push("sentry.environment", 41, &json!({"organization_id": 1, "name": "prod"}));
    let (done, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    let lost: Vec<&Finding> = findings.iter().filter(|it| it.kind() == FindingKind::NotInDatabase).collect();
    assert_eq!(lost.len(), 1, "{findings:?}");
    let newest = Catalog::load().expect("a catalog").newest_release().to_owned();
    for part in ["sentry_environment.later needs a value", &format!("up to {newest}")] {
        assert!(lost[0].reason.contains(part), "{}", lost[0].reason);
    }
    cluster.stop().await;
}

/// What this database has no place for is reported in the plan, once for each model or field, and counts only
/// what the filter selects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_without_a_place_are_reported_once_in_the_plan() {
    let cluster = as_it_is().await;
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two").user(11, "ann").member(1, 1, 11).member(2, 2, 11);
    let detector = |organization: i64| json!({"organization": organization, "name": "d", "type": "error"});
    let view =
        |organization: i64| json!({"organization": organization, "user_id": 11, "name": "v", "query": ""});
    for (pk, organization) in [(1, 1), (2, 2), (3, 2), (4, 2)] {
        export.push("workflow_engine.detector", pk, &detector(organization));
        export.push("sentry.groupsearchview", pk, &view(organization));
    }
    let one = ImportOptions::default().filter(&["one"]);
    let (all, two) = (ImportOptions::default(), ImportOptions::default().filter(&["two"]));
    for (options, dropped, first, suffix) in [
        (one, 1, 1, ""),
        (two, 3, 2, "(3 records; this is the first)"),
        (all, 4, 1, "(4 records; this is the first)"),
    ] {
        for options in [options.clone().dry_run(), options] {
            let (done, findings) = import(&cluster, &export, &options).await;
            assert!(
                matches!(done.state(), ImportState::Planned | ImportState::Succeeded),
                "{:?}",
                done.failure
            );
            for (model, field, why) in [
                (
                    "workflow_engine.detector",
                    "",
                    "has no table workflow_engine_detector, which releases from 24.9 on have",
                ),
                ("sentry.groupsearchview", "position", "this database needs one"),
            ] {
                let of_model = findings.iter().filter(|it| {
                    (it.kind(), it.model.as_str()) == (FindingKind::NotInDatabase, model)
                        && it.reason.contains("the record") == (field == "position")
                });
                let found: Vec<&Finding> = of_model.filter(|it| it.field == field).collect();
                assert_eq!(found.len(), 1, "{model}: {findings:?}");
                let reason = &found[0].reason;
                assert!(reason.contains(why) && reason.ends_with(suffix), "{reason}");
                assert_eq!(found[0].source_pk, first, "{reason}");
                let counts = done.models.iter().find(|it| it.model == model).expect("counted");
                assert_eq!((counts.dropped, counts.inserted), (dropped, 0), "{counts:?}");
            }
        }
    }
    cluster.stop().await;
}

/// What an older database needs may be missing in a record of a newer release, and JSON may have what a type
/// of a newer one refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_cannot_hold_is_left_out_and_reported() {
    let jsonb = "ALTER TABLE sentry_projectownership ALTER COLUMN schema TYPE jsonb USING schema::jsonb";
    let cluster = cluster(&Failpoints::default(), &[], &[jsonb]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").member(1, 1, 11).project(31, 1, "project");
    let view = json!({"organization": 1, "user_id": 11, "name": "v", "query": "", "query_sort": "date"});
    export.push("sentry.groupsearchview", 1, &view);
    let time = "2024-03-05T06:07:08Z";
    let owners = json!({"project": 31, "raw": "", "schema": {"a": "x\u{0}y"}, "date_created": time, "last_updated": time});
    export.push("sentry.projectownership", 1, &owners);
    let (dry, predicted) = import(&cluster, &export, &ImportOptions::default().dry_run()).await;
    assert_eq!(dry.state(), ImportState::Planned, "{:?}", dry.failure);
    let (done, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    for findings in [&predicted, &findings] {
        let lost = of_kind(findings, FindingKind::NotInDatabase);
        assert!(lost.contains(&("sentry.groupsearchview", "position")), "{lost:?}");
        let cleaned = of_kind(findings, FindingKind::TextCleaned);
        assert_eq!(cleaned, [("sentry.projectownership", "schema")].into());
    }
    let schema = "SELECT schema::text AS line FROM sentry_projectownership";
    assert_eq!(ask(&cluster, Silo::Region(0), schema).await, [r#"{"a": "xy"}"#]);
    let views = "SELECT name AS line FROM sentry_groupsearchview";
    assert_eq!(ask(&cluster, Silo::Region(0), views).await, [] as [String; 0]);
    cluster.stop().await;
}

/// Older releases allow null where a newer database needs a value, for which there is a default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_null_that_this_database_does_not_take_becomes_the_default() {
    let cluster = cluster_of(Release::R26_6, &Failpoints::default(), &[], &[]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").member(1, 1, 11);
    let search = json!({"organization": 1, "type": null, "name": "s", "query": "q", "owner_id": 11, "is_global": false, "visibility": "owner"});
    export.push("sentry.savedsearch", 1, &search);
    let token =
        json!({"organization_id": 1, "name": "t", "token_hashed": "0".repeat(64), "scope_list": null});
    export.push("sentry.orgauthtoken", 1, &token);
    let view = json!({"organization": 1, "user_id": 11, "name": "v", "query": "", "time_filters": null});
    export.push("sentry.groupsearchview", 1, &view);
    let before = rows_now(&cluster, 0).await;
    let (done, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    assert_eq!(of_kind(&findings, FindingKind::NotInDatabase), BTreeSet::new());
    let (bytes, options) = (export.to_bytes(), ImportOptions::default());
    accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &done).run().await);
    let searches = "SELECT type::text AS line FROM sentry_savedsearch";
    assert_eq!(ask(&cluster, Silo::Region(0), searches).await, ["0"]);
    let times = "SELECT time_filters::text AS line FROM sentry_groupsearchview";
    assert_eq!(ask(&cluster, Silo::Region(0), times).await, [r#"{"period": "14d"}"#]);
    let scopes = "SELECT scope_list::text AS line FROM sentry_orgauthtoken";
    assert_eq!(ask(&cluster, Silo::Control, scopes).await, ["{}"]);
    cluster.stop().await;
}

/// The command says by its exit code what a dry run has found: 11 if something would be lost, 10 if the import would fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_by_command_ends_with_what_the_database_lacks() {
    let of_region = ["ALTER TABLE sentry_project DROP COLUMN template_id"];
    let cluster = cluster(&Failpoints::default(), &[], &of_region).await;
    let directory = tempfile::tempdir().expect("a directory");
    let mut whole = Export::new();
    whole.organization(1, "one").user(11, "ann").member(1, 1, 11).project(31, 1, "project");
    set(&mut whole, "sentry.organizationmember", 1, "role", json!("owner"));
    let mut column = whole.clone();
    column.push("sentry.projecttemplate", 7, &json!({"name": "t", "organization": 1}));
    set(&mut column, "sentry.project", 31, "template", json!(7));
    let mut table = whole.clone();
    let detector = json!({"project": 31, "name": "d", "type": "error"});
    table.push("workflow_engine.detector", 1, &detector);
    let mut long = whole.clone();
    set(&mut long, USER, 11, "email", json!(format!("{}@example.com", "a".repeat(80))));
    for (export, code, expected) in [
        (&whole, 0, "0 would not arrive"),
        (&column, 11, "the database has no column for the field"),
        (&table, 11, "has no table workflow_engine_detector"),
        (&long, 10, "characters, 75 are the most"),
    ] {
        let file = directory.path().join("export.json");
        std::fs::write(&file, export.to_bytes()).expect("written");
        let mut command =
            tokio::process::Command::from(causeway_harness::process::command(env!("CARGO_BIN_EXE_causeway")));
        let region = cluster.url(Service::Region(0));
        command.args(["import", "organizations", "--dry-run", "--region", &region]).arg(&file);
        let ended = command.kill_on_drop(true).output().await.expect("it runs");
        let shown = [&ended.stdout[..], &ended.stderr].map(String::from_utf8_lossy).concat();
        // A report breaks its lines.
        let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(ended.status.code(), Some(code), "{shown}");
        assert!(shown.contains(expected), "{expected} is not in {shown}");
    }
    let rows = "SELECT slug AS line FROM sentry_organization";
    assert_eq!(ask(&cluster, Silo::Region(0), rows).await, [] as [String; 0]);
    cluster.stop().await;
}
