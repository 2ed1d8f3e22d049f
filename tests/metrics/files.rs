//! The files for operators: the rules of alerts, and the dashboard.

use std::{collections::BTreeSet, fs};

use causeway_metrics::{metric::Kind, table};
use serde_json::Value;

use crate::support::{promtool, root};

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const DASHBOARD: &str = "deploy/grafana/causeway.json";

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// All names of metrics of Causeway in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part = |character: char| character == '_' || character.is_ascii_alphanumeric();
    text.split(|character| !is_part(character)).filter(|word| word.starts_with("causeway_")).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON")
}

/// The expressions of the dashboard, with values for its variables.
pub(crate) fn dashboard_queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let query = |target: &Value| {
        let expression = target["expr"].as_str().expect("an expression");
        expression.replace("$__rate_interval", "1m").replace("$job", ".+").replace("$instance", ".+")
    };
    targets.map(query).collect()
}

#[test]
fn every_metric_of_the_alerts_and_the_dashboard_is_in_the_table() {
    let known: BTreeSet<String> = table::ALL
        .iter()
        .flat_map(|entry| {
            let name = entry.definition.name();
            match entry.definition.kind {
                Kind::Histogram(_) => ["_bucket", "_sum", "_count"].map(|it| format!("{name}{it}")).to_vec(),
                Kind::Counter | Kind::Gauge => vec![name],
            }
        })
        .collect();
    for file in [ALERTS, DASHBOARD, "deploy/prometheus/alerts_test.yml"] {
        let text = read(file);
        let names = names(&text);
        assert!(names.len() > 5, "{file} names few metrics");
        let unknown: Vec<_> = names.iter().filter(|name| !known.contains(**name)).collect();
        assert!(unknown.is_empty(), "{file}: there are no such metrics: {unknown:?}");
    }
    // Whoever watches only the dashboard must see all that can go wrong.
    let (dashboard, alerts) = (read(DASHBOARD), read(ALERTS));
    let shown = names(&dashboard);
    let unseen: Vec<_> = names(&alerts).into_iter().filter(|name| !shown.contains(name)).collect();
    assert!(unseen.is_empty(), "the dashboard does not show {unseen:?}");
}

#[test]
fn the_panels_of_the_dashboard_are_distinguished_and_read_the_chosen_source() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{}", panel["title"]);
    }
}

#[test]
fn promtool_accepts_the_rules_and_they_fire_when_they_should() {
    let said = promtool(&["check", "rules", ALERTS], "");
    assert!(said.contains("SUCCESS"), "{said}");
    promtool(&["test", "rules", "deploy/prometheus/alerts_test.yml"], "");
}

/// The lines of a file of rules that name an alert.
fn alerts() -> Vec<String> {
    let text = read(ALERTS);
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

#[test]
fn every_alert_is_explained_and_tested() {
    let (page, tests) = (read("docs/metrics.md"), read("deploy/prometheus/alerts_test.yml"));
    let alerts = alerts();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(page.contains(&format!("| `{alert}` |")), "docs/metrics.md does not explain {alert}");
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "no test of rules has {alert}");
    }
}
