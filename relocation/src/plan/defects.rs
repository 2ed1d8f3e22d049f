//! Records that break a rule: the file is refused, unless they concern only what the filter excludes, or are left out if
//! their user exists.

use std::collections::HashMap;

use roaring::RoaringTreemap;

use super::{
    Plan, RecordOwnership, read_raw_at,
    record_ownership::{Disposition, Linked, unsigned},
    segment,
    unreferenced::Unreferenced,
};
use crate::{
    catalog::{EMAIL, Model},
    export::{Decoder, ExportError},
    value::Value,
};

/// Where a defective record is: its offset, its model and its ordinal.
pub(super) type Defective<'m> = (u64, &'m Model, i64);

impl Plan {
    /// Decodes a defective record again.
    ///
    /// # Errors
    /// Its defect, with its place.
    pub(super) fn refuse(
        &self,
        decoder: &Decoder<'_>,
        (offset, model, ordinal): Defective<'_>,
    ) -> Result<(), ExportError> {
        read_raw_at(&self.source, offset, self.limits, |raw, length| {
            segment::decode(decoder, model, &raw, length).map(drop).map_err(|error| {
                error.placed(|finding| finding.model(&model.name).record(ordinal, raw.pk).at(offset))
            })
        })
    }
}

impl RecordOwnership<'_> {
    /// Whether a record concerns only what the filter excludes. The models that it refers to must have been learned.
    pub(super) fn is_left_out(&self, model: &Model, record: &Linked, unreferenced: &Unreferenced) -> bool {
        let Some(selection) = &self.plan.selection else { return false };
        if selection.takes_nothing() {
            return true;
        }
        if model.name == EMAIL {
            let email =
                model.column("email").and_then(|column| record.values.get(column)).and_then(Value::as_text);
            return !selection.takes(model, record.source_pk, email);
        }
        let verdict = self.verdict(model, record.source_pk, &record.values);
        let pk = unsigned(record.source_pk);
        let is_unreferenced = unreferenced.filtered.get(&model.position).is_some_and(|pks| pks.contains(pk));
        verdict.is_left_out() || (verdict.disposition == Disposition::Unowned && is_unreferenced)
    }

    /// Refuses the file for its first defective record that concerns something that the filter selects. Returns the
    /// offsets of those that are left out if their user exists, by the position of their model.
    ///
    /// # Errors
    /// The defect of that record.
    pub(super) fn check_defects(
        &mut self,
        unreferenced: &Unreferenced,
    ) -> Result<HashMap<usize, RoaringTreemap>, ExportError> {
        let mut first: Option<Defective<'_>> = None;
        let mut undecided: HashMap<usize, RoaringTreemap> = HashMap::new();
        for model in self.catalog.written() {
            let Some(plan) =
                self.plan.models.get(model.position).filter(|plan| !plan.marks.defective.is_empty())
            else {
                continue;
            };
            self.learn([model.position])?;
            self.each(model, |record| {
                if !plan.marks.defective.contains(record.offset)
                    || self.is_left_out(model, &record, unreferenced)
                {
                    return Ok(());
                }
                if self.plan.merge_users && segment::user_of(model, &record.values).is_some() {
                    undecided.entry(model.position).or_default().insert(record.offset);
                } else if first.is_none_or(|(offset, ..)| record.offset < offset) {
                    first = Some((record.offset, model, record.ordinal));
                }
                Ok(())
            })?;
        }
        if let Some(first) = first {
            self.plan.refuse(&Decoder::new(self.env, self.plan.now), first)?;
        }
        Ok(undecided)
    }
}
