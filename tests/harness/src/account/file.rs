//! An export file, parsed without the importer's code.

use std::collections::HashMap;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

/// A record of the file.
#[derive(Debug, Clone)]
pub(crate) struct FileRecord {
    /// The model in lower case.
    pub(crate) model: String,
    pub(crate) pk: i64,
    /// Its number among the records of its model, from 1.
    pub(crate) ordinal: i64,
    /// The byte offset in the file at which the record begins.
    pub(crate) offset: i64,
    pub(crate) fields: Map<String, Value>,
}

impl FileRecord {
    /// The value of a field, if it is present and not null.
    pub(crate) fn set(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// The value of a field, if it is an integer such as a primary key.
    pub(crate) fn pk_in(&self, field: &str) -> Option<i64> {
        self.set(field)?.as_i64()
    }

    /// The value of a field, if it is a text.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.set(field)?.as_str()
    }
}

/// The name under which the audit knows a model: some have another name in newer releases.
fn model_name(name: &str) -> String {
    let name = name.to_lowercase();
    match name.as_str() {
        "monitors.monitor" => "sentry.monitor".to_owned(),
        "notifications.notificationaction" => "sentry.notificationaction".to_owned(),
        "notifications.notificationactionproject" => "sentry.notificationactionproject".to_owned(),
        _ => name,
    }
}

/// A field as the audit knows it: some have another name in older releases, and one had the opposite meaning.
fn as_today(model: &str, field: String, value: Value) -> (String, Value) {
    match (model, field.as_str(), &value) {
        ("sentry.dashboardpermissions", "is_creator_only_editable", Value::Bool(only)) => {
            ("is_editable_by_everyone".to_owned(), Value::Bool(!only))
        }
        _ => (field_name(model, field), value),
    }
}

/// Moves what older releases say in another field: the operator of a condition stood beside its type, and a list with -1
/// stood for all projects.
fn move_on(model: &str, fields: &mut Map<String, Value>, keeps_conditions: bool) {
    match model {
        "workflow_engine.datacondition"
            if !keeps_conditions
                && fields.get("condition").and_then(Value::as_str).is_some_and(|it| !it.is_empty()) =>
        {
            if let Some(operator) = fields.remove("condition") {
                fields.insert("type".to_owned(), operator);
            }
        }
        "sentry.groupsearchview" => {
            let list = match fields.get("projects") {
                Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
                Some(list) => list.clone(),
                None => Value::Null,
            };
            if list.as_array().is_some_and(|list| list.contains(&(-1).into())) {
                fields.remove("projects");
                fields.insert("is_all_projects".to_owned(), true.into());
            }
        }
        _ => {}
    }
}

/// The name under which the audit knows a field: some have another name in older releases.
fn field_name(model: &str, field: String) -> String {
    match (model, field.as_str()) {
        ("workflow_engine.datasource", "query_id") => "source_id".to_owned(),
        ("workflow_engine.detector" | "workflow_engine.workflow", "owner_team") => "owner_team_id".to_owned(),
        (
            "workflow_engine.alertruledetector" | "workflow_engine.alertruleworkflow",
            "alert_rule" | "rule",
        ) => {
            format!("{field}_id")
        }
        _ => field,
    }
}

#[derive(Deserialize)]
struct Form {
    model: String,
    pk: i64,
    fields: Map<String, Value>,
}

/// Parses all records of a file. A database of an older release keeps the operator of a condition beside its type.
pub(crate) fn parse(bytes: &[u8], keeps_conditions: bool) -> anyhow::Result<Vec<FileRecord>> {
    let raw: Vec<&RawValue> = serde_json::from_slice(bytes).context("the export is not a JSON list")?;
    let mut seen: HashMap<String, i64> = HashMap::new();
    let begin = bytes.as_ptr().addr();
    raw.into_iter()
        .map(|raw| {
            let form: Form = serde_json::from_str(raw.get()).context("a record of the export")?;
            let model = model_name(&form.model);
            let ordinal = seen.entry(model.clone()).or_default();
            *ordinal += 1;
            let fields = form.fields.into_iter().map(|(field, value)| as_today(&model, field, value));
            let mut fields: Map<String, Value> = fields.collect();
            move_on(&model, &mut fields, keeps_conditions);
            let offset = i64::try_from(raw.get().as_ptr().addr() - begin)?;
            Ok(FileRecord { pk: form.pk, ordinal: *ordinal, offset, fields, model })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn records_know_where_they_stand() {
        let records = super::parse(
            br#"[{"model": "A.b", "pk": 7, "fields": {}}, {"model": "a.b", "pk": 8, "fields": {"x": null}}]"#,
            false,
        )
        .unwrap();
        let places: Vec<_> =
            records.iter().map(|it| (it.model.as_str(), it.pk, it.ordinal, it.offset)).collect();
        assert_eq!(places, [("a.b", 7, 1, 1), ("a.b", 8, 2, 42)]);
        assert!(records[1].set("x").is_none());
    }
}
