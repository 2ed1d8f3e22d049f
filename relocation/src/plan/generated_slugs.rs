//! Generates slugs for records that have none. Each such record has a few candidates, which are computed from the
//! record alone. It gets the first candidate that no other record of its unique set has or would get. If two records
//! would get the same candidate, the one with the lower primary key gets it, so the order of the file makes no
//! difference. All this is determined while the keys of the file pass in the order of their hashes, so only the lost
//! candidates are stored. A candidate is lost if another key has the same hash, whether the two are equal or not.

use std::{collections::BTreeMap, io};

use roaring::RoaringTreemap;

use super::{
    Plan, Record, RecordOwnership, entry::Entry, no_model, sets::KeySet, unreferenced::Unreferenced,
};
use crate::{
    catalog::{FromColumn, Model},
    export::ExportError,
    finding::{Finding, FindingKind},
    slug::{CANDIDATES, candidate},
    value::Value,
};

/// The primary keys of records that lost a candidate, by the position of their model and the attempt.
pub(super) type LostSlugs = BTreeMap<(usize, usize), RoaringTreemap>;

/// The bit in `set` that marks a candidate. With it, candidates come after the keys of the file.
const CANDIDATE: u32 = 1 << 31;
/// How far the number of the attempt is shifted in `set`, in bits.
const ATTEMPT: u32 = 24;

/// How long a generated slug is at most, in characters, if its column takes a text of any length.
const LENGTH_WITHOUT_LIMIT: usize = 50;

/// Splits `set` of an entry into the index of the set and the attempt, if the entry is a candidate.
pub(super) fn split(set: u32) -> (u32, Option<u32>) {
    let index = set & ((1 << ATTEMPT) - 1);
    (index, (set & CANDIDATE != 0).then_some((set & !CANDIDATE) >> ATTEMPT))
}

/// The `set` of a candidate's entry.
fn join(index: usize, attempt: usize) -> Result<u32, ExportError> {
    let below = |number: usize, most: u32| u32::try_from(number).ok().filter(|number| *number < most);
    match (below(index, 1 << ATTEMPT), below(attempt, CANDIDATE >> ATTEMPT)) {
        (Some(low), Some(high)) => Ok(CANDIDATE | (high << ATTEMPT) | low),
        _ => Err(ExportError::inconsistent("there are too many unique sets or candidates for a slug")),
    }
}

/// For a record without a slug: the column of the slug, the name that it is made from, and its maximum length.
fn source<'r>(model: &Model, values: &'r [Value]) -> Result<Option<(usize, &'r str, usize)>, ExportError> {
    let Some(FromColumn { column, from }) = model.rules.generated_slug else { return Ok(None) };
    let (Some(slug), Some(name)) = (values.get(column), values.get(from)) else {
        return Err(ExportError::inconsistent("a record has no value for the rule of its slug"));
    };
    if slug.as_text() != Some("") {
        return Ok(None);
    }
    let definition = model.columns.get(column).ok_or_else(no_candidate)?;
    // The database of a product may have a column without a greatest length.
    let most = definition.max_length.unwrap_or(LENGTH_WITHOUT_LIMIT);
    // A name that is null has no letters, like an empty one.
    Ok(Some((column, name.as_text().unwrap_or(""), most)))
}

/// The error that a record has no such candidate, or none for its slug.
fn no_candidate() -> ExportError {
    ExportError::inconsistent("a record without a slug has no candidate for one")
}

/// The entries of a record's candidates, if it has no slug and the slug is part of this set.
pub(super) fn candidates(
    model: &Model,
    (index, set): (usize, &KeySet),
    record: &Record,
    hash: impl Fn(&Record) -> Option<u64>,
) -> Result<Option<Vec<Entry>>, ExportError> {
    let Some((column, name, most)) = source(model, &record.values)? else { return Ok(None) };
    if !set.columns.contains(&column) {
        return Ok(None);
    }
    let mut with = record.clone();
    let mut entries = Vec::with_capacity(CANDIDATES);
    for attempt in 0..CANDIDATES {
        let slug = candidate(&model.name, record.source_pk, name, most, attempt).ok_or_else(no_candidate)?;
        *with.values.get_mut(column).ok_or_else(no_candidate)? = Value::Text(slug);
        // The set does not apply to the record, whatever its slug is.
        let Some(hash) = hash(&with) else { return Ok(None) };
        // Candidates have the primary key in place of the offset: of equal candidates, the first one in this order
        // wins.
        let offset = u64::try_from(record.source_pk).map_err(io::Error::other)?;
        entries.push(Entry { hash, set: join(index, attempt)?, offset });
    }
    Ok(Some(entries))
}

/// Finds the lost candidates while entries pass in sorted order.
#[derive(Debug, Default)]
pub(super) struct GeneratedSlugs {
    hash: u64,
    /// The sets in which the current hash has occurred.
    taken: Vec<u32>,
}

impl GeneratedSlugs {
    /// Takes the next entry. Returns the set and the attempt if the entry is a candidate and is lost.
    pub(super) fn see(&mut self, entry: Entry) -> Option<(u32, u32)> {
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
    /// The slug that is generated for a record without one, and its column. `None` if the record has a slug.
    ///
    /// # Errors
    /// If the record gets no candidate. Then the file should have been refused.
    pub fn generated_slug(
        &self,
        model: &Model,
        record: &Record,
    ) -> Result<Option<(usize, String)>, ExportError> {
        let Some((column, name, most)) = source(model, &record.values)? else { return Ok(None) };
        let lost = &self.models.get(model.position).ok_or_else(no_model)?.lost_slugs;
        let pk = u64::try_from(record.source_pk).map_err(io::Error::other)?;
        let attempt =
            (0..CANDIDATES).find(|attempt| lost.get(*attempt).is_none_or(|lost| !lost.contains(pk)));
        let slug = attempt.and_then(|attempt| candidate(&model.name, record.source_pk, name, most, attempt));
        Ok(Some((column, slug.ok_or_else(no_candidate)?)))
    }

    /// Notes the records, by primary key, that do not get their candidate of this attempt.
    ///
    /// # Errors
    /// If there is no such model.
    pub(super) fn lose_slugs(
        &mut self,
        position: usize,
        attempt: usize,
        pks: RoaringTreemap,
    ) -> Result<(), ExportError> {
        let plan = self.models.get_mut(position).ok_or_else(no_model)?;
        if plan.lost_slugs.len() <= attempt {
            plan.lost_slugs.resize_with(attempt + 1, RoaringTreemap::new);
        }
        *plan.lost_slugs.get_mut(attempt).ok_or_else(no_candidate)? = pks;
        Ok(())
    }
}

impl RecordOwnership<'_> {
    /// Refuses a file with a record for which every candidate is lost, unless the filter excludes the record. Only a
    /// crafted file can have that.
    pub(super) fn check_generated_slugs(
        &mut self,
        unreferenced: &Unreferenced,
        lost: &LostSlugs,
    ) -> Result<(), ExportError> {
        for model in self.catalog.models() {
            let mut attempts = (0..CANDIDATES).map(|attempt| lost.get(&(model.position, attempt)).cloned());
            // An attempt that no record has lost is not in `lost`: then each record has a candidate.
            let Some(all) = attempts.next().flatten() else { continue };
            let Some(all) = attempts.try_fold(all, |all, lost| lost.map(|lost| all & lost)) else { continue };
            if all.is_empty() {
                continue;
            }
            self.learn([model.position])?;
            self.each(model, |record| {
                let is_without = u64::try_from(record.source_pk).is_ok_and(|pk| all.contains(pk));
                if !is_without || self.is_left_out(model, &record, unreferenced) {
                    return Ok(());
                }
                let column = model.rules.generated_slug.and_then(|slug| model.columns.get(slug.column));
                let field = &column.ok_or_else(no_candidate)?.field;
                let reason = "is missing, and other records have all slugs that could be made of the name";
                let finding = Finding::new(FindingKind::IntegrityError, reason);
                let place = finding.record(record.ordinal, record.source_pk).at(record.offset);
                Err(place.model(&model.name).field(field).into())
            })?;
        }
        Ok(())
    }
}
