//! Rewrites primary keys that are not references of their own: texts whose model another column names, and primary keys
//! inside JSON and searches.

use md5::{Digest as _, Md5};

use super::{Decision, Mapping, UnmappedReference, field_of};
use crate::{
    catalog::{Column, Model, ReferenceByType},
    export::ExportError,
    finding::{Finding, FindingKind, Tense, shown},
    keys::Lookup,
    nested_ids::{self, LostId, Outcome},
    plan::Record,
    value::Value,
};

/// Renews the hashes of a text that has changed. A hash that was not the old text's is of something else, and stays.
fn follow_with_hashes(model: &Model, record: &mut Record, of: usize, old: &Value) -> Option<usize> {
    let (column, _) = model.rules.hashes.iter().find(|(_, hashed)| *hashed == of)?;
    let new = md5(record.values.get(of)?.as_text()?);
    let slot = record.values.get_mut(*column)?;
    if slot.as_text()? != md5(old.as_text()?) {
        return None;
    }
    *slot = Value::Text(new);
    Some(*column)
}

/// The MD5 hash of a text, as the product writes it.
fn md5(text: &str) -> String {
    hex::encode(Md5::digest(text))
}

/// What has become of the primary keys inside the values of a record.
pub(super) enum Nested {
    /// These columns have a new value.
    Changed(Vec<usize>),
    /// The record cannot be written.
    Lost(Decision),
}

impl Mapping<'_> {
    /// Replaces the primary keys in texts whose model depends on another column. Returns the decision if one has no new
    /// primary key: then the record is not written, because the number would lead to somebody else's row.
    pub(super) fn rewrite_by_type(
        &self,
        model: &Model,
        record: &mut Record,
    ) -> Result<Option<Decision>, ExportError> {
        let written = self.tense.words("was not written", "would not be written");
        for rule in &model.rules.references_by_type {
            let ReferenceByType { column, kind, targets, keeps_other_types, .. } = rule;
            let Some(kind_name) = rule.kind_of(&record.values) else { continue };
            let Some(source) = record.values.get(*column).and_then(Value::as_text) else {
                self.number_type(model, rule, record);
                continue;
            };
            let (field, reason) = match (targets.get(&kind_name), source.parse::<i64>()) {
                (None, _) if *keeps_other_types => continue,
                (None, _) => {
                    let reason = format!(
                        "is {}, which this release does not know, so nobody can tell what the record leads to; it {written}",
                        shown(&kind_name)
                    );
                    (field_of(model, *kind)?, reason)
                }
                (Some(target), Err(_)) if source.is_empty() => (
                    field_of(model, *column)?,
                    format!("is empty, where the primary key of a {target} should be; the record {written}"),
                ),
                (Some(target), Err(_)) => (
                    field_of(model, *column)?,
                    format!("is not the primary key of a {target}; the record {written}"),
                ),
                (Some(target), Ok(pk)) => {
                    let lookup = self.look_up(target, pk);
                    if let Lookup::Mapped(new, _) = lookup {
                        let Some(slot) = record.values.get_mut(*column) else {
                            return Err(ExportError::inconsistent("a record has no value for a reference"));
                        };
                        *slot = Value::Text(new.to_string());
                        self.number_type(model, rule, record);
                        continue;
                    }
                    let field = field_of(model, *column)?;
                    let why = self.why_not(&UnmappedReference { field, target, pk, lookup });
                    (field, format!("leads to {target} {pk}, {why}; so the record {written}"))
                }
            };
            let finding = Finding::new(FindingKind::DroppedReference, reason).field(field);
            let finding =
                finding.model(&model.name).record(record.ordinal, record.source_pk).at(record.offset);
            return Ok(Some(Decision::Dropped(finding)));
        }
        Ok(None)
    }

    /// Names a type as this database does, if that is one of the releases that number types.
    fn number_type(&self, model: &Model, rule: &ReferenceByType, record: &mut Record) {
        let is_numbered = model.columns.get(rule.kind).is_some_and(Column::is_numbered);
        if let Some(slot) = record.values.get_mut(rule.kind).filter(|_| is_numbered)
            && let Some(number) = slot.as_text().and_then(|kind| rule.number_of(kind))
        {
            *slot = Value::Text(number.to_owned());
        }
    }

    /// Replaces the primary keys inside values. What is cleared or kept because it leads to nothing imported goes to
    /// `notes`.
    pub(super) fn rewrite_nested(
        &self,
        model: &Model,
        record: &mut Record,
        notes: &mut Vec<Finding>,
    ) -> Result<Nested, ExportError> {
        let mut changed = Vec::new();
        let (ordinal, source_pk, offset) = (record.ordinal, record.source_pk, record.offset);
        let place = |finding: Finding| finding.model(&model.name).record(ordinal, source_pk).at(offset);
        for rule in &model.rules.nested_ids {
            let mut outcome = |target: &str, pk| match self.look_up(target, pk) {
                Lookup::Mapped(new, _) => Outcome::Mapped(new),
                Lookup::Filtered | Lookup::OutOfScope | Lookup::Absent => Outcome::Lost,
            };
            let rewritten = nested_ids::rewrite(model, rule, &record.values, &mut outcome)?;
            let field = field_of(model, rule.column)?;
            // One for each place without indices: a list may have thousands.
            let mut reported: Vec<(LostId, usize)> = Vec::new();
            for lost in rewritten.lost {
                match reported.iter_mut().find(|(first, _)| first.is_like(&lost)) {
                    Some((_, count)) => *count += 1,
                    None => reported.push((lost, 1)),
                }
            }
            for (lost, count) in reported {
                notes.push(place(self.lost_id(&lost, count, field)));
            }
            let Some(text) = rewritten.text else { continue };
            let most = model.columns.get(rule.column).and_then(|column| column.max_length);
            if let Some(most) = most.filter(|most| text.chars().count() > *most) {
                let written = self.tense.words("was not written", "would not be written");
                let reason = format!(
                    "has more than {most} characters, the most that the column takes, with the new ids in it; so the record {written}"
                );
                let finding = Finding::new(FindingKind::DroppedReference, reason).field(field);
                return Ok(Nested::Lost(Decision::Dropped(place(finding))));
            }
            let Some(slot) = record.values.get_mut(rule.column) else {
                return Err(ExportError::inconsistent("a record has no value for a rule"));
            };
            let old = std::mem::replace(slot, Value::Text(text));
            changed.push(rule.column);
            changed.extend(follow_with_hashes(model, record, rule.column, &old));
        }
        Ok(Nested::Changed(changed))
    }

    /// What has become of a record, by the name of its model. A model that is never imported has no records.
    fn look_up(&self, target: &str, pk: i64) -> Lookup {
        self.catalog.position(target).map_or(Lookup::Absent, |position| self.keys.get(position, pk))
    }

    /// The finding that a primary key inside a value leads to nothing imported.
    fn lost_id(&self, lost: &LostId, count: usize, field: &str) -> Finding {
        let LostId { place, target, pk, stays, .. } = lost;
        let more = if count > 1 { format!(" ({count} like it; this is the first)") } else { String::new() };
        let place = if place.is_empty() { "the value" } else { place };
        if *stays {
            let imported = self.tense.words("which was not imported", "which would not be imported");
            let reason = format!(
                "{place} leads to {target} {pk}, {imported}, or names one by a slug of digits; it is kept as it is{more}"
            );
            return Finding::new(FindingKind::IdNotMapped, reason).field(field);
        }
        let reason = match self.tense {
            Tense::Happened => {
                format!("{place} led to {target} {pk}, which was not imported, and was cleared{more}")
            }
            Tense::Would => {
                format!(
                    "{place} leads to {target} {pk}, which would not be imported, and would be cleared{more}"
                )
            }
        };
        Finding::new(FindingKind::ClearedReference, reason).field(field)
    }
}
