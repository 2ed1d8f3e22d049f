//! Finds the values that other rows had, or may have had, when the import checked for conflicts.

use std::collections::HashMap;

use super::{case::AuditCase, cell::Cell};

/// The ids of the rows that have each value of a column.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// Rows that were there before the import.
    before: HashMap<String, Vec<i64>>,
    /// Rows that other imports wrote meanwhile.
    meanwhile: HashMap<String, Vec<i64>>,
}

/// Whether another row had a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    No,
    /// A concurrent import took it, before or after this import checked.
    Perhaps,
    Yes,
}

impl Holders {
    /// Whether a row outside the import has a value.
    pub(super) fn taken(&self, value: &str) -> Certainty {
        if self.before.contains_key(value) {
            Certainty::Yes
        } else if self.meanwhile.contains_key(value) {
            Certainty::Perhaps
        } else {
            Certainty::No
        }
    }

    /// The rows that have a value.
    pub(super) fn ids(&self, value: &str) -> Vec<i64> {
        let of = |map: &HashMap<String, Vec<i64>>| map.get(value).cloned().unwrap_or_default();
        [of(&self.before), of(&self.meanwhile)].concat()
    }
}

impl AuditCase<'_> {
    /// The rows that have the values of a text column. With `folded`, values are in lower case, because case makes no
    /// difference.
    pub(super) fn holders(&self, model: &str, field: &str, folded: bool) -> Holders {
        let value = |cell: Option<&Cell>| {
            let text = cell?.as_text()?;
            Some(if folded { text.to_lowercase() } else { text.to_owned() })
        };
        let mut holders = Holders::default();
        for (id, row) in self.before.rows(model) {
            if let Some(value) = value(row.get(field)) {
                holders.before.entry(value).or_default().push(*id);
            }
        }
        for (id, row) in self.after.rows(model) {
            if self.others.contains(&(model.to_owned(), *id))
                && let Some(value) = value(row.get(field))
            {
                holders.meanwhile.entry(value).or_default().push(*id);
            }
        }
        holders
    }
}
