//! Tables of older releases: an export of a newer one arrives in the tables and columns that are there.

use std::collections::BTreeSet;

use causeway_harness::{
    account::Audit,
    cluster::{Cluster, Failpoints, ImportOptions, Silo, Store},
    export::Export,
    product::{self, Release},
};
use causeway_proto::{
    region::v1::ImportState,
    relocation::v1::{ErrorReason, FindingKind},
};
use serde_json::json;

use super::{
    as_it_is, ask, assert_failed, cluster, import, of_kind, revert, set, structure, structure_of_product,
};
use crate::support::{accounted, exhaustive, rows_now};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_a_newer_release_lands_in_what_the_product_has() {
    let cluster = as_it_is().await;
    let made = Cluster::builder(Store::Postgres).region("us").start().await.expect("a cluster");
    let product = structure_of_product().await;

    let export = exhaustive();
    let (dry, predicted) = import(&cluster, &export, &ImportOptions::default().dry_run()).await;
    assert_eq!(dry.state(), ImportState::Planned, "{:?}", dry.failure);
    let (done, findings) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
    let lost = of_kind(&findings, FindingKind::NotInDatabase);
    assert!(lost.contains(&("workflow_engine.detector", "")), "{lost:?}");
    assert_eq!(lost, of_kind(&predicted, FindingKind::NotInDatabase), "a dry run reports the same");
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
        let (dry, predicted) = import(&cluster, &export, &ImportOptions::default().dry_run()).await;
        assert_eq!(dry.state(), ImportState::Planned, "{:?}", dry.failure);
        let (done, findings) = import(&cluster, &export, &ImportOptions::default()).await;
        assert_eq!(done.state(), ImportState::Succeeded, "{:?}", done.failure);
        for findings in [&predicted, &findings] {
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
