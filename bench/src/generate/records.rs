//! Writes the records of each model.

use std::io::Write as _;

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::{
    shape::{Model, Organization, Random, pk, random},
    text,
};

const DOMAINS: &[&str] = &["example.com", "example.org", "example.net", "mail.example", "münchen.example"];
const PLATFORMS: &[&str] =
    &["python", "javascript-react", "java", "go", "rust", "php-laravel", "apple-ios", "android"];
const TIME_ZONES: &[&str] = &["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Sydney"];
const ENVIRONMENTS: &[&str] = &["production", "staging", "development"];
const ORGANIZATION_OPTIONS: &[&str] = &[
    "sentry:account-rate-limit",
    "sentry:require_scrub_data",
    "sentry:sensitive_fields",
    "sentry:safe_fields",
    "sentry:relay_pii_config",
    "mail:subject_prefix",
    "sentry:events_member_admin",
    "quotas:retention",
];
const PROJECT_OPTIONS: &[&str] = &[
    "sentry:relay-rev",
    "sentry:relay-rev-lastchange",
    "sentry:option-epoch",
    "sentry:grouping_enhancements",
    "mail:subject_template",
];

/// A record in the making. Its memory is used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Line(Vec<u8>);

impl Line {
    /// The record of this number that an organization has of a model.
    pub(super) fn write(&mut self, organization: &Organization, model: Model, number: u64) -> &[u8] {
        self.0.clear();
        let pk = organization.pk(model, number);
        self.raw(&format!("{{\"model\": \"{}\", \"pk\": {pk}, \"fields\": {{", model.name()));
        let random = organization.random(model, number);
        fields(&mut Fields { line: self, any: false, random }, organization, model, number);
        self.raw("}}");
        &self.0
    }

    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// The fields of a record in the making.
struct Fields<'a> {
    line: &'a mut Line,
    any: bool,
    random: Random,
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        if self.any {
            self.line.raw(", ");
        }
        self.any = true;
        self.line.raw("\"");
        self.line.raw(name);
        self.line.raw("\": ");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        // A Vec takes whatever is written.
        let _infallible = write!(self.line.0, "{value}");
    }

    fn optional(&mut self, name: &str, value: Option<u64>) {
        match value {
            Some(value) => self.number(name, value),
            None => self.null(name),
        }
    }

    fn null(&mut self, name: &str) {
        self.name(name);
        self.line.raw("null");
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        self.line.raw(if value { "true" } else { "false" });
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let _infallible = serde_json::to_writer(&mut self.line.0, value);
    }

    fn json(&mut self, name: &str, value: &Value) {
        self.name(name);
        let _infallible = serde_json::to_writer(&mut self.line.0, value);
    }

    /// JSON as exports often have it: as a text that holds it.
    fn json_text(&mut self, name: &str, value: &Value) {
        self.text(name, &value.to_string());
    }

    /// A time of the last years, in one of the forms that exports have.
    fn time(&mut self, name: &str) {
        let seconds = self.random.below(100_000_000) as i64;
        let micros = self.random.below(1_000_000) as i64;
        let time: DateTime<Utc> = DateTime::UNIX_EPOCH
            + Duration::days(18_500)
            + Duration::seconds(seconds)
            + Duration::microseconds(micros);
        let form = if micros % 8 == 0 { SecondsFormat::Secs } else { SecondsFormat::Millis };
        self.text(name, &time.to_rfc3339_opts(form, true));
    }

    fn time_or_null(&mut self, name: &str, null_once_in: u64) {
        if self.random.one_in(null_once_in) { self.null(name) } else { self.time(name) }
    }
}

fn fields(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    match model {
        Model::ControlOption => {
            f.text("key", &format!("system.option-{}", o.index));
            f.time("last_updated");
            f.text("last_updated_by", "unknown");
            f.json_text("value", &json!(o.index));
        }
        Model::Organization => organization(f, o),
        Model::OrganizationOption => organization_option(f, o, number),
        Model::Team | Model::Project | Model::Environment => places(f, o, model, number),
        Model::User | Model::Email | Model::UserEmail | Model::UserOption => people(f, o, model, number),
        Model::OrganizationMember | Model::OrganizationMemberTeam => members(f, o, model, number),
        Model::SavedSearch | Model::RecentSearch => searches(f, o, model, number),
        Model::OrgAuthToken => token(f, o, number),
        Model::ProjectTeam
        | Model::ProjectOwnership
        | Model::ProjectOption
        | Model::ProjectKey
        | Model::ProjectBookmark
        | Model::EnvironmentProject => of_project(f, o, model, number),
        Model::Monitor | Model::Rule => rules(f, o, model, number),
        Model::Dashboard | Model::DashboardWidget | Model::DashboardWidgetQuery => {
            dashboards(f, o, model, number)
        }
        Model::SnubaQuery
        | Model::QuerySubscription
        | Model::SnubaQueryEventType
        | Model::AlertRule
        | Model::AlertRuleTrigger
        | Model::AlertRuleProjects
        | Model::AlertRuleTriggerAction => alerts(f, o, model, number),
    }
}

fn organization(f: &mut Fields<'_>, o: &Organization) {
    let name = text::company(&mut f.random);
    f.text("name", &name);
    let slug = match f.random.below(400) {
        // What is no slug, and what some other organization has as well.
        0 => format!("Größe {}", o.index),
        1 => text::thing(&mut f.random),
        _ => format!("{}-{}", text::thing(&mut f.random), o.index),
    };
    f.text("slug", &slug);
    f.number("status", 0);
    f.time("date_added");
    f.text("default_role", "member");
    f.flag("is_test", false);
    let flags = if f.random.one_in(5) { "5" } else { "1" };
    f.text("flags", flags);
}

fn organization_option(f: &mut Fields<'_>, o: &Organization, number: u64) {
    f.number("organization", o.pk(Model::Organization, 0));
    let key = ORGANIZATION_OPTIONS[number as usize % ORGANIZATION_OPTIONS.len()];
    f.text("key", key);
    match key {
        "sentry:sensitive_fields" | "sentry:safe_fields" => {
            let fields: Vec<String> =
                (0..f.random.below(6)).map(|_| text::thing(&mut f.random).replace('-', "_")).collect();
            f.json_text("value", &json!(fields));
        }
        "mail:subject_prefix" => {
            let prefix = format!("[{}] ", text::person(&mut f.random));
            f.json_text("value", &json!(prefix));
        }
        "sentry:relay_pii_config" => {
            let rule = json!({"type": "pattern", "pattern": "[0-9]{4,}", "redaction": {"method": "mask"}});
            f.json_text(
                "value",
                &json!({"rules": {"account": rule}, "applications": {"$string": ["account"]}}),
            );
        }
        _ => {
            let value = f.random.below(1_000);
            f.json("value", &json!(value));
        }
    }
}

fn places(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    let organization = o.pk(Model::Organization, 0);
    if model == Model::Environment {
        f.number("organization_id", organization);
        f.text("name", ENVIRONMENTS[number as usize % ENVIRONMENTS.len()]);
        f.time("date_added");
        return;
    }
    let thing = text::thing(&mut f.random);
    f.number("organization", organization);
    f.text("slug", &format!("{thing}-{number}"));
    let name = if f.random.one_in(4) { text::words(&mut f.random, 2) } else { thing.replace('-', " ") };
    f.text("name", &name);
    f.number("status", 0);
    if model == Model::Team {
        f.flag("idp_provisioned", false);
        f.time("date_added");
        return;
    }
    f.null("forced_color");
    f.flag("public", false);
    f.time("date_added");
    f.time_or_null("first_event", 4);
    f.null("template");
    f.text("flags", "10");
    let platform = f.random.pick(PLATFORMS);
    f.text("platform", platform);
}

/// The address of the user at this place among all.
fn address(seed: u64, place: u64) -> String {
    let mut random = random(seed, Model::Email, place);
    let domain = random.pick(DOMAINS);
    format!("{}.{place}@{domain}", text::thing(&mut random).replace('-', "."))
}

fn people(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    // There are as many addresses as users, and up to two options for each.
    let users = o.counts.of(Model::User).max(1);
    let place = o.place(Model::User, number % users);
    let address = address(o.seed, place);
    match model {
        Model::User => {
            let (salt, hash) = (text::hex(&mut f.random, 22), text::hex(&mut f.random, 44));
            f.text("password", &format!("pbkdf2_sha256$600000${salt}${hash}"));
            f.time_or_null("last_login", 5);
            f.text("username", &address);
            let name = if f.random.one_in(12) { String::new() } else { text::person(&mut f.random) };
            f.text("name", &name);
            f.text("email", &address);
            f.flag("is_staff", false);
            let active = !f.random.one_in(30);
            f.flag("is_active", active);
            f.flag("is_unclaimed", false);
            f.flag("is_superuser", false);
            f.flag("is_managed", false);
            f.null("is_sentry_app");
            f.flag("is_password_expired", false);
            f.time("last_password_change");
            f.text("flags", "0");
            f.null("session_nonce");
            f.time("date_joined");
            f.time("last_active");
            f.number("avatar_type", 0);
            f.null("avatar_url");
        }
        Model::Email => {
            f.text("email", &address);
            f.time("date_added");
        }
        Model::UserEmail => {
            f.number("user", pk(Model::User, place));
            f.text("email", &address);
            let hash = text::hex(&mut f.random, 32);
            f.text("validation_hash", &hash);
            f.time("date_hash_added");
            f.flag("is_verified", true);
        }
        _ => {
            f.number("user", pk(Model::User, place));
            f.null("project_id");
            f.null("organization_id");
            if number < users {
                f.text("key", "timezone");
                let zone = f.random.pick(TIME_ZONES);
                f.json_text("value", &json!(zone));
            } else {
                f.text("key", "theme");
                f.json_text("value", &json!("dark"));
            }
        }
    }
}

fn members(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    if model == Model::OrganizationMemberTeam {
        let team = f.random.next();
        f.number("team", o.pk(Model::Team, team % o.counts.of(Model::Team).max(1)));
        f.number("organizationmember", o.pk(Model::OrganizationMember, number));
        f.flag("is_active", true);
        f.null("role");
        return;
    }
    let user = o.user_of_member(number);
    f.number("organization", o.pk(Model::Organization, 0));
    f.optional("user_id", user.map(|place| pk(Model::User, place)));
    match user {
        Some(_) => f.null("email"),
        None => f.text("email", &format!("invited.{}@example.com", o.place(model, number))),
    }
    f.text("role", if number == 0 { "owner" } else { "member" });
    f.text("flags", "0");
    if user.is_none() {
        let token = text::hex(&mut f.random, 64);
        f.text("token", &token);
    } else {
        f.null("token");
    }
    f.time("date_added");
    if user.is_none() {
        f.time("token_expires_at")
    } else {
        f.null("token_expires_at")
    }
    f.flag("has_global_access", true);
    let inviter = (number > 0).then(|| o.pk(Model::User, 0));
    f.optional("inviter_id", inviter);
    f.number("invite_status", u64::from(user.is_none()));
    f.number("type", 50);
    f.flag("user_is_active", true);
    match user {
        Some(place) => f.text("user_email", &address(o.seed, place)),
        None => f.null("user_email"),
    }
}

/// A user who is a member; numbers beyond begin again.
fn member(o: &Organization, number: u64) -> u64 {
    // The members with users come first.
    pk(Model::User, o.user_of_member(number).unwrap_or_else(|| o.place(Model::User, 0)))
}

fn query(random: &mut Random) -> String {
    let platform = random.pick(PLATFORMS);
    format!("is:unresolved platform:{platform} message:\"{}\"", text::words(random, 2).replace('"', "'"))
}

fn searches(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
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

fn token(f: &mut Fields<'_>, o: &Organization, number: u64) {
    f.number("organization_id", o.pk(Model::Organization, 0));
    let hash = text::hex(&mut f.random, 64);
    f.text("token_hashed", &hash);
    f.text("token_last_characters", &hash[60..]);
    let name = format!("{} {number}", text::words(&mut f.random, 2));
    f.text("name", &name);
    f.text("scope_list", "['org:ci']");
    f.number("created_by", member(o, number));
    f.time("date_added");
    f.time_or_null("date_last_used", 3);
    f.null("project_last_used_id");
    f.null("date_deactivated");
}

fn of_project(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    // Every record of a project in its turn; the second round gives it another one.
    let projects = o.counts.of(Model::Project).max(1);
    let (project, round) = match model {
        Model::ProjectOwnership => (number * 3, 0),
        Model::ProjectBookmark => (number * 2, 0),
        _ => (number % projects, number / projects),
    };
    f.number("project", o.pk(Model::Project, project));
    match model {
        Model::ProjectTeam => {
            f.number("team", o.pk(Model::Team, (project + round) % o.counts.of(Model::Team).max(1)));
        }
        Model::EnvironmentProject => {
            let environments = o.counts.of(Model::Environment).max(1);
            f.number("environment", o.pk(Model::Environment, (project + round) % environments));
            f.null("is_hidden");
        }
        Model::ProjectBookmark => {
            f.number("user_id", member(o, number));
            f.time("date_added");
        }
        Model::ProjectKey => {
            f.text("label", if round == 0 { "Default" } else { "Second" });
            let (public, secret) = (text::hex(&mut f.random, 32), text::hex(&mut f.random, 32));
            f.text("public_key", &public);
            f.text("secret_key", &secret);
            f.text("roles", "1");
            f.number("status", 0);
            f.time("date_added");
            f.null("rate_limit_count");
            f.null("rate_limit_window");
            f.json("data", &json!({"dynamicSdkLoaderOptions": {"hasPerformance": true, "hasReplay": true}}));
            f.text("use_case", "user");
        }
        Model::ProjectOption => {
            f.text("key", PROJECT_OPTIONS[round as usize % PROJECT_OPTIONS.len()]);
            match round {
                0 => {
                    let revision = text::hex(&mut f.random, 32);
                    f.json_text("value", &json!(revision));
                }
                1 => f.json_text("value", &json!("2024-06-18T18:27:13.090016Z")),
                2 => f.number("value", 12),
                _ => {
                    let length = 3 + f.random.below(20);
                    let value = text::words(&mut f.random, length);
                    f.json_text("value", &json!(value));
                }
            }
        }
        _ => {
            let path = text::thing(&mut f.random);
            let owner = address(o.seed, o.place(Model::User, 0));
            f.text("raw", &format!("path:src/{path}/* {owner}\nurl:*/{path} #{path}"));
            let matcher = json!({"type": "path", "pattern": format!("src/{path}/*")});
            let owners = json!([{"type": "user", "identifier": owner}]);
            f.json_text("schema", &json!({"$version": 1, "rules": [{"matcher": matcher, "owners": owners}]}));
            f.flag("fallthrough", true);
            f.flag("auto_assignment", true);
            f.time("date_created");
            f.time("last_updated");
            f.flag("is_active", true);
            f.flag("codeowners_auto_sync", true);
            f.flag("suspect_committer_auto_assignment", false);
        }
    }
}

fn rules(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
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
        f.flag("is_muted", false);
        f.text("name", &label);
        f.number("type", 3);
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
    f.number("owner_user_id", member(o, number));
    f.null("owner_team");
    f.time("date_added");
}

fn dashboards(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
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
        }
    }
}

fn alerts(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
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
            f.number("user_id", member(o, number));
            f.null("team");
            let name = text::words(&mut f.random, 5);
            f.text("name", &name);
            f.number("status", 0);
            f.flag("include_all_projects", false);
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
