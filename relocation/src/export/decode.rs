//! Decodes the fields of a record into values, as the catalog defines them, and checks every rule that a
//! single record can break.

mod moved;
mod rules;

use std::{borrow::Cow, fmt, net::IpAddr};

use causeway_silo::env::Environment;
use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, TimeZone as _, Utc};
use serde::{Deserializer as _, de};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{MAX_PK, alike::SimilarNames, array, json_text, raw::cow_str};
use crate::{
    catalog::{ArrayOf, Column, ColumnType, Default, Model},
    finding::{Finding, FindingKind, shown},
    generate,
    value::Value,
};

/// The maximum length of a text that control makes a slug from, in bytes. Anything after that does not matter, because
/// a slug has at most 50 characters.
const MAX_SLUG_SOURCE: usize = 255;

/// The values of a record, and what was noticed while it was decoded.
#[derive(Debug)]
pub struct Decoded {
    /// The values, by column.
    pub values: Vec<Value>,
    /// The primary key in a removed field that names an actor; see [`Model::names_actor`].
    pub actor: Option<i64>,
    /// Findings, e.g. about unknown fields, unknown choices and cleaned texts. They do not name place and record yet.
    pub notes: Vec<Finding>,
}

impl Decoded {
    /// Whether the values differ from those in the file.
    pub fn is_changed(&self) -> bool {
        self.notes.iter().any(|note| note.kind.changes_record())
    }
}

/// Decodes the records of one import.
#[derive(Debug)]
pub struct Decoder<'a> {
    env: &'a Environment,
    /// The one time that all defaults and rules of this import use.
    now: DateTime<Utc>,
}

/// An invalid field: the kind of the finding and the reason.
type FieldError = (FindingKind, String);

fn invalid(reason: impl Into<String>) -> FieldError {
    (FindingKind::ValidationError, reason.into())
}

impl<'a> Decoder<'a> {
    /// A decoder whose "now" is the time at which the import began.
    #[must_use]
    pub fn new(env: &'a Environment, now: DateTime<Utc>) -> Self {
        Self { env, now }
    }

    /// Decodes the text of a record's fields.
    ///
    /// # Errors
    /// A finding that names the field, but not place and record yet.
    pub fn decode(&self, model: &Model, fields: &RawValue) -> Result<Decoded, Finding> {
        let mut slots: Vec<Option<Value>> = vec![None; model.columns.len()];
        let mut notes = Vec::new();
        let mut alike = SimilarNames::default();
        let slug_column = model.rules.global_slug.map(|slug| slug.column);
        let generated_slug = model.rules.generated_slug.map(|slug| slug.column);
        let mut actor = None;
        // Exports have the fields of a model in one order, mostly that of the catalog.
        let mut expected = 0;
        let mut opposites: Vec<(usize, Value)> = Vec::new();
        let mut moves: Vec<(usize, Value)> = Vec::new();
        each_field(fields.get(), |name, raw| {
            let is_expected = model.columns.get(expected).is_some_and(|column| column.field == name);
            let index = if is_expected { Some(expected) } else { model.column(name) };
            let Some(index) = index else {
                let to = moved::to(model, name, raw, &mut notes);
                if let Some((to, value)) =
                    to.map_err(|(kind, reason)| Finding::new(kind, reason).field(name))?
                {
                    moves.push((to, value));
                    return Ok(());
                }
                match raw.get().parse().ok().filter(|_| model.names_actor(name)) {
                    Some(pk) => actor = Some(pk),
                    None => {
                        alike.see(model, name);
                        notes.extend(note_of_field(model, name, raw, alike.meant(model, name)));
                    }
                }
                return Ok(());
            };
            let (Some(column), Some(slot)) = (model.columns.get(index), slots.get_mut(index)) else {
                let reason = "the catalog has no column for the field, which it names";
                return Err(Finding::new(FindingKind::DeserializationFailed, reason).field(name));
            };
            expected = index + 1;
            let is_opposite = column.opposite_of.iter().any(|older| older == name);
            let is_second = match is_opposite {
                true => opposites.iter().any(|(other, _)| *other == index),
                false => slot.is_some(),
            };
            if is_second {
                return Err(Finding::new(
                    FindingKind::DeserializationFailed,
                    "the field stands twice in the record",
                )
                .field(name));
            }
            let value = if raw.get() == "null" && model.rules.makes_missing(index) {
                Ok(Value::Null)
            } else if raw.get() == "null" && generated_slug == Some(index) {
                Ok(Value::Text(String::new()))
            } else if slug_column == Some(index) {
                // Control makes a slug from any text.
                slug_source(column, raw, &mut notes)
            } else {
                value(column, raw, &mut notes)
            };
            let value = value.map_err(|(kind, reason)| Finding::new(kind, reason).field(name))?;
            if !model.passes_on(name) {
                notes.extend(note_of_no_column(column, name, &value));
            }
            match value {
                Value::Bool(value) if is_opposite => opposites.push((index, Value::Bool(!value))),
                value => *slot = Some(value),
            }
            Ok(())
        })?;
        // The field counts if it is there as well.
        for (index, value) in opposites {
            if let Some(slot @ None) = slots.get_mut(index) {
                *slot = Some(value);
            }
        }
        for (index, value) in moves {
            if let (Some(slot), Some(column)) = (slots.get_mut(index), model.columns.get(index)) {
                notes.extend(note_of_no_column(column, &column.field, &value));
                *slot = Some(value);
            }
        }

        let mut values = Vec::with_capacity(slots.len());
        for (index, (slot, column)) in slots.into_iter().zip(&model.columns).enumerate() {
            values.push(match slot {
                Some(value) => value,
                None if slug_column == Some(index) || generated_slug == Some(index) => {
                    Value::Text(String::new())
                }
                None if model.rules.makes_missing(index) => Value::Null,
                None => match self.default(column) {
                    Ok(value) => value,
                    Err(missing) => return Err(alike.misnamed(index, column).unwrap_or(missing)),
                },
            });
        }
        let same = |column: &Column| match column.default {
            Default::SameAs(of) => Some(of),
            _ => None,
        };
        for (index, column) in model.columns.iter().enumerate() {
            if let Some(of) = same(column)
                && let Some(other) = values.get(of).cloned()
                && let Some(value @ Value::Null) = values.get_mut(index)
            {
                *value = other;
            }
        }
        // Older releases allow null where a newer database needs a value.
        let of_literal = |column: &Column| matches!(column.default, Default::Literal(_) | Default::Now);
        for (value, column) in values.iter_mut().zip(&model.columns) {
            if value.is_null() && column.is_needed && column.is_stored && of_literal(column) {
                *value = self.default(column)?;
            }
        }
        for rule in &model.rules.references_by_type {
            rule.normalize(&mut values);
        }
        rules::check_rules(model, &values, &alike)?;
        rules::check_index(model, &values)?;
        Ok(Decoded { values, actor, notes })
    }

    /// The findings about the fields of a record that is not imported. Their values are not checked.
    ///
    /// # Errors
    /// If the fields are not JSON.
    pub fn note_fields(&self, model: &Model, fields: &RawValue) -> Result<Vec<Finding>, Finding> {
        let mut notes = Vec::new();
        each_field(fields.get(), |name, raw| {
            notes.extend(note_of_field(model, name, raw, None));
            Ok(())
        })?;
        Ok(notes)
    }

    /// Reads the columns for which `wanted` is true, as far as possible: the record may break any rule. All other
    /// values are null.
    pub(crate) fn salvage(
        &self,
        model: &Model,
        fields: &RawValue,
        wanted: impl Fn(&Column) -> bool,
    ) -> Vec<Value> {
        let mut values = vec![Value::Null; model.columns.len()];
        let slug_column = model.rules.global_slug.map(|slug| slug.column);
        let mut expected = 0;
        let read = each_field(fields.get(), |name, raw| {
            let is_expected = model.columns.get(expected).is_some_and(|column| column.field == name);
            let index = if is_expected { Some(expected) } else { model.column(name) };
            let Some(index) = index else { return Ok(()) };
            expected = index + 1;
            if let (Some(column), Some(slot)) = (model.columns.get(index), values.get_mut(index))
                && slot.is_null()
                && wanted(column)
            {
                let read = match slug_column == Some(index) {
                    true => slug_source(column, raw, &mut Vec::new()),
                    false => value(column, raw, &mut Vec::new()),
                };
                *slot = read.unwrap_or(Value::Null);
            }
            Ok(())
        });
        // The record was parsed before, so its fields are JSON.
        debug_assert!(read.is_ok());
        values
    }

    fn default(&self, column: &Column) -> Result<Value, Finding> {
        Ok(match &column.default {
            // If the database needs a value, the record is left out; see `Model::lacks_value`. What another column has is
            // not known before all are read.
            Default::Null | Default::SameAs(_) => Value::Null,
            Default::Now => Value::Time(self.now),
            Default::Literal(json) => decode_literal(column, json)?,
            Default::Generated(generator) => generate::value(*generator, self.env),
            Default::Required => {
                return Err(Finding::new(
                    FindingKind::ValidationError,
                    "the field is missing and has no default",
                )
                .field(&column.field));
            }
        })
    }
}

/// Decodes a JSON text from the catalog.
///
/// # Errors
/// If the column cannot take it, which is a defect of the catalog.
pub fn decode_literal(column: &Column, json: &str) -> Result<Value, Finding> {
    let wrong = |reason: String| Finding::new(FindingKind::ValidationError, reason).field(&column.field);
    let raw: &RawValue = serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
    value(column, raw, &mut Vec::new()).map_err(|(_, reason)| wrong(reason))
}

/// The finding that a value is lost because the database has no column for it; `None` if nothing is lost.
fn note_of_no_column(column: &Column, name: &str, value: &Value) -> Option<Finding> {
    let is_lost = !column.is_stored && holds_something(column, value);
    is_lost.then(|| {
        let reason = format!(
            "the database has no column for the field{}; its value is not imported",
            column.not_stored
        );
        Finding::new(FindingKind::NotInDatabase, reason).field(name)
    })
}

/// The finding about a field that has no column.
fn note_of_field(model: &Model, name: &str, raw: &RawValue, meant: Option<&str>) -> Option<Finding> {
    let is_list = |raw| array::all_numbers(raw).is_some();
    if model.is_removed_field(name) && model.passes_on(name) {
        let reason = "a list of primary keys that is none, or has elements that are none; those are left out";
        (!is_list(raw)).then(|| Finding::new(FindingKind::RemovedField, reason).field(name))
    } else if model.is_removed_field(name) {
        let reason = "a field of older releases, for whose value there is no place; it is left out";
        // Nothing is lost with a null or an empty list, which some exports write as a text.
        let is_empty = matches!(raw.get(), "null" | "[]" | "\"[]\"");
        (!is_empty).then(|| Finding::new(FindingKind::RemovedField, reason).field(name))
    } else if model.column(name).is_none() {
        let reason = match meant {
            Some(meant) => format!(
                "this release does not know the field, but `{meant}`, which is alike; its value is not imported"
            ),
            None => "this release does not know the field; its value is not imported".to_owned(),
        };
        Some(Finding::new(FindingKind::UnknownField, reason).field(&shown(name)))
    } else {
        None
    }
}

/// Calls `take` with the name and text of every field, in their order, without building a tree.
///
/// # Errors
/// If the fields are not a JSON object; otherwise the first error of `take`.
pub(crate) fn each_field(
    fields: &str,
    take: impl FnMut(&str, &RawValue) -> Result<(), Finding>,
) -> Result<(), Finding> {
    struct Fields<F>(F);
    impl<'de, F: FnMut(&str, &RawValue) -> Result<(), Finding>> de::Visitor<'de> for Fields<F> {
        type Value = Result<(), Finding>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: de::MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut outcome = Ok(());
            while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                let raw: &RawValue = map.next_value()?;
                if outcome.is_ok() {
                    outcome = (self.0)(&name, raw);
                }
            }
            Ok(outcome)
        }
    }
    serde_json::Deserializer::from_str(fields).deserialize_map(Fields(take)).unwrap_or_else(|error| {
        Err(Finding::new(FindingKind::DeserializationFailed, format!("the fields are not JSON: {error}")))
    })
}

/// Whether something is lost if a value is not written.
fn holds_something(column: &Column, value: &Value) -> bool {
    let is_default = || match &column.default {
        Default::Literal(json) => decode_literal(column, json).is_ok_and(|default| default == *value),
        _ => false,
    };
    !value.is_null() && value.as_text() != Some("") && !is_default()
}

fn slug_source(column: &Column, raw: &RawValue, notes: &mut Vec<Finding>) -> Result<Value, FieldError> {
    if raw.get() == "null" {
        return Ok(Value::Text(String::new()));
    }
    let text = cow_str(raw).map_err(|_| invalid("is not a string"))?;
    let mut text = without_nul(column, text, notes);
    text.truncate(text.floor_char_boundary(MAX_SLUG_SOURCE));
    Ok(Value::Text(text))
}

fn value(column: &Column, raw: &RawValue, notes: &mut Vec<Finding>) -> Result<Value, FieldError> {
    let json = raw.get();
    if json == "null" && (column.null || column.kind != ColumnType::Json) {
        return if column.null {
            Ok(Value::Null)
        } else {
            Err(invalid("is null, which the column cannot be"))
        };
    }
    if column.references.is_some() {
        return match json.parse::<i64>() {
            Ok(pk) if (1..=MAX_PK).contains(&pk) => Ok(Value::Int(pk)),
            _ => Err(invalid("is a reference, but not a primary key between 1 and 2^53 - 1")),
        };
    }
    let value = match column.kind {
        ColumnType::BigInt => integer(json, column.min.unwrap_or(i64::MIN), i64::MAX)?,
        ColumnType::Integer => integer(json, column.min.unwrap_or(i32::MIN.into()), i32::MAX.into())?,
        ColumnType::SmallInt => integer(json, column.min.unwrap_or(i16::MIN.into()), i16::MAX.into())?,
        ColumnType::BitField => match cow_str(raw) {
            Ok(text) => integer(&text, i64::MIN, i64::MAX)?,
            Err(_) => integer(json, i64::MIN, i64::MAX)?,
        },
        ColumnType::Boolean => match json {
            "true" => Value::Bool(!column.is_opposite),
            "false" => Value::Bool(column.is_opposite),
            _ => return Err(invalid("is neither true nor false")),
        },
        ColumnType::Float => match json.parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => return Err(invalid("is not a number that a column can hold")),
        },
        ColumnType::Text => text(column, raw, notes)?,
        ColumnType::DateTime => {
            let text = cow_str(raw).map_err(|_| invalid("is not a string that holds a time"))?;
            Value::Time(time(&text).ok_or_else(|| invalid("is not a time as ISO 8601 writes it"))?)
        }
        ColumnType::Uuid => {
            let text = cow_str(raw).map_err(|_| invalid("is not a string that holds a UUID"))?;
            Value::Uuid(Uuid::try_parse(&text).map_err(|_| invalid("is not a UUID"))?)
        }
        ColumnType::Inet => {
            let text = cow_str(raw).map_err(|_| invalid("is not a string that holds an IP address"))?;
            inet(&text).ok_or_else(|| invalid("is not an IP address"))?
        }
        ColumnType::Json => Value::Text(stored_json(column, raw, notes)?),
        ColumnType::Array(of) => list(column, of, raw, notes)?,
    };
    let is_written_so = || column.choices.iter().any(|choice| choice == json);
    if !column.choices.is_empty() && !is_written_so() && !chosen(column, &value) {
        notes.push(
            Finding::new(FindingKind::UnknownChoice, "the application does not know this value; it is kept")
                .field(&column.field),
        );
    }
    Ok(value)
}

fn chosen(column: &Column, value: &Value) -> bool {
    let json = match value {
        Value::Int(number) => number.to_string(),
        Value::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        _ => return true,
    };
    column.choices.contains(&json)
}

fn integer(digits: &str, min: i64, max: i64) -> Result<Value, FieldError> {
    match digits.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(Value::Int(number)),
        Ok(_) => Err(invalid(format!("is not between {min} and {max}"))),
        Err(_) => Err(invalid("is not an integer that the column can hold")),
    }
}

fn text(column: &Column, raw: &RawValue, notes: &mut Vec<Finding>) -> Result<Value, FieldError> {
    let text = match cow_str(raw) {
        Ok(text) => text,
        Err(_) if column.or_integer && raw.get().parse::<i64>().is_ok() => Cow::Borrowed(raw.get()),
        Err(_) => return Err(invalid("is not a string")),
    };
    let text = without_nul(column, text, notes);
    too_long(&text, column.max_length)?;
    Ok(Value::Text(text))
}

/// A text without NUL characters, which no database text can contain.
fn without_nul(column: &Column, text: Cow<'_, str>, notes: &mut Vec<Finding>) -> String {
    if !text.contains('\0') {
        return text.into_owned();
    }
    let reason = "NUL characters, which no text of a database can hold, are left out";
    notes.push(Finding::new(FindingKind::TextCleaned, reason).field(&column.field));
    text.replace('\0', "")
}

fn too_long(text: &str, most: Option<usize>) -> Result<(), FieldError> {
    match most {
        // A text has at least as many bytes as characters, so most texts need not be counted.
        Some(most) if text.len() > most => match text.chars().count() {
            length if length > most => Err(invalid(format!("has {length} characters, {most} are the most"))),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A time as exports have it: with `Z`, an offset or neither (then UTC), with any digits of fraction, or a date alone.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let parsed = DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z").map(|time| time.to_utc()))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").map(|time| time.to_utc()))
        .or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
                .map(|time| Utc.from_utc_datetime(&time))
        })
        .or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
                .map(|time| Utc.from_utc_datetime(&time))
        })
        .or_else(|_| {
            NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .map(|date| Utc.from_utc_datetime(&date.and_time(chrono::NaiveTime::MIN)))
        })
        .ok()?;
    // Counted in microseconds, a leap second is the first second of the next minute. Neither database has a second 60.
    let parsed = DateTime::from_timestamp_micros(parsed.timestamp_micros())?;
    // Both databases, and all programs that read them, can handle the years 1 to 9999.
    (1..=9999).contains(&parsed.year()).then_some(parsed)
}

fn inet(text: &str) -> Option<Value> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some(Value::Inet(address, bits))
}

/// A JSON value as the text that its column takes.
fn stored_json(column: &Column, raw: &RawValue, notes: &mut Vec<Finding>) -> Result<String, FieldError> {
    let text = json_text::of(raw).map_err(invalid)?;
    if column.sql != "jsonb" {
        return Ok(text);
    }
    if json_text::has_huge_number(&text) {
        return Err(invalid("holds a number that is too large or too long for the database"));
    }
    match json_text::without_bad_escapes(&text) {
        Cow::Borrowed(_) => Ok(text),
        Cow::Owned(clean) => {
            let reason = "NUL characters and halves of characters, which the database cannot hold in JSON, are left out";
            notes.push(Finding::new(FindingKind::TextCleaned, reason).field(&column.field));
            Ok(clean)
        }
    }
}

fn list(column: &Column, of: ArrayOf, raw: &RawValue, notes: &mut Vec<Finding>) -> Result<Value, FieldError> {
    let wrong = || invalid("is not a list, as JSON or Python writes it, of what the column holds");
    let value: serde_json::Value = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    let items = array::parse(&value).ok_or_else(wrong)?;
    match of {
        ArrayOf::Text(most) => {
            let mut texts = Vec::with_capacity(items.len());
            for item in items {
                texts.push(match item {
                    array::Item::Null => None,
                    array::Item::Text(text) => {
                        let text = without_nul(column, text.into(), notes);
                        too_long(&text, most)?;
                        Some(text)
                    }
                    _ => return Err(wrong()),
                });
            }
            Ok(Value::Texts(texts))
        }
        ArrayOf::FloatRows => {
            let mut rows = Vec::with_capacity(items.len());
            for item in items {
                let array::Item::List(numbers) = item else { return Err(wrong()) };
                let row: Option<Vec<f64>> = numbers
                    .iter()
                    .map(|number| match number {
                        array::Item::Number(number) => Some(*number),
                        _ => None,
                    })
                    .collect();
                rows.push(row.ok_or_else(wrong)?);
            }
            if rows.windows(2).any(|pair| matches!(pair, [a, b] if a.len() != b.len())) {
                return Err(invalid("has rows of different lengths"));
            }
            // PostgreSQL has no rows without numbers, so they are left out for both databases.
            rows.retain(|row| !row.is_empty());
            Ok(Value::FloatRows(rows))
        }
    }
}

#[cfg(test)]
mod tests;
