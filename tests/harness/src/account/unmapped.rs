//! What looks like a primary key inside a value and is not mapped, by the words of docs/design/catalog.md.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    file::FileRecord,
    nested::{Mapper, joined},
};

/// What a JSON value has that looks like a primary key, or is not what a rule expects, and stays as it is: each place
/// once, without the indices of elements.
pub(super) fn not_mapped(record: &FileRecord, field: &str, value: &Value) -> BTreeSet<String> {
    let mut rest = value.clone();
    let mut mapper = Mapper::new(&|_, _| Some(1));
    mapper.is_emptying = true;
    mapper.value(record, field, &mut rest);
    // An option has no name but its key.
    let own = record.text("key");
    let mut found = BTreeSet::new();
    look(&rest, "", true, own.map_or(Word::Other, word_of), &mut found);
    let is_below = |path: &str, above: &str| {
        path.strip_prefix(above).is_some_and(|below| below.is_empty() || below.starts_with(['.', '[']))
    };
    found.retain(|path| !mapper.strange.keys().any(|above| is_below(path, above)));
    let found = found.into_iter().map(|path| match own.filter(|_| path.is_empty()) {
        Some(own) => format!("of {own}"),
        None => path,
    });
    let strange = mapper.strange.iter().map(|(path, what)| format!("{path} {what}"));
    strange.chain(found).collect()
}

/// The same for a search.
pub(super) fn not_mapped_in_search(text: &str) -> BTreeSet<String> {
    let mut mapper = Mapper::new(&|_, _| Some(1));
    mapper.search(text, "");
    mapper.strange.into_keys().collect()
}

/// What a name suggests about the value under it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// A number, or a text of digits, is a primary key.
    Id,
    /// A number is a primary key.
    Record,
    Other,
}

/// Checks the last word of a name: `id` in `alert_rule_id`, `identifier` in `targetIdentifier`.
fn word_of(name: &str) -> Word {
    let tail = name.rsplit(|character: char| !character.is_ascii_alphanumeric()).next().unwrap_or_default();
    let ends =
        tail.as_bytes().windows(2).rposition(|it| it[0].is_ascii_lowercase() && it[1].is_ascii_uppercase());
    let word = tail[ends.map_or(0, |end| end + 1)..].to_ascii_lowercase();
    let one = match word.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => word.strip_suffix('s').unwrap_or(&word).to_owned(),
    };
    match one.as_str() {
        "id" | "identifier" | "pk" => Word::Id,
        "project" | "team" | "user" | "member" | "owner" | "organization" | "environment" | "dashboard"
        | "widget" | "monitor" | "detector" | "workflow" | "rule" | "integration" | "repository"
        | "group" | "issue" | "assignee" | "actor" | "service" | "account" | "workspace" | "server"
        | "subscription" => Word::Record,
        _ => Word::Other,
    }
}

fn is_digits(text: &str) -> bool {
    text.len() <= 16
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.bytes().any(|byte| byte != b'0')
}

/// Collects the paths of what looks like a primary key. The path of the whole value, and of its elements, is empty.
fn look(value: &Value, path: &str, is_top: bool, word: Word, found: &mut BTreeSet<String>) {
    let is_key = match value {
        Value::Array(items) => {
            let path = format!("{path}[]");
            return items.iter().for_each(|item| look(item, &path, is_top, word, found));
        }
        Value::Object(entries) => {
            for (name, value) in entries {
                let is_name = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$');
                let is_shown = !name.is_empty() && name.len() <= 40 && name.bytes().all(is_name);
                // Another key may be somebody's data.
                let path = joined(path, if is_shown { name } else { "*" });
                if word != Word::Other && is_digits(name) {
                    found.insert(path.clone());
                }
                look(value, &path, false, word_of(name), found);
            }
            return;
        }
        Value::Number(number) => word != Word::Other && number.as_u64().is_some_and(|number| number > 0),
        Value::String(text) => {
            let mut actors = ["team:", "user:", "project:"].iter().filter_map(|kind| text.strip_prefix(kind));
            (word == Word::Id && is_digits(text)) || actors.any(is_digits)
        }
        Value::Null | Value::Bool(_) => false,
    };
    if is_key {
        found.insert(if is_top { String::new() } else { path.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn record(model: &str, key: Option<&str>) -> FileRecord {
        let mut fields = Map::new();
        if let Some(key) = key {
            fields.insert("key".to_owned(), key.into());
        }
        FileRecord { model: model.to_owned(), pk: 1, ordinal: 1, offset: 0, fields }
    }

    /// The words of docs/design/catalog.md.
    #[test]
    fn what_looks_like_an_id_is_found_by_the_words_of_the_page() {
        for (value, expected) in [
            (json!({"alert_rule_id": 3, "schedule": 5, "paid": 2, "valid": 1}), vec!["alert_rule_id"]),
            (
                json!({"a": [{"targetIdentifier": "7"}, {"targetIdentifier": 8}]}),
                vec!["a[].targetIdentifier"],
            ),
            (json!({"projects": [1, -1], "teams": ["5"], "project": "5"}), vec!["projects[]"]),
            (json!({"repositories": [4], "Services": 0}), vec!["repositories[]"]),
            (json!({"x": {"note": "team:4", "text": "a user:5", "z": "project:x"}}), vec!["x.note"]),
            (json!({"projects": {"5": true}, "rates": {"5": 1}}), vec!["projects.*"]),
            (json!({"a@b.c": {"id": "1"}, "a2": {"id": 0}}), vec!["*.id"]),
            (json!({"ids": ["12345678901234567", "0", ""], "pks": ["1"]}), vec!["pks[]"]),
            (json!([{"userId": 4}, [{"groupIDs": 5}]]), vec!["[].userId", "[][].groupIDs"]),
            (json!({"id": "sentry.rules.X", "eventId": "c0ffee00", "ids": [null, true, 1.5]}), vec![]),
            (json!([21]), vec![]),
            (json!("user:5"), vec![""]),
        ] {
            let found = not_mapped(&record("sentry.other", None), "value", &value);
            assert_eq!(found.into_iter().collect::<Vec<_>>(), expected, "{value}");
        }
    }

    #[test]
    fn a_place_that_a_rule_knows_is_only_told_if_it_is_strange() {
        let option = |key: &str| record("sentry.projectoption", Some(key));
        for (record, field, value, expected) in [
            (option("x:monitor_ids"), "value", json!([21]), vec!["of x:monitor_ids"]),
            (option("x:rates"), "value", json!([21, {"id": 4}]), vec!["[].id"]),
            (option("x:project_ids"), "value", json!([21]), vec![]),
            (option("x:project_ids"), "value", json!(21), vec![" shape"]),
            (
                record("sentry.rule", None),
                "data",
                json!({"actions": [
                    {"targetType": "IssueOwners", "targetIdentifier": "5"}, {"targetType": "Fleet", "targetIdentifier": 5},
                    {"targetType": "Team", "targetIdentifier": "ops"}, {"team": "5", "boardId": 5},
                ], "filters": {"id": 5}}),
                vec!["actions[].boardId", "actions[].targetIdentifier type", "filters shape"],
            ),
            (
                record("sentry.dashboardwidget", None),
                "widget_snapshot",
                json!({"id": "1", "queries": [{"id": 2, "widgetId": "1", "conditions": "project:5", "issueId": "3"}]}),
                vec!["queries[].issueId"],
            ),
        ] {
            let found = not_mapped(&record, field, &value);
            assert_eq!(found.into_iter().collect::<Vec<_>>(), expected, "{value}");
        }
    }
}
