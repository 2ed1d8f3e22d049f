//! Primary keys inside values: in JSON, in searches, and in texts whose model another column names.

use causeway_harness::{
    account::{AuditReport, Cell, Outcome},
    cluster::{ImportOptions, Store},
    export::Export,
};
use causeway_proto::relocation::v1::FindingKind;
use serde_json::{Value, json};

use crate::support::{USER, cluster, import, kinds};

const RULE: &str = "sentry.rule";
const TEAM: &str = "sentry.team";
const PROJECT: &str = "sentry.project";
const ACTION: &str = "sentry.notificationaction";
const USER_OPTION: &str = "sentry.useroption";
/// The MD5 hash of `project.id:4 is:unresolved`.
const SEARCH_HASH: &str = "5d09b0e3eaba63bde7cce3f3a7feffeb";

fn action(kind: &str, pk: &Value) -> Value {
    json!({"id": "mail", "targetType": kind, "targetIdentifier": pk})
}

/// An organization with a member, a team and a project, and with what names them in values. The primary keys are
/// `number` and those after it.
fn organization(export: &mut Export, number: i64, slug: &str) {
    let [user, team, project] = [number + 1, number + 2, number + 3];
    export.organization(number, slug).user(user, slug).member(number, number, user);
    export.team(team, number, "team").project(project, number, "project");
    let data = json!({"actions": [action("Team", &json!(team)), action("Member", &json!(user.to_string()))]});
    export.push(RULE, number, &json!({"project": project, "label": "r", "data": data.to_string()}));
    let notify = |kind: i64, target: &str| json!({"organization": number, "type": 0, "target_type": kind, "target_identifier": target, "trigger_type": 0});
    export.push(ACTION, number, &notify(2, &team.to_string()));
    export.push(ACTION, number + 1, &notify(1, &user.to_string()));
    export.push(ACTION, number + 2, &notify(0, "#channel"));
    let search = format!("project.id:{project} is:unresolved");
    export.push("sentry.savedsearch", number, &json!({"organization": number, "name": "s", "query": search}));
    // The hash of the search of the first one, and something else.
    for (kind, hash) in [SEARCH_HASH.to_owned(), "0".repeat(32)].into_iter().enumerate() {
        let recent = json!({"organization": number, "user_id": user, "type": kind, "query": search, "query_hash": hash});
        export.push("sentry.recentsearch", number + i64::try_from(kind).expect("a number"), &recent);
    }
    let reports = json!({"user": user, "key": "reports:disabled-organizations", "value": [number]});
    export.push(USER_OPTION, number, &reports);
}

fn json_of(account: &AuditReport, model: &str, pk: i64, field: &str) -> Value {
    match account.row(model, pk).and_then(|row| row.get(field).cloned()) {
        Some(Cell::Json(value)) => value,
        other => panic!("{model} {pk} {field} is {other:?}"),
    }
}

fn new(account: &AuditReport, model: &str, pk: i64) -> i64 {
    match account.outcome(model, pk) {
        Some(Outcome::Inserted(id)) => id,
        outcome => panic!("{model} {pk} is {outcome:?}"),
    }
}

/// The primary keys of the file are those of another organization here, who must not get mails about errors, or be asked.
pub(crate) async fn ids_inside_values_lead_to_the_new_rows(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    for slug in ["first", "second"] {
        let mut export = Export::new();
        organization(&mut export, 1, slug);
        let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
        assert_eq!(kinds(&account), [].into());
        let [user, team, project] =
            [(USER, 2), (TEAM, 3), (PROJECT, 4)].map(|(model, pk)| new(&account, model, pk));
        let actions = json!([action("Team", &json!(team)), action("Member", &json!(user.to_string()))]);
        assert_eq!(json_of(&account, RULE, 1, "data")["actions"], actions);
        for (pk, target) in [(1, team.to_string()), (2, user.to_string()), (3, "#channel".to_owned())] {
            assert_eq!(
                account.row(ACTION, pk).expect("it is there")["target_identifier"],
                Cell::Text(target)
            );
        }
        let search = Cell::Text(format!("project.id:{project} is:unresolved"));
        assert_eq!(account.row("sentry.savedsearch", 1).expect("it is there")["query"], search);
        let hash =
            |pk: i64| account.row("sentry.recentsearch", pk).expect("it is there")["query_hash"].clone();
        assert_ne!(hash(1), Cell::Text(SEARCH_HASH.to_owned()), "it is the hash of the new search");
        assert_eq!(hash(2), Cell::Text("0".repeat(32)), "it was no hash");
        // The row of an option is in control.
        let organization = new(&account, "sentry.organization", 1);
        assert_eq!(json_of(&account, USER_OPTION, 1, "value"), json!([organization]));
    }
    cluster.stop().await;
}

/// A user who was merged is found, too.
pub(crate) async fn ids_of_merged_users_lead_to_those_who_are_here(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    organization(&mut export, 1, "one");
    let (_, first) = import(&cluster, &export, &ImportOptions::default()).await;
    let user = new(&first, USER, 2);
    let (_, account) = import(&cluster, &export, &ImportOptions::default().merge_users()).await;
    assert_eq!(account.outcome(USER, 2), Some(Outcome::Existing(user)));
    let actions = json_of(&account, RULE, 1, "data")["actions"].clone();
    assert_eq!(actions[1], action("Member", &json!(user.to_string())));
    cluster.stop().await;
}

pub(crate) async fn ids_of_what_is_not_imported_are_cleared_and_reported(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    organization(&mut export, 1, "one");
    organization(&mut export, 101, "two");
    let data = json!({
        "filters": [action("Team", &json!(103))],
        "actions": [action("Team", &json!(3)), action("Member", &json!("102")), {"id": "jira", "integration": "7"}],
    });
    export.push(RULE, 2, &json!({"project": 4, "label": "r", "data": data}));
    let search =
        |pk: i64, search: &str| (pk, json!({"organization": 1, "name": pk.to_string(), "query": search}));
    for (pk, search) in [search(2, "project.id:[4,104]"), search(3, "project:104")] {
        export.push("sentry.savedsearch", pk, &search);
    }
    let notify = |target: &str| json!({"organization": 1, "type": 0, "target_type": 2, "target_identifier": target, "trigger_type": 0});
    export.push(ACTION, 4, &notify("103")).push(ACTION, 5, &notify("nobody"));
    let reports = json!({"user": 2, "key": "x:organization_ids", "value": [101, 1]});
    export.push(USER_OPTION, 2, &reports);
    let options = ImportOptions::default().filter(&["one"]);
    let dry =
        cluster.region(0).import(&export.to_bytes(), &options.clone().dry_run()).await.expect("it ends");
    let (real, account) = import(&cluster, &export, &options).await;

    let (team, project) = (new(&account, TEAM, 3), new(&account, PROJECT, 4));
    let data = json_of(&account, RULE, 2, "data");
    assert_eq!(data["filters"], json!([action("Team", &Value::Null)]));
    let actions = [
        action("Team", &json!(team)),
        action("Member", &Value::Null),
        json!({"id": "jira", "integration": null}),
    ];
    assert_eq!(data["actions"], json!(actions));
    let text = |text: &str| Cell::Text(text.to_owned());
    let searched = |pk: i64| account.row("sentry.savedsearch", pk).expect("it is there")["query"].clone();
    assert_eq!(searched(2), text(&format!("project.id:[{project},0]")));
    assert_eq!(searched(3), text("project:104"), "it may be a slug");
    assert_eq!(json_of(&account, USER_OPTION, 2, "value"), json!([new(&account, "sentry.organization", 1)]));
    for pk in [4, 5] {
        assert_eq!(account.outcome(ACTION, pk), Some(Outcome::Dropped), "{pk}");
    }
    let cleared = account.findings_of(FindingKind::ClearedReference);
    let of_rule: Vec<&str> =
        cleared.iter().filter(|it| it.model == RULE).map(|it| it.reason.as_str()).collect();
    for part in [
        "filters[0].targetIdentifier led to sentry.team 103",
        "actions[1].targetIdentifier led to sentry.user 102",
        "actions[2].integration led to sentry.integration 7",
    ] {
        assert!(of_rule.iter().any(|reason| reason.starts_with(part)), "{part} is not in {of_rule:?}");
    }
    let expected = [("CLEARED_REFERENCE", 5), ("DROPPED_REFERENCE", 2), ("ID_NOT_MAPPED", 1)];
    assert_eq!(kinds(&account), expected.into());
    let counts = |counts: &[causeway_proto::relocation::v1::FindingCount]| {
        let mut counts: Vec<(i32, i64)> = counts.iter().map(|it| (it.kind, it.count)).collect();
        counts.sort_unstable();
        counts
    };
    assert_eq!(counts(&dry.finding_counts), counts(&real.finding_counts), "a dry run tells the same");
    let reported = cluster.region(0).findings(&dry.import_id).await.expect("findings");
    let places = |findings: &[causeway_proto::relocation::v1::Finding]| {
        let mut places: Vec<(i32, String, String, i64)> =
            findings.iter().map(|it| (it.kind, it.model.clone(), it.field.clone(), it.source_pk)).collect();
        places.sort_unstable();
        places
    };
    assert_eq!(places(&reported), places(&account.findings), "of the same records");
    cluster.stop().await;
}

pub(crate) async fn what_may_be_an_id_and_is_not_understood_is_reported_once(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    organization(&mut export, 1, "one");
    for pk in [2, 3] {
        let value = json!({"query": "x", "boardId": pk, "board": {"column_ids": [pk]}});
        export.push(
            "sentry.organizationoption",
            pk,
            &json!({"organization": 1, "key": format!("k{pk}"), "value": value}),
        );
        export.push(
            "sentry.projectownership",
            pk,
            &json!({"project": 4 + 10 * (pk - 2), "raw": "", "schema": [pk], "date_created": "2024-03-05T06:07:08Z", "last_updated": "2024-03-05T06:07:08Z"}),
        );
    }
    export.project(14, 1, "other");
    let (import_with_findings, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let reported = account.findings_of(FindingKind::IdNotMapped);
    let mut reported: Vec<(&str, i64, &str)> = reported
        .iter()
        .map(|it| (it.model.as_str(), it.source_pk, it.reason.split(' ').next().unwrap_or_default()))
        .collect();
    let option = "sentry.organizationoption";
    let mut expected =
        [(option, 2, "boardId"), (option, 2, "board.column_ids[]"), ("sentry.projectownership", 2, "the")];
    reported.sort_unstable();
    expected.sort_unstable();
    assert_eq!(reported, expected);
    let counts =
        import_with_findings.models.iter().find(|counts| counts.model == option).expect("it is counted");
    assert_eq!((counts.inserted, counts.changed), (2, 0), "they are written as they are");
    cluster.stop().await;
}

/// Which projects a widget or a saved query shows. A term that may name a record in a form that is not understood is reported
/// once for each model and path.
pub(crate) async fn terms_of_searches_are_mapped_or_reported(store: Store) {
    const WIDGET: &str = "sentry.dashboardwidget";
    const QUERY: &str = "sentry.dashboardwidgetquery";
    const EXPLORE: &str = "explore.exploresavedquery";
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    organization(&mut export, 1, "one");
    export.project(14, 1, "other");
    export.push("sentry.dashboard", 5, &json!({"organization": 1, "title": "d", "created_by_id": 2}));
    export.push(WIDGET, 6, &json!({"dashboard": 5, "title": "w", "display_type": 0}));
    let understood = [
        "project.id:4,14",
        "project.id:!4",
        "project.id:>4 level:error",
        "!project.id:[4,14]",
        "project.id:-1",
        "user.id:4",
    ];
    let odd =
        ["project.id:4*", "project.id:(4)", "project.id:\"4,14\"", "Project:4", "team:3", "project.id:4*"];
    let query = |pk: i64, conditions: &str| json!({"widget": 6, "name": "q", "fields": "[]", "order": pk, "conditions": conditions, "orderby": ""});
    for (pk, conditions) in (1..).zip(understood.iter().chain(&odd)) {
        export.push(QUERY, pk, &query(pk, conditions));
    }
    let saved = |query: Value| json!({"organization": 1, "created_by_id": 2, "name": "s", "query": query, "dataset": 101});
    export.push(
        EXPLORE,
        1,
        &saved(json!({"queries": [{"query": "project.id:4"}, {"query": "project.id:4*"}]})),
    );
    // Minus one is all projects, and no team.
    export.push(
        "sentry.dashboard",
        7,
        &json!({"organization": 1, "title": "e", "created_by_id": 2, "filters": {"project": [-1]}}),
    );
    let data = json!({"actions": [action("Team", &json!(-1))]});
    export.push(RULE, 2, &json!({"project": 4, "label": "r", "data": data}));
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let [one, other] = [4, 14].map(|pk| new(&account, PROJECT, pk));
    let wanted = [
        format!("project.id:{one},{other}"),
        format!("project.id:!{one}"),
        format!("project.id:>{one} level:error"),
        format!("!project.id:[{one},{other}]"),
        "project.id:-1".to_owned(),
        "user.id:4".to_owned(),
    ];
    let wanted = wanted.into_iter().chain(odd.map(str::to_owned));
    for (pk, wanted) in (1..).zip(wanted) {
        assert_eq!(account.row(QUERY, pk).expect("it is there")["conditions"], Cell::Text(wanted), "{pk}");
    }
    let queries = json!([{"query": format!("project.id:{one}")}, {"query": "project.id:4*"}]);
    assert_eq!(json_of(&account, EXPLORE, 1, "query"), json!({"queries": queries}));
    let told = account.findings_of(FindingKind::IdNotMapped);
    let mut told: Vec<(&str, i64, &str)> = told
        .iter()
        .map(|it| (it.model.as_str(), it.source_pk, it.reason.split(" is ").next().unwrap_or_default()))
        .collect();
    told.sort_unstable();
    let mut expected = [
        (QUERY, 7, "project.id"),
        (QUERY, 10, "Project"),
        (QUERY, 11, "team"),
        (EXPLORE, 1, "queries[].query: project.id"),
        (RULE, 2, "actions[].targetIdentifier"),
    ];
    expected.sort_unstable();
    assert_eq!(told, expected);
    cluster.stop().await;
}

/// The application keeps a widget or a query as it was before it changed it, and dashboards as they were. These copies
/// have ids everywhere. A widget cannot refer to itself, so it forgets its own.
pub(crate) async fn ids_in_snapshots_lead_to_the_new_rows(store: Store) {
    const DASHBOARD: &str = "sentry.dashboard";
    const WIDGET: &str = "sentry.dashboardwidget";
    const QUERY: &str = "sentry.dashboardwidgetquery";
    const REVISION: &str = "sentry.dashboardrevision";
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    organization(&mut export, 1, "one");
    // The revision stands before what is in it.
    let query = |query: &str, widget: &str, dashboard: &str| {
        json!({
            "id": query, "widgetId": widget, "conditions": "project.id:4", "fields": ["id"],
            "onDemand": [{"enabled": true, "extractionState": "creation", "dashboardWidgetQueryId": query.parse::<i64>().expect("a number")}],
            "linkedDashboards": [{"field": "project", "dashboardId": dashboard}],
        })
    };
    let widget = |widget: &str, query: Value| json!({"id": widget, "dashboardId": "5", "limit": 7, "queries": [query]});
    let shown = json!({
        "id": "5", "projects": [4, 99], "filters": {"release": ["1"], "releaseId": ["9"]},
        "createdBy": {
            "id": "2", "name": "one", "emails": [{"id": "2", "email": "one"}, {"id": "96", "email": "two"}],
            "identities": [{"id": "95", "name": "n", "provider": {"id": "github", "name": "GitHub"}}],
        },
        "permissions": {"teamsWithEditAccess": [3]},
        "widgets": [widget("6", query("7", "6", "5")), widget("98", query("97", "98", "94"))],
    });
    export.push("sentry.useremail", 2, &json!({"user": 2, "email": "one"}));
    let revision = |snapshot: &Value| json!({"dashboard": 5, "title": "d", "snapshot_schema_version": 1, "snapshot": snapshot});
    export.push(REVISION, 8, &revision(&shown));
    // As a text, with an id whose model is unknown.
    export.push(REVISION, 9, &revision(&json!(json!({"id": 5, "prebuiltId": 3}).to_string())));
    export.push(DASHBOARD, 5, &json!({"organization": 1, "title": "d", "created_by_id": 2}));
    let before = widget("6", query("7", "6", "5"));
    export.push(
        WIDGET,
        6,
        &json!({"dashboard": 5, "title": "w", "display_type": 0, "widget_snapshot": before}),
    );
    export.push(
        QUERY,
        7,
        &json!({"widget": 6, "name": "q", "fields": "[]", "order": 0, "conditions": "project.id:4", "orderby": ""}),
    );
    export.push("sentry.snubaquery", 1, &json!({"type": 0, "dataset": "events", "query": "", "aggregate": "count()", "time_window": 60, "resolution": 60, "query_snapshot": {"query": "project.id:4"}}));
    export.push(
        "sentry.querysubscription",
        1,
        &json!({"project": 4, "type": "incidents", "snuba_query": 1, "status": 0}),
    );
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;

    let [user, team, project, email] = [(USER, 2), (TEAM, 3), (PROJECT, 4), ("sentry.useremail", 2)]
        .map(|(model, pk)| new(&account, model, pk));
    let [dashboard, new_widget, new_query] =
        [(DASHBOARD, 5), (WIDGET, 6), (QUERY, 7)].map(|(model, pk)| new(&account, model, pk));
    let conditions = format!("project.id:{project}");
    let of_query = |query: Value, widget: Value, dashboard: Value| {
        let number: Value =
            query.as_str().map_or(Value::Null, |pk| pk.parse::<i64>().expect("a number").into());
        json!({
            "id": query, "widgetId": widget, "conditions": conditions, "fields": ["id"],
            "onDemand": [{"enabled": true, "extractionState": "creation", "dashboardWidgetQueryId": number}],
            "linkedDashboards": [{"field": "project", "dashboardId": dashboard}],
        })
    };
    let of_widget = |widget: Value, query: Value| json!({"id": widget, "dashboardId": dashboard.to_string(), "limit": 7, "queries": [query]});
    let text = |pk: i64| json!(pk.to_string());
    let expected = json!({
        "id": text(dashboard), "projects": [project], "filters": {"release": ["1"], "releaseId": []},
        "createdBy": {
            "id": text(user), "name": "one", "emails": [{"id": text(email), "email": "one"}, {"id": null, "email": "two"}],
            "identities": [{"id": null, "name": "n", "provider": {"id": "github", "name": "GitHub"}}],
        },
        "permissions": {"teamsWithEditAccess": [team]},
        "widgets": [
            of_widget(text(new_widget), of_query(text(new_query), text(new_widget), text(dashboard))),
            of_widget(Value::Null, of_query(Value::Null, Value::Null, Value::Null)),
        ],
    });
    assert_eq!(json_of(&account, REVISION, 8, "snapshot"), expected);
    assert_eq!(json_of(&account, REVISION, 9, "snapshot"), json!({"id": dashboard, "prebuiltId": 3}));
    let expected = of_widget(Value::Null, of_query(Value::Null, Value::Null, text(dashboard)));
    assert_eq!(json_of(&account, WIDGET, 6, "widget_snapshot"), expected);
    let expected = json!({"query": conditions});
    assert_eq!(json_of(&account, "sentry.snubaquery", 1, "query_snapshot"), expected);
    // What the widget forgets is not a finding; what the revision loses is one for each place.
    assert_eq!(kinds(&account), [("CLEARED_REFERENCE", 8), ("ID_NOT_MAPPED", 1)].into());
    cluster.stop().await;
}
