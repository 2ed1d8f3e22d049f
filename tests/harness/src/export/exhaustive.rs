//! An export with everything: each model of the catalog, each column set, and each case that a rule covers.

use causeway_relocation::catalog::{Catalog, CatalogError, Known, Model};
use serde_json::{Value, json};

use super::{Export, Record, values};

/// The slug of the first organization of [`exhaustive`].
pub const SLUG: &str = "acme";
/// The slug of the second one: valid, though longer than thirty characters.
pub const OTHER_SLUG: &str = "the-other-organization-with-a-rather-long-slug";
/// The primary key of the first organization.
pub const SOURCE_ID: i64 = 4_554_202_386_792_449;
/// The primary key of the second organization.
pub const OTHER_SOURCE_ID: i64 = 4_554_202_386_792_450;

const PROJECT: &str = "sentry.project";
const TEAM: &str = "sentry.team";
const USER: &str = "sentry.user";

/// Primary keys of users, named after how they belong to the two organizations.
const INACTIVE_IN_BOTH: i64 = 11;
const ACTIVE_IN_FIRST: i64 = 12;
const ACTIVE_IN_SECOND: i64 = 13;
const IN_NONE: i64 = 14;

/// Builds the records of one organization. `number` is 1 or 2.
struct AllRows<'a> {
    catalog: &'a Catalog,
    number: i64,
}

impl AllRows<'_> {
    /// The primary key of this organization's record of a model. Records of different models often share one.
    fn pk(&self, model: &str) -> i64 {
        match model {
            "sentry.organization" => SOURCE_ID - 1 + self.number,
            "sentry.project" | "sentry.team" => SOURCE_ID + 1_000 * self.number,
            "sentry.user" if self.number == 1 => INACTIVE_IN_BOTH,
            "sentry.user" => ACTIVE_IN_SECOND,
            _ => {
                let position = self.catalog.position(model).unwrap_or(0);
                100 * self.number + i64::try_from(position % 4).unwrap_or(0)
            }
        }
    }

    /// A record with every column set that can be set. References lead to records of the same organization.
    fn record(&self, model: &Model, pk: i64) -> Record {
        let mut record = Record { model: model.name.clone(), pk, fields: serde_json::Map::new() };
        for column in &model.columns {
            let value = match &column.references {
                None => values::value(&model.name, column, pk),
                Some(target) => match self.catalog.known(target) {
                    // A record that refers to a record outside the scope is not imported. Some are added elsewhere to
                    // test that.
                    Known::Model(target)
                        if target.in_organization_scope() || !model.in_organization_scope() =>
                    {
                        json!(self.pk(&target.name))
                    }
                    _ => Value::Null,
                },
            };
            record.fields.insert(column.field.clone(), value);
        }
        record
    }

    fn add(&self, export: &mut Export, model: &str, pk: i64, fields: &Value) {
        if let Some(model) = self.catalog.model(model) {
            export.records.push(self.record(model, pk).with(fields));
        }
    }

    /// One record of each model.
    fn fill(&self, export: &mut Export) {
        for model in self.catalog.models() {
            let record = self.record(model, self.pk(&model.name));
            export.records.push(record.with(&self.of_a_kind(&model.name)));
        }
    }

    /// Whom a rule asks about and notifies.
    fn rule_data(&self) -> Value {
        let team = self.pk(TEAM);
        json!({
            "match": "all",
            "conditions": [{"id": "first_seen_event"}],
            "filters": [{"id": "assigned_to", "targetType": "Team", "targetIdentifier": team}],
            "actions": [
                {"id": "mail", "targetType": "Team", "targetIdentifier": team.to_string()},
                {"id": "mail", "targetType": "Member", "targetIdentifier": self.pk(USER)},
                {"id": "mail", "targetType": "IssueOwners", "targetIdentifier": ""},
            ],
        })
    }

    fn monitor_config(&self) -> Value {
        json!({"schedule": "0 * * * *", "schedule_type": 1, "alert_rule_id": self.pk("sentry.rule")})
    }

    /// A search in one project.
    fn search(&self) -> String {
        let project = self.pk(PROJECT);
        format!("level:error project.id:{project} !project_id:[{project}] project:{project} project:web")
    }

    /// A widget as the application shows it, which is what it stores in a snapshot. Ids are texts.
    fn shown_widget(&self) -> Value {
        let id = |model: &str| self.pk(model).to_string();
        json!({
            "id": id("sentry.dashboardwidget"), "title": "Errors", "displayType": "line", "dashboardId": id("sentry.dashboard"),
            "thresholds": null, "limit": 5, "layout": {"x": 0, "y": 1, "w": 2, "h": 2, "minH": 2},
            "queries": [{
                "id": id("sentry.dashboardwidgetquery"), "widgetId": id("sentry.dashboardwidget"), "name": "",
                "fields": ["count()"], "conditions": self.search(), "selectedAggregate": null,
                "onDemand": [{"enabled": true, "extractionState": "creation", "dashboardWidgetQueryId": self.pk("sentry.dashboardwidgetquery")}],
                "linkedDashboards": [{"field": "count()", "dashboardId": id("sentry.dashboard")}],
            }],
        })
    }

    /// A dashboard as the application shows it.
    fn shown_dashboard(&self) -> Value {
        let id = |model: &str| self.pk(model).to_string();
        json!({
            "id": id("sentry.dashboard"), "title": "Errors", "environment": ["prod"], "prebuiltId": null,
            "createdBy": {
                "id": id(USER), "name": "Owner", "identities": [{"id": "3", "provider": {"id": "github"}}],
                "emails": [{"id": id("sentry.useremail"), "email": "owner", "is_verified": true}],
            },
            "projects": [self.pk(PROJECT)], "filters": {"release": ["1.0"], "releaseId": []},
            "permissions": {"isEditableByEveryone": false, "teamsWithEditAccess": [self.pk(TEAM)]},
            "widgets": [self.shown_widget()],
        })
    }

    /// The fields that a record of a model must have to be valid, or that make it a case of its own.
    fn of_a_kind(&self, model: &str) -> Value {
        match model {
            "sentry.organization" if self.number == 1 => json!({"slug": SLUG, "status": 1}),
            "sentry.organization" => json!({"slug": OTHER_SLUG, "status": 0}),
            "sentry.user" if self.number == 1 => json!({"is_active": false, "email": "Inactive@Example.com"}),
            "sentry.user" => json!({"is_active": true, "email": "owner"}),
            "sentry.email" if self.number == 1 => json!({"email": "inactive@example.com"}),
            "sentry.useremail" if self.number == 1 => json!({"email": "Inactive@Example.com"}),
            "sentry.email" | "sentry.useremail" => json!({"email": "owner"}),
            // A member has a user and no address. Its copies of the user's fields are out of date.
            "sentry.organizationmember" => {
                json!({"email": null, "user_email": "former@example.com", "user_is_active": self.number == 1})
            }
            "sentry.savedsearch" => {
                json!({"is_global": false, "visibility": "organization", "query": self.search()})
            }
            "sentry.counter" => json!({"value": i64::MAX}),
            "sentry.neglectedrule" => json!({"disable_date": "9999-12-31T23:59:59.999999Z"}),
            // It is for a rule or for an alert rule. This one is for an alert rule; `cases` adds the other one.
            "sentry.rulesnooze" => json!({"rule": null, "until": "0001-01-01T00:00:00Z"}),
            // Each has one owner.
            "sentry.rule" if self.number == 1 => json!({"owner_user_id": null, "data": self.rule_data()}),
            "sentry.rule" => json!({"owner_team": null, "data": self.rule_data().to_string()}),
            "sentry.monitor" if self.number == 1 => {
                json!({"owner_user_id": null, "config": self.monitor_config()})
            }
            "sentry.monitor" => json!({"owner_team_id": null, "config": self.monitor_config()}),
            // Values with the primary keys of other records in them.
            "sentry.notificationaction" if self.number == 1 => {
                json!({"target_type": 2, "target_identifier": self.pk(TEAM).to_string()})
            }
            "sentry.notificationaction" => {
                json!({"target_type": 1, "target_identifier": self.pk(USER).to_string()})
            }
            // It is somebody's, or one of the application.
            "sentry.dashboard" => {
                let filters = json!({"project": [self.pk(PROJECT), -1], "environment": ["prod"]});
                match self.number {
                    1 => json!({"filters": filters, "prebuilt_id": null}),
                    _ => json!({"filters": filters, "created_by_id": null}),
                }
            }
            "sentry.projectownership" => json!({"schema": {"$version": 1, "rules": [{"owners": [
                {"type": "team", "identifier": "ops", "id": self.pk(TEAM)},
                {"type": "user", "identifier": "owner", "id": self.pk(USER)},
            ]}]}}),
            "sentry.organizationmemberinvite" => {
                let teams = json!([{"id": self.pk(TEAM), "role": null, "slug": "ops"}]);
                json!({"organization_member_team_data": teams})
            }
            "sentry.dashboardwidgetquery" => json!({"conditions": self.search()}),
            "sentry.groupsearchview" => json!({"query": self.search()}),
            "sentry.snubaquery" => {
                let before =
                    json!({"type": 0, "dataset": "events", "query": self.search(), "aggregate": "count()"});
                json!({"query": self.search(), "query_snapshot": before})
            }
            "sentry.dashboardwidget" => json!({"widget_snapshot": self.shown_widget()}),
            "sentry.dashboardrevision" if self.number == 1 => json!({"snapshot": self.shown_dashboard()}),
            "sentry.dashboardrevision" => json!({"snapshot": self.shown_dashboard().to_string()}),
            "explore.exploresavedquery" => {
                json!({"query": {"range": "24h", "query": [{"query": self.search(), "mode": "samples"}]}})
            }
            "workflow_engine.datacondition" if self.number == 1 => json!({
                "type": "assigned_to",
                "comparison": {"target_type": "Team", "target_identifier": self.pk(TEAM)},
            }),
            "workflow_engine.datacondition" => json!({
                "type": "event_created_by_detector",
                "comparison": self.pk("workflow_engine.detector"),
            }),
            "sentry.organizationoption" => json!({"key": "sentry:project_ids", "value": [self.pk(PROJECT)]}),
            "workflow_engine.detector" | "workflow_engine.workflow" if self.number == 1 => {
                json!({"owner_user_id": null})
            }
            "workflow_engine.detector" | "workflow_engine.workflow" => json!({"owner_team_id": null}),
            "workflow_engine.datasource" if self.number == 1 => {
                let source = self.pk("sentry.querysubscription").to_string();
                json!({"type": "snuba_query_subscription", "source_id": source})
            }
            "workflow_engine.datasource" => {
                json!({"type": "cron_monitor", "source_id": self.pk("sentry.monitor").to_string()})
            }
            // Each is of an alert rule or of a rule.
            "workflow_engine.alertruledetector" | "workflow_engine.alertruleworkflow" if self.number == 1 => {
                json!({"rule_id": null})
            }
            "workflow_engine.alertruledetector" | "workflow_engine.alertruleworkflow" => {
                json!({"alert_rule_id": null})
            }
            // No export of organizations has what they refer to.
            "workflow_engine.workflowgroupstatus" => json!({"group": 7}),
            "sentry.codereviewevent" => json!({"repository": 7}),
            "sentry.alertruletrigger" => json!({"alert_threshold": 0.1 + 0.2, "resolve_threshold": -1e-300}),
            _ => json!({}),
        }
    }
}

/// Builds the export. Both organizations have a record of each model, with every column set and every reference leading
/// to another record of the export. Besides these, it has the cases that rules cover.
///
/// # Errors
/// If the catalog contradicts itself.
pub fn exhaustive() -> Result<Export, CatalogError> {
    let catalog = Catalog::load()?;
    let first = AllRows { catalog: &catalog, number: 1 };
    let second = AllRows { catalog: &catalog, number: 2 };
    let mut export = Export::new();
    first.fill(&mut export);
    second.fill(&mut export);
    people(&mut export, &first, &second);
    cases(&mut export, &first);
    cases(&mut export, &second);
    lost(&mut export, &first);
    strangers(&mut export, &first);
    export.in_order()
}

/// More users, addresses and members.
fn people(export: &mut Export, first: &AllRows<'_>, second: &AllRows<'_>) {
    for (pk, name) in [(ACTIVE_IN_FIRST, "active"), (IN_NONE, "alone")] {
        let email = format!("{name}@example.com");
        first.add(export, "sentry.user", pk, &json!({"username": name, "email": email, "is_active": true}));
        first.add(export, "sentry.email", pk, &json!({"email": email}));
        first.add(export, "sentry.useremail", pk, &json!({"user": pk, "email": email}));
        let everywhere = json!({"user": pk, "project_id": null, "organization_id": null, "key": "language", "value": "\"pt-br\""});
        first.add(export, "sentry.useroption", pk, &everywhere);
    }
    // A second address of a user, and an address without a user.
    first.add(
        export,
        "sentry.useremail",
        21,
        &json!({"user": INACTIVE_IN_BOTH, "email": "second@example.com"}),
    );
    first.add(export, "sentry.email", 21, &json!({"email": "second@example.com"}));
    first.add(export, "sentry.email", 22, &json!({"email": "nobody@example.com"}));
    let timezone = json!({"user": INACTIVE_IN_BOTH, "project_id": null, "organization_id": null, "key": "timezone", "value": "\"Europe/Vienna\""});
    first.add(export, "sentry.useroption", 21, &timezone);

    let member = |user: i64| json!({"user_id": user, "email": null, "user_is_active": false});
    first.add(export, "sentry.organizationmember", 31, &member(ACTIVE_IN_FIRST));
    second.add(export, "sentry.organizationmember", 32, &member(INACTIVE_IN_BOTH));
    let invite = |email: &str, inviter: i64| json!({"user_id": null, "email": email, "inviter_id": inviter, "user_email": null});
    first.add(export, "sentry.organizationmember", 33, &invite("invited@example.com", INACTIVE_IN_BOTH));
    // The inviter is not a member of this organization, so a filter takes the invitation but not the inviter.
    second.add(export, "sentry.organizationmember", 34, &invite("invited@example.com", ACTIVE_IN_FIRST));
    second.add(export, "sentry.ruleactivity", 35, &json!({"user_id": ACTIVE_IN_FIRST}));
}

/// Records of one organization to which a rule applies.
fn cases(export: &mut Export, all: &AllRows<'_>) {
    let pk = 200 * all.number;
    let add = |export: &mut Export, model: &str, number: i64, fields: Value| {
        all.add(export, model, pk + number, &fields);
    };
    // Several keys of one project, one of them without values.
    add(export, "sentry.projectkey", 41, json!({}));
    add(export, "sentry.projectkey", 42, json!({"public_key": null, "secret_key": null}));
    // A global search has no organization and no owner to set.
    add(export, "sentry.savedsearch", 44, json!({"is_global": true, "organization": null, "owner_id": null}));
    // Null and empty values where the other records have something.
    add(
        export,
        "sentry.querysubscription",
        46,
        json!({"snuba_query": null, "subscription_id": null, "query_extra": null}),
    );
    add(
        export,
        "sentry.incidentactivity",
        47,
        json!({"user_id": null, "value": null, "notification_uuid": null}),
    );
    add(export, "sentry.rulesnooze", 48, json!({"user_id": null, "alert_rule": null, "until": null}));
    add(export, "sentry.timeseriessnapshot", 49, json!({"values": "[]"}));
    add(export, "sentry.timeseriessnapshot", 50, json!({"values": null}));
    add(
        export,
        "sentry.spanattributeextractionruleconfig",
        51,
        json!({"tags": [], "aggregates": null, "span_attribute": "", "created_by_id": null}),
    );
    // Without a slug: the import makes one from the name.
    add(export, "sentry.project", 54, json!({"slug": null, "name": "No Slug"}));
    add(export, "sentry.project", 55, json!({"slug": "", "name": "No Slug"}));
    add(export, "sentry.team", 54, json!({"slug": "", "name": "404"}));
    add(export, "sentry.monitor", 54, json!({"slug": "", "name": "No Slug", "owner_team_id": null}));
    // Of another scope because of a field of the record; and the records that go with them.
    let app = all.pk("sentry.sentryapp");
    let integration = all.pk("sentry.integration");
    add(export, "sentry.notificationaction", 52, json!({"sentry_app_id": app}));
    add(export, "sentry.notificationaction", 53, json!({"integration_id": integration}));
    add(export, "sentry.notificationactionproject", 52, json!({"action": pk + 52}));
    add(export, "sentry.notificationactionproject", 53, json!({"action": pk + 53}));
}

/// Records that are dropped because the record that they refer to is not imported, and the records that depend on them.
fn lost(export: &mut Export, all: &AllRows<'_>) {
    all.add(export, "sentry.incident", 61, &json!({"activation": 7, "identifier": 61}));
    all.add(export, "sentry.incidentsubscription", 61, &json!({"incident": 61}));
    all.add(export, "sentry.incidenttrigger", 61, &json!({"incident": 61}));
    // The file has no such project.
    all.add(export, "sentry.projectbookmark", 62, &json!({"project": 999_999}));
}

/// Models and fields that the catalog does not know, or no longer knows, and names in the letter case of older
/// releases.
fn strangers(export: &mut Export, all: &AllRows<'_>) {
    let organization = all.pk("sentry.organization");
    for pk in 1..=2 {
        export.push("Sentry.Actor", pk, &json!({"type": 0, "team": 1}));
        export.push("sentry.auditlogentry", pk, &json!({"organization_id": organization, "event": 1}));
        export.push("sentry.nonsense", pk, &json!({"anything": [{"at": "all"}]}));
    }
    export.push("Sentry.Release", 1, &json!({}));
    all.add(
        export,
        "sentry.team",
        71,
        &json!({"slug": "older-release", "actor": 5, "org_role": "owner", "mood": "fine", "call_faults": {"sunny": true}}),
    );
    if let Some(team) = export.find("sentry.team", 71) {
        team.model = "Sentry.Team".to_owned();
    }
    all.add(export, "sentry.rule", 72, &json!({"owner": 1, "owner_team": null}));
    all.add(export, "sentry.alertrule", 73, &json!({"owner": 2, "snuba_query": null}));
    // Owners named by an actor: a team, a user, a team that names its actor, an unknown actor, and a team
    // that is not in the file.
    export.push("sentry.actor", 3, &json!({"type": 0, "team": all.pk("sentry.team"), "user_id": null}));
    export.push("sentry.actor", 4, &json!({"type": 1, "team": null, "user_id": INACTIVE_IN_BOTH}));
    export.push("sentry.actor", 5, &json!({"type": 0}));
    for (pk, actor) in [(74, 3), (75, 4), (76, 5), (77, 6), (78, 1)] {
        let by_actor = json!({"owner": actor, "owner_team": null, "owner_user_id": null});
        all.add(export, "sentry.rule", pk, &by_actor);
        let by_actor = json!({"owner": actor, "team": null, "user_id": null, "snuba_query": null});
        all.add(export, "sentry.alertrule", pk, &by_actor);
    }
    // A field that was null is not a loss.
    all.add(export, "sentry.rule", 79, &json!({"owner": null, "owner_team": null, "owner_user_id": null}));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_model_is_there_and_no_column_is_always_null() {
        let catalog = Catalog::load().unwrap();
        let export = exhaustive().unwrap();
        assert_eq!(export, exhaustive().unwrap());
        for model in catalog.models() {
            let records: Vec<&Record> = export
                .records
                .iter()
                .filter(|record| record.model.eq_ignore_ascii_case(&model.name))
                .collect();
            assert!(records.len() >= 2, "{}", model.name);
            let pks: BTreeSet<i64> = records.iter().map(|record| record.pk).collect();
            assert_eq!(pks.len(), records.len(), "{} has a primary key twice", model.name);
            for column in &model.columns {
                let set = records.iter().any(|record| !record.fields[&column.field].is_null());
                let out_of_scope =
                    matches!(column.references.as_deref(), Some("sentry.alertruleactivations"));
                assert!(set || out_of_scope, "{} {}", model.name, column.field);
            }
        }
    }
}
