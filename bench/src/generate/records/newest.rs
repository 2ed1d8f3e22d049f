//! Records of the models that only exports of the newest release have here.

use serde_json::json;

use super::{
    super::{
        shape::{Model, Organization},
        text,
    },
    Fields, member,
};

pub(super) fn fields(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    match model {
        Model::OrganizationAccessRequest
        | Model::OrganizationMemberReplayAccess
        | Model::DataSecrecyWaiver => {
            of_members(f, o, model, number);
        }
        Model::Counter | Model::ProjectRedirect | Model::ProjectSdk | Model::CustomInboundFilter => {
            of_projects(f, o, model, number);
        }
        Model::RuleSnooze
        | Model::RuleActivity
        | Model::AlertRuleActivity
        | Model::Incident
        | Model::IncidentActivity
        | Model::NotificationAction
        | Model::NotificationActionProject => alerts(f, o, model, number),
        Model::AlertRuleDetector | Model::AlertRuleWorkflow | Model::DataConditionAlertRuleTrigger => {
            workflows(f, o, model, number);
        }
        Model::DashboardWidgetQueryOnDemand
        | Model::DashboardPermissionsTeam
        | Model::DashboardFieldLink
        | Model::DashboardRevision => dashboards(f, o, model, number),
        Model::DataForwarder | Model::DataForwarderProject | Model::Repository | Model::CodeReviewEvent => {
            integrations(f, o, model);
        }
        _ => views(f, o, model, number),
    }
}

fn changed(f: &mut Fields<'_>) {
    f.time("date_updated");
    f.time("date_added");
}

fn of_members(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    match model {
        Model::OrganizationAccessRequest => {
            f.number("team", o.pk(Model::Team, number));
            f.number("member", o.pk(Model::OrganizationMember, number));
            if number.is_multiple_of(2) {
                f.null("requester_id");
            } else {
                f.number("requester_id", member(o, number + 1));
            }
        }
        Model::OrganizationMemberReplayAccess => {
            changed(f);
            f.number("organizationmember", o.pk(Model::OrganizationMember, number));
        }
        _ => {
            changed(f);
            f.number("organization", o.pk(Model::Organization, 0));
            f.time("access_start");
            f.time("access_end");
            f.json("zendesk_tickets", &json!(["https://tickets.example/1"]));
        }
    }
}

fn of_projects(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    f.number("project", o.pk(Model::Project, number));
    match model {
        Model::Counter => {
            let value = f.random.below(100_000);
            f.number("value", value);
        }
        Model::ProjectRedirect => {
            f.number("organization", o.pk(Model::Organization, 0));
            f.text("redirect_slug", &format!("former-{number}"));
            f.time("date_added");
        }
        Model::ProjectSdk => {
            changed(f);
            f.number("event_type", number % 2);
            f.text("sdk_name", "sentry.python");
            f.text("sdk_version", "2.31.0");
        }
        _ => {
            changed(f);
            let name = text::words(&mut f.random, 2);
            f.text("name", &name);
            f.flag("active", true);
            f.text("data_type", "error");
            f.json("conditions", &json!([{"op": "glob", "name": "event.exceptions", "value": ["Timeout*"]}]));
            f.null("legacy_filter");
        }
    }
}

fn alerts(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    match model {
        Model::NotificationAction => {
            f.number("organization", o.pk(Model::Organization, 0));
            f.null("integration_id");
            f.null("sentry_app_id");
            f.number("type", 0);
            let (kind, target) = match number % 3 {
                0 => (1, member(o, number).to_string()),
                1 => (2, o.pk(Model::Team, number).to_string()),
                _ => (0, "#alerts".to_owned()),
            };
            f.number("target_type", kind);
            f.text("target_identifier", &target);
            f.text("target_display", "alerts");
            f.number("trigger_type", 0);
            return;
        }
        Model::NotificationActionProject => {
            f.number("project", o.pk(Model::Project, number));
            f.number("action", o.pk(Model::NotificationAction, number));
            return;
        }
        Model::RuleSnooze => {
            f.number("rule", o.pk(Model::Rule, number));
            f.null("alert_rule");
            f.number("owner_id", member(o, number));
            if number.is_multiple_of(2) {
                f.number("user_id", member(o, number));
            } else {
                f.null("user_id");
            }
            f.time_or_null("until", 2);
        }
        Model::RuleActivity => {
            f.number("rule", o.pk(Model::Rule, number));
            f.number("user_id", member(o, number));
            f.number("type", 1);
        }
        Model::AlertRuleActivity => {
            f.number("alert_rule", o.pk(Model::AlertRule, number));
            f.null("previous_alert_rule");
            f.number("user_id", member(o, number));
            f.number("type", 1);
        }
        Model::Incident => {
            f.number("organization", o.pk(Model::Organization, 0));
            f.number("alert_rule", o.pk(Model::AlertRule, number));
            f.number("subscription", o.pk(Model::QuerySubscription, number));
            f.number("identifier", number + 1);
            f.null("detection_uuid");
            f.number("status", 2);
            f.number("status_method", 3);
            f.number("type", 2);
            let title = text::words(&mut f.random, 3);
            f.text("title", &title);
            f.time("date_started");
            f.time("date_detected");
            f.time("date_closed");
        }
        _ => {
            f.number("incident", o.pk(Model::Incident, number));
            f.null("user_id");
            f.number("type", 2);
            f.text("value", "20");
            f.text("previous_value", "10");
            f.null("comment");
            f.null("notification_uuid");
        }
    }
    f.time("date_added");
}

/// Which detectors and workflows stand for which alerts and rules.
fn workflows(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    changed(f);
    match model {
        Model::AlertRuleDetector => {
            f.number("alert_rule_id", o.pk(Model::AlertRule, number));
            f.null("rule_id");
            f.number("detector", o.pk(Model::Detector, number));
        }
        Model::AlertRuleWorkflow => {
            f.null("alert_rule_id");
            f.number("rule_id", o.pk(Model::Rule, number));
            f.number("workflow", o.pk(Model::Workflow, number));
        }
        _ => {
            f.number("alert_rule_trigger_id", o.pk(Model::AlertRuleTrigger, number));
            f.number("data_condition", o.pk(Model::DataCondition, number));
        }
    }
}

fn dashboards(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    let dashboard = o.pk(Model::Dashboard, number);
    match model {
        Model::DashboardPermissionsTeam => {
            f.number("permissions", o.pk(Model::DashboardPermissions, number));
            f.number("team", o.pk(Model::Team, number));
        }
        Model::DashboardWidgetQueryOnDemand => {
            f.number("dashboard_widget_query", o.pk(Model::DashboardWidgetQuery, number));
            let hash = text::hex(&mut f.random, 32);
            f.json("spec_hashes", &json!([hash]));
            f.number("spec_version", 2);
            f.text("extraction_state", "enabled:creation");
            f.time("date_modified");
            f.time("date_added");
        }
        Model::DashboardFieldLink => {
            changed(f);
            f.text("field", "project");
            f.number("dashboard", dashboard);
            f.number("dashboard_widget_query", o.pk(Model::DashboardWidgetQuery, number));
        }
        _ => {
            changed(f);
            f.number("dashboard", dashboard);
            let author = member(o, number);
            f.number("created_by_id", author);
            let title = text::words(&mut f.random, 3);
            f.text("title", &title);
            f.text("source", "edit");
            f.number("snapshot_schema_version", 1);
            let project = o.pk(Model::Project, number);
            let query = json!({"conditions": format!("project.id:{project}"), "fields": ["count()"]});
            let widget = json!({"dashboardId": dashboard.to_string(), "title": "w", "queries": [query]});
            let snapshot = json!({
                "id": dashboard.to_string(), "title": title, "projects": [project],
                "createdBy": {"id": author.to_string()}, "widgets": [widget],
            });
            f.json("snapshot", &snapshot);
        }
    }
}

/// What an organization has connected. Reviews are of repositories, which no import of organizations takes.
fn integrations(f: &mut Fields<'_>, o: &Organization, model: Model) {
    if model == Model::Repository {
        f.number("organization_id", o.pk(Model::Organization, 0));
        f.text("name", "acme/web");
        f.text("url", "https://git.example/acme/web");
        f.text("provider", "integrations:github");
        f.text("external_id", &o.index.to_string());
        f.json("config", &json!({}));
        f.number("status", 0);
        f.time("date_added");
        f.null("integration_id");
        f.null("languages");
        return;
    }
    changed(f);
    match model {
        Model::DataForwarder => {
            f.number("organization", o.pk(Model::Organization, 0));
            f.flag("is_enabled", true);
            f.flag("enroll_new_projects", false);
            f.text("provider", "segment");
            f.json("config", &json!({"write_key": "0123456789"}));
        }
        Model::DataForwarderProject => {
            f.number("data_forwarder", o.pk(Model::DataForwarder, 0));
            f.number("project", o.pk(Model::Project, 0));
            f.flag("is_enabled", true);
            f.json("overrides", &json!({}));
        }
        _ => {
            f.number("organization", o.pk(Model::Organization, 0));
            f.number("repository", o.pk(Model::Repository, 0));
            f.number("pr_number", 7);
            f.text("pr_title", "Mend it");
            f.text("raw_event_type", "pull_request");
            f.text("raw_event_action", "opened");
            f.text("trigger_id", &o.index.to_string());
            f.time("trigger_at");
            f.text("status", "review_completed");
            f.number("comments_posted", 2);
        }
    }
}

/// What people have looked at, and what they keep at hand.
fn views(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    changed(f);
    if model == Model::GroupSearchViewProject {
        f.number("group_search_view", o.pk(Model::GroupSearchView, number));
        f.number("project", o.pk(Model::Project, number));
        return;
    }
    f.number("user_id", member(o, number));
    f.number("organization", o.pk(Model::Organization, 0));
    match model {
        Model::GroupSearchViewLastVisited => {
            f.number("group_search_view", o.pk(Model::GroupSearchView, number));
            f.time("last_visited");
        }
        Model::InsightsStarredSegment => {
            f.number("project", o.pk(Model::Project, number));
            f.text("segment_name", "/checkout");
        }
        Model::ExploreSavedQueryStarred => {
            f.number("explore_saved_query", o.pk(Model::ExploreSavedQuery, number));
            f.number("position", number);
            f.flag("starred", true);
        }
        _ => {
            f.number("explore_saved_query", o.pk(Model::ExploreSavedQuery, number));
            f.time("last_visited");
        }
    }
}
