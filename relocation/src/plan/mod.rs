//! One streaming pass over the spooled file: checks every record against the catalog, notes where each model's
//! records lie, finds records that contradict each other, applies the slug filter, counts. Writes nothing.

mod adrift;
mod duplicates;
mod reader;
mod runs;
mod selection;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
};

use chrono::{DateTime, Utc};
use duplicates::Duplicates;
pub use reader::{ModelReader, Record};
use roaring::RoaringTreemap;
use runs::Runs;
pub use selection::Selection;

use crate::{
    ambient::Ambient,
    catalog::{
        Catalog, Known, Model, ORGANIZATION, ORGANIZATION_MEMBER, Rule, Silo, USER, USER_EMAIL, UniqueSet,
    },
    export::{Decoder, ExportError, Limit, Limits, RawRecord, Scanner, Source},
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

/// What the pass over a file needs to know.
#[derive(Debug)]
pub struct Request<'a> {
    /// The spooled file.
    pub source: &'a Source,
    /// Where to put what must be remembered and is too much for memory.
    pub scratch_dir: &'a Path,
    /// The slugs to take; all if `None`.
    pub filter: Option<&'a BTreeSet<String>>,
    /// Limits on records.
    pub limits: Limits,
    /// The time that defaults of this import use.
    pub now: DateTime<Utc>,
}

/// How far the pass is, for whoever looks, and whether it should stop.
#[derive(Debug, Default)]
pub struct Watch {
    /// Records read.
    pub records: AtomicI64,
    /// Bytes read.
    pub bytes: AtomicI64,
    /// Set it to end the pass with [`ExportError::Stopped`].
    pub stop: AtomicBool,
}

/// What is known of the records of one model.
#[derive(Debug, Default)]
struct ModelPlan {
    seen: i64,
    runs: Runs,
    /// Ordinals of records that a rule keeps out because an earlier one is the same.
    repeated: RoaringTreemap,
}

/// What an import of a file will have to do.
#[derive(Debug)]
pub struct Plan {
    source: Source,
    limits: Limits,
    now: DateTime<Utc>,
    models: Vec<ModelPlan>,
    /// Models that the catalog has no place for, by name, and how many records each has.
    pub passed_over: BTreeMap<String, i64>,
    /// What there is to know before anything is written.
    pub findings: Vec<Finding>,
    /// What the filter leaves; `None` without a filter.
    pub selection: Option<Selection>,
    /// Records in the file.
    pub records: i64,
}

impl Plan {
    /// Reads the file once, and some of its records again if there is a filter. Blocks: call it where that is allowed.
    ///
    /// # Errors
    /// If the file breaks a rule, the filter matches nothing, the file cannot be read, or `watch` says stop.
    pub fn make(
        catalog: &Catalog,
        ambient: &Ambient,
        request: &Request<'_>,
        watch: &Watch,
    ) -> Result<Self, ExportError> {
        let mut pass = Pass {
            catalog,
            decoder: Decoder::new(ambient, request.now),
            request,
            plan: Self {
                source: request.source.clone(),
                limits: request.limits,
                now: request.now,
                models: catalog.models().iter().map(|_| ModelPlan::default()).collect(),
                passed_over: BTreeMap::new(),
                findings: Vec::new(),
                selection: request.filter.map(Selection::new),
                records: 0,
            },
            notes: BTreeMap::new(),
            sets: key_sets(catalog),
            duplicates: Duplicates::new(KEY_BUDGET, request.scratch_dir),
            last_model: None,
        };
        pass.read(watch)?;
        let Pass { mut plan, notes, sets, duplicates, .. } = pass;
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
        plan.find_duplicates(catalog, ambient, &sets, duplicates, watch)?;
        plan.select(catalog, ambient, request.filter, watch)?;
        Ok(plan)
    }

    /// How many records of a model the file holds.
    #[must_use]
    pub fn seen(&self, model: &Model) -> i64 {
        self.models.get(model.position).map_or(0, |plan| plan.seen)
    }

    /// Whether a record is kept out because an earlier one of the file is the same to a rule.
    #[must_use]
    pub fn is_repeated(&self, model: &Model, ordinal: i64) -> bool {
        let ordinal = u64::try_from(ordinal).unwrap_or(0);
        self.models.get(model.position).is_some_and(|plan| plan.repeated.contains(ordinal))
    }

    /// Reads the records of a model again, from the given ordinal on.
    ///
    /// # Errors
    /// If what was noted of their places cannot be read.
    pub fn reader<'a>(
        &self,
        model: &'a Model,
        ambient: &'a Ambient,
        from: i64,
    ) -> Result<ModelReader<'a>, ExportError> {
        let runs: Box<dyn Iterator<Item = _> + Send> = match self.models.get(model.position) {
            Some(plan) => Box::new(plan.runs.iter()?),
            None => Box::new(std::iter::empty()),
        };
        let decoder = Decoder::new(ambient, self.now);
        Ok(ModelReader::new(self.source.clone(), runs, model, decoder, self.limits, from))
    }

    /// Looks at records whose keys have the same hash: refuses those that must not be the same, notes those of which a
    /// rule keeps the first.
    fn find_duplicates(
        &mut self,
        catalog: &Catalog,
        ambient: &Ambient,
        sets: &[KeySet],
        duplicates: Duplicates,
        watch: &Watch,
    ) -> Result<(), ExportError> {
        let mut repeated: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        let decoder = Decoder::new(ambient, self.now);
        let (source, limits) = (&self.source, self.limits);
        duplicates.find(|set, first, second| -> Result<(), ExportError> {
            stopped(watch)?;
            let Some(set) = usize::try_from(set).ok().and_then(|index| sets.get(index)) else { return Ok(()) };
            let Some(model) = catalog.models().get(set.model) else { return Ok(()) };
            let (one, other) = (read_at(source, first, limits, &decoder, model)?, read_at(source, second, limits, &decoder, model)?);
            let same = if set.columns.is_empty() { one.source_pk == other.source_pk } else { set.key(&one) == set.key(&other) };
            if !same {
                return Ok(());
            }
            if set.keep_first {
                repeated.entry(set.model).or_default().insert(second);
                return Ok(());
            }
            let fields: Vec<&str> =
                set.columns.iter().filter_map(|column| model.columns.get(*column)).map(|column| column.field.as_str()).collect();
            let mut finding = Finding::new(
                FindingKind::IntegrityError,
                if fields.is_empty() {
                    format!("the primary key stands twice: also at byte {first}")
                } else {
                    format!("the record agrees in {} with the record with pk {} at byte {first}; only one of them can be", fields.join(" and "), one.source_pk)
                },
            )
            .model(&model.name)
            .at(second);
            finding.source_pk = Some(other.source_pk);
            finding.field = fields.last().map(|field| (*field).to_owned());
            Err(finding.into())
        })?;
        for (model, offsets) in repeated {
            self.note_repeated(catalog, ambient, model, &offsets)?;
        }
        Ok(())
    }

    /// Turns places in the file into ordinals of the model.
    fn note_repeated(
        &mut self,
        catalog: &Catalog,
        ambient: &Ambient,
        position: usize,
        offsets: &BTreeSet<u64>,
    ) -> Result<(), ExportError> {
        let Some(model) = catalog.models().get(position) else { return Ok(()) };
        let mut reader = self.reader(model, ambient, 1)?;
        let mut ordinals = RoaringTreemap::new();
        while let Some(record) = reader.next_record()? {
            if offsets.contains(&record.offset) {
                ordinals.insert(u64::try_from(record.ordinal).unwrap_or(0));
            }
        }
        if let Some(plan) = self.models.get_mut(position) {
            plan.repeated = ordinals;
        }
        Ok(())
    }

    /// Completes the selection: which users are members, which addresses are theirs, and which records belong to
    /// nothing that is taken.
    fn select(
        &mut self,
        catalog: &Catalog,
        ambient: &Ambient,
        filter: Option<&BTreeSet<String>>,
        watch: &Watch,
    ) -> Result<(), ExportError> {
        let (Some(mut selection), Some(filter)) = (self.selection.take(), filter) else { return Ok(()) };
        if !filter.is_empty() && selection.organization_count() == 0 {
            let asked: Vec<String> = filter.iter().map(|slug| format!("`{slug}`")).collect();
            return Err(ExportError::FilterMatchesNothing(format!(
                "none of the slugs of the filter ({}) is in the export; slugs are compared exactly, also in case",
                asked.join(", ")
            )));
        }
        for slug in &selection.missing {
            self.findings.push(
                Finding::new(FindingKind::FilterSlugNotFound, format!("the export has no organization with the slug `{slug}`; slugs are compared exactly, also in case"))
                    .model(ORGANIZATION),
            );
        }
        for (name, reference, other) in [
            (ORGANIZATION_MEMBER, "organization", "user_id"),
            (USER, "", "email"),
            (USER_EMAIL, "user", "email"),
        ] {
            let Some(model) = catalog.model(name) else { continue };
            let column = |field: &str| model.column(field);
            let mut reader = self.reader(model, ambient, 1)?;
            while let Some(record) = reader.next_record()? {
                stopped(watch)?;
                let value = |field: &str| column(field).and_then(|column| record.values.get(column));
                let owner = value(reference).map_or(Some(record.source_pk), Value::as_int);
                let Some(owner) = owner else { continue };
                match value(other) {
                    Some(Value::Int(user)) => selection.see_member(owner, *user),
                    Some(Value::Text(email)) => selection.see_email(owner, email),
                    _ => {}
                }
            }
        }
        self.find_adrift(catalog, ambient, &mut selection, watch)?;
        self.selection = Some(selection);
        Ok(())
    }
}

fn stopped(watch: &Watch) -> Result<(), ExportError> {
    if watch.stop.load(Ordering::Relaxed) { Err(ExportError::Stopped) } else { Ok(()) }
}

/// Reads one record that begins at `offset`.
fn read_at(
    source: &Source,
    offset: u64,
    limits: Limits,
    decoder: &Decoder<'_>,
    model: &Model,
) -> Result<Record, ExportError> {
    let mut scanner = Scanner::stretch(source.from(offset), offset, limits);
    let Some((scanned, bytes)) = scanner.next_record()? else {
        return Err(ExportError::form(offset, "the record is gone"));
    };
    let raw = RawRecord::parse(bytes, offset)?;
    let decoded =
        decoder.decode(model, raw.fields).map_err(|finding| finding.model(&model.name).at(offset))?;
    Ok(Record {
        ordinal: 0,
        source_pk: raw.pk,
        offset,
        length: scanned.length,
        values: decoded.values,
        fields: None,
    })
}

/// Columns whose values must differ between the records of a file.
#[derive(Debug)]
struct KeySet {
    model: usize,
    /// The columns; none for the primary key.
    columns: Vec<usize>,
    condition: Option<UniqueSet>,
    /// Records that agree are no error: the first one is kept. Null agrees with null.
    keep_first: bool,
}

impl KeySet {
    /// The values that must differ, or `None` if the set does not hold for this record.
    fn key<'r>(&self, record: &'r Record) -> Option<Vec<&'r Value>> {
        match &self.condition {
            Some(set) => set.key(&record.values),
            None => Some(self.columns.iter().filter_map(|column| record.values.get(*column)).collect()),
        }
    }
}

/// The sets in which records of a file must differ: primary keys, and all unique sets that no rule takes care of.
fn key_sets(catalog: &Catalog) -> Vec<KeySet> {
    let mut sets = Vec::new();
    for model in catalog.written() {
        sets.push(KeySet { model: model.position, columns: Vec::new(), condition: None, keep_first: false });
        for rule in &model.rules {
            if let Rule::KeepFirst { columns } = rule {
                sets.push(KeySet {
                    model: model.position,
                    columns: columns.clone(),
                    condition: None,
                    keep_first: true,
                });
            }
        }
        for set in &model.unique {
            if !model.keeps_apart(set) {
                sets.push(KeySet {
                    model: model.position,
                    columns: set.columns.clone(),
                    condition: Some(set.clone()),
                    keep_first: false,
                });
            }
        }
    }
    sets
}

struct Pass<'a> {
    catalog: &'a Catalog,
    decoder: Decoder<'a>,
    request: &'a Request<'a>,
    plan: Plan,
    /// The first note of each kind, model and field, and how many there are.
    notes: BTreeMap<(FindingKind, String, String), (Finding, u64)>,
    sets: Vec<KeySet>,
    duplicates: Duplicates,
    last_model: Option<usize>,
}

impl Pass<'_> {
    fn read(&mut self, watch: &Watch) -> Result<(), ExportError> {
        let mut scanner = Scanner::new(self.request.source.from(0), self.request.limits);
        let mut sets_of: Vec<Vec<usize>> = vec![Vec::new(); self.plan.models.len()];
        for (index, set) in self.sets.iter().enumerate() {
            if let Some(sets) = sets_of.get_mut(set.model) {
                sets.push(index);
            }
        }
        loop {
            let next = scanner.next_record().map_err(|error| self.with_ordinal(error))?;
            let Some((scanned, bytes)) = next else { break };
            let raw = RawRecord::parse(bytes, scanned.offset)?;
            self.plan.records += 1;
            match self.catalog.known(&raw.model) {
                Known::Model(model) => {
                    let sets = sets_of.get(model.position).map(Vec::as_slice).unwrap_or_default();
                    self.record(model, &raw, scanned.offset, scanned.length, sets)?;
                }
                known => self.pass_over(&raw, scanned.offset, &known),
            }
            if self.plan.records % 256 == 0 {
                watch.records.store(self.plan.records, Ordering::Relaxed);
                watch.bytes.store(i64::try_from(scanned.offset).unwrap_or(i64::MAX), Ordering::Relaxed);
                stopped(watch)?;
            }
        }
        watch.records.store(self.plan.records, Ordering::Relaxed);
        watch.bytes.store(i64::try_from(scanner.position()).unwrap_or(i64::MAX), Ordering::Relaxed);
        Ok(())
    }

    /// Adds to the name of a record that is over a limit which one of its model it is.
    fn with_ordinal(&self, mut error: ExportError) -> ExportError {
        if let ExportError::OverLimit { finding, .. } = &mut error
            && let Some(name) = &finding.model
            && let Known::Model(model) = self.catalog.known(name)
        {
            finding.ordinal = Some(self.plan.seen(model) + 1);
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
        let Some(plan) = self.plan.models.get_mut(model.position) else { return Ok(()) };
        plan.seen += 1;
        let ordinal = plan.seen;
        if !model.in_organization_scope() {
            let place = |finding: Finding| finding.model(&model.name).record(ordinal, raw.pk).at(offset);
            for note in self.decoder.note_fields(model, raw.fields).map_err(place)? {
                self.note(place(note));
            }
            return Ok(());
        }
        plan.runs.add(offset, length as u64, adjacent, self.request.scratch_dir)?;
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
            let mut hasher = DefaultHasher::new();
            if set.columns.is_empty() {
                raw.pk.hash(&mut hasher);
            }
            for value in key {
                hash_value(value, &mut hasher);
            }
            self.duplicates.add(u32::try_from(*index).unwrap_or(u32::MAX), hasher.finish(), offset)?;
        }
        if let (Some(selection), Some(filter), Some((slug, _))) =
            (&mut self.plan.selection, self.request.filter, model.global_slug())
        {
            let slug = record.values.get(slug).and_then(Value::as_text).unwrap_or_default();
            selection.see_organization(raw.pk, slug, filter);
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
        let name =
            if self.plan.passed_over.len() < MAX_PASSED_OVER || self.plan.passed_over.contains_key(&name) {
                name
            } else {
                "(others)".to_owned()
            };
        *self.plan.passed_over.entry(name).or_default() += 1;
    }

    fn note(&mut self, finding: Finding) {
        let mut key = (
            finding.kind,
            finding.model.clone().unwrap_or_default(),
            finding.field.clone().unwrap_or_default(),
        );
        if self.notes.len() >= MAX_NOTES && !self.notes.contains_key(&key) {
            key = (finding.kind, "(others)".to_owned(), String::new());
        }
        self.notes.entry(key).and_modify(|(_, count)| *count += 1).or_insert((finding, 1));
    }
}

pub(crate) fn hash_value(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Null => 0_u8.hash(hasher),
        Value::Bool(value) => (1_u8, value).hash(hasher),
        Value::Int(value) => (2_u8, value).hash(hasher),
        Value::Text(value) => (3_u8, value).hash(hasher),
        Value::Time(value) => (4_u8, value).hash(hasher),
        Value::Uuid(value) => (5_u8, value).hash(hasher),
        // No unique set has such columns; equal values still get equal hashes.
        Value::Float(_) | Value::Inet(..) | Value::Texts(_) | Value::FloatRows(_) => 6_u8.hash(hasher),
    }
}

#[cfg(test)]
mod tests;
