//! A column value in a form that can be compared, made from a field of the file by the rules of the format, or from
//! what a database stores.

use anyhow::{Context as _, bail};
use causeway_relocation::catalog::{ArrayOf, Column, ColumnType};
use causeway_silo::db::Dialect;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

/// The value of a column, independent of how the file or the database writes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// No value: `NULL` in the database, `null` in the file.
    Null,
    /// True or false, in whatever form the database stores it.
    Bool(bool),
    /// An integer. Flags and references are integers too.
    Int(i64),
    /// A floating-point number of 64 bits.
    Float(f64),
    /// A text, as the database stores it: without NUL characters.
    Text(String),
    /// A point in time, in whatever notation it is written.
    Time(DateTime<Utc>),
    /// A UUID, in whatever notation it is written.
    Uuid(Uuid),
    /// A JSON value, in whatever notation it is written.
    Json(Value),
    /// A list of texts, or of rows of numbers.
    List(Value),
}

impl Cell {
    /// The integer, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// The time, if it is one.
    #[must_use]
    pub fn as_time(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Time(value) => Some(*value),
            _ => None,
        }
    }
}

fn time(text: &str) -> anyhow::Result<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
    Ok(time.with_context(|| format!("{text:?} is not a time"))?.and_utc())
}

/// The cell that a field of the file has in its column.
pub(super) fn of_file(column: &Column, value: &Value) -> anyhow::Result<Cell> {
    if value.is_null() && (column.null || column.kind != ColumnType::Json) {
        return Ok(Cell::Null);
    }
    let text = || value.as_str().with_context(|| format!("{} is not text", column.field));
    if column.or_integer && value.is_i64() {
        return Ok(Cell::Text(value.to_string()));
    }
    Ok(match column.kind {
        ColumnType::BigInt | ColumnType::Integer | ColumnType::SmallInt => {
            Cell::Int(value.as_i64().with_context(|| format!("{} is not an integer", column.field))?)
        }
        ColumnType::BitField => Cell::Int(match value.as_i64() {
            Some(value) => value,
            None => text()?.parse()?,
        }),
        ColumnType::Boolean => {
            Cell::Bool(value.as_bool().with_context(|| format!("{} is not a boolean", column.field))?)
        }
        ColumnType::Float => {
            Cell::Float(value.as_f64().with_context(|| format!("{} is not a number", column.field))?)
        }
        ColumnType::Text | ColumnType::Inet => Cell::Text(text()?.replace('\0', "")),
        ColumnType::DateTime => Cell::Time(time(text()?)?),
        ColumnType::Uuid => Cell::Uuid(Uuid::try_parse(text()?)?),
        // A text that contains JSON is compared as that JSON.
        ColumnType::Json => Cell::Json(
            value.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| value.clone()),
        ),
        ColumnType::Array(of) => Cell::List(list(of, value)?),
    })
}

/// Reads a list that is JSON, a text with JSON, or a text in the notation in which Python prints lists.
fn list(of: ArrayOf, value: &Value) -> anyhow::Result<Value> {
    let list = match value {
        Value::Array(_) => value.clone(),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(list) => list,
            Err(_) => python_list(text).with_context(|| format!("{text:?} is not a list"))?,
        },
        _ => bail!("{value} is not a list"),
    };
    Ok(match (of, floats(&list)) {
        // A table without columns has no rows either.
        (ArrayOf::FloatRows, Value::Array(rows)) => {
            rows.into_iter().filter(|row| row.as_array().is_none_or(|row| !row.is_empty())).collect()
        }
        (ArrayOf::FloatRows, other) => other,
        (ArrayOf::Text(_), _) => clean(list),
    })
}

/// Removes NUL characters, which no text in a database can contain.
fn clean(list: Value) -> Value {
    match list {
        Value::Array(items) => items.into_iter().map(clean).collect(),
        Value::String(text) => text.replace('\0', "").into(),
        other => other,
    }
}

/// Whether the import must clean a text, or a list of texts, because a database cannot store it as it is.
pub(super) fn is_cleaned(column: &Column, value: &Value) -> bool {
    match column.kind {
        ColumnType::Text => value.as_str().is_some_and(|text| text.contains('\0')),
        ColumnType::Array(_) => {
            let items = match value {
                Value::String(text) => serde_json::from_str(text).ok().or_else(|| python_list(text)),
                other => Some(other.clone()),
            };
            let items = items.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            items.iter().any(|item| item.as_str().is_some_and(|text| text.contains('\0')))
        }
        _ => false,
    }
}

/// Turns all numbers into floats, because 1 and 1.0 are the same number.
fn floats(list: &Value) -> Value {
    match list {
        Value::Array(items) => items.iter().map(floats).collect(),
        number => number.as_f64().map_or_else(|| number.clone(), Value::from),
    }
}

/// A list of strings and `None`, as Python prints it.
fn python_list(text: &str) -> Option<Value> {
    let mut rest = text.strip_prefix('[')?.strip_suffix(']')?.chars().peekable();
    let mut items = Vec::new();
    loop {
        while rest.next_if(|character| matches!(character, ' ' | ',')).is_some() {}
        let Some(quote) = rest.next() else { return Some(Value::Array(items)) };
        if quote == 'N' {
            let word: String = rest.by_ref().take(3).collect();
            (word == "one").then(|| items.push(Value::Null))?;
            continue;
        }
        let mut item = String::new();
        loop {
            match rest.next()? {
                end if end == quote => break,
                '\\' => item.push(match rest.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'x' => char::from_u32(rest.next()?.to_digit(16)? * 16 + rest.next()?.to_digit(16)?)?,
                    other => other,
                }),
                other => item.push(other),
            }
        }
        items.push(item.into());
    }
}

/// The SQL expression that selects a column as text that [`of_database`] can read.
pub(super) fn select(column: &Column, dialect: Dialect) -> String {
    let name = format!("\"{}\"", column.column);
    match (dialect, column.kind) {
        (Dialect::Postgres, ColumnType::DateTime) => {
            format!("to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        }
        (Dialect::Postgres, ColumnType::Array(_)) => format!("to_json({name})::text"),
        (Dialect::Postgres, _) => format!("{name}::text"),
        // All significant digits. CAST drops some.
        (Dialect::Sqlite, ColumnType::Float) => {
            format!("CASE WHEN {name} IS NOT NULL THEN format('%!.17g', {name}) END")
        }
        (Dialect::Sqlite, _) => format!("CAST({name} AS text)"),
    }
}

/// The cell with the value of a text from a database. `None` is NULL.
pub(super) fn of_database(column: &Column, text: Option<String>) -> anyhow::Result<Cell> {
    let Some(text) = text else { return Ok(Cell::Null) };
    let of = || format!("column {} holds {text:?}", column.column);
    Ok(match column.kind {
        ColumnType::BigInt | ColumnType::Integer | ColumnType::SmallInt | ColumnType::BitField => {
            Cell::Int(text.parse().with_context(of)?)
        }
        ColumnType::Boolean => match text.as_str() {
            "true" | "1" => Cell::Bool(true),
            "false" | "0" => Cell::Bool(false),
            _ => bail!(of()),
        },
        ColumnType::Float => Cell::Float(text.parse().with_context(of)?),
        ColumnType::Text | ColumnType::Inet => Cell::Text(text),
        ColumnType::DateTime => Cell::Time(time(&text)?),
        ColumnType::Uuid => Cell::Uuid(Uuid::try_parse(&text).with_context(of)?),
        ColumnType::Json => Cell::Json(serde_json::from_str(&text).with_context(of)?),
        ColumnType::Array(ArrayOf::FloatRows) => {
            Cell::List(floats(&serde_json::from_str(&text).with_context(of)?))
        }
        ColumnType::Array(ArrayOf::Text(_)) => Cell::List(serde_json::from_str(&text).with_context(of)?),
    })
}

#[cfg(test)]
mod tests {
    use causeway_relocation::catalog::Catalog;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_in_other_words_is_the_same() {
        let catalog = Catalog::load().unwrap();
        let cell = |model: &str, field: &str, value: Value| {
            let model = catalog.model(model).unwrap();
            of_file(&model.columns[model.column(field).unwrap()], &value).unwrap()
        };
        for (model, field, one, other) in [
            ("sentry.team", "date_added", json!("2023-06-22T22:59:57Z"), json!("2023-06-22T22:59:57.000")),
            ("sentry.organization", "flags", json!("5"), json!(5)),
            ("sentry.orgauthtoken", "scope_list", json!(["a", "it's"]), json!("['a', \"it's\"]")),
            ("sentry.orgauthtoken", "scope_list", json!(["é", null]), json!("['\\xe9', None]")),
            ("sentry.organizationoption", "value", json!({"a": 1}), json!("{ \"a\" : 1 }")),
            ("sentry.timeseriessnapshot", "values", json!([[1, 2.5]]), json!("[[1.0, 2.5]]")),
        ] {
            assert_eq!(cell(model, field, one), cell(model, field, other), "{model} {field}");
        }
        assert_eq!(cell("sentry.organizationoption", "value", json!("plain")), Cell::Json(json!("plain")));
    }
}
