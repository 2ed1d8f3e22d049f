//! Fields that the catalog does not know, and that have nearly the name of one: `user` for `user_id`.

use crate::{
    catalog::{Column, Model},
    finding::{Finding, FindingKind, shown},
};

/// Unknown fields of a record that have nearly the name of a column, with that column.
#[derive(Debug, Default)]
pub(super) struct Alike(Vec<(String, usize)>);

impl Alike {
    /// Notes an unknown field, if a column of the model is alike.
    pub(super) fn see(&mut self, model: &Model, name: &str) {
        let core = core(name);
        let alike = model.columns.iter().position(|column| self::core(&column.field) == core);
        // One for a column is enough to tell.
        if let Some(column) = alike
            && !self.0.iter().any(|(_, known)| *known == column)
        {
            self.0.push((name.to_owned(), column));
        }
    }

    /// That a column has no value, as the field has another name here; `None` if there is none alike.
    pub(super) fn misnamed(&self, column: usize, definition: &Column) -> Option<Finding> {
        let (name, _) = self.0.iter().find(|(_, alike)| *alike == column)?;
        let reason = format!(
            "the model has no field of this name, and `{}` is missing, which is alike: rename it",
            definition.field
        );
        Some(Finding::new(FindingKind::ValidationError, reason).field(&shown(name)))
    }

    /// Which column an unknown field may have meant.
    pub(super) fn meant<'m>(&self, model: &'m Model, name: &str) -> Option<&'m str> {
        let (_, column) = self.0.iter().find(|(alike, _)| alike == name)?;
        model.columns.get(*column).map(|column| column.field.as_str())
    }
}

/// A name without case, without what joins its words, and without `id` at its end.
fn core(name: &str) -> String {
    let short = name.strip_suffix("_id").or_else(|| name.strip_suffix("Id")).unwrap_or(name);
    short.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}
