//! Values for columns: never null, never the default, and the same on every run. They are derived from model, field and
//! primary key, so rows differ where they must.

use causeway_relocation::catalog::{ArrayOf, Column, ColumnType, Default};
use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde_json::{Value, json};

/// A number derived from texts (FNV-1a).
pub(super) fn hash(texts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in texts.join("\u{1f}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The last bytes of a text affect the high bits most, so those are mixed into the low ones.
    hash ^ (hash >> 32)
}

/// Hex digits derived from texts.
pub(super) fn hex(texts: &[&str], length: usize) -> String {
    let mut digits = String::new();
    for round in 0_u8.. {
        if digits.len() >= length {
            break;
        }
        digits.push_str(&format!("{:016x}", hash(&[&texts.join(" "), &round.to_string()])));
    }
    digits.truncate(length);
    digits
}

/// A value for a column that is not a reference.
pub(super) fn value(model: &str, column: &Column, pk: i64) -> Value {
    let seed = hash(&[model, &column.field, &pk.to_string()]);
    let small = i64::try_from(seed % 9_000).unwrap_or(0) + 1_000;
    if let Some(choice) = choice(column, seed) {
        return choice;
    }
    match column.kind {
        ColumnType::BigInt => json!((1_i64 << 40) + small),
        ColumnType::Integer | ColumnType::SmallInt => json!(small),
        ColumnType::BitField if seed.is_multiple_of(2) => json!((1_i64 << 35) + small),
        ColumnType::BitField => json!(((1_i64 << 35) + small).to_string()),
        ColumnType::Boolean => json!(column.default != Default::Literal("true".to_owned())),
        ColumnType::Float => json!(f64::from(u32::try_from(seed % 1_000_000).unwrap_or(0)) / 7.0),
        ColumnType::Text => json!(text(model, column, pk, seed)),
        ColumnType::DateTime => json!(time(seed)),
        ColumnType::Json => json_value(seed),
        ColumnType::Uuid => json!(uuid(seed)),
        ColumnType::Inet => json!(format!("10.{}.{}.{}", seed % 250, seed / 250 % 250, pk % 250)),
        ColumnType::Array(ArrayOf::Text(_)) => texts(pk, seed),
        ColumnType::Array(ArrayOf::FloatRows) => json!("[[0.1, 116201.28571428571], [-3e-7, 1234567.875]]"),
    }
}

/// One of the values that the application knows, except the default.
fn choice(column: &Column, seed: u64) -> Option<Value> {
    let others: Vec<Value> = column
        .choices
        .iter()
        .filter(|choice| column.default != Default::Literal((*choice).clone()))
        .filter_map(|choice| serde_json::from_str(choice).ok())
        .filter(|choice: &Value| !choice.is_null())
        .collect();
    let index = usize::try_from(seed).unwrap_or(0).checked_rem(others.len())?;
    others.get(index).cloned()
}

/// A text of the greatest length that the column allows, up to 300, with characters that some notation has to escape.
fn text(model: &str, column: &Column, pk: i64, seed: u64) -> String {
    let name = model.trim_start_matches("sentry.");
    if column.field.contains("slug") {
        return format!("{name}-{pk}-{}", seed % 1_000)
            .chars()
            .take(column.max_length.unwrap_or(50))
            .collect();
    }
    if column.field.contains("email") {
        return format!("{name}.{pk}@example.com");
    }
    if column.field.ends_with("_key") || column.field == "key" || column.field.contains("token") {
        let whose = [model, column.field.as_str(), &pk.to_string()].join(" ");
        return hex(&[&whose], column.max_length.unwrap_or(64).min(64));
    }
    let start = format!("{seed:x} {name} {} {pk}: ", column.field);
    let rest =
        "tab\t line\n quote\" apostrophe' back\\slash dollar$1 brace{ percent% é ü 漢字 🦀 ".chars().cycle();
    start.chars().chain(rest).take(column.max_length.unwrap_or(120).min(300)).collect()
}

/// A time in one of the notations that exports use.
pub(super) fn time(seed: u64) -> String {
    let seconds = i64::try_from(seed % 100_000_000).unwrap_or(0);
    let time: DateTime<Utc> = DateTime::UNIX_EPOCH
        + Duration::days(18_000)
        + Duration::seconds(seconds)
        + Duration::microseconds(i64::try_from(seed % 999_983).unwrap_or(0));
    let form = match seed % 3 {
        0 => SecondsFormat::Secs,
        1 => SecondsFormat::Millis,
        _ => SecondsFormat::Micros,
    };
    time.to_rfc3339_opts(form, true)
}

fn uuid(seed: u64) -> String {
    let digits = hex(&["uuid", &seed.to_string()], 32);
    [0..8, 8..12, 12..16, 16..20, 20..32]
        .map(|range| digits.get(range).unwrap_or_default().to_owned())
        .join("-")
}

/// JSON in the two ways that exports write it: directly, or as a text that contains it.
fn json_value(seed: u64) -> Value {
    let tree = json!({
        "number": seed % 1_000, "large": 1_u64 << 60, "float": 0.1, "text": "é \" \\ \n 🦀", "list": [1, [true, null], {}],
    });
    match seed % 5 {
        0 => tree,
        1 => json!(tree.to_string()),
        2 => json!(format!("\"text {seed}\"")),
        3 => json!([seed % 1_000, "a", {"b": null}]),
        _ => json!(format!("no JSON, {seed}")),
    }
}

/// A list of texts in one of the notations that exports use.
fn texts(pk: i64, seed: u64) -> Value {
    match seed % 3 {
        0 => json!([format!("org:{pk}"), "a, b", "it's é"]),
        1 => json!(json!([format!("org:{pk}"), "quote \" in it", ""]).to_string()),
        _ => json!(format!("['org:{pk}', \"it's\", 'back\\\\slash', '\\xe9', None]")),
    }
}
