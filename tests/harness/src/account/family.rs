//! Finds the organization that a record belongs to: the one that its references lead to, or two of them.

use causeway_relocation::catalog::{Catalog, Model, Scope};

use super::{Outcome, case::AuditCase, file::FileRecord};

const ORGANIZATION: &str = "sentry.organization";
const ACTION: &str = "sentry.notificationaction";

/// Whether a notification action belongs to an integration or an app. Then it is of another scope.
pub(super) fn is_of_integration(record: &FileRecord) -> bool {
    record.model == ACTION
        && (record.set("integration_id").is_some() || record.set("sentry_app_id").is_some())
}

/// Whether the records of a model belong to users. Also true for a model that the catalog does not know.
fn is_of_users(catalog: &Catalog, model: &str) -> bool {
    catalog.model(model).is_none_or(|model| model.scopes.contains(&Scope::User))
}

impl AuditCase<'_> {
    /// The records that a record refers to, except users and their records.
    fn parents<'m>(
        &'m self,
        model: &'m Model,
        record: &'m FileRecord,
    ) -> impl Iterator<Item = (&'m str, i64)> {
        model.columns.iter().filter_map(move |column| {
            let target = column.references.as_deref().filter(|target| !is_of_users(self.catalog, target))?;
            let pk = record.pk_in(&column.field)?;
            // References that the import clears do not count.
            let is_here =
                matches!(self.outcome(target, pk), Some(Outcome::Inserted(_) | Outcome::Existing(_)));
            (is_here || !super::outcomes::is_cleared(&model.name, &column.field)).then_some((target, pk))
        })
    }

    /// Finds the organization that a record belongs to and stores it. Returns whether the record belongs to
    /// more than one.
    pub(super) fn find_organization(&mut self, model: &Model, record: &FileRecord) -> bool {
        if record.model == ORGANIZATION {
            self.organizations.insert((record.model.clone(), record.pk), record.pk);
            return false;
        }
        let mut all: Vec<i64> = self
            .parents(model, record)
            .filter_map(|(target, pk)| self.organizations.get(&(target.to_owned(), pk)).copied())
            .collect();
        all.sort_unstable();
        all.dedup();
        if let [one] = all.as_slice() {
            self.organizations.insert((record.model.clone(), record.pk), *one);
        }
        all.len() > 1
    }

    /// Whether a record that this record refers to is imported, apart from users and their records.
    pub(super) fn belongs_to_what_is_here(&self, model: &Model, record: &FileRecord) -> bool {
        self.parents(model, record).any(|(target, pk)| {
            matches!(self.outcome(target, pk), Some(Outcome::Inserted(_) | Outcome::Existing(_)))
        })
    }
}
