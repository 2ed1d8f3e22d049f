use serde_json::{Value as Json, json};

use super::*;
use crate::catalog::Catalog;

/// Maps primary keys below 100 to themselves plus 1,000; all others are lost.
fn map(_: &str, pk: i64) -> Outcome {
    if pk < 100 { Outcome::Mapped(pk + 1_000) } else { Outcome::Lost }
}

struct Applied {
    value: String,
    lost: Vec<(String, String, i64)>,
    notes: Vec<String>,
}

/// Applies the rules of a model to a record with these fields, whose values are texts. `field` is the one to
/// check.
fn applied(model: &str, field: &str, fields: &[(&str, &str)]) -> Applied {
    let catalog = Catalog::load().unwrap();
    let model = catalog.model(model).unwrap();
    let mut values = vec![Value::Null; model.columns.len()];
    for (name, text) in fields {
        values[model.column(name).unwrap()] = Value::Text((*text).to_owned());
    }
    let notes = notes(model, &values).unwrap().into_iter().map(|note| note.reason).collect();
    let mut lost = Vec::new();
    for rule in &model.rules.nested_ids {
        let rewritten = rewrite(model, rule, &values, &mut map).unwrap();
        lost.extend(rewritten.lost.into_iter().map(|it| (it.place, it.target, it.pk)));
        if let Some(text) = rewritten.text {
            values[rule.column] = Value::Text(text);
        }
    }
    let value = values[model.column(field).unwrap()].as_text().unwrap().to_owned();
    Applied { value, lost, notes }
}

fn json_of(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_targets_of_a_rule_are_mapped_by_their_type_and_keep_their_form() {
    let data = r#"{"n":1.10,"actions":[{"id":"a.Mail","targetType":"Team","targetIdentifier":11},
        {"targetIdentifier":"5","targetType":"Member"},{"targetType":"IssueOwners","targetIdentifier":""},
        {"targetType":"Team","targetIdentifier":null},{"id":"b"}],
        "filters":[{"targetType":"Team","targetIdentifier":500}],"big":123456789012345678901234567890}"#;
    let Applied { value, lost, notes } = applied("sentry.rule", "data", &[("data", data)]);
    let actions = json!([
        {"id": "a.Mail", "targetType": "Team", "targetIdentifier": 1011},
        {"targetType": "Member", "targetIdentifier": "1005"},
        {"targetType": "IssueOwners", "targetIdentifier": ""},
        {"targetType": "Team", "targetIdentifier": null},
        {"id": "b"},
    ]);
    assert_eq!(json_of(&value)["actions"], actions);
    assert_eq!(json_of(&value)["filters"], json!([{"targetType": "Team", "targetIdentifier": null}]));
    assert!(value.starts_with(r#"{"n":1.10,"actions":"#), "what is beside keeps its text: {value}");
    assert!(value.ends_with(r#""big":123456789012345678901234567890}"#), "{value}");
    let place = "filters[0].targetIdentifier".to_owned();
    assert_eq!(lost, [(place, "sentry.team".to_owned(), 500)]);
    assert_eq!(notes, Vec::<String>::new());
}

/// The identifier of an integration in an action of one kind, and a name in that of another.
#[test]
fn a_key_is_an_id_only_where_its_sibling_says_so() {
    let action = |id: &str, team: &str| format!(r#"{{"actions":[{{"id":"{id}","team":"{team}"}}]}}"#);
    let teams = "sentry.integrations.msteams.notify_action.MsTeamsNotifyServiceAction";
    let data = |text: &str| applied("sentry.rule", "data", &[("data", text)]);
    assert_eq!(data(&action(teams, "7")).value, action(teams, "1007"));
    let other = data(&action("sentry.integrations.opsgenie.notify_action.OpsgenieNotifyTeamAction", "7-abc"));
    assert!(other.value.contains("7-abc") && other.notes.is_empty(), "{:?}", other.notes);
}

#[test]
fn odd_keys_and_numbers_are_left_alone() {
    let data = |text: &str| applied("sentry.rule", "data", &[("data", text)]);
    // A key that no text can contain does not keep the ids next to it from being mapped.
    let odd = r#"{"\ud83d":1,"actions":[{"targetType":"Team","targetIdentifier":11}]}"#;
    assert_eq!(data(odd).value, odd.replace(":11}", ":1011}"));
    // The last of two entries counts, as it does for every reader of the value.
    let twice = r#"{"actions":[{"targetType":"Member","targetType":"IssueOwners","targetIdentifier":11}]}"#;
    assert_eq!(data(twice).value, twice);
    for id in ["\"007\"", "\"+5\"", "-1", "0"] {
        let text = format!(r#"{{"actions":[{{"targetType":"Team","targetIdentifier":{id}}}]}}"#);
        assert_eq!(data(&text).value, text);
    }
}

#[test]
fn a_value_without_ids_keeps_every_character() {
    let data = r#"{ "actions" : [ ], "match":"all" }"#;
    assert_eq!(applied("sentry.rule", "data", &[("data", data)]).value, data);
}

#[test]
fn ids_in_a_list_are_mapped_or_taken_out() {
    let filters = |text| applied("sentry.dashboard", "filters", &[("filters", text)]);
    let some = filters(r#"{"project":[21,500,-1],"environment":["prod"]}"#);
    assert_eq!(some.value, r#"{"project":[1021,-1],"environment":["prod"]}"#);
    assert_eq!(some.lost, [("project[1]".to_owned(), "sentry.project".to_owned(), 500)]);
    assert_eq!(filters(r#"{"project":[500]}"#).value, r#"{"project":[]}"#);
}

#[test]
fn an_invitation_loses_the_teams_that_are_not_imported() {
    let teams = |text| {
        let fields = [("organization_member_team_data", text)];
        applied("sentry.organizationmemberinvite", "organization_member_team_data", &fields)
    };
    let some = teams(r#"[{"id":11,"role":null,"slug":"ops"},{"id":500,"slug":"gone"},{"id":"12"}]"#);
    assert_eq!(some.value, r#"[{"id":1011,"role":null,"slug":"ops"},{"id":"1012"}]"#);
    assert_eq!(some.lost, [("[1].id".to_owned(), "sentry.team".to_owned(), 500)]);
}

#[test]
fn a_condition_is_rewritten_as_its_type_says() {
    let comparison = |kind, text| {
        applied("workflow_engine.datacondition", "comparison", &[("type", kind), ("comparison", text)])
    };
    // As newer releases write it, and as rules do.
    let assigned = comparison("assigned_to", r#"{"target_type":"Team","target_identifier":11}"#);
    assert_eq!(assigned.value, r#"{"target_type":"Team","target_identifier":1011}"#);
    assert_eq!(assigned.notes, Vec::<String>::new());
    let assigned = comparison("assigned_to", r#"{"targetType":"Team","targetIdentifier":11}"#);
    assert_eq!(assigned.value, r#"{"targetType":"Team","targetIdentifier":1011}"#);
    assert_eq!(comparison("event_created_by_detector", "7").value, "1007");
    let lost = comparison("event_created_by_detector", "700");
    assert_eq!(lost.value, "null");
    assert_eq!(lost.lost, [(String::new(), "workflow_engine.detector".to_owned(), 700)]);
    for kept in ["7", "true", "\"high\"", "null"] {
        let other = comparison("gte", kept);
        assert_eq!((other.value.as_str(), other.notes.len()), (kept, 0));
    }
}

#[test]
fn searches_are_rewritten_in_texts_and_in_json() {
    let of = |model, field, text| applied(model, field, &[(field, text)]).value;
    assert_eq!(of("sentry.savedsearch", "query", "project.id:21 is:open"), "project.id:1021 is:open");
    assert_eq!(of("sentry.dashboardwidgetquery", "conditions", "project:21"), "project:1021");
    let explore = |text| applied("explore.exploresavedquery", "query", &[("query", text)]);
    let several = explore(r#"{"query":[{"query":"a \"b\" project.id:21","mode":"samples"}],"range":"24h"}"#);
    assert_eq!(
        several.value,
        r#"{"query":[{"query":"a \"b\" project.id:1021","mode":"samples"}],"range":"24h"}"#
    );
    assert_eq!(several.notes, Vec::<String>::new());
    let one = explore(r#"{"query":"project.id:21"}"#);
    assert_eq!((one.value.as_str(), one.notes.len()), (r#"{"query":"project.id:1021"}"#, 0));
}

#[test]
fn options_that_are_lists_of_ids_are_found_by_their_key() {
    let option = |model, key, text| applied(model, "value", &[("key", key), ("value", text)]);
    assert_eq!(option("sentry.organizationoption", "sentry:project_ids", "[21]").value, "[1021]");
    assert_eq!(option("sentry.useroption", "reports:disabled-organizations", "[1,500]").value, "[1001]");
    let unknown = option("sentry.projectoption", "x:monitor_ids", "[21]");
    assert_eq!(unknown.value, "[21]");
    let reason = "the value of `x:monitor_ids` looks like an id, and this release does not know of what; it is kept as it is";
    assert_eq!(unknown.notes, [reason]);
    assert_eq!(option("sentry.projectoption", "sentry:option-epoch", "13").notes, Vec::<String>::new());
}

#[test]
fn what_is_at_the_place_of_an_id_and_is_none_is_kept_and_reported_once() {
    let reported = |model: &str, field: &str, text: &str| {
        let Applied { value, notes, lost } = applied(model, field, &[(field, text)]);
        assert_eq!((value.as_str(), lost.len()), (text, 0));
        notes
    };
    let shape = |path: &str| vec![format!("{path} {OTHER_SHAPE}")];
    let team = |id: &str| format!(r#"{{"actions":[{{"targetType":"Team","targetIdentifier":{id}}}]}}"#);
    for id in ["\"ops\"", "1.5", "{}", "true", "[11]"] {
        assert_eq!(reported("sentry.rule", "data", &team(id)), shape("actions[].targetIdentifier"), "{id}");
    }
    let twice = r#"{"actions":[{"targetType":"Team","targetIdentifier":"a"},{"targetType":"Team","targetIdentifier":"b"}]}"#;
    assert_eq!(reported("sentry.rule", "data", twice), shape("actions[].targetIdentifier"));
    assert_eq!(reported("sentry.rule", "data", r#"{"actions":{"a":1}}"#), shape("actions"));
    assert_eq!(reported("sentry.dashboard", "filters", r#"{"project":"all"}"#), shape("project"));
    assert_eq!(reported("sentry.dashboard", "filters", r#"[1]"#), shape("the value"));
    // One place does not hide another that begins alike.
    let alike =
        reported("sentry.dashboard", "filters", r#"{"project":"all","project_groups":[{"group_id":5}]}"#);
    assert_eq!(alike.len(), 2, "{alike:?}");
    let other = r#"{"actions":[{"targetType":"Fleet","targetIdentifier":4}]}"#;
    assert_eq!(reported("sentry.rule", "data", other), [format!("actions[].targetIdentifier {OTHER_TYPE}")]);
    for nothing in ["{}", "null", r#"{"actions":null}"#, r#"{"actions":[null]}"#, r#"{"actions":[]}"#] {
        assert_eq!(reported("sentry.rule", "data", nothing), Vec::<String>::new(), "{nothing}");
    }
}

#[test]
fn what_looks_like_an_id_and_has_no_rule_is_reported() {
    let config =
        r#"{"schedule":"* * * * *","checkin_margin":5,"alert_rule_id":3,"runbook":{"dashboard_id":9}}"#;
    let Applied { value, notes, .. } = applied("sentry.monitor", "config", &[("config", config)]);
    assert_eq!(value, config.replace(":3,", ":1003,"));
    assert_eq!(notes, [format!("runbook.dashboard_id {LOOKS_LIKE}")]);
}

/// A widget cannot refer to itself: its id is only known once it is written.
#[test]
fn a_snapshot_forgets_the_ids_of_what_it_is_in() {
    let of = |text| applied("sentry.dashboardwidget", "widget_snapshot", &[("widget_snapshot", text)]);
    let widget = of(
        r#"{"id":"5","dashboardId":"6","queries":[{"id":7,"widgetId":null,"conditions":"project.id:21"}]}"#,
    );
    let expected = r#"{"id":null,"dashboardId":"1006","queries":[{"id":null,"widgetId":null,"conditions":"project.id:1021"}]}"#;
    assert_eq!((widget.value.as_str(), widget.lost, widget.notes), (expected, vec![], vec![]));
    let odd = of(r#"{"id":"five"}"#);
    assert_eq!((odd.value.as_str(), odd.notes), (r#"{"id":"five"}"#, vec![format!("id {OTHER_SHAPE}")]));
}

/// What is right at one place does not hide what is wrong there in another element.
#[test]
fn one_element_that_is_right_does_not_hide_another_one() {
    let data = r#"{"actions":[{"targetType":"Team","targetIdentifier":11},{"targetType":"Fleet","targetIdentifier":4}]}"#;
    let reported = applied("sentry.rule", "data", &[("data", data)]).notes;
    assert_eq!(reported, [format!("actions[].targetIdentifier {OTHER_TYPE}")]);
}
