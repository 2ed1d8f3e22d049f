//! Finds what looks like a primary key in a JSON value: a number, or a key of an object, under a name that
//! suggests one.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use serde::de::{self, DeserializeSeed, IgnoredAny};

/// The most paths that are reported for one value.
const MOST: usize = 20;

/// Last words of a name that stands for a primary key.
const KEYS: [&str; 6] = ["id", "ids", "identifier", "identifiers", "pk", "pks"];

/// Last words of a name that stands for a record, whose value may be its primary key.
const RECORDS: [&str; 24] = [
    "project",
    "team",
    "user",
    "member",
    "owner",
    "organization",
    "environment",
    "dashboard",
    "widget",
    "monitor",
    "detector",
    "workflow",
    "rule",
    "integration",
    "repository",
    "group",
    "issue",
    "assignee",
    "actor",
    "service",
    "account",
    "workspace",
    "server",
    "subscription",
];

/// What a name suggests about its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameHint {
    Nothing,
    /// A number is the primary key of a record.
    Record,
    /// A number, or a text of digits, is a primary key.
    Key,
}

/// Splits a name where a word ends (`alert_rule_id`, `targetIdentifier`, `sentry:project_ids`) and checks the
/// last one.
fn name_hint(name: &str) -> NameHint {
    let mut last = String::new();
    let mut before = ' ';
    for character in name.chars() {
        if !character.is_ascii_alphanumeric()
            || (character.is_ascii_uppercase() && before.is_ascii_lowercase())
        {
            last.clear();
        }
        if character.is_ascii_alphanumeric() {
            last.push(character.to_ascii_lowercase());
        }
        before = character;
    }
    let last = last.as_str();
    let singular = last.strip_suffix("ies").map(|stem| format!("{stem}y"));
    let singular = singular.as_deref().unwrap_or_else(|| last.strip_suffix('s').unwrap_or(last));
    if KEYS.contains(&last) {
        NameHint::Key
    } else if RECORDS.contains(&singular) {
        NameHint::Record
    } else {
        NameHint::Nothing
    }
}

/// Whether a text names a team, a user or a project by its key, as `team:5`.
fn names_actor(text: &str) -> bool {
    let key = text.split_once(':').filter(|(kind, _)| matches!(*kind, "team" | "user" | "project"));
    key.is_some_and(|(_, key)| is_key(key))
}

fn is_key(digits: &str) -> bool {
    digits.len() <= 16 && digits.parse::<i64>().is_ok_and(|pk| pk > 0)
}

/// The paths in a JSON text at which something looks like a primary key. `name` is what the value itself is called, if
/// the column has no name of its own for it; its path is empty.
pub(super) fn paths(json: &str, name: Option<&str>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // Most values have no such number.
    if json.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
        let mut path = String::new();
        let walk = Walk {
            name_hint: name.map_or(NameHint::Nothing, name_hint),
            is_top: true,
            path: &mut path,
            found: &mut found,
        };
        // The decoder has made sure that it is JSON.
        let _ignored = walk.deserialize(&mut serde_json::Deserializer::from_str(json));
    }
    found
}

struct Walk<'w> {
    name_hint: NameHint,
    /// Whether this is the value itself, or an element of it.
    is_top: bool,
    path: &'w mut String,
    found: &'w mut BTreeSet<String>,
}

impl Walk<'_> {
    fn find(self, is_found: bool) {
        if is_found && self.found.len() < MOST {
            self.found.insert(if self.is_top { String::new() } else { self.path.clone() });
        }
    }
}

/// A key of an object as a path shows it. A key that may be somebody's data is not shown.
fn shown(key: &str) -> &str {
    let is_name = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$');
    if key.len() <= 40 && !key.is_empty() && key.bytes().all(is_name) { key } else { "*" }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        // A positive number is visited as unsigned.
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        let is_found = self.name_hint != NameHint::Nothing && number > 0;
        self.find(is_found);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        let is_found = (self.name_hint == NameHint::Key && is_key(text)) || names_actor(text);
        self.find(is_found);
        Ok(())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let length = self.path.len();
        self.path.push_str("[]");
        loop {
            let (name_hint, is_top) = (self.name_hint, self.is_top);
            let element = Walk { name_hint, is_top, path: &mut *self.path, found: &mut *self.found };
            if list.next_element_seed(element)?.is_none() {
                break;
            }
        }
        self.path.truncate(length);
        Ok(())
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let length = self.path.len();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if self.found.len() >= MOST {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(shown(&key));
            // An object by primary key, as `{"projects": {"5": ...}}`.
            if self.name_hint != NameHint::Nothing && is_key(&key) {
                self.found.insert(self.path.clone());
            }
            let value = Walk {
                name_hint: name_hint(&key),
                is_top: false,
                path: &mut *self.path,
                found: &mut *self.found,
            };
            map.next_value_seed(value)?;
            self.path.truncate(length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_under_a_name_that_says_so_look_like_keys() {
        let found = |json: &str, name| paths(json, name).into_iter().collect::<Vec<_>>();
        let none = Vec::<String>::new();
        assert_eq!(found(r#"{"alert_rule_id": 3, "schedule": 5}"#, None), ["alert_rule_id"]);
        assert_eq!(
            found(r#"{"a": [{"targetIdentifier": "7"}, {"targetIdentifier": 8}]}"#, None),
            ["a[].targetIdentifier"]
        );
        assert_eq!(found(r#"{"projects": [1, 2], "project": -1, "teams": ["ops"]}"#, None), ["projects[]"]);
        assert_eq!(
            found(r#"{"x": {"owner": "team:4", "assignee": "user:5"}}"#, None),
            ["x.assignee", "x.owner"]
        );
        assert_eq!(found(r#"{"repositories": [4]}"#, None), ["repositories[]"]);
        assert_eq!(found(r#"{"someone@example.com": {"id": 1}}"#, None), ["*.id"]);
        assert_eq!(found(r#"{"projects": {"5": true, "7": false}}"#, None), ["projects.*"]);
        assert_eq!(found(r#"{"rates": {"5": 1}, "projects": {"all": {"3": 1}}}"#, None), none);
        assert_eq!(found("[21]", Some("sentry:project_ids")), [""]);
        assert_eq!(found("[21]", Some("sentry:rates")), none);
        assert_eq!(found("21", None), none);
        for nothing in [
            r#"{"id": "sentry.rules.x", "eventId": "c0ffee00c0ffee00c0ffee00c0ffee00", "layout": {"x": 1}}"#,
            r#"{"period": "14d", "valid": 1, "paid": 2, "project": "5", "id": 0, "ids": [-1, null, true, 1.5]}"#,
            "12345678901234567890123",
            "null",
        ] {
            assert_eq!(found(nothing, None), none, "{nothing}");
        }
    }
}
