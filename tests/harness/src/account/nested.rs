//! Primary keys inside values: who is notified by a rule, which projects a dashboard shows, `project.id:5` in a search.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Cell, case::AuditCase, file::FileRecord};

const PROJECT: &str = "sentry.project";
const TEAM: &str = "sentry.team";
const USER: &str = "sentry.user";

/// Maps the primary keys in one value, and notes where some lead to nothing imported: place and model.
struct Mapper<'m> {
    new_pk: &'m dyn Fn(&str, i64) -> Option<i64>,
    /// The place that is looked at, without the indices of elements.
    site: String,
    cleared: BTreeSet<(String, String)>,
    kept: BTreeSet<String>,
}

/// The primary key that a value is: a positive number, or a text of its digits.
fn key(value: &Value) -> Option<i64> {
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    number.filter(|pk| *pk > 0)
}

fn each(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

impl<'m> Mapper<'m> {
    fn new(new_pk: &'m dyn Fn(&str, i64) -> Option<i64>) -> Self {
        Self { new_pk, site: String::new(), cleared: BTreeSet::new(), kept: BTreeSet::new() }
    }

    /// Maps a value that is a primary key.
    fn one(&mut self, slot: Option<&mut Value>, target: &str) {
        let Some(slot) = slot else { return };
        let Some(pk) = key(slot) else { return };
        let new = (self.new_pk)(target, pk);
        if new.is_none() {
            self.cleared.insert((self.site.clone(), target.to_owned()));
        }
        *slot = match new {
            Some(new) if slot.is_string() => new.to_string().into(),
            Some(new) => new.into(),
            None => Value::Null,
        };
    }

    /// Maps a list of primary keys.
    fn list(&mut self, list: Option<&mut Value>, target: &str) {
        let Some(list) = list.and_then(Value::as_array_mut) else { return };
        for slot in list.iter_mut() {
            self.one(Some(slot), target);
        }
        list.retain(|slot| !slot.is_null());
    }

    /// Maps what an object with a type and an identifier of a target names.
    fn target(&mut self, object: &mut Value, kind: &str, identifier: &str) {
        let target = match object.get(kind).and_then(Value::as_str) {
            Some("Team") => TEAM,
            Some("Member") => USER,
            _ => return,
        };
        self.one(object.get_mut(identifier), target);
    }

    /// Maps the projects of a search, word by word. Searches of the tests have no blanks inside a term.
    fn search(&mut self, text: &str) -> String {
        let word = |word: &str| -> String {
            let Some((name, value)) = word.split_once(':') else { return word.to_owned() };
            let is_id = match name.trim_start_matches(['!', '(']) {
                "project.id" | "project_id" | "issue.id" => true,
                "project" => false,
                _ => return word.to_owned(),
            };
            let digits = value.trim_matches(['"', '[', ']', ')']);
            let pks: Result<Vec<i64>, _> = digits.split(',').map(str::parse).collect();
            let Ok(pks) = pks else { return word.to_owned() };
            let mut new = Vec::new();
            for pk in pks {
                // No import has issues.
                let mapped = (self.new_pk)(PROJECT, pk).filter(|_| !name.ends_with("issue.id"));
                match (mapped, is_id) {
                    (None, true) => {
                        self.cleared.insert((name.trim_start_matches(['!', '(']).to_owned(), String::new()));
                    }
                    (None, false) => {
                        self.kept.insert(name.trim_start_matches(['!', '(']).to_owned());
                    }
                    (Some(_), _) => {}
                }
                new.push(mapped.unwrap_or(if is_id { 0 } else { pk }).to_string());
            }
            format!("{name}:{}", value.replace(digits, &new.join(",")))
        };
        text.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }

    fn value(&mut self, record: &FileRecord, field: &str, value: &mut Value) {
        match (record.model.trim_start_matches("sentry."), field) {
            ("rule", "data") => {
                for list in ["conditions", "filters", "actions"] {
                    list.clone_into(&mut self.site);
                    for object in each(value.get_mut(list)) {
                        self.target(object, "targetType", "targetIdentifier");
                    }
                }
                for action in each(value.get_mut("actions")) {
                    for name in ["integration", "workspace", "account", "server"] {
                        name.clone_into(&mut self.site);
                        self.one(action.get_mut(name), "sentry.integration");
                    }
                    if action["id"] == "sentry.integrations.msteams.notify_action.MsTeamsNotifyServiceAction"
                    {
                        "team".clone_into(&mut self.site);
                        self.one(action.get_mut("team"), "sentry.integration");
                    }
                }
            }
            ("dashboard", "filters") => self.list(value.get_mut("project"), PROJECT),
            ("monitor", "config") => self.one(value.get_mut("alert_rule_id"), "sentry.rule"),
            ("projectownership", "schema") => {
                for rule in each(value.get_mut("rules")) {
                    for owner in each(rule.get_mut("owners")) {
                        match owner["type"].as_str() {
                            Some("team") => self.one(owner.get_mut("id"), TEAM),
                            Some("user") => self.one(owner.get_mut("id"), USER),
                            _ => {}
                        }
                    }
                }
            }
            ("organizationmemberinvite", "organization_member_team_data") => {
                for team in each(Some(value)) {
                    self.one(team.get_mut("id"), TEAM);
                }
                if let Some(teams) = value.as_array_mut() {
                    teams.retain(|team| team.get("id") != Some(&Value::Null));
                }
            }
            ("workflow_engine.datacondition", "comparison") => match record.text("type") {
                Some("assigned_to") => self.target(value, "target_type", "target_identifier"),
                Some("event_created_by_detector") => self.one(Some(value), "workflow_engine.detector"),
                _ => {}
            },
            ("explore.exploresavedquery", "query") => {
                for query in each(value.get_mut("query")) {
                    let Some(Value::String(text)) = query.get_mut("query") else { continue };
                    *text = self.search(text);
                }
            }
            ("organizationoption" | "projectoption" | "useroption", "value") => {
                let name = record.text("key").unwrap_or_default();
                match name {
                    "reports:disabled-organizations" => self.list(Some(value), "sentry.organization"),
                    _ if name.ends_with("organization_ids") => self.list(Some(value), "sentry.organization"),
                    _ if name.ends_with("project_ids") => self.list(Some(value), PROJECT),
                    _ if name.ends_with("team_ids") => self.list(Some(value), TEAM),
                    _ if name.ends_with("user_ids") => self.list(Some(value), USER),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// Whether a text column is a search.
fn is_search(model: &str, field: &str) -> bool {
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

    /// How many primary keys of a field lead to nothing imported: how many are cleared, and how many are kept.
    pub(super) fn nested_lost(&self, record: &FileRecord, field: &str, cell: Cell) -> (usize, usize) {
        let (_, cleared, kept) = self.map_nested(record, field, cell);
        (cleared, kept)
    }

    fn map_nested(&self, record: &FileRecord, field: &str, cell: Cell) -> (Cell, usize, usize) {
        let new_pk = |target: &str, pk: i64| self.new_pk(target, pk);
        let mut mapper = Mapper::new(&new_pk);
        let cell = match cell {
            Cell::Json(mut value) => {
                mapper.value(record, field, &mut value);
                Cell::Json(value)
            }
            Cell::Text(text) if is_search(&record.model, field) => Cell::Text(mapper.search(&text)),
            other => other,
        };
        (cell, mapper.cleared.len(), mapper.kept.len())
    }
}

/// The paths at which a JSON value has something that looks like a primary key and that no rule maps.
pub(super) fn not_mapped(record: &FileRecord, field: &str, value: &Value) -> BTreeSet<String> {
    // What a rule maps is gone afterwards.
    let mut rest = value.clone();
    let mut mapper = Mapper::new(&|_, _| None);
    mapper.value(record, field, &mut rest);
    let mut paths = BTreeSet::new();
    let is_expected = match (record.model.trim_start_matches("sentry."), field) {
        ("rule", "data")
        | ("dashboard", "filters")
        | ("monitor", "config")
        | ("projectownership", "schema")
        | ("explore.exploresavedquery", "query") => value.is_object() || value.is_null(),
        ("organizationmemberinvite", "organization_member_team_data") => value.is_array() || value.is_null(),
        _ => true,
    };
    if !is_expected {
        paths.insert(String::new());
    }
    look(&rest, "", false, &mut paths);
    paths
}

fn look(value: &Value, path: &str, named: bool, paths: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| look(item, &format!("{path}[]"), named, paths)),
        Value::Object(entries) => look_inside(entries, path, named, paths),
        Value::Number(_) if named && key(value).is_some() => {
            paths.insert(path.to_owned());
        }
        _ => {}
    }
}

fn look_inside(entries: &Map<String, Value>, path: &str, named: bool, paths: &mut BTreeSet<String>) {
    for (name, value) in entries {
        // An object by primary key.
        if named && name.parse::<i64>().is_ok_and(|pk| pk > 0) {
            paths.insert(format!("{path}.*"));
        }
        let last = name.rsplit(['_', ':']).next().unwrap_or_default();
        let is_key = matches!(last, "id" | "ids") || name.ends_with("Id") || name.ends_with("Ids");
        look(value, &format!("{path}.{name}"), is_key, paths);
    }
}

fn md5(text: &str) -> String {
    use md5::Digest as _;
    md5::Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
