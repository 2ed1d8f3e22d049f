//! Values of removed fields that move to other fields.

use serde_json::value::RawValue;

use super::{super::array, FieldError, cow_str, value};
use crate::{catalog::Model, finding::Finding, value::Value};

/// The field that the value of a removed one moves to, and the value there; `None` if it does not move.
pub(super) fn to(
    model: &Model,
    name: &str,
    raw: &RawValue,
    notes: &mut Vec<Finding>,
) -> Result<Option<(usize, Value)>, FieldError> {
    let Some(rule) = model.rules.moves.iter().find(|rule| rule.from == name) else { return Ok(None) };
    let Some(column) = model.columns.get(rule.to) else { return Ok(None) };
    match rule.if_contains {
        Some(number) => {
            let list = serde_json::from_str(raw.get()).ok().and_then(|list| array::parse(&list));
            let is_number = |item: &array::Item| *item == array::Item::Number(number.into());
            let contains = list.is_some_and(|list| list.iter().any(is_number));
            Ok(contains.then_some((rule.to, Value::Bool(true))))
        }
        None if cow_str(raw).is_ok_and(|text| !text.is_empty()) => {
            Ok(Some((rule.to, value(column, raw, notes)?)))
        }
        None => Ok(None),
    }
}
