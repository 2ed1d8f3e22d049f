//! Random exports: records of any model, with references to each other, nulls, values at the limits of their columns,
//! and fields that are left out. All of them are valid.

use std::collections::{HashMap, HashSet};

use causeway_relocation::{
    catalog::{ArrayOf, Catalog, CatalogError, Column, ColumnType, Default, Model},
    export::MAX_PK,
};
use serde_json::{Map, Value, json};

use super::{Export, Record, values};

/// A model gets fewer records than this.
const RECORDS: usize = 4;

/// Builds an export from the choices of `pick`, which returns a number below its argument. Whatever it picks, the
/// export can be imported, and no rule treats two records as the same.
///
/// # Errors
/// If the catalog contradicts itself.
pub fn generated(pick: &mut impl FnMut(usize) -> usize) -> Result<Export, CatalogError> {
    let catalog = Catalog::load()?;
    let mut export = Export::new();
    let mut pks: HashMap<String, Vec<i64>> = HashMap::new();
    for model in catalog.models() {
        let mut used = HashSet::new();
        // Without an organization there would be little to check.
        let least = usize::from(model.name == "sentry.organization");
        for _ in 0..least.max(pick(RECORDS)) {
            let pk = pk(pick, pks.get(&model.name).map_or(&[], Vec::as_slice));
            let Some(fields) = fields(&catalog, model, pk, &pks, pick) else { continue };
            if unique_keys(model, &fields).into_iter().all(|key| used.insert(key)) {
                export.records.push(Record { model: model.name.clone(), pk, fields });
                pks.entry(model.name.clone()).or_default().push(pk);
            }
        }
    }
    Ok(export)
}

/// A primary key that no other record of the model has.
fn pk(pick: &mut impl FnMut(usize) -> usize, others: &[i64]) -> i64 {
    let small = |number: usize| i64::try_from(number).unwrap_or(0) + 1;
    let mut pk = match pick(4) {
        0 => MAX_PK - small(pick(3)) + 1,
        1 => small(pick(1 << 40)),
        _ => small(pick(40)),
    };
    while others.contains(&pk) {
        pk = pk % MAX_PK + 1;
    }
    pk
}

/// The fields of a record. `None` if it has to refer to a record that does not exist.
fn fields(
    catalog: &Catalog,
    model: &Model,
    pk: i64,
    pks: &HashMap<String, Vec<i64>>,
    pick: &mut impl FnMut(usize) -> usize,
) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    for (index, column) in model.columns.iter().enumerate() {
        // Columns in which two records must differ get distinct values.
        let unique = model.unique.iter().any(|set| set.columns.contains(&index));
        let value = match &column.references {
            Some(target) => {
                let others = pks.get(target).map_or(&[][..], Vec::as_slice);
                // Because of a reference to another scope, the import would drop the record.
                let leads = catalog.model(target).is_some_and(Model::in_organization_scope);
                if others.is_empty() || !leads || (column.null && pick(4) == 0) {
                    column.null.then_some(Value::Null)?
                } else {
                    json!(others[pick(others.len())])
                }
            }
            None if column.null && !unique && pick(8) == 0 => Value::Null,
            None if !unique && column.default != Default::Required && pick(8) == 0 => continue,
            None if !unique && column.choices.is_empty() && pick(3) == 0 => edge(column, pick),
            None => values::value(&model.name, column, pk),
        };
        fields.insert(column.field.clone(), value);
    }
    for rule in &model.rules.exactly_one {
        // Sometimes none stays set, where that may be.
        if rule.or_none && pick(8) == 0 {
            at_most_one(model, &rule.columns, &mut fields);
        } else {
            exactly_one(model, &rule.columns, pks, &mut fields)?;
        }
    }
    for columns in &model.rules.at_most_one {
        // Sometimes both stay set. Then the import keeps the first one.
        if pick(4) > 0 {
            at_most_one(model, columns, &mut fields);
        }
    }
    Some(fields)
}

/// Keeps only the first of these fields that is set. Returns whether one is set.
fn at_most_one(model: &Model, columns: &[usize], fields: &mut Map<String, Value>) -> bool {
    let names = columns.iter().filter_map(|column| model.columns.get(*column)).map(|column| &column.field);
    let set: Vec<&String> =
        names.filter(|name| fields.get(*name).is_some_and(|value| !value.is_null())).collect();
    for name in set.iter().skip(1) {
        fields.insert((*name).clone(), Value::Null);
    }
    !set.is_empty()
}

/// Sets one of these fields if none is set. `None` if there is no record that it could refer to.
fn exactly_one(
    model: &Model,
    columns: &[usize],
    pks: &HashMap<String, Vec<i64>>,
    fields: &mut Map<String, Value>,
) -> Option<()> {
    if at_most_one(model, columns, fields) {
        return Some(());
    }
    let (field, value) = columns.iter().rev().find_map(|column| {
        let column = model.columns.get(*column)?;
        let value = match &column.references {
            Some(target) => json!(pks.get(target)?.first()?),
            None => json!("somebody@example.com"),
        };
        Some((column.field.clone(), value))
    })?;
    fields.insert(field, value);
    Some(())
}

/// The combinations of values that no other record of the file may have, in a form that can be compared.
fn unique_keys(model: &Model, fields: &Map<String, Value>) -> Vec<String> {
    let value = |column: &usize| {
        let field = &model.columns.get(*column)?.field;
        Some(fields.get(field).filter(|value| !value.is_null())?.to_string().to_lowercase())
    };
    let mut keys = Vec::new();
    for (number, set) in model.unique.iter().enumerate() {
        let values: Option<Vec<String>> = set.columns.iter().map(value).collect();
        keys.extend(values.map(|values| format!("{number} {}", values.join(" "))));
    }
    for columns in &model.rules.keep_first {
        let values: Vec<String> = columns.iter().map(|column| value(column).unwrap_or_default()).collect();
        keys.push(format!("first {}", values.join(" ")));
    }
    keys
}

/// The largest and the smallest value of a column, and values that are hard to write.
fn edge(column: &Column, pick: &mut impl FnMut(usize) -> usize) -> Value {
    let one_of =
        |pick: &mut dyn FnMut(usize) -> usize, values: Vec<Value>| values[pick(values.len())].clone();
    let least = |least: i64| json!(column.min.map_or(least, |min| min.max(least)));
    match column.kind {
        ColumnType::BigInt => one_of(pick, vec![least(i64::MIN), json!(i64::MAX), json!(0)]),
        ColumnType::Integer => one_of(pick, vec![least(i32::MIN.into()), json!(i32::MAX), json!(0)]),
        ColumnType::SmallInt => one_of(pick, vec![least(i16::MIN.into()), json!(i16::MAX), json!(0)]),
        ColumnType::BitField => {
            one_of(pick, vec![json!(0), json!(i64::MAX), json!("-9223372036854775808"), json!("0")])
        }
        ColumnType::Boolean => json!(pick(2) == 0),
        ColumnType::Float => one_of(
            pick,
            vec![
                json!(0),
                json!(-0.0),
                json!(f64::MAX),
                json!(f64::MIN_POSITIVE),
                json!(5e-324),
                json!(1e15 + 0.3),
            ],
        ),
        ColumnType::Text => {
            let long: String =
                "漢🦀é\u{301}".chars().cycle().take(column.max_length.unwrap_or(3_000)).collect();
            let odd: String =
                "\u{1}\u{7f}\u{2028}\"\\".chars().take(column.max_length.unwrap_or(5)).collect();
            one_of(pick, vec![json!(""), json!(long), json!(odd)])
        }
        ColumnType::DateTime => one_of(
            pick,
            vec![
                json!("0001-01-01T00:00:00Z"),
                json!("9999-12-31T23:59:59.999999Z"),
                json!("1969-12-31T23:59:59.999999Z"),
                json!("2000-01-01T00:00:00"),
                json!("2024-02-29T23:59:59.5+14:00"),
            ],
        ),
        ColumnType::Json => one_of(
            pick,
            vec![
                json!(""),
                json!("null"),
                json!("\u{0}"),
                json!([]),
                json!({"": {"a": [[[]]], "n": -1e-7, "u": "\u{10FFFF}"}}),
                json!("\"\\ud83e\\udd80\""),
                json!(u64::MAX),
            ],
        ),
        ColumnType::Uuid => json!("ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ColumnType::Inet => one_of(pick, vec![json!("0.0.0.0"), json!("::"), json!("ffff::1")]),
        ColumnType::Array(ArrayOf::Text(_)) => one_of(
            pick,
            vec![
                json!([]),
                json!("[]"),
                json!([null, ""]),
                json!("[None, '']"),
                json!(["a,b", "{}\"\\", "NULL"]),
            ],
        ),
        ColumnType::Array(ArrayOf::FloatRows) => {
            one_of(pick, vec![json!([]), json!([[]]), json!([[0.5, 1e300], [-1, 0]])])
        }
    }
}
