//! Primary keys inside values: in JSON at a path, or in the terms of a search. The rule `ids_in` of the
//! catalog defines where they are. No foreign key of the product shows them, and most of them were chosen by
//! a person in the application: who is notified by a rule, which projects a dashboard shows.

mod json;
mod search;
mod unknown;

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::{
    catalog::{ColumnType, IdsOf, Model, NestedIds, PROJECT, PathStep},
    export::{ExportError, cow_str, without_bad_escapes},
    finding::{Finding, FindingKind, shown},
    value::Value,
};

/// What becomes of a primary key inside a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It stays as it is.
    Keep,
    /// It is replaced by this one.
    Mapped(i64),
    /// Its record is not imported. In a list it is removed, elsewhere it becomes null (0 in a search).
    Lost,
}

/// A primary key that led to a record that is not imported.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LostId {
    /// Where it is in the value, e.g. `actions[0].targetIdentifier`.
    pub place: String,
    /// The same without the index of each element, e.g. `actions[].targetIdentifier`.
    pub path: String,
    /// The name of the model.
    pub target: String,
    /// The primary key in the export.
    pub pk: i64,
    /// Whether it stays nevertheless, because it may be something else.
    pub stays: bool,
}

impl LostId {
    /// Whether one finding is enough for both.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (&self.path, &self.target, self.stays) == (&other.path, &other.target, other.stays)
    }
}

/// What a rule finds in a value.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    /// The new text; `None` if nothing changes.
    pub text: Option<String>,
    /// Primary keys without a new one.
    pub lost: Vec<LostId>,
    /// Places with something other than a primary key, and why, without the indices of elements: each one once.
    pub other: Vec<(String, &'static str)>,
}

/// What one path of a rule has met: places of the shape that it expects, and others, with what is wrong there.
#[derive(Default)]
struct Met {
    reached: Vec<String>,
    other: Vec<(String, &'static str)>,
}

const OTHER_SHAPE: &str = "is not as this release knows it, so ids in it are not mapped; it is kept as it is";
const OTHER_TYPE: &str = "looks like an id, of a type that this release does not know; it is kept as it is";
const LOOKS_LIKE: &str = "looks like an id, and this release does not know of what; it is kept as it is";

/// Applies a rule to the values of a record. `outcome` gets the name of a model and a primary key.
///
/// # Errors
/// If a column of JSON has a text that is not JSON.
pub(crate) fn rewrite(
    model: &Model,
    rule: &NestedIds,
    values: &[Value],
    outcome: &mut dyn FnMut(&str, i64) -> Outcome,
) -> Result<Rewritten, ExportError> {
    let mut rewritten = Rewritten::default();
    let column = model.columns.get(rule.column);
    let (Some(column), Some(text)) = (column, values.get(rule.column).and_then(Value::as_text)) else {
        return Ok(rewritten);
    };
    if rule.when.as_ref().is_some_and(|when| !when.holds(values)) {
        return Ok(rewritten);
    }
    if column.kind != ColumnType::Json {
        if let IdsOf::Terms(terms) = &rule.of {
            let mut found = search::Found { lost: &mut rewritten.lost, other: &mut rewritten.other };
            rewritten.text =
                search::rewrite(text, terms, &json::JsonLocation::default(), &mut found, outcome);
        }
        return Ok(rewritten);
    }
    let mut text = Cow::Borrowed(text);
    let mut walks: Vec<Met> = Vec::new();
    let mut found = search::Found { lost: &mut rewritten.lost, other: &mut rewritten.other };
    for path in &rule.paths {
        // Most values have nothing there.
        if let Some(PathStep::Key(name)) = path.first()
            && text.starts_with('{')
            && !text.contains(name.as_str())
        {
            continue;
        }
        let raw: &RawValue = serde_json::from_str(&text)
            .map_err(|_| ExportError::inconsistent("a column of JSON has a text that is not JSON"))?;
        let mut met = Met::default();
        let mut walk = json::Walk {
            key: rule.of.key(),
            reached: &mut met.reached,
            other: &mut met.other,
            leaf: &mut |place, key, raw| leaf(rule, place, key, raw, &mut found, outcome),
        };
        let new = match walk.rewrite(raw, path, &mut json::JsonLocation::default())? {
            json::Replacement::No => None,
            json::Replacement::To(new) => Some(new),
            json::Replacement::Gone => Some("null".to_owned()),
        };
        walks.push(met);
        text = new.map_or(text, Cow::Owned);
    }
    rewritten.text = match text {
        Cow::Borrowed(_) => None,
        Cow::Owned(new) => Some(new),
    };
    for (index, met) in walks.iter().enumerate() {
        for (place, reason) in &met.other {
            // Another path of the rule may have found there what this one did not.
            let mut others = walks.iter().enumerate().filter(|(at, _)| *at != index);
            let is_right = others.any(|(_, other)| {
                other.reached.contains(place) && !other.other.iter().any(|(wrong, _)| wrong == place)
            });
            if !is_right && !rewritten.other.iter().any(|(reported, _)| reported == place) {
                rewritten.other.push((place.clone(), reason));
            }
        }
    }
    Ok(rewritten)
}

/// What becomes of the value at the end of a path.
fn leaf(
    rule: &NestedIds,
    place: &json::JsonLocation,
    key: Option<&RawValue>,
    raw: &RawValue,
    found: &mut search::Found<'_>,
    outcome: &mut dyn FnMut(&str, i64) -> Outcome,
) -> json::Leaf {
    let text = cow_str(raw).ok();
    let target = match &rule.of {
        IdsOf::Terms(terms) => {
            let Some(text) = text else { return json::Leaf::other_shape(raw) };
            let new = search::rewrite(&text, terms, place, found, outcome);
            return new
                .map_or(json::Leaf::Keep, |new| json::Leaf::To(serde_json::Value::from(new).to_string()));
        }
        IdsOf::Model(target) => Some(target),
        // An id becomes null; a finding names anything else.
        IdsOf::Nothing => None,
        IdsOf::ByKey { targets, .. } => {
            let kind = key.and_then(|key| cow_str(key).ok());
            match kind.and_then(|kind| targets.get(kind.as_ref())) {
                Some(Some(target)) => Some(target),
                Some(None) => return json::Leaf::Keep,
                None if rule.keeps_other_types => return json::Leaf::Keep,
                None => None,
            }
        }
    };
    let is_text = text.is_some();
    let digits = text.as_deref().unwrap_or_else(|| raw.get());
    // As a key is written: without a plus sign and leading zeros.
    let number = digits.parse::<i64>().ok().filter(|number| number.to_string() == digits);
    let pk = match number {
        Some(pk) if pk > 0 => pk,
        // No record has such a key. The product writes -1 for "all projects".
        Some(0) => return json::Leaf::Keep,
        Some(-1) if target.is_some_and(|target| target == PROJECT) => return json::Leaf::Keep,
        Some(_) if target.is_none() => return json::Leaf::Keep,
        Some(_) => return json::Leaf::other_shape(raw),
        None if digits.is_empty() => return json::Leaf::Keep,
        None => return json::Leaf::other_shape(raw),
    };
    let Some(target) = target else {
        let is_forgotten = matches!(rule.of, IdsOf::Nothing);
        return if is_forgotten { json::Leaf::Null } else { json::Leaf::Other(OTHER_TYPE) };
    };
    match outcome(target, pk) {
        Outcome::Keep => json::Leaf::Keep,
        Outcome::Mapped(new) if is_text => json::Leaf::To(format!("\"{new}\"")),
        Outcome::Mapped(new) => json::Leaf::To(new.to_string()),
        Outcome::Lost => {
            let (exact, path) = (place.exact.clone(), place.path.clone());
            found.lost.push(LostId { place: exact, path, target: target.clone(), pk, stays: false });
            if rule.removes_element { json::Leaf::Gone } else { json::Leaf::Null }
        }
    }
}

/// The findings about the values of a record, before anything is written: where an id should be and something else is, and
/// what looks like an id that no rule knows. One for each field and path. They do not name the record yet.
///
/// # Errors
/// If a column of JSON has a text that is not JSON.
pub(crate) fn notes(model: &Model, values: &[Value]) -> Result<Vec<Finding>, ExportError> {
    let mut notes = Vec::new();
    if model.not_importable.is_some() {
        return Ok(notes);
    }
    for (index, column) in model.columns.iter().enumerate().filter(|(_, column)| column.is_stored) {
        let Some(text) = values.get(index).and_then(Value::as_text) else { continue };
        let mut add = |path: &str, reason: &str| {
            let reason = format!("{path} {reason}");
            notes.push(Finding::new(FindingKind::IdNotMapped, reason).field(&column.field));
        };
        let holds = |rule: &&NestedIds| {
            rule.column == index && rule.when.as_ref().is_none_or(|when| when.holds(values))
        };
        let rules = || model.rules.nested_ids.iter().filter(holds);
        let mut reported: Vec<String> = Vec::new();
        for rule in rules() {
            for (path, reason) in rewrite(model, rule, values, &mut |_, _| Outcome::Keep)?.other {
                // Several rules may check one place.
                if !reported.contains(&path) {
                    add(if path.is_empty() { "the value" } else { &path }, reason);
                    reported.push(path);
                }
            }
        }
        if column.kind != ColumnType::Json {
            continue;
        }
        // The key of an option defines what its value is.
        let key = model.column("key").and_then(|key| values.get(key)).and_then(Value::as_text);
        let found = unknown::paths(&without_bad_escapes(text), key);
        if found.is_empty() {
            continue;
        }
        let known: Vec<String> =
            rules().flat_map(|rule| &rule.paths).map(|path| json::written(path)).collect();
        let is_reported = |path: &str| {
            reported.iter().any(|reported| {
                path.strip_prefix(reported.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            })
        };
        for path in found {
            let is_known =
                if path.is_empty() { !known.is_empty() } else { known.contains(&path) || is_reported(&path) };
            match key.filter(|_| path.is_empty()) {
                _ if is_known => {}
                Some(key) => add(&format!("the value of `{}`", shown(key)), LOOKS_LIKE),
                None => add(if path.is_empty() { "the value" } else { &path }, LOOKS_LIKE),
            }
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests;
