//! Decides about rows that are added although the file has no records for them.

use super::{Decision, Mapping, rewrite_fields};
use crate::{
    catalog::Model,
    export::ExportError,
    finding::{Finding, FindingKind, Tense},
    keys::{KeyKind, Lookup},
    plan::{AddedFor, Record},
    value::Value,
};

impl Mapping<'_> {
    /// Decides about a row: it is written if the record that it is added for was inserted. What keeps it from being
    /// written after that is a finding at that record.
    pub(super) fn map_added(
        &self,
        model: &Model,
        mut record: Record,
        added_for: AddedFor,
        notes: &mut Vec<Finding>,
    ) -> Result<Decision, ExportError> {
        let found = self.keys.get(added_for.position, added_for.source_pk);
        // A row that was there before the import has what it needs, or its owner does without.
        if !matches!(found, Lookup::Mapped(_, KeyKind::Inserted)) || model.not_importable.is_some() {
            return Ok(Decision::NotAdded);
        }
        // Without the characters that no text can have, nothing was left.
        let is_empty = |(field, _): &(String, String)| {
            let value = model.column(field).and_then(|column| record.values.get(column));
            value.and_then(Value::as_text) == Some("")
        };
        if model.rules.added_for.iter().any(|added| added.copies.iter().any(is_empty)) {
            return Ok(Decision::NotAdded);
        }
        let why = match record.defect.take() {
            Some(defect) => Some((FindingKind::NotInDatabase, defect.to_string())),
            None => match self.rewrite(model, &mut record, None, &mut Vec::new())? {
                Some(Decision::Dropped(lost)) => Some((FindingKind::DroppedReference, lost.reason)),
                Some(_) => return Ok(Decision::NotAdded),
                None => {
                    let lack = model.lacks_value(&record.values);
                    lack.map(|lack| {
                        (FindingKind::NotInDatabase, format!("{}: {}", lack.column.field, lack.why))
                    })
                }
            },
        };
        if let Some((kind, why)) = why {
            let not_added = self.tense.words("was not added", "would not be added");
            let reason = format!("a row of {} {not_added} for it: {why}", model.name);
            notes.push(self.at_origin(Finding::new(kind, reason), added_for, record.offset));
            return Ok(Decision::NotAdded);
        }
        if let Some(fields) = record.fields.take() {
            record.fields = Some(rewrite_fields(model, &fields, &record.values, &[])?);
        }
        Ok(Decision::Write(Box::new(record)))
    }

    /// The finding that a row is added.
    #[must_use]
    pub fn row_added(&self, model: &Model, added_for: AddedFor, offset: u64) -> Finding {
        let reason = match self.tense {
            Tense::Happened => format!("the file has no record of {} for it; a row was added", model.name),
            Tense::Would => format!("the file has no record of {} for it; a row would be added", model.name),
        };
        self.at_origin(Finding::new(FindingKind::RowAdded, reason), added_for, offset)
    }

    /// Places a finding at the record that a row is added for.
    #[must_use]
    pub fn at_origin(&self, finding: Finding, added_for: AddedFor, offset: u64) -> Finding {
        let of = self.catalog.models().get(added_for.position).map_or("", |model| model.name.as_str());
        finding.model(of).record(added_for.ordinal, added_for.source_pk).at(offset)
    }
}
