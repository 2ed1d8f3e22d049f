//! Records that members create to watch their projects: searches, rules, dashboards, alerts.

use serde_json::json;

use super::{
    super::{
        Release,
        shape::{Model, Organization, Random},
        text,
    },
    Fields, PLATFORMS, member,
};

fn query(random: &mut Random) -> String {
    let platform = random.pick(PLATFORMS);
    format!("is:unresolved platform:{platform} message:\"{}\"", text::words(random, 2).replace('"', "'"))
}

pub(super) fn searches(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    f.number("organization", o.pk(Model::Organization, 0));
    f.number("type", 0);
    let query = query(&mut f.random);
    f.text("query", &query);
    if model == Model::SavedSearch {
        f.number("owner_id", member(o, number));
        let name = format!("{} {}", text::words(&mut f.random, 3), o.place(model, number));
        f.text("name", &name);
        f.text("sort", "date");
        f.flag("is_global", false);
        f.text("visibility", "owner");
        f.time("date_added");
    } else {
        f.number("user_id", member(o, number));
        let hash = text::hex(&mut f.random, 32);
        f.text("query_hash", &hash);
        f.time("last_seen");
        f.time("date_added");
    }
}

pub(super) fn rules(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    let label = text::words(&mut f.random, 4);
    let project = o.pk(Model::Project, number);
    if model == Model::Monitor {
        f.time("date_added");
        f.number("organization_id", o.pk(Model::Organization, 0));
        f.number("project_id", project);
        f.number("status", 0);
        let (guid, slug) = (text::uuid(&mut f.random), text::thing(&mut f.random));
        f.text("guid", &guid);
        f.text("slug", &format!("{slug}-{number}"));
        if o.release < Release::R26_6 {
            f.flag("is_muted", false);
            f.number("type", 3);
        }
        if o.release >= Release::R25_6 {
            f.flag("is_upserting", false);
        }
        f.text("name", &label);
        f.number("owner_user_id", member(o, number));
        f.null("owner_team_id");
        let minute = f.random.below(60);
        f.json(
            "config",
            &json!({"schedule": format!("{minute} * * * *"), "schedule_type": 1, "timezone": "UTC", "checkin_margin": 5}),
        );
        return;
    }
    f.number("project", project);
    let environment = f.random.one_in(3).then(|| o.pk(Model::Environment, number));
    f.optional("environment_id", environment);
    f.text("label", &label);
    let conditions = [
        json!({"id": "sentry.rules.conditions.first_seen_event.FirstSeenEventCondition"}),
        json!({
            "id": "sentry.rules.conditions.event_frequency.EventFrequencyCondition",
            "interval": "1h", "value": f.random.below(1_000), "comparisonType": "count",
        }),
        json!({
            "id": "sentry.rules.filters.tagged_event.TaggedEventFilter",
            "key": text::thing(&mut f.random), "match": "eq", "value": text::words(&mut f.random, 2),
        }),
    ];
    let used = 1 + f.random.below(3) as usize;
    f.json_text(
        "data",
        &json!({
            "conditions": conditions[..used],
            "action_match": "all",
            "filter_match": "all",
            "actions": [{"id": "sentry.mail.actions.NotifyEmailAction", "targetType": "IssueOwners"}],
            "frequency": 30,
        }),
    );
    f.number("status", 0);
    f.number("source", 0);
    if o.release < Release::R24_8 {
        f.number("owner", o.owner(number));
    } else {
        f.number("owner_user_id", member(o, number));
        f.null("owner_team");
    }
    f.time("date_added");
}

pub(super) fn dashboards(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    let title = text::words(&mut f.random, 3);
    match model {
        Model::Dashboard => {
            f.text("title", &format!("{title} {number}"));
            f.number("created_by_id", member(o, number));
            f.number("organization", o.pk(Model::Organization, 0));
            f.time("date_added");
            let visits = f.random.below(500);
            f.number("visits", visits);
            f.time("last_visited");
            f.json_text("filters", &json!({"release": ["latest"]}));
            if o.release >= Release::R26_6 {
                f.null("prebuilt_id");
            }
        }
        Model::DashboardWidget => {
            let dashboards = o.counts.of(Model::Dashboard).max(1);
            f.number("dashboard", o.pk(Model::Dashboard, number % dashboards));
            f.number("order", number / dashboards);
            f.text("title", &title);
            f.null("description");
            f.null("thresholds");
            f.text("interval", "5m");
            let display = f.random.below(5);
            f.number("display_type", display);
            f.time("date_added");
            f.number("widget_type", 0);
            f.null("limit");
            f.json_text("detail", &json!({"layout": {"x": 0, "y": number, "w": 2, "h": 2, "minH": 2}}));
            f.null("discover_widget_split");
            if o.release >= Release::R24_9 {
                f.number("dataset_source", 0);
            }
            if o.release >= Release::R26_6 {
                f.null("widget_snapshot");
                f.null("changed_reason");
            }
        }
        _ => {
            let widgets = o.counts.of(Model::DashboardWidget).max(1);
            f.number("widget", o.pk(Model::DashboardWidget, number % widgets));
            f.text("name", &title);
            f.text("fields", "['geo.country_code', 'count()', 'p95(transaction.duration)']");
            let conditions = query(&mut f.random);
            f.text("conditions", &conditions);
            f.json("aggregates", &json!(["count()", "p95(transaction.duration)"]));
            f.json("columns", &json!(["geo.country_code"]));
            f.null("field_aliases");
            f.text("orderby", "-count()");
            f.number("order", number / widgets);
            f.time("date_added");
            f.time("date_modified");
            f.flag("is_hidden", false);
            if o.release >= Release::R26_6 {
                f.null("selected_aggregate");
            }
        }
    }
}

pub(super) fn alerts(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    let rules = o.counts.of(Model::AlertRule).max(1);
    match model {
        Model::SnubaQuery => {
            let environment = f.random.one_in(2).then(|| o.pk(Model::Environment, number));
            f.optional("environment", environment);
            f.number("type", 0);
            f.text("dataset", "events");
            let query = query(&mut f.random);
            f.text("query", &query);
            f.text("aggregate", "count()");
            f.number("time_window", 600);
            f.number("resolution", 60);
            if o.release >= Release::R25_6 {
                f.null("group_by");
            }
            if o.release >= Release::R26_6 {
                f.number("extrapolation_mode", 0);
                f.null("query_snapshot");
            }
        }
        Model::QuerySubscription => {
            f.number("project", o.pk(Model::Project, number));
            f.number("snuba_query", o.pk(Model::SnubaQuery, number));
            f.text("type", "incidents");
            f.number("status", 0);
            let id = format!("0/{}", text::uuid(&mut f.random));
            f.text("subscription_id", &id);
            f.null("query_extra");
            f.time("date_updated");
        }
        Model::SnubaQueryEventType => {
            f.number("snuba_query", o.pk(Model::SnubaQuery, number));
            let kind = f.random.below(3);
            f.number("type", kind);
            return;
        }
        Model::AlertRule => {
            f.number("organization", o.pk(Model::Organization, 0));
            f.number("snuba_query", o.pk(Model::SnubaQuery, number));
            if o.release < Release::R24_8 {
                f.number("owner", o.owner(number));
                f.null("user_id");
            } else {
                f.number("user_id", member(o, number));
            }
            f.null("team");
            let name = text::words(&mut f.random, 5);
            f.text("name", &name);
            f.number("status", 0);
            if o.release < Release::R25_6 {
                f.flag("include_all_projects", false);
            }
            if o.release >= Release::R24_9 {
                f.text("detection_type", "static");
                f.null("sensitivity");
                f.null("seasonality");
            }
            f.number("threshold_type", 0);
            f.null("resolve_threshold");
            f.number("threshold_period", 1);
            f.null("comparison_delta");
            f.number("monitor_type", 0);
            f.null("description");
            f.time("date_modified");
        }
        Model::AlertRuleTrigger => {
            f.number("alert_rule", o.pk(Model::AlertRule, number));
            f.text("label", if number < rules { "critical" } else { "warning" });
            f.number("threshold_type", 0);
            let threshold = f.random.unit() * 1_000.0;
            f.json("alert_threshold", &json!(threshold));
            f.null("resolve_threshold");
        }
        Model::AlertRuleProjects => {
            f.number("alert_rule", o.pk(Model::AlertRule, number));
            f.number("project", o.pk(Model::Project, number));
        }
        _ => {
            f.null("integration_id");
            f.null("sentry_app_id");
            f.number("type", 0);
            f.number("target_type", 1);
            f.text("target_identifier", &member(o, number).to_string());
            f.null("target_display");
            f.number("alert_rule_trigger", o.pk(Model::AlertRuleTrigger, number));
            f.null("sentry_app_config");
            f.number("status", 0);
        }
    }
    f.time("date_added");
}
