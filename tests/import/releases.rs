//! Exports of all releases: models and fields under the names that they have in some, and what only some releases have.

use std::collections::BTreeSet;

use causeway_bench::generate::Release;
use causeway_harness::{
    account::{Cell, Outcome},
    cluster::{ImportOptions, Store},
    export::Export,
};
use causeway_proto::relocation::v1::{ErrorReason, FindingKind};
use serde_json::json;

use crate::support::{
    USER, cluster, fails, import, import_in_all_ways, kinds, of_release, revert_all, rows_now,
};

const MONITOR: &str = "sentry.monitor";
const SUBSCRIPTION: &str = "sentry.querysubscription";
const SOURCE: &str = "workflow_engine.datasource";
const DETECTOR: &str = "workflow_engine.detector";

/// An organization with a project, a team, a user and a query subscription.
fn base() -> Export {
    let mut export = Export::new();
    export.organization(1, "one").user(11, "ann").team(21, 1, "team").project(31, 1, "project");
    export.push(
        "sentry.snubaquery",
        41,
        &json!({"type": 0, "dataset": "events", "query": "", "aggregate": "count()", "time_window": 60, "resolution": 60}),
    );
    let subscription = json!({"project": 31, "type": "incidents", "snuba_query": 41, "status": 0});
    export.push(SUBSCRIPTION, 51, &subscription);
    export
}

fn monitor(slug: &str) -> serde_json::Value {
    json!({"organization_id": 1, "project_id": 31, "guid": "00000000-0000-4000-8000-00000000000a", "slug": slug, "name": slug})
}

pub(crate) async fn a_model_is_known_by_all_its_names(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = base();
    export.push(MONITOR, 61, &monitor("old")).push("monitors.monitor", 62, &monitor("new"));
    export.push("Monitors.Monitor", 63, &monitor("newer"));
    // The model of this name never was in this application.
    export.push("billing.monitor", 64, &monitor("nobody"));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    for pk in [61, 62, 63] {
        assert!(matches!(account.outcome(MONITOR, pk), Some(Outcome::Inserted(_))), "{pk}");
    }
    assert_eq!(account.findings_of(FindingKind::UnknownModel).len(), 1);
    cluster.stop().await;
}

pub(crate) async fn a_key_that_stands_under_two_names_of_a_model_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = base();
    export.push(MONITOR, 61, &monitor("old")).push("monitors.monitor", 61, &monitor("new"));
    let first = export.offset(MONITOR, 61).expect("it is there");
    let second = export.offset("monitors.monitor", 61).expect("it is there");
    let (_, message) = fails(&cluster, &export, &ImportOptions::default(), ErrorReason::ExportInvalid).await;
    for part in [MONITOR, "monitors.monitor", "pk 61", &format!("byte {first}"), &format!("byte {second}")] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    cluster.stop().await;
}

/// Newer releases make a member for each invitation, with neither a user nor an address. The invitation has both the
/// address and the member.
pub(crate) async fn an_invitation_comes_with_its_member(store: Store) {
    const MEMBER: &str = "sentry.organizationmember";
    const INVITE: &str = "sentry.organizationmemberinvite";
    let cluster = cluster(store, &["us"]).await;
    let mut export = base();
    export.push(MEMBER, 71, &json!({"organization": 1, "user_id": null, "email": null, "role": "member"}));
    export.push(MEMBER, 72, &json!({"organization": 1, "user_id": null, "email": null, "role": "member"}));
    export.push(
        INVITE,
        81,
        &json!({"organization": 1, "organization_member": 71, "email": "new@example.com", "token": "t"}),
    );
    for again in [false, true] {
        let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
        let inserted = |model: &str, pk| match account.outcome(model, pk) {
            Some(Outcome::Inserted(id)) => id,
            other => panic!("{model} {pk}: {other:?}"),
        };
        let (member, _) = (inserted(MEMBER, 71), inserted(MEMBER, 72));
        let invite = account.after.row(INVITE, inserted(INVITE, 81)).expect("it is there");
        assert_eq!(invite.get("organization_member"), Some(&Cell::Int(member)));
        // Another invitation has the first one, so this one cannot be accepted with it.
        assert_eq!(invite.get("token") == Some(&Cell::Text("t".to_owned())), !again);
    }
    cluster.stop().await;
}

/// A data source leads to a record whose model its type names. What leads nowhere is not written, and neither is what
/// depends on it.
pub(crate) async fn a_data_source_leads_to_what_its_type_names(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = base();
    export.push(MONITOR, 51, &monitor("monitor"));
    let source = |kind: &str, source_id: serde_json::Value| json!({"organization": 1, "type": kind, "source_id": source_id});
    export.push(SOURCE, 1, &source("snuba_query_subscription", json!("51")));
    export.push(SOURCE, 2, &source("cron_monitor", json!("51")));
    // As numbers, under the name that the field had at first.
    export.push(SOURCE, 3, &json!({"organization": 1, "type": 1, "query_id": 52}));
    let subscription = json!({"project": 31, "type": "incidents", "snuba_query": 41, "status": 0});
    export.push(SUBSCRIPTION, 52, &subscription);
    export.push(SOURCE, 4, &source("uptime_subscription", json!("51")));
    export.push(SOURCE, 5, &source("cron_monitor", json!("99")));
    export.push(SOURCE, 6, &source("cron_monitor", json!("of no number")));
    export.push(DETECTOR, 1, &json!({"project": 31, "name": "d", "type": "t"}));
    for (pk, source) in [(1, 1), (4, 4)] {
        let joined = json!({"data_source": source, "detector": 1});
        export.push("workflow_engine.datasourcedetector", pk, &joined);
    }
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    for (pk, target, source) in [(1, SUBSCRIPTION, 51), (2, MONITOR, 51), (3, SUBSCRIPTION, 52)] {
        let Some(Outcome::Inserted(new)) = account.outcome(target, source) else {
            panic!("{target} {source} is new")
        };
        let row = account.row(SOURCE, pk).unwrap_or_else(|| panic!("source {pk} is no row"));
        assert_eq!(row["source_id"], Cell::Text(new.to_string()), "{pk}");
        let kind = if target == MONITOR { "cron_monitor" } else { "snuba_query_subscription" };
        assert_eq!(row["type"], Cell::Text(kind.to_owned()), "{pk}");
    }
    for pk in [4, 5, 6] {
        assert_eq!(account.outcome(SOURCE, pk), Some(Outcome::Dropped), "{pk}");
    }
    assert_eq!(account.outcome("workflow_engine.datasourcedetector", 4), Some(Outcome::Dropped));
    let dropped = account.findings_of(FindingKind::DroppedReference);
    let of = |pk: i64| dropped.iter().find(|it| it.model == SOURCE && it.source_pk == pk).expect("a finding");
    assert!(of(4).reason.contains("uptime_subscription") && of(4).field == "type", "{:?}", of(4));
    assert!(of(5).reason.contains("sentry.monitor 99") && of(5).field == "source_id", "{:?}", of(5));
    cluster.stop().await;
}

/// Two sources of one type and key are one, however the file writes them, and nothing is written of either. A dry run tells
/// the same.
pub(crate) async fn data_sources_of_one_target_are_refused_however_they_are_written(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let source = json!({"organization": 1, "type": "snuba_query_subscription", "source_id": "51"});
    for other in [
        json!({"organization": 1, "type": 1, "query_id": 51}),
        json!({"organization": 1, "type": "1", "source_id": "51"}),
        json!({"organization": 1, "type": "snuba_query_subscription", "source_id": "0051"}),
    ] {
        let mut export = base();
        export.push(SOURCE, 1, &source).push(SOURCE, 2, &other);
        for options in [ImportOptions::default().dry_run(), ImportOptions::default()] {
            let (_, message) = fails(&cluster, &export, &options, ErrorReason::ExportInvalid).await;
            for part in [SOURCE, "pk 1", "pk 2"] {
                assert!(message.contains(part), "{part} is not in {message}");
            }
        }
    }
    cluster.stop().await;
}

/// A target may be a number. One that is empty although its type names a record leads to nothing.
pub(crate) async fn a_target_that_is_empty_or_a_number_is_read(store: Store) {
    const ACTION: &str = "sentry.notificationaction";
    let cluster = cluster(store, &["us"]).await;
    let mut export = base();
    let action = |kind: i64, target: serde_json::Value| json!({"organization": 1, "type": 0, "target_type": kind, "target_identifier": target, "trigger_type": 0});
    for (pk, kind, target) in
        [(1, 2, json!(21)), (2, 1, json!(11)), (3, 0, json!("")), (4, 2, json!("")), (5, 2, json!(null))]
    {
        export.push(ACTION, pk, &action(kind, target));
    }
    for (pk, kind) in [(1, "cron_monitor"), (2, "nobody_knows")] {
        export.push(SOURCE, pk, &json!({"organization": 1, "type": kind, "source_id": ""}));
    }
    let dry = cluster.region(0).import(&export.to_bytes(), &ImportOptions::default().dry_run()).await;
    let told = dry.expect("it ends").finding_counts;
    let (done, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let target = |pk| account.row(ACTION, pk).expect("a row")["target_identifier"].clone();
    for (pk, model, source) in [(1, "sentry.team", 21), (2, USER, 11)] {
        let Some(Outcome::Inserted(new)) = account.outcome(model, source) else { panic!("it is new") };
        assert_eq!(target(pk), Cell::Text(new.to_string()));
    }
    assert_eq!([target(3), target(5)], [Cell::Text(String::new()), Cell::Null]);
    for (model, pk) in [(ACTION, 4), (SOURCE, 1), (SOURCE, 2)] {
        assert_eq!(account.outcome(model, pk), Some(Outcome::Dropped), "{model} {pk}");
    }
    assert_eq!(kinds(&account), [("DROPPED_REFERENCE", 3)].into());
    let counts = |counts: &[causeway_proto::relocation::v1::FindingCount]| {
        counts.iter().map(|it| (it.kind, it.count)).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(counts(&told), counts(&done.finding_counts), "a dry run tells the same");
    cluster.stop().await;
}

/// The address by which somebody signs in stays only with one user.
pub(crate) async fn an_address_to_sign_in_with_is_cleared_if_it_is_taken(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let user = |export: &mut Export, pk: i64, name: &str, unique: serde_json::Value| {
        let fields = json!({"username": name, "password": "x", "email": "a@example.com", "email_unique": unique, "is_suspended": true});
        export.push(USER, pk, &fields);
    };
    let mut export = Export::new();
    user(&mut export, 1, "ann", json!("ann@example.com"));
    user(&mut export, 2, "bob", json!("ann@example.com"));
    user(&mut export, 3, "eve", json!(null));
    // Without regard to case, as usernames: otherwise two people could have one address.
    user(&mut export, 4, "ANNA", json!("Ann@Example.com"));
    let unique = |account: &causeway_harness::account::AuditReport, pk| {
        account.row(USER, pk).expect("a row")["email_unique"].clone()
    };
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(unique(&account, 1), Cell::Text("ann@example.com".to_owned()));
    assert_eq!([2, 3, 4].map(|pk| unique(&account, pk)), [Cell::Null, Cell::Null, Cell::Null]);
    assert_eq!(account.row(USER, 3).expect("a row")["is_suspended"], Cell::Bool(true));
    assert_eq!(kinds(&account)["TOKEN_CLEARED"], 2);
    // Now somebody here has it.
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!([1, 4].map(|pk| unique(&account, pk)), [Cell::Null, Cell::Null]);
    let mut other = Export::new();
    user(&mut other, 1, "tom", json!("ANN@example.com"));
    user(&mut other, 2, "tim", json!("Tim@example.com"));
    let dry = cluster.region(0).import(&other.to_bytes(), &ImportOptions::default().dry_run()).await;
    let reported = dry.expect("it ends").finding_counts;
    let (done, account) = import(&cluster, &other, &ImportOptions::default()).await;
    assert_eq!(unique(&account, 1), Cell::Null);
    assert_eq!(unique(&account, 2), Cell::Text("Tim@example.com".to_owned()), "it is kept as it is written");
    let counts = |counts: &[causeway_proto::relocation::v1::FindingCount]| {
        counts.iter().map(|it| (it.kind, it.count)).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(counts(&reported), counts(&done.finding_counts), "a dry run tells the same");
    cluster.stop().await;
}

/// What only some releases have is null or its default in a record of another one.
pub(crate) async fn a_record_of_any_release_is_read(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = base();
    export.push("sentry.dashboard", 1, &json!({"title": "24.8", "created_by_id": 11, "organization": 1}));
    export.push(
        "sentry.dashboard",
        2,
        &json!({"title": "25.8", "created_by_id": null, "organization": 1, "prebuilt_id": 3}),
    );
    // Of one title, as only dashboards that somebody made must differ in theirs.
    export.push(
        "sentry.dashboard",
        3,
        &json!({"title": "25.8", "created_by_id": null, "organization": 1, "prebuilt_id": 4}),
    );
    export.push(
        "sentry.dashboardwidget",
        1,
        &json!({"dashboard": 1, "title": "w", "display_type": 0, "order": 0, "description": "d".repeat(300)}),
    );
    export.push(
        "sentry.dashboardwidget",
        2,
        &json!({"dashboard": 2, "title": "w", "display_type": 0, "dataset_source": 2}),
    );
    export.push(
        "sentry.groupsearchview",
        1,
        &json!({"name": "24.8", "user_id": 11, "organization": 1, "query": "", "position": 0}),
    );
    export.push(
        "sentry.groupsearchview",
        3,
        &json!({"name": "25.2", "user_id": 11, "organization": 1, "query": "", "position": 1}),
    );
    export.push("sentry.groupsearchview", 2, &json!({"name": "25.3", "user_id": 11, "organization": 1, "query": "", "environments": ["e"], "time_filters": {"period": "1h"}}));
    export.push(
        DETECTOR,
        1,
        &json!({"project": 31, "name": "25.1", "type": "t", "owner_team": 21, "organization": 1}),
    );
    export.push(DETECTOR, 2, &json!({"project": 31, "name": "26.6", "type": "t", "owner_team_id": 21}));
    export.push(DETECTOR, 3, &json!({"project": 31, "name": "lost", "type": "t", "owner_team_id": 99}));
    // The field had the opposite meaning at first, and favorites were of no organization.
    for (pk, only) in [(1, Some(true)), (2, Some(false)), (3, None)] {
        let fields = match only {
            Some(only) => json!({"dashboard": pk, "is_creator_only_editable": only}),
            None => {
                json!({"is_editable_by_everyone": false, "dashboard": pk, "is_creator_only_editable": false})
            }
        };
        export.push("sentry.dashboardpermissions", pk, &fields);
    }
    // The operator of a condition was next to its type at first.
    const CONDITION: &str = "workflow_engine.datacondition";
    export.push("workflow_engine.dataconditiongroup", 1, &json!({"organization": 1, "logic_type": "any"}));
    let condition = |operator: serde_json::Value, kind: &str| json!({"condition_group": 1, "comparison": 5, "condition_result": "75", "condition": operator, "type": kind});
    export.push(CONDITION, 1, &condition(json!("gt"), "WorkflowCondition"));
    export.push(CONDITION, 2, &condition(json!(null), "lte"));
    // The projects of a view were in the view.
    for (pk, projects) in [(4, json!([])), (5, json!("[-1]")), (6, json!([31]))] {
        let view = json!({"name": "25.1", "user_id": 11, "organization": 1, "query": "", "position": pk, "is_all_projects": false, "projects": projects});
        export.push("sentry.groupsearchview", pk, &view);
    }
    // In early 2025, a view may have had no times.
    let view = json!({"name": "25.1", "user_id": 11, "organization": 1, "query": "", "position": 7, "time_filters": null});
    export.push("sentry.groupsearchview", 7, &view);
    // Two references had other names.
    let rule = json!({"project": 31, "label": "r", "data": {}});
    let alert = json!({"organization": 1, "name": "a", "snuba_query": 41, "status": 0, "threshold_type": 0, "threshold_period": 1});
    export.push("sentry.rule", 1, &rule).push("sentry.alertrule", 2, &alert);
    export.push("workflow_engine.workflow", 1, &json!({"organization": 1, "name": "w"}));
    let joined = |other: &str, rule, alert| json!({other: 1, "rule": rule, "alert_rule": alert});
    export.push("workflow_engine.alertruleworkflow", 1, &joined("workflow", Some(1), None));
    export.push("workflow_engine.alertruledetector", 1, &joined("detector", None, Some(2)));
    export.push("sentry.dashboardfavoriteuser", 1, &json!({"dashboard": 1, "user_id": 11}));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let cell = |model: &str, pk: i64, field: &str| account.row(model, pk).expect("a row")[field].clone();
    let Some(Outcome::Inserted(team)) = account.outcome("sentry.team", 21) else { panic!("it is new") };
    assert_eq!(cell(DETECTOR, 1, "owner_team_id"), Cell::Int(team));
    assert_eq!(cell(DETECTOR, 2, "owner_team_id"), Cell::Int(team));
    assert_eq!(cell(DETECTOR, 3, "owner_team_id"), Cell::Null);
    assert_eq!(cell("sentry.dashboardwidget", 1, "dataset_source"), Cell::Int(0));
    assert_eq!(cell("sentry.groupsearchview", 2, "position"), Cell::Null);
    assert_eq!(cell("sentry.groupsearchview", 1, "visibility"), Cell::Text("organization".to_owned()));
    for (pk, everyone) in [(1, false), (2, true), (3, false)] {
        assert_eq!(cell("sentry.dashboardpermissions", pk, "is_editable_by_everyone"), Cell::Bool(everyone));
    }
    assert_eq!(cell("sentry.dashboardfavoriteuser", 1, "organization"), Cell::Null);
    assert_eq!(account.after.rows("sentry.dashboard").len(), 3);
    assert_eq!(account.after.rows("sentry.groupsearchview").len(), 7);
    assert_eq!(cell("sentry.groupsearchview", 7, "time_filters"), Cell::Null);
    for (pk, operator) in [(1, "gt"), (2, "lte")] {
        assert_eq!(cell(CONDITION, pk, "type"), Cell::Text(operator.to_owned()), "{pk}");
    }
    for (pk, all) in [(4, false), (5, true), (6, false)] {
        assert_eq!(cell("sentry.groupsearchview", pk, "is_all_projects"), Cell::Bool(all), "{pk}");
    }
    let key = |model: &str, pk: i64| match account.outcome(model, pk) {
        Some(Outcome::Inserted(id)) => Cell::Int(id),
        other => panic!("{model} {pk}: {other:?}"),
    };
    let [of_rule, of_alert] = ["workflow_engine.alertruleworkflow", "workflow_engine.alertruledetector"];
    assert_eq!(cell(of_rule, 1, "rule_id"), key("sentry.rule", 1));
    assert_eq!(cell(of_alert, 1, "alert_rule_id"), key("sentry.alertrule", 2));
    let reported: Vec<(&str, &str)> = account
        .findings
        .iter()
        .filter(|it| matches!(it.kind(), FindingKind::RemovedField | FindingKind::UnknownField))
        .map(|it| (it.model.as_str(), it.field.as_str()))
        .collect();
    assert_eq!(reported, [], "nothing is lost");
    // What was in the view is in rows of its own.
    let rows = |model: &str| account.after.rows(model).values().cloned().collect::<Vec<_>>();
    let positions = rows("sentry.groupsearchviewstarred").into_iter().map(|row| row["position"].clone());
    let positions: BTreeSet<i64> = positions.filter_map(|cell| cell.as_int()).collect();
    assert_eq!(positions, [0, 1, 4, 5, 6, 7].into());
    let projects = rows("sentry.groupsearchviewproject");
    assert_eq!(projects.len(), 1);
    assert_eq!(projects[0]["group_search_view"], key("sentry.groupsearchview", 6));
    cluster.stop().await;
}

/// An export as installations of each release write it arrives whole, in part, again and with users merged,
/// and is reverted without a trace.
pub(crate) async fn exports_of_each_release_arrive_in_all_ways(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let empty = rows_now(&cluster, 0).await;
    for release in Release::ALL {
        let export = of_release(release);
        let records: Vec<serde_json::Value> = serde_json::from_slice(&export).expect("JSON");
        let slugs = records.iter().filter(|record| record["model"] == "sentry.organization");
        let slug = slugs.filter_map(|record| record["fields"]["slug"].as_str()).nth(1).expect("a slug");
        let imports = import_in_all_ways(&cluster, &export, slug).await;
        revert_all(&cluster, &imports).await;
        assert_eq!(rows_now(&cluster, 0).await, empty, "nothing stays of {release:?}");
    }
    cluster.stop().await;
}
