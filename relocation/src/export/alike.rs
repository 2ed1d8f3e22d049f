//! Unknown fields that have nearly the name of a known one: `user` for `user_id`.

use crate::{
    catalog::{Column, Model},
    finding::{Finding, FindingKind, shown},
};

/// Unknown fields of a record that have nearly the name of a column, with that column.
#[derive(Debug, Default)]
pub(super) struct SimilarNames(Vec<(String, usize)>);

impl SimilarNames {
    /// Notes an unknown field if it has nearly the name of a column.
    pub(super) fn see(&mut self, model: &Model, name: &str) {
        let core = core(name);
        let alike = model.columns.iter().position(|column| self::core(&column.field) == core);
        // One field for each column is enough for the finding.
        if let Some(column) = alike
            && !self.0.iter().any(|(_, known)| *known == column)
        {
            self.0.push((name.to_owned(), column));
        }
    }

    /// The finding that a column has no value because its field has another name in the file; `None` if no unknown
    /// field has nearly its name.
    pub(super) fn misnamed(&self, column: usize, definition: &Column) -> Option<Finding> {
        let (name, _) = self.0.iter().find(|(_, alike)| *alike == column)?;
        let reason = format!(
            "the model has no field of this name, and `{}` is missing, which is alike: rename it",
            definition.field
        );
        Some(Finding::new(FindingKind::ValidationError, reason).field(&shown(name)))
    }

    /// The field that an unknown field may have meant.
    pub(super) fn meant<'m>(&self, model: &'m Model, name: &str) -> Option<&'m str> {
        let (_, column) = self.0.iter().find(|(alike, _)| alike == name)?;
        model.columns.get(*column).map(|column| column.field.as_str())
    }
}

/// A name in lower case, without the separators between its words, and without `id` at its end.
fn core(name: &str) -> String {
    let short = name.strip_suffix("_id").or_else(|| name.strip_suffix("Id")).unwrap_or(name);
    short.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}
