//! Values that a database needs and a record does not have.

use super::{Column, Model};
use crate::value::Value;

/// What a row lacks although this database needs it.
#[derive(Debug, Clone, Copy)]
pub struct Lack<'a> {
    /// The column.
    pub column: &'a Column,
    /// The beginning of a sentence that says what is lacking.
    pub why: &'static str,
}

impl Model {
    /// What a row with these values lacks although this database needs it. Newer releases may have a field no longer that
    /// an older database demands, and older ones null where a newer one demands a value.
    #[must_use]
    pub fn lacks_value(&self, values: &[Value]) -> Option<Lack<'_>> {
        let is_filled_later = |index: usize| {
            let copies = self.rules.copied_columns.iter().flat_map(|copied| &copied.copies);
            self.rules.makes_missing(index)
                || self.rules.always_replaces(index)
                || copies.into_iter().any(|(column, _)| *column == index)
        };
        let value = self.columns.iter().enumerate().zip(values).find_map(|((index, column), value)| {
            let lacks = value.is_null() && column.is_needed && column.is_stored && !is_filled_later(index);
            lacks.then_some(Lack { column, why: "there is no value, and this database needs one" })
        });
        value
            .or_else(|| {
                self.rules.references_by_type.iter().find_map(|rule| {
                    let column = self
                        .columns
                        .get(rule.kind)
                        .filter(|column| column.is_stored && column.is_numbered())?;
                    let lacks =
                        rule.number_of(values.get(rule.kind)?.as_text().unwrap_or_default()).is_none();
                    lacks.then_some(Lack {
                        column,
                        why: "this database numbers its types and has no such type",
                    })
                })
            })
            .or_else(|| {
                self.rules.references_by_type.iter().find_map(|rule| {
                    let column =
                        self.columns.get(rule.column).filter(|it| it.is_stored && it.is_numbered())?;
                    let lacks = values.get(rule.column)?.as_text()?.parse::<i64>().is_err();
                    lacks.then_some(Lack { column, why: "there is no number, and this database needs one" })
                })
            })
    }

    /// Whether a value that this database needs may be missing in a record: see [`Self::lacks_value`].
    #[must_use]
    pub fn may_lack_value(&self) -> bool {
        self.lacks_value(&vec![Value::Null; self.columns.len()]).is_some()
    }
}
