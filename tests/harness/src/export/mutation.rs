//! Random changes of an export, such as damage, older tools and people with editors make. They work on JSON and know no
//! models.

use serde_json::{Map, Value, json};

/// Values that have caused errors somewhere before.
fn odd(pick: &mut impl FnMut(usize) -> usize) -> Value {
    match pick(26) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(1),
        5 => json!(32_768),
        6 => json!(2_147_483_648_i64),
        7 => json!(9_007_199_254_740_992_i64),
        8 => json!(i64::MIN),
        9 => json!(u64::MAX),
        10 => json!(-0.0),
        11 => json!(1e300),
        12 => json!(""),
        13 => json!(" "),
        14 => json!("nul\0in it"),
        15 => json!("\u{1F980}\u{202E}é\u{301}ß\u{130}"),
        16 => json!("x".repeat(300)),
        17 => json!("1"),
        18 => json!("[\"a\", null]"),
        19 => json!("['a', None]"),
        20 => json!("{\"a\": [1]"),
        21 => json!("2024-02-30T00:00:00Z"),
        22 => json!("9999-12-31T23:59:60.9999999-14:00"),
        23 => json!([[1, 2], [3]]),
        24 => json!({"a": {"b": []}}),
        _ => json!("null"),
    }
}

/// Picks a record and one of its fields.
fn field<'a>(
    records: &'a mut [Value],
    pick: &mut impl FnMut(usize) -> usize,
) -> Option<(&'a mut Map<String, Value>, String)> {
    let count = records.len();
    let fields = records.get_mut(pick(count))?.get_mut("fields")?.as_object_mut()?;
    let name = fields.keys().nth(pick(fields.len()))?.clone();
    Some((fields, name))
}

/// A file with one record, nested to this depth. The brackets of the file, the record and its fields count.
#[must_use]
pub fn nested(depth: usize) -> Vec<u8> {
    let (open, close) = ("[".repeat(depth.saturating_sub(2)), "]".repeat(depth.saturating_sub(2)));
    format!(r#"[{{"model": "sentry.rule", "pk": 1, "fields": {{"data": {open}{close}}}}}]"#).into_bytes()
}

/// Changes one thing: removes, duplicates or moves a record or a field, or gives it another value or name. `pick`
/// returns a number below its argument. A change that these records do not allow is skipped.
pub fn mutate(records: &mut Vec<Value>, pick: &mut impl FnMut(usize) -> usize) {
    let count = records.len();
    if count == 0 {
        return;
    }
    match pick(14) {
        0 => drop(records.remove(pick(count))),
        1 => {
            let record = records[pick(count)].clone();
            records.insert(pick(count + 1), record);
        }
        2 => records.swap(pick(count), pick(count)),
        3 => {
            let record = records.remove(pick(count));
            records.insert(pick(count), record);
        }
        // One of the three parts of a record is missing, or has another type.
        4 => {
            if let Some(record) = records[pick(count)].as_object_mut() {
                record.remove(["model", "pk", "fields"][pick(3)]);
            }
        }
        5 => {
            let part = ["model", "pk", "fields"][pick(3)];
            let value = odd(pick);
            if let Some(record) = records[pick(count)].as_object_mut() {
                record.insert(part.to_owned(), value);
            }
        }
        // A model or a primary key that another record has, or almost has.
        6 => {
            let (from, to, part) = (pick(count), pick(count), ["model", "pk"][pick(2)]);
            let value = records[from].get(part).cloned();
            if let (Some(value), Some(record)) = (value, records[to].as_object_mut()) {
                record.insert(part.to_owned(), value);
            }
        }
        7 => {
            let at = pick(count);
            if let Some(name) = records[at].get("model").and_then(Value::as_str) {
                let name = if pick(2) == 0 { name.to_uppercase() } else { format!("{name}s") };
                records[at]["model"] = json!(name);
            }
        }
        8 => {
            if let Some((fields, name)) = field(records, pick) {
                fields.remove(&name);
            }
        }
        9 => {
            if let Some((fields, name)) = field(records, pick)
                && let Some(value) = fields.remove(&name)
            {
                fields.insert(if pick(2) == 0 { format!("{name}_id") } else { name.to_uppercase() }, value);
            }
        }
        // A value that another record has, of the same field or any.
        10 => {
            let Some((_, other)) = field(records, pick).map(|(fields, name)| ((), fields[&name].clone()))
            else {
                return;
            };
            if let Some((fields, name)) = field(records, pick) {
                fields.insert(name, other);
            }
        }
        11 => {
            let Some((_, name)) = field(records, pick).map(|(_, name)| ((), name)) else { return };
            let values: Vec<Value> =
                records.iter().filter_map(|record| record.get("fields")?.get(&name).cloned()).collect();
            let at = pick(count);
            if let (Some(value), Some(fields)) = (
                values.get(pick(values.len().max(1))),
                records[at].get_mut("fields").and_then(Value::as_object_mut),
            ) {
                fields.insert(name, value.clone());
            }
        }
        // JSON where text was, and text where JSON was.
        12 => {
            if let Some((fields, name)) = field(records, pick) {
                let value = match &fields[&name] {
                    Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| odd(pick)),
                    other => json!(other.to_string()),
                };
                fields.insert(name, value);
            }
        }
        _ => {
            let value = odd(pick);
            if let Some((fields, name)) = field(records, pick) {
                fields.insert(name, value);
            }
        }
    }
}
