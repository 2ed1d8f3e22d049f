//! Records that break a rule under a filter: the file is refused, unless they concern only what the filter excludes.

use super::{
    Family,
    family::{Linked, Whose, unsigned},
    read_raw_at, segment,
    unreferenced::Unreferenced,
};
use crate::{
    catalog::{EMAIL, Model},
    export::{Decoder, ExportError},
    value::Value,
};

impl Family<'_> {
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
        verdict.is_left_out() || (verdict.whose == Whose::Nowhere && is_unreferenced)
    }

    /// Refuses the file for its first defective record that concerns something that the filter selects.
    ///
    /// # Errors
    /// The defect of that record.
    pub(super) fn check_defects(&mut self, unreferenced: &Unreferenced) -> Result<(), ExportError> {
        let mut first: Option<(u64, &Model, i64)> = None;
        for model in self.catalog.written() {
            let Some(plan) =
                self.plan.models.get(model.position).filter(|plan| !plan.marks.defective.is_empty())
            else {
                continue;
            };
            self.learn([model.position])?;
            self.each(model, |record| {
                let is_earlier = first.is_none_or(|(offset, ..)| record.offset < offset);
                if is_earlier
                    && plan.marks.defective.contains(record.offset)
                    && !self.is_left_out(model, &record, unreferenced)
                {
                    first = Some((record.offset, model, record.ordinal));
                }
                Ok(())
            })?;
        }
        let Some((offset, model, ordinal)) = first else { return Ok(()) };
        let decoder = Decoder::new(self.env, self.plan.now);
        read_raw_at(&self.plan.source, offset, self.plan.limits, |raw, length| {
            segment::decode(&decoder, model, &raw, length).map(drop).map_err(|error| {
                error.placed(|finding| finding.model(&model.name).record(ordinal, raw.pk).at(offset))
            })
        })
    }
}
