//! Writes the records of each model.

mod newer;
mod newest;
mod watching;

use std::io::Write as _;

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::{
    Release,
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

/// A buffer for one record, which is used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Line(Vec<u8>);

impl Line {
    /// Writes record `number` of those that an organization has of a model.
    pub(super) fn write(&mut self, organization: &Organization, model: Model, number: u64) -> &[u8] {
        self.0.clear();
        let pk = organization.pk(model, number);
        self.raw(&format!(
            "{{\"model\": \"{}\", \"pk\": {pk}, \"fields\": {{",
            organization.release.name(model)
        ));
        let random = organization.random(model, number);
        fields(&mut Fields { line: self, any: false, random }, organization, model, number);
        self.raw("}}");
        &self.0
    }

    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// Writes the fields of a record.
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
        // Writing to a Vec does not fail.
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

    /// JSON as exports often have it: as text in a string.
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
        Model::SavedSearch | Model::RecentSearch => watching::searches(f, o, model, number),
        Model::OrgAuthToken => token(f, o, number),
        Model::ProjectTeam
        | Model::ProjectOwnership
        | Model::ProjectOption
        | Model::ProjectKey
        | Model::ProjectBookmark
        | Model::EnvironmentProject => of_project(f, o, model, number),
        Model::Monitor | Model::Rule => watching::rules(f, o, model, number),
        Model::Actor => actor(f, o, number),
        Model::Dashboard | Model::DashboardWidget | Model::DashboardWidgetQuery => {
            watching::dashboards(f, o, model, number)
        }
        Model::SnubaQuery
        | Model::QuerySubscription
        | Model::SnubaQueryEventType
        | Model::AlertRule
        | Model::AlertRuleTrigger
        | Model::AlertRuleProjects
        | Model::AlertRuleTriggerAction => watching::alerts(f, o, model, number),
        Model::OrganizationMemberInvite
        | Model::GroupSearchView
        | Model::GroupSearchViewStarred
        | Model::DashboardFavoriteUser
        | Model::DashboardPermissions
        | Model::ExploreSavedQuery
        | Model::ExploreSavedQueryProject
        | Model::DataConditionGroup
        | Model::DataCondition
        | Model::DataSource
        | Model::Detector
        | Model::DataSourceDetector
        | Model::Workflow
        | Model::DetectorWorkflow
        | Model::WorkflowDataConditionGroup => newer::fields(f, o, model, number),
        _ => newest::fields(f, o, model, number),
    }
}

fn organization(f: &mut Fields<'_>, o: &Organization) {
    let name = text::company(&mut f.random);
    f.text("name", &name);
    let slug = match f.random.below(400) {
        // First a text that is not a valid slug, then a slug that other organizations may have as well.
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

/// Represents a team or a user.
fn actor(f: &mut Fields<'_>, o: &Organization, number: u64) {
    let teams = o.counts.of(Model::Team);
    let user = number.checked_sub(teams).map(|user| o.pk(Model::User, user));
    f.number("type", u64::from(user.is_some()));
    f.optional("team", user.is_none().then(|| o.pk(Model::Team, number)));
    f.optional("user_id", user);
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
        if o.release < Release::R24_8 {
            f.number("actor", o.pk(Model::Actor, number));
        }
        f.flag("idp_provisioned", false);
        f.time("date_added");
        return;
    }
    f.null("forced_color");
    f.flag("public", false);
    f.time("date_added");
    f.time_or_null("first_event", 4);
    if o.release < Release::R26_6 {
        f.null("template");
    } else {
        f.null("external_id");
    }
    f.text("flags", "10");
    let platform = f.random.pick(PLATFORMS);
    f.text("platform", platform);
}

/// The email address of the user at this place among all users.
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
            if o.release >= Release::R26_6 {
                f.text("email_unique", &address);
                f.flag("is_suspended", false);
            }
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

/// The primary key of a member's user. For a member without one, that of the organization's first user.
fn member(o: &Organization, number: u64) -> u64 {
    // The members with users come first.
    pk(Model::User, o.user_of_member(number).unwrap_or_else(|| o.place(Model::User, 0)))
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
    // The projects take turns; the second round gives each project another record.
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
