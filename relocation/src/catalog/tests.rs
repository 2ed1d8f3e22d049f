use super::*;

#[test]
fn every_model_comes_after_those_it_refers_to() {
    let catalog = Catalog::load().unwrap();
    for model in catalog.models() {
        for column in &model.columns {
            if let Some(target) = column.references.as_deref().and_then(|name| catalog.position(name)) {
                assert!(target < model.position, "{} refers to {:?}", model.name, column.references);
            }
        }
    }
    let position = |name| catalog.position(name).unwrap();
    assert!(position(USER) < position(EMAIL) && position(EMAIL) < position(USER_EMAIL));
    assert!(position("sentry.project") < position("sentry.snubaquery"));
    assert!(position("sentry.incident") < position("sentry.timeseriessnapshot"));
}

#[test]
fn what_ends_before_it_begins_is_refused_and_named() {
    let json = include_str!("../../catalog.json");
    let field = "\"since\": \"25.2\"}";
    for (wrong, named) in [
        ("\"since\": \"25.2\", \"until\": \"25.2\"}", "since (25.2) and until (25.2)"),
        ("\"since\": \"25.10\", \"until\": \"25.9\"}", "since (25.10) and until (25.9)"),
        ("\"until\": \"late\"}", "since (none) and until (late)"),
    ] {
        let refused = Catalog::parse(&json.replacen(field, wrong, 1)).unwrap_err().to_string();
        assert!(refused.contains(named) && refused.contains("field "), "{refused}");
    }
    let right = "\"since\": \"25.9\", \"until\": \"25.10\"}";
    Catalog::parse(&json.replacen(field, right, 1)).unwrap();
}

#[test]
fn known_models_are_distinguished_from_unknown_ones_without_regard_to_case() {
    let catalog = Catalog::load().unwrap();
    assert!(matches!(catalog.known("Sentry.OrganizationMember"), Known::Model(_)));
    assert!(matches!(catalog.known("sentry.auditlogentry"), Known::Excluded));
    assert!(matches!(catalog.known("sentry.actor"), Known::Removed));
    assert!(matches!(catalog.known("uptime.newmodel"), Known::Excluded));
    assert!(matches!(catalog.known("Uptime.Monitor"), Known::Unknown), "a model under another label");
    for global in
        ["seer.anything", "sentry.apidevicecode", "sentry.repositorysettings", "sentry.projectrepository"]
    {
        assert!(matches!(catalog.known(global), Known::OutOfScope), "{global}");
    }
    assert!(matches!(catalog.known("seer.project"), Known::Unknown));
    assert!(matches!(catalog.known("uptime"), Known::Unknown));
    assert!(matches!(catalog.known("sentry.nonsense"), Known::Unknown));
}

/// An id that is written unchanged would point to an unrelated row.
#[test]
fn a_number_that_is_an_id_is_a_reference() {
    let catalog = Catalog::load().unwrap();
    let words = ["id", "owner", "team", "user", "actor", "project", "rule", "organization", "group"];
    let looks_like_one = |column: &&Column| {
        matches!(column.kind, ColumnType::BigInt | ColumnType::Integer | ColumnType::SmallInt)
            && column.references.is_none()
            && column.field.split('_').any(|word| words.contains(&word))
    };
    let mut plain: Vec<String> = catalog
        .written()
        .flat_map(|model| model.columns.iter().filter(looks_like_one).map(move |it| (model, it)))
        .map(|(model, column)| format!("{}.{}", model.name, column.field))
        .collect();
    plain.sort_unstable();
    // They number the rules within one organization, and what the product brings along. None of them is
    // the primary key of a row.
    let numbers = [
        "explore.exploresavedquery.prebuilt_id",
        "sentry.customdynamicsamplingrule.rule_id",
        "sentry.dashboard.prebuilt_id",
    ];
    assert_eq!(plain, numbers);
}

/// The check constraints of the product's own tables, as its release 24.9 made them. The catalog has the least
/// value of each column that must not be negative, so the plan refuses negative numbers.
#[test]
fn what_the_products_tables_check_is_in_the_catalog() {
    let catalog = Catalog::load().unwrap();
    let least_is_zero = [
        "sentry_dashboardwidget.discover_widget_split",
        "sentry_dashboardwidget.display_type",
        "sentry_dashboardwidget.order",
        "sentry_dashboardwidget.widget_type",
        "sentry_dashboardwidgetquery.order",
        "sentry_groupsearchview.position",
        "sentry_incident.status",
        "sentry_incident.status_method",
        "sentry_incident.type",
        "sentry_monitor.status",
        "sentry_monitor.type",
        "sentry_organization.status",
        "sentry_organizationmember.invite_status",
        "sentry_organizationmember.type",
        "sentry_project.status",
        "sentry_projectkey.rate_limit_count",
        "sentry_projectkey.rate_limit_window",
        "sentry_projectkey.status",
        "sentry_recentsearch.type",
        "sentry_rule.status",
        "sentry_savedsearch.type",
        "sentry_team.status",
    ];
    let mut known: Vec<String> = catalog
        .written()
        .flat_map(|model| model.columns.iter().map(move |column| (model, column)))
        .filter(|(_, column)| column.min == Some(0))
        .map(|(model, column)| format!("{}.{}", model.table, column.column))
        .collect();
    known.sort_unstable();
    assert_eq!(known, least_is_zero);
    let columns = |model: &Model, columns: &[usize]| -> Vec<String> {
        columns.iter().map(|column| model.columns[*column].column.clone()).collect()
    };
    let mut fields: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for model in catalog.written() {
        for of in &model.rules.exactly_one {
            fields.push((model.table.as_str(), "exactly one", columns(model, &of.columns)));
        }
        for of in &model.rules.at_most_one {
            fields.push((model.table.as_str(), "at most one", columns(model, of)));
        }
    }
    fields.sort_unstable();
    let owners = || vec!["owner_team_id".to_owned(), "owner_user_id".to_owned()];
    let alert_rule_or_rule = || vec!["alert_rule_id".to_owned(), "rule_id".to_owned()];
    let expected = [
        ("sentry_dashboard", "exactly one", vec!["prebuilt_id".to_owned(), "created_by_id".to_owned()]),
        ("sentry_monitor", "at most one", owners()),
        ("sentry_organizationmember", "exactly one", vec!["user_id".to_owned(), "email".to_owned()]),
        ("sentry_rule", "at most one", owners()),
        ("sentry_rulesnooze", "exactly one", vec!["rule_id".to_owned(), "alert_rule_id".to_owned()]),
        ("workflow_engine_alertruledetector", "exactly one", alert_rule_or_rule()),
        ("workflow_engine_alertruleworkflow", "exactly one", alert_rule_or_rule()),
        ("workflow_engine_detector", "at most one", owners()),
        ("workflow_engine_workflow", "at most one", owners()),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn names_of_fields_need_no_escape_in_json() {
    let catalog = Catalog::load().unwrap();
    let is_plain = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    for column in catalog.models().iter().flat_map(|model| &model.columns) {
        assert!(is_plain(&column.field), "{}", column.field);
    }
}

#[test]
fn ids_of_organizations_projects_and_teams_are_leased() {
    let catalog = Catalog::load().unwrap();
    let mut leased: Vec<&str> =
        catalog.models().iter().filter(|model| model.leases_ids()).map(|model| model.name.as_str()).collect();
    leased.sort_unstable();
    assert_eq!(leased, [ORGANIZATION, "sentry.project", "sentry.team"]);
}
