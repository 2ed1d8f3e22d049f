//! Primary keys inside values: who is notified by a rule, which projects a dashboard shows, `project.id:5` in a search.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Cell, case::AuditCase, file::FileRecord};

const PROJECT: &str = "sentry.project";
const TEAM: &str = "sentry.team";
const USER: &str = "sentry.user";
const ORGANIZATION: &str = "sentry.organization";
const INTEGRATION: &str = "sentry.integration";
const DASHBOARD: &str = "sentry.dashboard";
const WIDGET: &str = "sentry.dashboardwidget";

/// What a place in a value holds.
enum Of {
    /// The primary key of a record of this model.
    Model(&'static str),
    /// A search, with primary keys in some of its terms.
    Search,
    /// No primary key, so it stays as it is.
    None,
    /// A primary key of who knows what.
    Unknown,
    /// A primary key that is left out without a word.
    Forgotten,
}

/// Maps the primary keys in one value, and notes where some lead to nothing imported: place and model.
pub(super) struct Mapper<'m> {
    new_pk: &'m dyn Fn(&str, i64) -> Option<i64>,
    /// Whether every place of a primary key becomes null, whatever it contains, so that the others can be
    /// checked.
    pub(super) is_emptying: bool,
    /// Whether what has a lost primary key in it leaves its list.
    removes: bool,
    cleared: BTreeSet<(String, String)>,
    preserved: BTreeSet<String>,
    /// The places that hold something else than a rule expects, without the indices of elements, and what is wrong.
    pub(super) strange: BTreeMap<String, &'static str>,
}

const SHAPE: &str = "shape";
const TYPE: &str = "type";
const TERM: &str = "term";

impl<'m> Mapper<'m> {
    pub(super) fn new(new_pk: &'m dyn Fn(&str, i64) -> Option<i64>) -> Self {
        let (cleared, preserved, strange) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        Self { new_pk, is_emptying: false, removes: false, cleared, preserved, strange }
    }

    /// Maps what is at a path like `a[].b`. `of` gets what it is in.
    fn at(&mut self, value: &mut Value, path: &str, of: &dyn Fn(&Value) -> Of) {
        let names = path.split('.').filter(|part| !part.is_empty()).flat_map(|part| {
            let name = part.trim_end_matches("[]");
            let lists = (part.len() - name.len()) / 2;
            Some(name).filter(|name| !name.is_empty()).into_iter().chain(std::iter::repeat_n("[]", lists))
        });
        self.walk(value, &names.collect::<Vec<_>>(), "", &Value::Null, of);
    }

    /// Follows a path. True if the nearest list takes out what the value is in.
    fn walk(
        &mut self,
        value: &mut Value,
        path: &[&str],
        site: &str,
        within: &Value,
        of: &dyn Fn(&Value) -> Of,
    ) -> bool {
        match (path, value) {
            ([], value) => {
                let is_lost = self.leaf(value, site, of(within));
                if is_lost || self.is_emptying {
                    *value = Value::Null;
                }
                is_lost && (self.removes || site.ends_with("[]"))
            }
            (_, Value::Null) => false,
            (["[]", rest @ ..], Value::Array(items)) => {
                let site = format!("{site}[]");
                items.retain_mut(|item| !self.walk(item, rest, &site, &Value::Null, of));
                false
            }
            ([name, rest @ ..], Value::Object(entries)) if *name != "[]" => {
                let within = Value::Object(entries.clone());
                let slot = entries.get_mut(*name);
                slot.is_some_and(|slot| self.walk(slot, rest, &joined(site, name), &within, of))
            }
            _ => {
                self.strange.entry(site.to_owned()).or_insert(SHAPE);
                false
            }
        }
    }

    /// Maps the value at the end of a path. True if it leads to nothing imported, or is forgotten.
    fn leaf(&mut self, slot: &mut Value, site: &str, of: Of) -> bool {
        if let (Of::Search, Value::String(text)) = (&of, &mut *slot) {
            *text = self.search(text, site);
            return false;
        }
        let digits = slot.as_str().map_or_else(|| slot.to_string(), str::to_owned);
        let pk = digits.parse::<i64>().ok().filter(|pk| pk.to_string() == digits);
        match (of, pk) {
            (Of::None, _) | (Of::Model(_), Some(0)) | (Of::Unknown | Of::Forgotten, Some(..=0)) => false,
            // All projects.
            (Of::Model(PROJECT), Some(-1)) => false,
            (_, _) if slot.is_null() || digits.is_empty() => false,
            (Of::Search, _) | (_, None) | (Of::Model(_), Some(..=0)) => {
                self.strange.entry(site.to_owned()).or_insert(SHAPE);
                false
            }
            (Of::Unknown, Some(_)) => {
                self.strange.entry(site.to_owned()).or_insert(TYPE);
                false
            }
            (Of::Forgotten, Some(_)) => true,
            (Of::Model(target), Some(pk)) => match (self.new_pk)(target, pk) {
                Some(new) => {
                    *slot = if slot.is_string() { new.to_string().into() } else { new.into() };
                    false
                }
                None => {
                    self.cleared.insert((site.to_owned(), target.to_owned()));
                    true
                }
            },
        }
    }

    /// Maps the projects of a search, word by word. Searches of the tests have no blanks inside a term.
    pub(super) fn search(&mut self, text: &str, site: &str) -> String {
        text.split(' ').map(|word| self.word(word, site)).collect::<Vec<_>>().join(" ")
    }

    fn word(&mut self, word: &str, site: &str) -> String {
        let as_it_is = || word.to_owned();
        let Some((before, value)) = word.split_once(':') else { return as_it_is() };
        let name = before.trim_start_matches(['!', '(']);
        let place = if site.is_empty() { name.to_owned() } else { format!("{site}: {name}") };
        let is_id = name.to_lowercase().ends_with("id");
        // A slug has letters, and no record has the id 0. -1 is all projects.
        let is_odd = |value: &str| {
            value.contains(|it: char| matches!(it, '1'..='9'))
                && (is_id || !value.contains(char::is_alphabetic))
                && !(value == "-1" && name.starts_with("project"))
        };
        if !matches!(name, "project" | "project.id" | "project_id" | "issue.id") {
            let lower = name.to_lowercase();
            let of = lower.trim_end_matches("id").trim_end_matches(['.', '_']).trim_end_matches('s');
            let is_record = lower != "issue"
                && ["project", "team", "monitor", "detector", "dashboard", "workflow", "alert_rule", "issue"]
                    .contains(&of);
            if is_record && is_odd(value) {
                self.strange.entry(place).or_insert(TERM);
            }
            return as_it_is();
        }
        let bare = value.trim_start_matches(['!', '<', '>', '=']).trim_end_matches(')');
        let list = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let pk_of = |element: &str| {
            let digits = element.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(element);
            let is_number = !digits.is_empty() && digits.chars().all(|it| it.is_ascii_digit());
            digits.parse::<i64>().ok().filter(|_| is_number)
        };
        let elements: Vec<&str> = list.unwrap_or(bare).split(',').collect();
        if list.is_none() && elements.iter().any(|element| pk_of(element).is_none()) {
            if is_odd(bare) {
                self.strange.entry(place).or_insert(TERM);
            }
            return as_it_is();
        }
        let mut new = Vec::new();
        for element in elements {
            let Some(pk) = pk_of(element) else {
                if is_odd(element) {
                    self.strange.entry(place.clone()).or_insert(TERM);
                }
                new.push(element.to_owned());
                continue;
            };
            // No import has issues.
            let mapped = (self.new_pk)(PROJECT, pk).filter(|_| name != "issue.id");
            match mapped {
                _ if pk == 0 => {}
                None if is_id => {
                    self.cleared.insert((place.clone(), String::new()));
                }
                None => {
                    self.preserved.insert(place.clone());
                }
                Some(_) => {}
            }
            let shown = mapped.unwrap_or(if is_id { 0 } else { pk }).to_string();
            new.push(element.replace(&pk.to_string(), &shown));
        }
        word.replace(list.unwrap_or(bare), &new.join(","))
    }

    pub(super) fn value(&mut self, record: &FileRecord, field: &str, value: &mut Value) {
        const TEAMS: &str = "sentry.integrations.msteams.notify_action.MsTeamsNotifyServiceAction";
        let search = |_: &Value| Of::Search;
        let forgotten = |_: &Value| Of::Forgotten;
        match (record.model.trim_start_matches("sentry."), field) {
            ("rule", "data") => {
                for list in ["conditions", "filters", "actions"] {
                    self.at(value, &format!("{list}[].targetIdentifier"), &|it| notified(it, "targetType"));
                }
                for name in ["integration", "workspace", "account", "server"] {
                    self.at(value, &format!("actions[].{name}"), &|_| Of::Model(INTEGRATION));
                }
                self.at(value, "actions[].team", &|action| match action["id"] == TEAMS {
                    true => Of::Model(INTEGRATION),
                    false => Of::None,
                });
            }
            ("dashboard", "filters") => self.at(value, "project[]", &|_| Of::Model(PROJECT)),
            ("monitor", "config") => self.at(value, "alert_rule_id", &|_| Of::Model("sentry.rule")),
            ("projectownership", "schema") => {
                self.at(value, "rules[].owners[].id", &|owner| match owner["type"].as_str() {
                    Some("team") => Of::Model(TEAM),
                    Some("user") => Of::Model(USER),
                    _ => Of::Unknown,
                })
            }
            ("organizationmemberinvite", "organization_member_team_data") => {
                self.removes = true;
                self.at(value, "[].id", &|_| Of::Model(TEAM));
            }
            ("workflow_engine.datacondition", "comparison") => match record.text("type") {
                Some("assigned_to") => {
                    self.at(value, "target_identifier", &|it| notified(it, "target_type"));
                    self.at(value, "targetIdentifier", &|it| notified(it, "targetType"));
                }
                Some("event_created_by_detector") => {
                    self.at(value, "", &|_| Of::Model("workflow_engine.detector"));
                }
                _ => {}
            },
            ("explore.exploresavedquery", "query") => {
                let path = if value["query"].is_array() { "query[].query" } else { "query" };
                self.at(value, path, &search);
                self.at(value, "queries[].query", &search);
            }
            ("snubaquery", "query_snapshot") => self.at(value, "query", &search),
            // A copy of the widget as it was, with its own primary keys, which it could only have after itself.
            ("dashboardwidget", "widget_snapshot") => {
                self.at(value, "dashboardId", &|_| Of::Model(DASHBOARD));
                self.at(value, "queries[].linkedDashboards[].dashboardId", &|_| Of::Model(DASHBOARD));
                self.at(value, "queries[].conditions", &search);
                for path in [
                    "id",
                    "queries[].id",
                    "queries[].widgetId",
                    "queries[].onDemand[].dashboardWidgetQueryId",
                ] {
                    self.at(value, path, &forgotten);
                }
            }
            ("dashboardrevision", "snapshot") => {
                for (path, target) in [
                    ("id", DASHBOARD),
                    ("projects[]", PROJECT),
                    ("createdBy.id", USER),
                    ("createdBy.emails[].id", "sentry.useremail"),
                    ("filters.releaseId[]", "sentry.release"),
                    ("permissions.teamsWithEditAccess[]", TEAM),
                    ("widgets[].id", WIDGET),
                    ("widgets[].dashboardId", DASHBOARD),
                    ("widgets[].queries[].id", "sentry.dashboardwidgetquery"),
                    ("widgets[].queries[].widgetId", WIDGET),
                    ("widgets[].queries[].linkedDashboards[].dashboardId", DASHBOARD),
                    ("widgets[].queries[].onDemand[].dashboardWidgetQueryId", "sentry.dashboardwidgetquery"),
                ] {
                    self.at(value, path, &|_| Of::Model(target));
                }
                self.at(value, "createdBy.identities[].id", &forgotten);
                self.at(value, "widgets[].queries[].conditions", &search);
            }
            ("organizationoption" | "projectoption" | "useroption", "value") => {
                let name = record.text("key").unwrap_or_default();
                let target = match name {
                    "reports:disabled-organizations" if record.model == "sentry.useroption" => ORGANIZATION,
                    _ if name.ends_with("organization_ids") && record.model == "sentry.useroption" => {
                        ORGANIZATION
                    }
                    _ if name.ends_with("project_ids") => PROJECT,
                    _ if name.ends_with("team_ids") => TEAM,
                    _ if name.ends_with("user_ids") => USER,
                    _ => return,
                };
                self.at(value, "[]", &|_| Of::Model(target));
            }
            _ => {}
        }
    }
}

/// Whom an object with a type and an identifier of a target names.
fn notified(object: &Value, kind: &str) -> Of {
    match object[kind].as_str() {
        Some("Team") => Of::Model(TEAM),
        Some("Member") => Of::Model(USER),
        Some("IssueOwners" | "Unassigned") => Of::None,
        _ => Of::Unknown,
    }
}

pub(super) fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Whether a text column is a search.
pub(super) fn is_search(model: &str, field: &str) -> bool {
    matches!(
        (model, field),
        (
            "sentry.savedsearch"
                | "sentry.groupsearchview"
                | "sentry.snubaquery"
                | "sentry.recentsearch"
                | "sentry.customdynamicsamplingrule",
            "query"
        ) | ("sentry.dashboardwidgetquery", "conditions")
    )
}

impl AuditCase<'_> {
    /// The cell of a field with the primary keys in it mapped.
    pub(super) fn nested(&self, record: &FileRecord, field: &str, cell: Cell) -> Cell {
        // The hash of a search, which changes with it.
        if record.model == "sentry.recentsearch"
            && field == "query_hash"
            && let Some(query) = record.text("query")
            && cell == Cell::Text(md5(query))
            && let Cell::Text(query) = self.nested(record, "query", Cell::Text(query.to_owned()))
        {
            return Cell::Text(md5(&query));
        }
        self.map_nested(record, field, cell).0
    }

    /// How many primary keys of a field lead to nothing imported: how many are cleared, and how many stay.
    pub(super) fn nested_lost(&self, record: &FileRecord, field: &str, cell: Cell) -> (usize, usize) {
        let (_, cleared, preserved) = self.map_nested(record, field, cell);
        (cleared, preserved)
    }

    fn map_nested(&self, record: &FileRecord, field: &str, cell: Cell) -> (Cell, usize, usize) {
        let new_pk = |target: &str, pk: i64| self.new_pk(target, pk);
        let mut mapper = Mapper::new(&new_pk);
        let cell = match cell {
            Cell::Json(mut value) => {
                mapper.value(record, field, &mut value);
                Cell::Json(value)
            }
            Cell::Text(text) if is_search(&record.model, field) => Cell::Text(mapper.search(&text, "")),
            other => other,
        };
        (cell, mapper.cleared.len(), mapper.preserved.len())
    }
}

fn md5(text: &str) -> String {
    use md5::Digest as _;
    md5::Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
