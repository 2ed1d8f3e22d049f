//! Records that this database has no place for: it has no table of their model, or needs a value that they do
//! not have. Planning reports them, one finding for each model or field, so that an import of many of them
//! has a report that can be read, and so that all of them are known before anything is written.

use std::collections::HashMap;

use roaring::RoaringTreemap;

use super::{
    Record, RecordOwnership, record_ownership::Linked, segment::add_note, steps::Notes,
    unreferenced::Unreferenced,
};
use crate::{
    catalog::{Lack, Model},
    export::ExportError,
    finding::{Finding, FindingKind},
};

/// The findings, and the offsets of records in which a value is missing, by the position of their model.
pub(super) type NotInDatabase = (Notes, HashMap<usize, RoaringTreemap>);

impl RecordOwnership<'_> {
    /// Finds the records for which this database has no place and which the filter does not exclude.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn find_not_in_database(
        &mut self,
        unreferenced: &Unreferenced,
    ) -> Result<NotInDatabase, ExportError> {
        let (mut notes, mut lacking) = (Notes::new(), HashMap::new());
        let catalog = self.catalog;
        for model in catalog.written().filter(|model| self.plan.record_count(model) > 0) {
            if let Some(reason) = &model.not_importable {
                self.learn([model.position])?;
                self.each(model, |record| {
                    if self.concerns_import(model, &record, unreferenced) {
                        let finding = Finding::new(FindingKind::NotInDatabase, reason);
                        note(&mut notes, model, &record, finding);
                    }
                    Ok(())
                })?;
            } else if model.may_lack_value() {
                self.learn([model.position])?;
                let found = self.find_lacking(model, unreferenced, &mut notes)?;
                if !found.is_empty() {
                    lacking.insert(model.position, found);
                }
            }
        }
        Ok((notes, lacking))
    }

    /// Finds the records of a model in which a value is missing that this database needs: their offsets.
    fn find_lacking(
        &self,
        model: &Model,
        unreferenced: &Unreferenced,
        notes: &mut Notes,
    ) -> Result<RoaringTreemap, ExportError> {
        let mut found = RoaringTreemap::new();
        let mut reader = self.plan.reader(model, self.env, 1)?;
        while let Some(Record { ordinal, source_pk, offset, values, defect, .. }) = reader.next_record()? {
            self.stopped()?;
            let Some(Lack { column, why }) = model.lacks_value(&values).filter(|_| defect.is_none()) else {
                continue;
            };
            let finding =
                Finding::new(FindingKind::NotInDatabase, format!("{why}; the record is not imported"));
            let finding = finding.field(&column.field);
            let record = Linked { ordinal, source_pk, offset, values };
            if self.concerns_import(model, &record, unreferenced) {
                found.insert(offset);
                note(notes, model, &record, finding);
            }
        }
        Ok(found)
    }

    /// Whether a record is in scope and the filter does not exclude it.
    fn concerns_import(&self, model: &Model, record: &Linked, unreferenced: &Unreferenced) -> bool {
        !model.rules.is_of_another_scope(&record.values) && !self.is_left_out(model, record, unreferenced)
    }
}

/// Adds a finding about a record to the notes, which count those of one kind, model and field together.
fn note(notes: &mut Notes, model: &Model, record: &Linked, finding: Finding) {
    let finding = finding.model(&model.name).record(record.ordinal, record.source_pk).at(record.offset);
    let key = (finding.kind, model.name.clone(), finding.field.clone().unwrap_or_default());
    add_note(notes, key, finding, 1);
}
