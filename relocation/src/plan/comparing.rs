//! Finds records that share a primary key or break a unique set: reads records with the same hash again, and compares
//! their keys.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use roaring::RoaringTreemap;

use super::{
    Record, RecordOwnership,
    addresses::{self, Addresses, Holders},
    checkpoint::Log,
    duplicates::Duplicates,
    entry::Entry,
    generated_slugs::{GeneratedSlugs, LostSlugs, split},
    no_model, read_raw_at,
    record_ownership::{Linked, links},
    sets::KeySet,
    steps::PlanningStep,
    unreferenced::Unreferenced,
};
use crate::{
    catalog::Model,
    export::{Decoder, ExportError},
    finding::{Finding, FindingKind},
};

/// How many comparisons are made between two frames of the log; they take some milliseconds.
const COMPARED: u64 = 1_000;

/// The result of comparing: offsets of records, by the position of their model.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// A rule keeps the first of several records, and these are the later ones.
    pub(super) repeated: HashMap<usize, RoaringTreemap>,
    /// They contradict an earlier record, and the filter excludes both.
    pub(super) contradicting: HashMap<usize, RoaringTreemap>,
    /// The primary keys of records without a slug that do not get a candidate, by the position of their model and the
    /// attempt.
    pub(super) lost_slugs: LostSlugs,
    /// Names that are an address of an earlier record, by the position of their model.
    pub(super) addresses: BTreeMap<usize, Holders>,
    /// The finding about names beyond the limit.
    pub(super) more_addresses: Option<Finding>,
}

impl RecordOwnership<'_> {
    /// Compares records whose keys have the same hash. Refuses those that must not have the same key, unless the filter
    /// excludes them, and finds those of which a rule keeps the first. Entries up to `after` have been compared
    /// before.
    pub(super) fn find_duplicates(
        &mut self,
        unreferenced: &Unreferenced,
        (sets, duplicates): (&[KeySet], Duplicates),
        after: Option<Entry>,
        log: &mut Log<'_>,
    ) -> Result<Compared, ExportError> {
        let (catalog, mut doubles) = (self.catalog, Compared::default());
        let (mut compared, mut repeated, mut contradicting) = (0_u64, Vec::new(), Vec::new());
        let mut made = GeneratedSlugs::default();
        let mut lost = LostSlugs::new();
        let mut addresses = Addresses::new(catalog, self.env, self.plan);
        let see = |entry: Entry| {
            if addresses::is_one(entry) {
                return addresses.see(entry);
            }
            if let Some((index, attempt)) = made.see(entry) {
                let set = set_at(sets, index)?;
                let attempt = usize::try_from(attempt).map_err(io::Error::other)?;
                lost.entry((set.model, attempt)).or_default().insert(entry.offset);
            }
            Ok(())
        };
        let found = |first: Entry, entry: Entry| -> Result<(), ExportError> {
            let is_no_key = split(entry.set).1.is_some() || addresses::is_one(entry);
            if is_no_key || after.is_some_and(|after| entry <= after) {
                return Ok(());
            }
            self.stopped()?;
            let set = set_at(sets, entry.set)?;
            let model = catalog.models().get(set.model).ok_or_else(no_model)?;
            match self.compare(unreferenced, model, set, first.offset, entry.offset)? {
                Agreement::None => {}
                Agreement::Repeated => {
                    doubles.repeated.entry(set.model).or_default().insert(entry.offset);
                    repeated.push((set.model, entry.offset));
                }
                Agreement::LeftOut => {
                    doubles.contradicting.entry(set.model).or_default().insert(entry.offset);
                    contradicting.push((set.model, entry.offset));
                }
            }
            compared += 1;
            if compared.is_multiple_of(COMPARED) {
                log.append(&PlanningStep::Compared {
                    last: entry,
                    repeated: std::mem::take(&mut repeated),
                    contradicting: std::mem::take(&mut contradicting),
                })?;
            }
            Ok(())
        };
        duplicates.find(see, found)?;
        doubles.lost_slugs = lost;
        (doubles.addresses, doubles.more_addresses) = addresses.end();
        Ok(doubles)
    }

    /// Compares the two records at these offsets.
    fn compare(
        &mut self,
        unreferenced: &Unreferenced,
        model: &Model,
        set: &KeySet,
        first: u64,
        second: u64,
    ) -> Result<Agreement, ExportError> {
        // For the primary key, the fields need not be decoded. Those of a defective record cannot be.
        let is_key = set.columns.is_empty();
        let (one, one_linked) = self.read_at(model, first, !is_key)?;
        let (other, other_linked) = self.read_at(model, second, !is_key)?;
        if !set.agree(&one, &other) {
            return Ok(Agreement::None);
        }
        if set.keep_first {
            return Ok(Agreement::Repeated);
        }
        if self.plan.selection.is_some() {
            self.learn([model.position])?;
            let left_out =
                [one_linked, other_linked].map(|linked| self.is_left_out(model, &linked, unreferenced));
            match left_out {
                [true, true] => return Ok(Agreement::LeftOut),
                // Only one of them is written. With the same primary key, though, it is unknown which one a reference
                // means.
                [true, false] | [false, true] if !is_key => return Ok(Agreement::None),
                _ => {}
            }
        }
        Err(contradiction(model, set, &one, &other).into())
    }

    /// Reads one record, whole or only its references.
    fn read_at(&self, model: &Model, offset: u64, whole: bool) -> Result<(Record, Linked), ExportError> {
        let decoder = Decoder::new(self.env, self.plan.now);
        read_raw_at(&self.plan.source, offset, self.plan.limits, |raw, length| {
            let (values, actor) = match whole {
                true => {
                    let placed = |finding: Finding| finding.model(&model.name).at(offset);
                    let decoded = decoder.decode(model, raw.fields).map_err(placed)?;
                    (decoded.values, decoded.actor)
                }
                false => (Vec::new(), None),
            };
            let (source_pk, links) = (raw.pk, links(&decoder, model, &raw));
            let linked = Linked { ordinal: 0, source_pk, offset, values: links };
            let record = Record {
                ordinal: 0,
                source_pk,
                offset,
                length,
                changed: false,
                values,
                actor,
                fields: None,
                defect: None,
                added_for: None,
            };
            Ok((record, linked))
        })
    }
}

/// The set with this index.
fn set_at(sets: &[KeySet], index: u32) -> Result<&KeySet, ExportError> {
    let set = usize::try_from(index).ok().and_then(|index| sets.get(index));
    set.ok_or_else(|| ExportError::inconsistent("a key is of a unique set that there is not"))
}

/// The result of comparing two records whose keys have the same hash.
enum Agreement {
    /// Their keys differ, or the filter excludes one of the records.
    None,
    /// Their keys are the same, and a rule keeps the first record.
    Repeated,
    /// They contradict each other, and the filter excludes both.
    LeftOut,
}

/// The finding about two records of a file that have the same key and must not.
fn contradiction(model: &Model, set: &KeySet, one: &Record, other: &Record) -> Finding {
    let columns = set.columns.iter().filter_map(|column| model.columns.get(*column));
    let fields: Vec<&str> = columns.map(|column| column.field.as_str()).collect();
    let first = one.offset;
    let mut finding = Finding::new(
        FindingKind::IntegrityError,
        if fields.is_empty() {
            let names: String =
                model.also.iter().map(|name| format!(" (`{name}` is the same model)")).collect();
            format!("the primary key stands twice: also at byte {first}{names}")
        } else {
            format!(
                "the record agrees in {} with the record with pk {} at byte {first}; only one of them can be",
                fields.join(" and "),
                one.source_pk
            )
        },
    )
    .model(&model.name)
    .at(other.offset);
    finding.source_pk = Some(other.source_pk);
    finding.field = fields.last().map(|field| (*field).to_owned());
    finding
}
