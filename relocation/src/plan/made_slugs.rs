//! Slugs for records that have none. Each such record has a few candidates, which follow from it alone; it gets the first
//! one that no other record of its unique set has, or would get: there the lower primary key is first, so that the order
//! of the file makes no difference. Found out while the keys of the file pass by in the order of their hashes, so nothing
//! but which candidates were lost is remembered. A candidate whose hash another key has is given up, whether they are the
//! same or not.

use std::collections::BTreeMap;

use roaring::RoaringTreemap;

use super::{Family, Plan, Record, entry::Entry, sets::KeySet, unreferenced::Adrift};
use crate::{
    catalog::{FromColumn, Model},
    export::ExportError,
    finding::{Finding, FindingKind},
    slug::{CANDIDATES, candidate},
    value::Value,
};

/// The primary keys of records that lost a candidate, by the position of their model and the attempt.
pub(super) type LostSlugs = BTreeMap<(usize, usize), RoaringTreemap>;

/// Marks the set of an entry that is a candidate, which comes behind the keys that the file has.
const CANDIDATE: u32 = 1 << 31;
/// Where the number of the attempt stands.
const ATTEMPT: u32 = 24;

/// The set of an entry: its index, and the attempt if it is a candidate.
pub(super) fn split(set: u32) -> (usize, Option<usize>) {
    let index = usize::try_from(set & ((1 << ATTEMPT) - 1)).unwrap_or(usize::MAX);
    let attempt = usize::try_from((set & !CANDIDATE) >> ATTEMPT).ok();
    (index, attempt.filter(|_| set & CANDIDATE != 0))
}

/// Makes up the set of an entry of a candidate.
fn join(index: usize, attempt: usize) -> u32 {
    let low = u32::try_from(index).unwrap_or(u32::MAX >> 8);
    let high = u32::try_from(attempt).unwrap_or(0);
    CANDIDATE | (high << ATTEMPT) | low
}

/// What a slug of a model is made of: the name, and how long it may be.
fn source<'r>(model: &Model, values: &'r [Value]) -> Option<(usize, &'r str, usize)> {
    let FromColumn { column, from } = model.rules.made_slug?;
    let is_missing = values.get(column)?.as_text().is_some_and(str::is_empty);
    let most = model.columns.get(column)?.max_length.unwrap_or(50);
    let name = values.get(from).and_then(Value::as_text).unwrap_or_default();
    is_missing.then_some((column, name, most))
}

/// The entries of a record's candidates, if it has no slug and this is the set in which its slug must differ.
pub(super) fn candidates(
    model: &Model,
    (index, set): (usize, &KeySet),
    record: &Record,
    hash: impl Fn(&Record) -> Option<u64>,
) -> Option<Vec<Entry>> {
    let (column, name, most) = source(model, &record.values)?;
    if !set.columns.contains(&column) {
        return None;
    }
    let mut with = record.clone();
    let mut entries = Vec::with_capacity(CANDIDATES);
    for attempt in 0..CANDIDATES {
        *with.values.get_mut(column)? =
            Value::Text(candidate(&model.name, record.source_pk, name, most, attempt));
        // In place of where it begins: of candidates that are alike, the first in this order is given.
        let offset = u64::try_from(record.source_pk).ok()?;
        entries.push(Entry { hash: hash(&with)?, set: join(index, attempt), offset });
    }
    Some(entries)
}

/// Which candidates are lost, found out while entries pass by in their order.
#[derive(Debug, Default)]
pub(super) struct MadeSlugs {
    hash: u64,
    /// The sets in which the hash has been seen.
    taken: Vec<usize>,
}

impl MadeSlugs {
    /// Looks at the next entry. Says of a candidate that is lost in which set, and in which attempt.
    pub(super) fn see(&mut self, entry: Entry) -> Option<(usize, usize)> {
        if self.hash != entry.hash {
            self.hash = entry.hash;
            self.taken.clear();
        }
        let (index, attempt) = split(entry.set);
        if self.taken.contains(&index) {
            return attempt.map(|attempt| (index, attempt));
        }
        self.taken.push(index);
        None
    }
}

impl Plan {
    /// The slug that is made for a record that has none, and its column.
    #[must_use]
    pub fn made_slug(&self, model: &Model, record: &Record) -> Option<(usize, String)> {
        let (column, name, most) = source(model, &record.values)?;
        let lost = &self.models.get(model.position)?.lost_slugs;
        let pk = u64::try_from(record.source_pk).ok()?;
        let attempt =
            (0..CANDIDATES).find(|attempt| lost.get(*attempt).is_none_or(|lost| !lost.contains(pk)))?;
        Some((column, candidate(&model.name, record.source_pk, name, most, attempt)))
    }

    /// Notes the records, by primary key, that do not get what they could in this attempt.
    pub(super) fn lose_slugs(&mut self, position: usize, attempt: usize, pks: RoaringTreemap) {
        let Some(plan) = self.models.get_mut(position) else { return };
        if plan.lost_slugs.len() <= attempt {
            plan.lost_slugs.resize_with(attempt + 1, RoaringTreemap::new);
        }
        if let Some(lost) = plan.lost_slugs.get_mut(attempt) {
            *lost = pks;
        }
    }
}

impl Family<'_> {
    /// Refuses a file that has every candidate of a record that is not left out, which only one can that was made to.
    pub(super) fn check_made_slugs(
        &mut self,
        unreferenced: &Adrift,
        lost: &LostSlugs,
    ) -> Result<(), ExportError> {
        for model in self.catalog.models() {
            let mut attempts = (0..CANDIDATES).map(|attempt| lost.get(&(model.position, attempt)).cloned());
            let Some(all) = attempts.next().flatten() else { continue };
            let all = attempts.try_fold(all, |all, lost| lost.map(|lost| all & lost)).unwrap_or_default();
            if all.is_empty() {
                continue;
            }
            self.learn([model.position])?;
            self.each(model, |record| {
                let is_without = u64::try_from(record.source_pk).is_ok_and(|pk| all.contains(pk));
                if !is_without || self.is_left_out(model, &record, unreferenced) {
                    return Ok(());
                }
                let column = model.rules.made_slug.and_then(|slug| model.columns.get(slug.column));
                let field = column.map_or("", |column| column.field.as_str());
                let reason = "is missing, and other records have all slugs that could be made of the name";
                let finding = Finding::new(FindingKind::IntegrityError, reason);
                let place = finding.record(record.ordinal, record.source_pk).at(record.offset);
                Err(place.model(&model.name).field(field).into())
            })?;
        }
        Ok(())
    }
}
