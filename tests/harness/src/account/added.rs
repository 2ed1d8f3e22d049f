//! Rows that no record of the file stands for: what the application would make itself, and what older releases have in
//! fields of other records.

use std::collections::{BTreeMap, BTreeSet};

use causeway_proto::relocation::v1::FindingKind;
use serde_json::Value;

use super::{Cell, Outcome, Row, case::AuditCase, file::FileRecord};

const PROJECT_KEY: &str = "sentry.projectkey";
const USER_EMAIL: &str = "sentry.useremail";
const VIEW: &str = "sentry.groupsearchview";
const VIEW_PROJECT: &str = "sentry.groupsearchviewproject";
const STARRED_VIEW: &str = "sentry.groupsearchviewstarred";

/// The models that rows are added of, each with its reference to the record that they are added for.
const ADDED: [(&str, &str, &str); 4] = [
    (PROJECT_KEY, "project", "sentry.project"),
    (USER_EMAIL, "user", "sentry.user"),
    (VIEW_PROJECT, "group_search_view", VIEW),
    (STARRED_VIEW, "group_search_view", VIEW),
];

/// The table in which a database has the value of a field that its own table has no column for.
fn elsewhere(model: &str, field: &str) -> Option<&'static str> {
    match (model, field) {
        (VIEW, "position") => Some(STARRED_VIEW),
        (VIEW, "projects") => Some(VIEW_PROJECT),
        _ => None,
    }
}

/// A list, also in a text.
fn list(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::String(text) => serde_json::from_str(text).ok(),
        Value::Array(list) => Some(list.clone()),
        _ => None,
    }
}

/// The fields of the rows that are to be added for a record, without those that have the value of a missing field.
fn wanted(
    case: &AuditCase<'_>,
    model: &str,
    record: &FileRecord,
    id: i64,
) -> Vec<BTreeMap<&'static str, Cell>> {
    let text = |text: &str| Cell::Text(text.to_owned());
    let new = |target: &str, field: &str| Some(Cell::Int(case.new_pk(target, record.pk_in(field)?)?));
    let row = match model {
        PROJECT_KEY => Some(BTreeMap::from([("project", Cell::Int(id)), ("label", text("Default"))])),
        USER_EMAIL => {
            let email = record.text("email").map(|email| email.replace('\0', "")).filter(|it| !it.is_empty());
            email.map(|email| {
                let verified = ("is_verified", Cell::Bool(false));
                BTreeMap::from([("user", Cell::Int(id)), ("email", text(&email)), verified])
            })
        }
        STARRED_VIEW => record.pk_in("position").and_then(|position| {
            Some(BTreeMap::from([
                ("group_search_view", Cell::Int(id)),
                ("position", Cell::Int(position)),
                ("user_id", new("sentry.user", "user_id")?),
                ("organization", new("sentry.organization", "organization")?),
            ]))
        }),
        VIEW_PROJECT => {
            let list = record.set("projects").and_then(list).unwrap_or_default();
            let projects: BTreeSet<i64> = list.iter().filter_map(Value::as_i64).collect();
            let new = projects.iter().filter_map(|project| case.new_pk("sentry.project", *project));
            let row = |project| {
                BTreeMap::from([("group_search_view", Cell::Int(id)), ("project", Cell::Int(project))])
            };
            return new.map(row).collect();
        }
        _ => None,
    };
    row.into_iter().collect()
}

impl AuditCase<'_> {
    /// Whether this database has the value of a field in rows that are added.
    pub(super) fn is_elsewhere(&self, model: &str, field: &str, value: &Value) -> bool {
        let is_readable = match field {
            "projects" => list(value).is_some_and(|list| list.iter().all(Value::is_i64)),
            _ => true,
        };
        is_readable && elsewhere(model, field).is_some_and(|table| self.after.has_table(table))
    }

    /// Whether a row may have been added by another import: for a row that is that import's.
    pub(super) fn is_added_by_other(&self, model: &str, row: &Row) -> bool {
        ADDED.iter().filter(|(of, ..)| *of == model).any(|(_, reference, target)| {
            let id = row.get(*reference).and_then(Cell::as_int);
            id.is_some_and(|id| self.others.contains(&((*target).to_owned(), id)))
        })
    }

    /// Finds the rows that were added, and checks them.
    pub(super) fn check_added(&mut self) {
        for (model, reference, target) in ADDED {
            if !self.after.has_table(model) {
                continue;
            }
            let referred: BTreeSet<i64> =
                self.records_of(model).iter().filter_map(|record| record.pk_in(reference)).collect();
            let ours: BTreeSet<i64> = self.inserted_rows(model).into_iter().map(|(id, _)| id).collect();
            let before = self.before.rows(model);
            let is_new = |id: &i64| !before.contains_key(id) && !ours.contains(id);
            let new: Vec<(i64, Row)> = self
                .after
                .rows(model)
                .iter()
                .filter(|(id, _)| is_new(id))
                .map(|(id, row)| (*id, row.clone()))
                .collect();
            for record in self.records_of(target) {
                let Some(Outcome::Inserted(of)) = self.outcome(target, record.pk) else { continue };
                let of_record = |(_, row): &&(i64, Row)| row.get(reference) == Some(&Cell::Int(of));
                let found: Vec<&(i64, Row)> = new.iter().filter(of_record).collect();
                let wanted = match referred.contains(&record.pk) {
                    true => Vec::new(),
                    false => wanted(self, model, &record, of),
                };
                let is_like = |row: &Row, wanted: &BTreeMap<&str, Cell>| {
                    wanted.iter().all(|(field, value)| row.get(*field) == Some(value))
                };
                let each_once = wanted
                    .iter()
                    .all(|wanted| found.iter().filter(|(_, row)| is_like(row, wanted)).count() == 1);
                if found.len() != wanted.len() || !each_once {
                    self.mismatch(format!(
                        "{target} {} has the rows {found:?} of {model}, and should have {wanted:?}",
                        record.pk
                    ));
                }
                for (id, row) in found {
                    let keys = ["public_key", "secret_key"].map(|key| row.get(key).and_then(Cell::as_text));
                    if model == PROJECT_KEY && keys.iter().any(|key| key.is_none_or(|key| key.len() != 32)) {
                        self.mismatch(format!("the added key {id} has no keys"));
                    }
                    self.added.insert((model.to_owned(), *id));
                    self.expect(&record, &[FindingKind::RowAdded], &[]);
                }
            }
        }
    }
}
