//! Out-of-scope records that belong to something that is imported, where they will be missing.

use super::{
    RecordOwnership,
    record_ownership::{Disposition, targets},
    segment::add_note,
    steps::Notes,
};
use crate::{
    catalog::Model,
    export::ExportError,
    finding::{Finding, FindingKind},
};

impl RecordOwnership<'_> {
    /// Whether some records of a model may be out of scope and belong to something that is imported.
    fn may_be_out_of_scope(&self, model: &Model) -> bool {
        let is_decided_by_record = !model.rules.other_scope_when_set.is_empty();
        self.plan.record_count(model) > 0 && (!model.in_organization_scope() || is_decided_by_record)
    }

    /// Finds such records, and makes one finding for each model, at its first record.
    pub(super) fn find_out_of_scope(&mut self) -> Result<Notes, ExportError> {
        let mut notes = Notes::new();
        let catalog = self.catalog;
        for model in
            catalog.models().iter().filter(|model| self.may_be_out_of_scope(model)).collect::<Vec<_>>()
        {
            // A user has to sign in again in any case, so only what is missing in organizations is reported.
            let parents: Vec<usize> = targets(catalog, model)
                .filter(|target| !target.is_user_scoped())
                .map(|target| target.position)
                .collect();
            if parents.is_empty() {
                continue;
            }
            self.learn(parents.iter().copied())?;
            self.each(model, |record| {
                if model.in_organization_scope() && !model.rules.is_of_another_scope(&record.values) {
                    return Ok(());
                }
                let parent = model.columns.iter().zip(&record.values).find_map(|(column, value)| {
                    let target = column.target.filter(|target| parents.contains(target))?;
                    let (target, pk) = (catalog.models().get(target)?, value.as_int()?);
                    (self.disposition(target, pk) == Some(Disposition::Imported)).then_some((target, pk))
                });
                if let Some((target, pk)) = parent {
                    let mut reason = format!(
                        "belongs to {} {pk}, which is imported, and is of another scope: it is not",
                        target.name
                    );
                    if !model.left_behind.is_empty() {
                        reason = format!("{reason}; {}", model.left_behind);
                    }
                    let finding = Finding::new(FindingKind::OutOfScope, reason)
                        .model(&model.name)
                        .record(record.ordinal, record.source_pk)
                        .at(record.offset);
                    add_note(
                        &mut notes,
                        (FindingKind::OutOfScope, model.name.clone(), String::new()),
                        finding,
                        1,
                    );
                }
                Ok(())
            })?;
        }
        Ok(notes)
    }
}
