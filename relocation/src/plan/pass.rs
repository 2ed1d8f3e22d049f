//! The pass over the file, segment by segment: what is learned of a segment is put together first, then logged, then
//! added to the plan. So a pass that is taken up again adds what the log has in the same way.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use serde::{Deserialize, Serialize};

use super::{
    Plan, Record, Request, Watch,
    duplicates::{Duplicates, Entry},
    kept::{Frame, Log, Selected},
    runs::Run,
    sets::{KeySet, hash_key, key_sets},
    stopped,
};
use crate::{
    ambient::Ambient,
    catalog::{Catalog, Known, Model, Silo},
    export::{Decoder, ExportError, Limit, RawRecord, Scanner},
    finding::{Finding, FindingKind, shown},
    value::Value,
};

/// The most bytes of a record of the control silo, which travels in one message.
const MAX_CONTROL_RECORD: usize = 3 * 1024 * 1024;

/// Keys that are remembered in memory while planning: 24 bytes each, 12 MiB together.
const KEY_BUDGET: usize = 512 * 1024;

/// Different things that get a finding of their own before anything is written; the others of a kind share one.
const MAX_NOTES: usize = 1_000;
/// Unknown models that are counted by name; the others are counted together.
const MAX_PASSED_OVER: usize = 200;

/// Bytes of the file in a segment, and records. So many are read in a few milliseconds.
const SEGMENT_BYTES: u64 = 1024 * 1024;
const SEGMENT_RECORDS: i64 = 5_000;

/// The first note of each kind, model and field, and how many there are.
type Notes = BTreeMap<NoteKey, (Finding, u64)>;
/// Kind, model and field of a note.
type NoteKey = (FindingKind, String, String);

/// What was learned of one model in a segment.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Part {
    seen: i64,
    /// Stretches. None goes on in the next segment, so that a reader can pass over what it does not need.
    runs: Vec<Run>,
}

/// What was learned of a segment of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Segment {
    records: i64,
    /// Where it ends, in bytes.
    end: u64,
    /// Whether the file ends there too.
    last: bool,
    models: BTreeMap<usize, Part>,
    /// Logged beside the rest.
    #[serde(skip)]
    pub(super) keys: Vec<Entry>,
    notes: Vec<(NoteKey, (Finding, u64))>,
    passed_over: BTreeMap<String, i64>,
    /// Primary keys and slugs of organizations that the filter takes.
    organizations: Vec<(i64, String)>,
}

/// How far what follows the pass is.
#[derive(Debug, Default)]
pub(super) struct After {
    /// The last entry that was compared.
    pub(super) compared: Option<Entry>,
    pub(super) selected: Option<Selected>,
}

/// A pass over a file.
pub(super) struct Pass<'a> {
    catalog: &'a Catalog,
    decoder: Decoder<'a>,
    request: &'a Request<'a>,
    plan: Plan,
    notes: Notes,
    sets: Vec<KeySet>,
    duplicates: Duplicates,
    /// The model of the record before, in the same segment.
    last_model: Option<usize>,
    segment: Segment,
    segment_notes: Notes,
    /// Where the last segment that was added ends.
    end: u64,
    read: bool,
    pub(super) after: After,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        ambient: &'a Ambient,
        request: &'a Request<'a>,
        plan: Plan,
    ) -> Self {
        Self {
            catalog,
            decoder: Decoder::new(ambient, request.now),
            request,
            plan,
            notes: Notes::new(),
            sets: key_sets(catalog),
            duplicates: Duplicates::new(KEY_BUDGET, request.scratch_dir),
            last_model: None,
            segment: Segment::default(),
            segment_notes: Notes::new(),
            end: 0,
            read: false,
            after: After::default(),
        }
    }

    /// Reads what is left of the file.
    pub(super) fn read(&mut self, watch: &Watch, log: &mut Log<'_>) -> Result<(), ExportError> {
        if self.read {
            return Ok(());
        }
        let (source, limits) = (self.request.source.from(self.end), self.request.limits);
        let mut scanner = match self.end {
            0 => Scanner::new(source, limits),
            end => Scanner::behind(source, end, limits),
        };
        let mut sets_of: Vec<Vec<usize>> = vec![Vec::new(); self.plan.models.len()];
        for (index, set) in self.sets.iter().enumerate() {
            if let Some(sets) = sets_of.get_mut(set.model) {
                sets.push(index);
            }
        }
        let mut end = self.end;
        loop {
            let next = scanner.next_record().map_err(|error| self.with_ordinal(error))?;
            let Some((scanned, bytes)) = next else { break };
            let raw = RawRecord::parse(bytes, scanned.offset)?;
            self.segment.records += 1;
            match self.catalog.known(&raw.model) {
                Known::Model(model) => {
                    let sets = sets_of.get(model.position).map(Vec::as_slice).unwrap_or_default();
                    self.record(model, &raw, scanned.offset, scanned.length, sets)?;
                }
                known => self.pass_over(&raw, scanned.offset, &known),
            }
            end = scanned.offset + scanned.length as u64;
            if self.segment.records % 256 == 0 {
                self.show(watch, end);
                stopped(watch)?;
            }
            if self.segment.records >= SEGMENT_RECORDS || end - self.end >= SEGMENT_BYTES {
                self.end_segment(end, false, log)?;
            }
        }
        self.end_segment(end, true, log)?;
        self.show(watch, scanner.position());
        Ok(())
    }

    fn show(&self, watch: &Watch, bytes: u64) {
        watch.records.store(self.plan.records + self.segment.records, Ordering::Relaxed);
        watch.bytes.store(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Logs the segment in hand and adds it to the plan.
    fn end_segment(&mut self, end: u64, last: bool, log: &mut Log<'_>) -> Result<(), ExportError> {
        let mut segment = std::mem::take(&mut self.segment);
        segment.notes = std::mem::take(&mut self.segment_notes).into_iter().collect();
        (segment.end, segment.last) = (end, last);
        self.last_model = None;
        let frame = Frame::Segment(segment);
        log.append(&frame)?;
        self.take(frame)
    }

    /// Adds what a frame of the log says.
    pub(super) fn take(&mut self, frame: Frame) -> Result<(), ExportError> {
        match frame {
            Frame::Segment(segment) => self.add(segment)?,
            Frame::Compared { last, repeated } => {
                for (position, offset) in repeated {
                    if let Some(plan) = self.plan.models.get_mut(position) {
                        plan.repeated.insert(offset);
                    }
                }
                self.after.compared = Some(last);
            }
            Frame::Selected(selected) => {
                if let Some(selection) = &mut self.plan.selection {
                    selection.add(&selected.users, &selected.emails);
                }
                self.after.selected = Some(selected);
            }
        }
        Ok(())
    }

    fn add(&mut self, segment: Segment) -> Result<(), ExportError> {
        self.plan.records += segment.records;
        (self.end, self.read) = (segment.end, segment.last);
        for (position, part) in segment.models {
            let Some(plan) = self.plan.models.get_mut(position) else { continue };
            plan.seen += part.seen;
            for run in part.runs {
                plan.runs.push(run, self.request.scratch_dir)?;
            }
        }
        for entry in segment.keys {
            self.duplicates.add(entry)?;
        }
        for (key, (finding, count)) in segment.notes {
            add_note(&mut self.notes, key, finding, count);
        }
        for (name, count) in segment.passed_over {
            add_passed_over(&mut self.plan.passed_over, name, count);
        }
        if let Some(selection) = &mut self.plan.selection {
            for (pk, slug) in segment.organizations {
                selection.see_organization(pk, &slug);
            }
        }
        Ok(())
    }

    /// What there is to know once the file has been read.
    pub(super) fn end(self) -> Result<(Plan, Vec<KeySet>, Duplicates, After), ExportError> {
        let Self { mut plan, notes, sets, duplicates, after, .. } = self;
        for model in &mut plan.models {
            model.runs.seal()?;
        }
        plan.findings = notes
            .into_values()
            .map(|(mut finding, count)| {
                if count > 1 {
                    finding.reason = format!("{} ({count} records; this is the first)", finding.reason);
                }
                finding
            })
            .collect();
        Ok((plan, sets, duplicates, after))
    }

    /// Adds to the name of a record that is over a limit which one of its model it is.
    fn with_ordinal(&self, mut error: ExportError) -> ExportError {
        if let ExportError::OverLimit { finding, .. } = &mut error
            && let Some(name) = &finding.model
            && let Known::Model(model) = self.catalog.known(name)
        {
            let here = self.segment.models.get(&model.position).map_or(0, |part| part.seen);
            finding.ordinal = Some(self.plan.seen(model) + here + 1);
            finding.model = Some(model.name.clone());
        }
        error
    }

    fn record(
        &mut self,
        model: &Model,
        raw: &RawRecord<'_>,
        offset: u64,
        length: usize,
        sets: &[usize],
    ) -> Result<(), ExportError> {
        let adjacent = self.last_model.replace(model.position) == Some(model.position);
        let before = self.plan.models.get(model.position).map_or(0, |plan| plan.seen);
        let part = self.segment.models.entry(model.position).or_default();
        part.seen += 1;
        let ordinal = before + part.seen;
        if !model.in_organization_scope() {
            let place = |finding: Finding| finding.model(&model.name).record(ordinal, raw.pk).at(offset);
            for note in self.decoder.note_fields(model, raw.fields).map_err(place)? {
                self.note(place(note));
            }
            return Ok(());
        }
        match part.runs.last_mut().filter(|_| adjacent) {
            Some(run) => {
                run.length = offset + length as u64 - run.offset;
                run.records += 1;
            }
            None => part.runs.push(Run { offset, length: length as u64, records: 1 }),
        }
        let place = |finding: Finding| finding.model(&model.name).record(ordinal, raw.pk).at(offset);
        if model.silo == Silo::Control && length > MAX_CONTROL_RECORD {
            let finding = Finding::new(
                FindingKind::ValidationError,
                format!("the record has {length} bytes; records of this model may have {MAX_CONTROL_RECORD}"),
            );
            return Err(ExportError::OverLimit {
                limit: Limit::RecordBytes,
                finding: Box::new(place(finding)),
            });
        }
        let decoded = self.decoder.decode(model, raw.fields).map_err(place)?;
        for note in decoded.notes {
            self.note(place(note));
        }
        let record =
            Record { ordinal, source_pk: raw.pk, offset, length, values: decoded.values, fields: None };
        for index in sets {
            let Some(set) = self.sets.get(*index) else { continue };
            let Some(key) = set.key(&record) else { continue };
            let hash = hash_key(set, raw.pk, key);
            let entry = Entry { hash, set: u32::try_from(*index).unwrap_or(u32::MAX), offset };
            self.segment.keys.push(entry);
        }
        if let (Some(filter), Some((slug, _))) = (self.request.filter, model.global_slug()) {
            let slug = record.values.get(slug).and_then(Value::as_text).unwrap_or_default();
            if filter.contains(slug) {
                self.segment.organizations.push((raw.pk, slug.to_owned()));
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, raw: &RawRecord<'_>, offset: u64, known: &Known<'_>) {
        self.last_model = None;
        let name = shown(&raw.model.to_ascii_lowercase());
        let finding = match known {
            Known::Removed => {
                Finding::new(FindingKind::RemovedModel, "a model of older releases, passed over")
            }
            Known::Excluded => {
                Finding::new(FindingKind::UnexpectedModel, "a model that is never imported, passed over")
            }
            _ => Finding::new(
                FindingKind::UnknownModel,
                "the catalog does not know the model; it was passed over",
            ),
        };
        let mut finding = finding.model(&name).at(offset);
        finding.source_pk = Some(raw.pk);
        self.note(finding);
        // However many unknown names a file invents, they are counted in bounded memory.
        add_passed_over(&mut self.segment.passed_over, name, 1);
    }

    fn note(&mut self, finding: Finding) {
        let key = (
            finding.kind,
            finding.model.clone().unwrap_or_default(),
            finding.field.clone().unwrap_or_default(),
        );
        add_note(&mut self.segment_notes, key, finding, 1);
    }
}

fn add_note(notes: &mut Notes, mut key: (FindingKind, String, String), finding: Finding, count: u64) {
    if notes.len() >= MAX_NOTES && !notes.contains_key(&key) {
        key = (key.0, "(others)".to_owned(), String::new());
    }
    notes.entry(key).and_modify(|(_, known)| *known += count).or_insert((finding, count));
}

fn add_passed_over(passed_over: &mut BTreeMap<String, i64>, name: String, count: i64) {
    let known = passed_over.len() < MAX_PASSED_OVER || passed_over.contains_key(&name);
    let name = if known { name } else { "(others)".to_owned() };
    *passed_over.entry(name).or_default() += count;
}
