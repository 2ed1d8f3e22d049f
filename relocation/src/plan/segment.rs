//! Segments of the file. One thread cuts them, several threads check them. The result of checking one depends on
//! nothing before it. Only the ordinals do, so they count from the beginning of the segment until it is added to the
//! plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::{
    Record, actors, added, addresses,
    entry::Entry,
    extents::Extent,
    generated_slugs, no_model,
    sets::{KeySet, hash_key, key_sets},
    steps::{Notes, Segment},
};
use crate::{
    catalog::{Catalog, Column, Known, Model, Silo},
    export::{Decoded, Decoder, ExportError, Limit, RawRecord, Scanned, unknown_option},
    finding::{Finding, FindingKind, shown},
    nested_ids,
    value::Value,
};

/// The maximum size in bytes of a record of control, which travels in one message.
const MAX_CONTROL_RECORD: usize = 3 * 1024 * 1024;

/// How many notes can get a finding of their own before anything is written. Further ones of a kind share one.
const MAX_NOTES: usize = 1_000;
/// How many models that are passed over are counted by name. Further ones are counted together.
const MAX_PASSED_OVER: usize = 200;

/// The records of a segment, before they are checked.
#[derive(Debug, Default)]
pub(super) struct UncheckedSegment {
    /// Their texts, one after the other.
    bytes: Vec<u8>,
    records: Vec<Scanned>,
    /// Where the last record ends in the file, in bytes.
    pub(super) end: u64,
    /// Whether the file ends there too.
    pub(super) last: bool,
    /// Whether the file cannot be read further.
    pub(super) is_torn: bool,
}

impl UncheckedSegment {
    /// An empty segment that begins at this offset of the file, in memory that another segment has used.
    pub(super) fn from(begin: u64, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { bytes, end: begin, ..Self::default() }
    }

    /// Returns the memory of its texts for another segment.
    pub(super) fn into_memory(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds the next record.
    pub(super) fn push(&mut self, scanned: Scanned, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.records.push(scanned);
        self.end = scanned.offset + scanned.length as u64;
    }

    /// How many records it has.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}

/// Checks the records of segments. Several threads share it.
pub(super) struct Checker<'a> {
    catalog: &'a Catalog,
    decoder: &'a Decoder<'a>,
    /// The slugs to select.
    filter: Option<&'a BTreeSet<String>>,
    merge_users: bool,
    sets: Vec<KeySet>,
    /// Indices into `sets`, by the position of the model.
    sets_of: Vec<Vec<usize>>,
}

/// A segment that is being checked.
#[derive(Default)]
struct Checked {
    segment: Segment,
    notes: Notes,
    /// The position of the previous record's model; `None` if that record was passed over.
    last_model: Option<usize>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        decoder: &'a Decoder<'a>,
        filter: Option<&'a BTreeSet<String>>,
        merge_users: bool,
    ) -> Self {
        let sets = key_sets(catalog);
        let mut sets_of: Vec<Vec<usize>> = vec![Vec::new(); catalog.models().len()];
        for (index, set) in sets.iter().enumerate() {
            if let Some(sets) = sets_of.get_mut(set.model) {
                sets.push(index);
            }
        }
        Self { catalog, decoder, filter, merge_users, sets, sets_of }
    }

    /// Checks the records of a segment.
    ///
    /// # Errors
    /// The first defect of a record. The record's ordinal counts from the beginning of the segment. Under a filter, or if
    /// the record is left out when its user exists, a defect that can be attributed to one record is only noted.
    pub(super) fn check(&self, cut: &UncheckedSegment) -> Result<Segment, ExportError> {
        let mut checked = Checked::default();
        let mut rest = cut.bytes.as_slice();
        for scanned in &cut.records {
            let Some((bytes, after)) = rest.split_at_checked(scanned.length) else {
                return Err(ExportError::inconsistent("a segment is shorter than its records"));
            };
            rest = after;
            let raw = RawRecord::parse(bytes, scanned.offset)?;
            checked.segment.records += 1;
            match self.catalog.known(&raw.model) {
                Known::Model(model) => self.record(&mut checked, model, &raw, *scanned)?,
                known => {
                    if self
                        .catalog
                        .actors()
                        .is_some_and(|actors| raw.model.eq_ignore_ascii_case(&actors.model))
                    {
                        checked.segment.actors.extend(actors::of_actor(self.catalog, raw.pk, raw.fields));
                    }
                    checked.pass_over(&raw, scanned.offset, &known);
                }
            }
        }
        let Checked { mut segment, notes, .. } = checked;
        segment.notes = notes.into_iter().collect();
        (segment.end, segment.last, segment.is_torn) = (cut.end, cut.last, cut.is_torn);
        Ok(segment)
    }

    fn record(
        &self,
        checked: &mut Checked,
        model: &Model,
        raw: &RawRecord<'_>,
        Scanned { offset, length }: Scanned,
    ) -> Result<(), ExportError> {
        let adjacent = checked.last_model.replace(model.position) == Some(model.position);
        let part = checked.segment.models.entry(model.position).or_default();
        part.seen += 1;
        let ordinal = part.seen;
        let place = |finding: Finding| finding.model(&model.name).record(ordinal, raw.pk).at(offset);
        match part.runs.last_mut().filter(|_| adjacent) {
            Some(run) => {
                run.length = offset + length as u64 - run.offset;
                run.records += 1;
            }
            None => part.runs.push(Extent { offset, length: length as u64, records: 1 }),
        }
        if !model.in_organization_scope() {
            for note in self.decoder.note_fields(model, raw.fields).map_err(place)? {
                checked.note(place(note));
            }
            return Ok(());
        }
        let decoded = decode(self.decoder, model, raw, length);
        let is_defective = decoded.is_err();
        let (values, actor) = match decoded {
            Ok(decoded) => {
                for note in decoded.notes {
                    checked.note(place(note));
                }
                if !model.rules.is_of_another_scope(&decoded.values) {
                    for note in nested_ids::notes(model, &decoded.values)? {
                        checked.note(place(note));
                    }
                }
                (decoded.values, decoded.actor)
            }
            Err(error) if self.filter.is_none() && !(self.merge_users && may_be_undecided(model, &error)) => {
                return Err(error.placed(place));
            }
            Err(_) => {
                checked.segment.models.entry(model.position).or_default().defective.push(offset);
                let slug = model.rules.global_slug.map(|slug| slug.column);
                let wanted = |column: &Column| slug == model.column(&column.field);
                (self.decoder.salvage(model, raw.fields, wanted), None)
            }
        };
        let record = Record {
            ordinal,
            source_pk: raw.pk,
            offset,
            length,
            changed: false,
            values,
            actor,
            fields: None,
            defect: None,
            added_for: None,
        };
        if !is_defective {
            added::note(
                self.catalog,
                model,
                raw,
                &record.values,
                checked.segment.models.entry(model.position),
            )?;
        }
        for index in self.sets_of.get(model.position).ok_or_else(no_model)? {
            let Some(set) = self.sets.get(*index) else {
                return Err(ExportError::inconsistent("a model has a unique set that there is not"));
            };
            if is_defective && !set.columns.is_empty() {
                continue;
            }
            // An option that is not imported does not keep another one out.
            if set.keep_first && unknown_option(model, &record.values).is_some() {
                continue;
            }
            let hash = |record: &Record| Some(hash_key(set, raw.pk, set.key(record)?));
            if let Some(candidates) = generated_slugs::candidates(model, (*index, set), &record, hash)? {
                checked.segment.keys.extend(candidates);
                continue;
            }
            let Some(hash) = hash(&record) else { continue };
            let entry = Entry { hash, set: u32::try_from(*index).map_err(io::Error::other)?, offset };
            checked.segment.keys.push(entry);
        }
        if !is_defective {
            checked.segment.keys.extend(addresses::entries(model, &record)?);
        }
        if let Some(actor) = record.actor {
            match &model.rules.from_actor {
                Some(_) => checked.segment.named_actors.extend(u64::try_from(actor)),
                None => {
                    let named = actors::of_named(self.catalog, model.position, raw.pk, actor);
                    checked.segment.actors.extend(named);
                }
            }
        }
        if let (Some(filter), Some(slug)) = (self.filter, model.rules.global_slug)
            && let Some(slug) = record.values.get(slug.column).and_then(Value::as_text)
            && filter.contains(slug)
        {
            checked.segment.organizations.push((raw.pk, slug.to_owned()));
        }
        Ok(())
    }
}

/// Whether records of the model are left out if a user whom they belong to exists already.
pub(super) fn follows_user(model: &Model) -> bool {
    !model.rules.skip_when_existing.is_empty()
}

/// Whether a record that breaks this rule may be left out if its user exists. If the reference to the user is
/// what is wrong, the owner of the record is unknown, so it may not.
fn may_be_undecided(model: &Model, error: &ExportError) -> bool {
    let ExportError::Invalid(finding) = error else { return follows_user(model) };
    let is_of_user = |reference: &usize| {
        model
            .columns
            .get(*reference)
            .is_some_and(|column| finding.field.as_deref() == Some(column.field.as_str()))
    };
    follows_user(model) && !model.rules.skip_when_existing.iter().any(is_of_user)
}

/// The primary key of the user in the file whose existence leaves the record out; `None` if there is none, or the
/// reference itself cannot be read.
pub(super) fn user_of(model: &Model, values: &[Value]) -> Option<i64> {
    model.rules.skip_when_existing.iter().find_map(|reference| values.get(*reference)?.as_int())
}

/// The finding that a record is too large for the message in which it travels; `None` if it is not.
pub(super) fn too_large_for_control(model: &Model, length: usize) -> Option<Finding> {
    (model.silo == Silo::Control && length > MAX_CONTROL_RECORD).then(|| {
        Finding::new(
            FindingKind::ValidationError,
            format!("the record has {length} bytes; records of this model may have {MAX_CONTROL_RECORD}"),
        )
    })
}

/// Decodes a record. The findings do not name its place yet.
pub(super) fn decode(
    decoder: &Decoder<'_>,
    model: &Model,
    raw: &RawRecord<'_>,
    length: usize,
) -> Result<Decoded, ExportError> {
    if let Some(finding) = too_large_for_control(model, length) {
        return Err(ExportError::OverLimit { limit: Limit::RecordBytes, finding: Box::new(finding) });
    }
    Ok(decoder.decode(model, raw.fields)?)
}

impl Checked {
    fn pass_over(&mut self, raw: &RawRecord<'_>, offset: u64, known: &Known<'_>) {
        self.last_model = None;
        let name = shown(&raw.model.to_ascii_lowercase());
        let finding = match known {
            Known::Removed => {
                Finding::new(FindingKind::RemovedModel, "a model of older releases, which is passed over")
            }
            Known::OutOfScope => Finding::new(
                FindingKind::OutOfScope,
                "a model of another scope, which no import of organizations takes",
            ),
            Known::Excluded => Finding::new(FindingKind::UnexpectedModel, "a model that is never imported"),
            _ => Finding::new(
                FindingKind::UnknownModel,
                "this release does not know the model; its records are not imported",
            ),
        };
        let mut finding = finding.model(&name).at(offset);
        finding.source_pk = Some(raw.pk);
        self.note(finding);
        // However many unknown names a file invents, they are counted in bounded memory.
        add_passed_over(&mut self.segment.passed_over, name, 1);
    }

    fn note(&mut self, finding: Finding) {
        let mut field = finding.field.clone().unwrap_or_default();
        // One for each path in the value, which the reason begins with.
        if finding.kind == FindingKind::IdNotMapped {
            field = format!("{field} {}", finding.reason);
        }
        let key = (finding.kind, finding.model.clone().unwrap_or_default(), field);
        add_note(&mut self.notes, key, finding, 1);
    }
}

pub(super) fn add_note(
    notes: &mut Notes,
    mut key: (FindingKind, String, String),
    finding: Finding,
    count: u64,
) {
    if notes.len() >= MAX_NOTES && !notes.contains_key(&key) {
        key = (key.0, "(others)".to_owned(), String::new());
    }
    notes.entry(key).and_modify(|(_, known)| *known += count).or_insert((finding, count));
}

pub(super) fn add_passed_over(passed_over: &mut BTreeMap<String, i64>, name: String, count: i64) {
    let known = passed_over.len() < MAX_PASSED_OVER || passed_over.contains_key(&name);
    let name = if known { name } else { "(others)".to_owned() };
    *passed_over.entry(name).or_default() += count;
}
