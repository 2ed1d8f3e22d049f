//! Imports into databases that belong to the product, of release 24.9. Only PostgreSQL: the product has no other.

use std::collections::BTreeSet;

use causeway_harness::{
    account::Audit,
    cluster::{Act, Cluster, Failpoints, ImportOptions, Service, Silo, Store},
    export::Export,
    postgres::Postgres,
    product::{self, Release},
};
use causeway_proto::{
    region::v1::{Import, ImportState, RevertImportRequest},
    relocation::v1::{ErrorReason, Finding, FindingKind},
};
use causeway_relocation::catalog::Catalog;
use causeway_silo::{
    db::{Db, DbError, Options, Statement},
    transact,
};
use serde_json::json;

use crate::support::{USER, accounted, exhaustive, rows_now};

/// A cluster whose databases have the product's tables of 24.9, and these changes of them.
async fn cluster(failpoints: &Failpoints, of_control: &[&str], of_region: &[&str]) -> Cluster {
    cluster_of(Release::R24_9, failpoints, of_control, of_region).await
}

pub(crate) async fn cluster_of(
    release: Release,
    failpoints: &Failpoints,
    of_control: &[&str],
    of_region: &[&str],
) -> Cluster {
    let tables = product::tables(release).expect("the tables");
    let with = |changes: &[&str]| {
        let changes = changes.iter().map(|change| (*change).to_owned());
        tables.iter().cloned().chain(changes).collect::<Vec<_>>()
    };
    let built = Cluster::builder(Store::Postgres)
        .region("us")
        .failpoints(failpoints)
        .tables_of_control(&with(of_control))
        .tables_of_regions(&with(of_region))
        .start()
        .await;
    built.expect("a cluster; this test needs PostgreSQL")
}

async fn as_it_is() -> Cluster {
    cluster(&Failpoints::default(), &[], &[]).await
}

pub(crate) async fn begin(cluster: &Cluster, export: &Export, options: &ImportOptions) -> String {
    let begun = cluster.region(0).begin(&export.to_bytes(), options).await;
    begun.expect("it begins").import.unwrap_or_default().import_id
}

pub(crate) async fn import(
    cluster: &Cluster,
    export: &Export,
    options: &ImportOptions,
) -> (Import, Vec<Finding>) {
    let id = begin(cluster, export, options).await;
    let import = cluster.region(0).wait(&id).await.expect("it ends");
    let findings = cluster.region(0).findings(&id).await.expect("its findings");
    (import, findings)
}

pub(crate) fn set(export: &mut Export, model: &str, pk: i64, field: &str, value: serde_json::Value) {
    let record = export.find(model, pk).expect("it is there");
    *record = record.clone().with(&json!({ field: value }));
}

pub(crate) fn assert_failed(import: &Import, reason: ErrorReason) -> String {
    let failure = import.failure.clone().unwrap_or_default();
    assert_eq!((import.state(), failure.reason()), (ImportState::Failed, reason), "{failure:?}");
    failure.message
}

pub(crate) async fn execute(db: &Db, statement: &'static str) {
    let executed: Result<(), DbError> = transact!(DbError, db, |tx| {
        tx.execute(Statement::new(statement)).await?;
    });
    executed.expect("executed");
}

pub(crate) async fn ask(cluster: &Cluster, silo: Silo, query: &'static str) -> Vec<String> {
    let db = cluster.db(silo).await.expect("a database");
    let rows = db.fetch_all(Statement::new(query)).await.expect("asked");
    rows.iter().map(|row| row.text("line").expect("a text")).collect()
}

/// Everything that a database has of the product: columns, indexes, constraints.
async fn structure(db: &Db) -> BTreeSet<String> {
    let query = Statement::new(
        "SELECT concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull) AS line \
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname NOT LIKE 'causeway%' \
         UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint \
         WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE 'causeway%' \
         UNION ALL SELECT concat_ws(' ', tablename, indexdef) FROM pg_indexes \
         WHERE schemaname = 'public' AND tablename NOT LIKE 'causeway%'",
    );
    let rows = db.fetch_all(query).await.expect("asked");
    rows.iter().map(|row| row.text("line").expect("a text")).collect()
}

/// The same of a database that no service has ever used.
async fn structure_of_product() -> BTreeSet<String> {
    let server = Postgres::start().await.expect("this test needs PostgreSQL");
    let url = server.create_database("product").await.expect("a database");
    let db = Db::connect(&url, &Options::default()).await.expect("a database");
    let made: Result<(), DbError> = transact!(DbError, db, |tx| {
        for statement in product::tables(Release::R24_9).expect("the tables") {
            tx.execute(Statement::new("").push(&statement)).await?;
        }
    });
    made.expect("made");
    structure(&db).await
}

/// Where a record of the export went, of these kinds: model and field.
fn of_kind(findings: &[Finding], kind: FindingKind) -> BTreeSet<(&str, &str)> {
    let found = findings.iter().filter(|finding| finding.kind() == kind);
    found.map(|finding| (finding.model.as_str(), finding.field.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_a_newer_release_lands_in_what_the_product_has() {
    let cluster = as_it_is().await;
    let made = Cluster::builder(Store::Postgres).region("us").start().await.expect("a cluster");
    let product = structure_of_product().await;

    let export = exhaustive();
    let (dry, told) = import(&cluster, &export, &ImportOptions::default().dry_run()).await;
    assert_eq!(dry.state(), ImportState::Planned, "{:?}", dry.failure);
    let (done, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    let lost = of_kind(&findings, FindingKind::NotInDatabase);
    assert!(lost.contains(&("workflow_engine.detector", "")), "{lost:?}");
    assert_eq!(lost, of_kind(&told, FindingKind::NotInDatabase), "a dry run tells the same");
    // Models of that release arrive as they do in tables that Causeway made.
    let (whole, _) = import(&made, &export, &ImportOptions::default()).await;
    for counts in &done.models {
        let there = whole.models.iter().find(|there| there.model == counts.model).expect("counted");
        // The table is missing, or a value that this database needs.
        let lacks = lost.contains(&(counts.model.as_str(), ""))
            || findings.iter().any(|it| {
                it.model == counts.model
                    && it.kind() == FindingKind::NotInDatabase
                    && it.reason.contains("the record is not imported")
            });
        let hangs =
            findings.iter().any(|it| it.model == counts.model && it.kind() == FindingKind::DroppedReference);
        assert!(
            lacks || hangs || counts.inserted == there.inserted,
            "{}: {counts:?} {there:?}",
            counts.model
        );
    }
    // Columns of other types than Causeway makes.
    for (silo, query, lines) in [
        (
            Silo::Region(0),
            "SELECT count(*)::text AS line FROM sentry_organizationmember_teams WHERE id < 2^31",
            1,
        ),
        (Silo::Region(0), "SELECT date_added::text AS line FROM sentry_rulesnooze", 1),
        (Silo::Region(0), "SELECT tags::text AS line FROM sentry_spanattributeextractionruleconfig", 1),
        (
            Silo::Control,
            "SELECT u.username AS line FROM sentry_orgauthtoken t JOIN auth_user u ON u.id = t.created_by_id",
            1,
        ),
    ] {
        assert!(ask(&cluster, silo, query).await.len() >= lines, "{query}");
    }
    for silo in [Silo::Control, Silo::Region(0)] {
        let db = cluster.db(silo).await.expect("a database");
        assert_eq!(structure(&db).await, product, "the product's tables are not altered");
    }

    revert(&cluster, &done.import_id).await;
    cluster.stop().await;
    made.stop().await;
}

/// Newer releases store JSON in a form of its own, and use other widths of numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_of_other_types_take_the_same_values() {
    let changes = [
        "ALTER TABLE sentry_projectownership ALTER COLUMN schema TYPE jsonb USING schema::jsonb",
        "ALTER TABLE sentry_projectoptions ALTER COLUMN value TYPE json USING value::json",
        "ALTER TABLE sentry_snubaquery ALTER COLUMN time_window TYPE smallint",
        "ALTER TABLE sentry_organization ALTER COLUMN status TYPE bigint",
        "ALTER TABLE sentry_project DROP COLUMN template_id",
    ];
    let cluster = cluster(&Failpoints::default(), &[], &changes).await;
    let mut export = Export::new();
    export.organization(1, "one").project(31, 1, "project").project_option(
        32,
        31,
        "key",
        &json!({"a": [1, "é"]}),
    );
    // A reference for which there is no column cannot keep its record out.
    set(&mut export, "sentry.project", 31, "template", json!(99));
    export.push("sentry.projectownership", 33, &json!({"project": 31, "raw": "", "schema": {"b": null}}));
    let (done, _) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    for (query, line) in [
        ("SELECT schema::text AS line FROM sentry_projectownership", r#"{"b": null}"#),
        ("SELECT value->'a'->>1 AS line FROM sentry_projectoptions", "é"),
        ("SELECT status::text AS line FROM sentry_organization", "0"),
    ] {
        assert_eq!(ask(&cluster, Silo::Region(0), query).await, [line], "{query}");
    }
    let query = json!({"type": 0, "dataset": "events", "query": "", "aggregate": "count()", "time_window": 40_000, "resolution": 60});
    let subscription = json!({"project": 31, "type": "incidents", "snuba_query": 41, "status": 0});
    export.push("sentry.snubaquery", 41, &query).push("sentry.querysubscription", 51, &subscription);
    let (failed, _) = import(&cluster, &export, &ImportOptions::default()).await;
    let message = assert_failed(&failed, ErrorReason::ExportInvalid);
    assert!(message.contains("sentry.snubaquery") && message.contains("time_window"), "{message}");
    cluster.stop().await;
}

/// The product's memberships of teams have 32-bit ids, and merged users have the same membership twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memberships_are_merged_in_a_table_with_short_ids() {
    let cluster = as_it_is().await;
    let mut export = Export::new();
    export.organization(1, "one").team(21, 1, "team");
    for pk in 1..=120 {
        // The last 20 are the first 20 in other letters.
        let name = if pk > 100 { format!("USER-{}", pk - 100) } else { format!("user-{pk}") };
        export.user(pk, &name).member(pk, 1, pk);
        export.push(
            "sentry.organizationmemberteam",
            pk,
            &json!({"organizationmember": pk, "team": 21, "is_active": true}),
        );
    }
    for record in &mut export.records {
        // A chunk has at most a mebibyte, so both memberships are in different ones.
        record.fields.insert("padding".to_owned(), json!("x".repeat(15_000)));
    }
    let (done, _) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    let members = "SELECT count(*)::text AS line FROM sentry_organizationmember_teams";
    assert_eq!(ask(&cluster, Silo::Region(0), members).await, ["100"]);
    cluster.stop().await;
}

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
async fn records_without_a_place_are_told_once_in_the_plan() {
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
    for (options, dropped, first, told) in [
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
                assert!(reason.contains(why) && reason.ends_with(told), "{reason}");
                assert_eq!(found[0].source_pk, first, "{reason}");
                let counts = done.models.iter().find(|it| it.model == model).expect("counted");
                assert_eq!((counts.dropped, counts.inserted), (dropped, 0), "{counts:?}");
            }
        }
    }
    cluster.stop().await;
}

/// The catalog knows longer texts than this release of the product takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_for_which_the_database_has_no_room_is_refused_in_the_plan() {
    let cluster = as_it_is().await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").project(31, 1, "project");
    for (model, pk, field, value) in [
        (USER, 11, "email", json!(format!("{}@example.com", "a".repeat(80)))),
        ("sentry.project", 31, "slug", json!("s".repeat(80))),
    ] {
        let mut long = export.clone();
        set(&mut long, model, pk, field, value);
        let message = assert_failed(
            &import(&cluster, &long, &ImportOptions::default()).await.0,
            ErrorReason::ExportInvalid,
        );
        for part in [model, &format!("pk {pk}"), field, "characters"] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }
    let rows = "SELECT slug AS line FROM sentry_organization";
    assert_eq!(ask(&cluster, Silo::Region(0), rows).await, [] as [String; 0]);
    assert_eq!(import(&cluster, &export, &ImportOptions::default()).await.0.state(), ImportState::Succeeded);
    cluster.stop().await;
}

/// What an older database needs may be missing in a record of a newer release, and JSON may have what a type
/// of a newer one refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_cannot_hold_is_left_out_and_told() {
    let jsonb = "ALTER TABLE sentry_projectownership ALTER COLUMN schema TYPE jsonb USING schema::jsonb";
    let cluster = cluster(&Failpoints::default(), &[], &[jsonb]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").member(1, 1, 11).project(31, 1, "project");
    let view = json!({"organization": 1, "user_id": 11, "name": "v", "query": "", "query_sort": "date"});
    export.push("sentry.groupsearchview", 1, &view);
    let time = "2024-03-05T06:07:08Z";
    let owners = json!({"project": 31, "raw": "", "schema": {"a": "x\u{0}y"}, "date_created": time, "last_updated": time});
    export.push("sentry.projectownership", 1, &owners);
    let (dry, told) = import(&cluster, &export, &ImportOptions::default().dry_run()).await;
    assert_eq!(dry.state(), ImportState::Planned, "{:?}", dry.failure);
    let (done, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    for findings in [&told, &findings] {
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

/// Records of one file that a unique index of this database keeps apart are refused in the plan, whatever other releases
/// allow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_this_database_keeps_apart_are_refused_in_the_plan() {
    let of_control = "CREATE UNIQUE INDEX ON sentry_orgauthtoken (name)";
    let of_region = "CREATE UNIQUE INDEX ON sentry_team (name, organization_id)";
    let cluster = cluster(&Failpoints::default(), &[of_control], &[of_region]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").user(12, "bob").team(21, 1, "a").team(22, 1, "b");
    for pk in [1, 2] {
        let token = json!({"organization_id": 1, "name": format!("t{pk}"), "token_hashed": format!("{pk:064}"), "scope_list": []});
        export.push("sentry.orgauthtoken", pk, &token);
        let view = json!({"organization": 1, "user_id": 11, "name": "v", "query": "", "position": pk});
        export.push("sentry.groupsearchview", pk, &view);
    }
    for (model, pk, field, value) in [
        ("sentry.orgauthtoken", 2, "name", json!("t1")),
        ("sentry.team", 22, "name", json!("a")),
        // The product has dropped this index in 25.3.
        ("sentry.groupsearchview", 2, "position", json!(1)),
    ] {
        let mut same = export.clone();
        set(&mut same, model, pk, field, value);
        for options in [ImportOptions::default().dry_run(), ImportOptions::default()] {
            let (refused, _) = import(&cluster, &same, &options).await;
            let message = assert_failed(&refused, ErrorReason::ExportInvalid);
            for part in [model, &format!("pk {pk}"), field] {
                assert!(message.contains(part), "{part} is not in {message}");
            }
        }
    }
    let rows = "SELECT slug AS line FROM sentry_organization";
    assert_eq!(ask(&cluster, Silo::Region(0), rows).await, [] as [String; 0]);
    let (done, _) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    // What is there already stays, and what conflicts with it is left out.
    let (again, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(again.state(), ImportState::Succeeded, "{:?}", again.failure);
    let dropped = of_kind(&findings, FindingKind::DuplicateDropped);
    assert_eq!(dropped, [("sentry.orgauthtoken", "")].into());
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

/// A database of before the first release of the catalog takes what it has tables and columns for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_a_newer_release_lands_in_a_database_older_than_the_catalog() {
    let older = [
        "ALTER TABLE sentry_project DROP COLUMN template_id",
        "ALTER TABLE sentry_alertrule DROP COLUMN description",
        "ALTER TABLE sentry_incident DROP COLUMN subscription_id",
        "DROP TABLE sentry_groupsearchview",
    ];
    let cluster = cluster(&Failpoints::default(), &[], &older).await;
    let export = exhaustive();
    let before = rows_now(&cluster, 0).await;
    let (done, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    let lost = of_kind(&findings, FindingKind::NotInDatabase);
    for expected in [("sentry.alertrule", "description"), ("sentry.groupsearchview", "")] {
        assert!(lost.contains(&expected), "{expected:?} is not in {lost:?}");
    }
    let (bytes, options) = (export.to_bytes(), ImportOptions::default());
    accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &done).run().await);
    cluster.stop().await;
}

/// Up to 25.0 some columns have older names, one says the opposite, conditions have their operator beside their type, and
/// the types of data sources are numbers. What a newer release knows by other names arrives there, and so does what these
/// releases know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_arrive_in_columns_of_older_names() {
    for one_database in [false, true] {
        let tables = product::tables(Release::R24_11).expect("the tables");
        let builder = Cluster::builder(Store::Postgres).region("us").tables_of_control(&tables);
        let builder = match one_database {
            true => builder.one_database(),
            false => builder.tables_of_regions(&tables),
        };
        let cluster = builder.start().await.expect("a cluster; this test needs PostgreSQL");
        let mut export = Export::new();
        export.organization(1, "one").user(11, "ann").member(1, 1, 11).project(31, 1, "project");
        export.push("workflow_engine.dataconditiongroup", 1, &json!({"organization": 1}));
        let query = json!({"type": 0, "dataset": "events", "query": "", "aggregate": "count()", "time_window": 60, "resolution": 60});
        for pk in [1, 2] {
            export.push("sentry.snubaquery", pk, &query);
            let subscription = json!({"project": 31, "type": "incidents", "snuba_query": pk, "status": 0});
            export.push("sentry.querysubscription", pk, &subscription);
            let dashboard = json!({"title": format!("d{pk}"), "created_by_id": 11, "organization": 1});
            export.push("sentry.dashboard", pk, &dashboard);
        }
        let monitor = json!({"guid": "c0ffee00-0000-4000-8000-000000000001", "slug": "m", "name": "m", "organization_id": 1, "project_id": 31, "config": {}});
        export.push("sentry.monitor", 1, &monitor);
        // As older releases write them, and as newer ones do.
        for (pk, source) in [
            (1, json!({"organization": 1, "query_id": 1, "type": 1})),
            (2, json!({"organization": 1, "source_id": "2", "type": "snuba_query_subscription"})),
            (3, json!({"organization": 1, "source_id": "1", "type": "cron_monitor"})),
        ] {
            export.push("workflow_engine.datasource", pk, &source);
        }
        let condition =
            json!({"condition_group": 1, "comparison": 1, "condition_result": true, "type": "gt"});
        export.push("workflow_engine.datacondition", 2, &condition);
        let mut older = condition;
        older["condition"] = json!("eq");
        older["type"] = json!("WorkflowCondition");
        export.push("workflow_engine.datacondition", 1, &older);
        export.push(
            "sentry.dashboardpermissions",
            1,
            &json!({"dashboard": 1, "is_creator_only_editable": true}),
        );
        export.push(
            "sentry.dashboardpermissions",
            2,
            &json!({"dashboard": 2, "is_editable_by_everyone": true}),
        );
        let before = rows_now(&cluster, 0).await;
        let (dry, told) = import(&cluster, &export, &ImportOptions::default().dry_run()).await;
        assert_eq!(dry.state(), ImportState::Planned, "{:?}", dry.failure);
        let (done, findings) = import(&cluster, &export, &ImportOptions::default()).await;
        assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
        for findings in [&told, &findings] {
            let lost = of_kind(findings, FindingKind::NotInDatabase);
            let lost: Vec<_> = lost.into_iter().filter(|(model, _)| model.starts_with("workflow_")).collect();
            assert_eq!(lost, [("workflow_engine.datasource", "type")]);
            assert_eq!(of_kind(findings, FindingKind::RemovedField), BTreeSet::new());
        }
        for (query, lines) in [
            (
                "SELECT q.snuba_query_id - (SELECT min(id) FROM sentry_snubaquery) || ' ' || s.type AS line \
                 FROM workflow_engine_datasource s JOIN sentry_querysubscription q ON q.id = s.query_id ORDER BY s.id",
                ["0 1", "1 1"],
            ),
            (
                "SELECT type || ' ' || condition AS line FROM workflow_engine_datacondition ORDER BY 1",
                ["WorkflowCondition eq", "gt gt"],
            ),
            (
                "SELECT d.title || ' ' || p.is_creator_only_editable AS line FROM sentry_dashboardpermissions p \
                 JOIN sentry_dashboard d ON d.id = p.dashboard_id ORDER BY 1",
                ["d1 true", "d2 false"],
            ),
        ] {
            assert_eq!(ask(&cluster, Silo::Region(0), query).await, lines, "{query}");
        }
        let (bytes, options) = (export.to_bytes(), ImportOptions::default());
        accounted(Audit::new(&cluster, 0, &before, &bytes, &options, &done).run().await);
        revert(&cluster, &done.import_id).await;
        cluster.stop().await;
    }
}

/// Users of the file who become one may both have what only one may have. Some of these unique sets are checked at the end
/// of a transaction. A dry run tells the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_merged_users_both_have_is_left_out_in_sets_of_this_database() {
    let (view, star, favorite) =
        ("sentry.groupsearchview", "sentry.groupsearchviewstarred", "sentry.dashboardfavoriteuser");
    for (release, lost) in
        [(Release::R24_9, vec![(view, 2)]), (Release::R26_6, vec![(star, 2), (favorite, 2)])]
    {
        let cluster = cluster_of(release, &Failpoints::default(), &[], &[]).await;
        let mut export = Export::new();
        export.organization(1, "one").user(11, "ann").user(12, "Ann");
        for pk in [1, 2] {
            let view =
                json!({"organization": 1, "user_id": 10 + pk, "name": "v", "query": "", "position": 0});
            export.push("sentry.groupsearchview", pk, &view);
            let star = json!({"organization": 1, "user_id": 10 + pk, "group_search_view": pk, "position": 0});
            export.push("sentry.groupsearchviewstarred", pk, &star);
            let dashboard = json!({"title": format!("d{pk}"), "created_by_id": 11, "organization": 1});
            export.push("sentry.dashboard", pk, &dashboard);
        }
        // The third one has the position of the second one, which is left out itself.
        for (pk, user, dashboard, position) in [(1, 12, 1, 0), (2, 11, 1, 1), (3, 12, 2, 1)] {
            let favorite =
                json!({"organization": 1, "user_id": user, "dashboard": dashboard, "position": position});
            export.push("sentry.dashboardfavoriteuser", pk, &favorite);
        }
        let options = ImportOptions::default().merge_users();
        let (dry, told) = import(&cluster, &export, &options.clone().dry_run()).await;
        assert_eq!(dry.state(), ImportState::Planned, "{:?}", dry.failure);
        let (done, findings) = import(&cluster, &export, &options).await;
        assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
        for findings in [&told, &findings] {
            let dropped = findings.iter().filter(|it| it.kind() == FindingKind::DuplicateDropped);
            let mut dropped: Vec<_> = dropped.map(|it| (it.model.as_str(), it.source_pk)).collect();
            dropped.sort_unstable_by_key(|it| std::cmp::Reverse(*it));
            assert_eq!(dropped, lost, "{release:?}");
        }
        cluster.stop().await;
    }
}

/// The tables of control and of the region are in schemas of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_database_serves_control_and_a_region() {
    let tables = product::tables(Release::R24_9).expect("the tables");
    let built =
        Cluster::builder(Store::Postgres).region("us").one_database().tables_of_control(&tables).start();
    let cluster = built.await.expect("a cluster; this test needs PostgreSQL");
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    assert_eq!(structure(&db).await, structure_of_product().await, "nothing of the product is another one");
    let ours = "SELECT schemaname || ' ' || count(*) AS line FROM pg_tables WHERE tablename LIKE 'causeway%' GROUP BY schemaname ORDER BY schemaname";
    let (of_control, of_region) = (cluster.db(Silo::Control).await.expect("a database"), db);
    for db in [&of_control, &of_region] {
        let rows = db.fetch_all(Statement::new(ours)).await.expect("asked");
        let schemas: Vec<String> = rows.iter().map(|row| row.text("line").expect("a text")).collect();
        let names: Vec<&str> = schemas.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ["causeway_control", "causeway_region"], "{schemas:?}");
    }

    let export = exhaustive();
    for round in 0..2 {
        let (done, _) = import(&cluster, &export, &ImportOptions::default()).await;
        assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
        let users = "SELECT count(*)::text AS line FROM sentry_organizationmember m JOIN auth_user u ON u.id = m.user_id";
        assert_ne!(ask(&cluster, Silo::Region(0), users).await, ["0"], "both parts are in one database");
        if round == 0 {
            // They find their schemas again.
            for service in [Service::Control(0), Service::Region(0)] {
                cluster.stop_service(service).await;
                cluster.start_service(service).await.expect("it starts");
            }
        }
    }
    cluster.stop().await;
}

/// No service is started again when somebody upgrades the product.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_product_between_two_imports_does_no_harm() {
    let cluster = as_it_is().await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann");
    set(&mut export, USER, 11, "is_suspended", json!(true));
    let (_, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert!(of_kind(&findings, FindingKind::NotInDatabase).contains(&(USER, "is_suspended")));

    let db = cluster.db(Silo::Control).await.expect("a database");
    execute(&db, "ALTER TABLE auth_user ADD COLUMN is_suspended boolean").await;
    execute(&db, "UPDATE auth_user SET is_suspended = false").await;
    execute(&db, "ALTER TABLE auth_user ALTER COLUMN is_suspended SET NOT NULL").await;
    let (done, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    assert_eq!(of_kind(&findings, FindingKind::NotInDatabase), BTreeSet::new());
    let suspended =
        ask(&cluster, Silo::Control, "SELECT is_suspended::text AS line FROM auth_user ORDER BY id").await;
    assert_eq!(suspended, ["false", "true"]);
    cluster.stop().await;
}

/// What was found when the import was planned does not hold any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_product_during_an_import_ends_it() {
    for (place, silo, upgrade) in [
        ("region.plan.stored", Silo::Region(0), "ALTER TABLE sentry_team ADD COLUMN later integer"),
        ("region.plan.stored", Silo::Control, "ALTER TABLE auth_user ALTER COLUMN email TYPE varchar(74)"),
        (
            "region.chunk.ready",
            Silo::Region(0),
            "ALTER TABLE sentry_team DROP COLUMN org_role, DROP COLUMN status",
        ),
        ("region.control_chunk.ready", Silo::Control, "ALTER TABLE auth_user DROP COLUMN avatar_url"),
        // A value is sent in the form of the type that the column had.
        ("region.chunk.ready", Silo::Region(0), "ALTER TABLE sentry_team ALTER COLUMN status TYPE bigint"),
        ("region.chunk.ready", Silo::Region(0), "DROP TABLE sentry_team CASCADE"),
    ] {
        let failpoints = Failpoints::default();
        let cluster = cluster(&failpoints, &[], &[]).await;
        let is_between = place == "region.plan.stored";
        failpoints.arm(place, if is_between { Act::Kill } else { Act::Hold }, 0);
        let mut export = Export::new();
        export.organization(1, "one").user(11, "ann").team(21, 1, "team");
        let id = begin(&cluster, &export, &ImportOptions::default()).await;
        if is_between {
            cluster.killed().await;
        } else {
            failpoints.held().await;
        }
        execute(&cluster.db(silo).await.expect("a database"), upgrade).await;
        failpoints.disarm();
        if is_between {
            cluster.start_service(Service::Region(0)).await.expect("it starts");
        } else {
            failpoints.release();
        }
        let ended = cluster.region(0).wait(&id).await.expect("it ends");
        assert_failed(&ended, ErrorReason::SchemaChanged);
        assert_eq!(cluster.region(0).visible_organizations().await.expect("asked"), []);
        revert(&cluster, &id).await;
        cluster.stop().await;
    }
}

async fn revert(cluster: &Cluster, import_id: &str) {
    let request = RevertImportRequest { import_id: import_id.to_owned() };
    cluster.region(0).imports().revert_import(request).await.expect("it is taken back");
    let reverted = cluster.region(0).wait(import_id).await.expect("it ends");
    assert_eq!(reverted.state(), ImportState::Reverted);
    for (silo, query) in [
        (Silo::Control, "SELECT username AS line FROM auth_user"),
        (Silo::Region(0), "SELECT slug AS line FROM sentry_organization"),
    ] {
        assert_eq!(ask(cluster, silo, query).await, [] as [String; 0], "{query}");
    }
}

/// The rows of a table go with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_is_reverted_after_the_product_has_dropped_its_tables() {
    let cluster = as_it_is().await;
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").email(12, "ann@example.com").team(21, 1, "team");
    let (done, _) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    execute(&cluster.db(Silo::Control).await.expect("a database"), "DROP TABLE sentry_email CASCADE").await;
    execute(&cluster.db(Silo::Region(0)).await.expect("a database"), "DROP TABLE sentry_team CASCADE").await;
    revert(&cluster, &done.import_id).await;
    cluster.stop().await;
}

/// Ids of users are those of other people in the product's database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_of_the_product_needs_a_control_of_the_product() {
    let tables = product::tables(Release::R24_9).expect("the tables");
    let built = Cluster::builder(Store::Postgres).region("us").tables_of_regions(&tables).start().await;
    let cluster = built.expect("a cluster; this test needs PostgreSQL");
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann");
    let (failed, _) = import(&cluster, &export, &ImportOptions::default()).await;
    let message = assert_failed(&failed, ErrorReason::ControlNotOfProduct);
    assert!(message.contains("--database-url"), "{message}");
    assert_eq!(
        ask(&cluster, Silo::Control, "SELECT username AS line FROM auth_user").await,
        [] as [String; 0]
    );
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
    for (export, code, told) in [
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
        assert!(shown.contains(told), "{told} is not in {shown}");
    }
    let rows = "SELECT slug AS line FROM sentry_organization";
    assert_eq!(ask(&cluster, Silo::Region(0), rows).await, [] as [String; 0]);
    cluster.stop().await;
}
