//! Plans an import in one streaming pass over the spooled file: checks every record against the catalog, notes where
//! the records of each model are, finds records that contradict each other, applies the slug filter, and counts.
//! Planning writes no rows.

mod actors;
mod added;
mod addresses;
mod bitmap;
mod checkpoint;
mod comparing;
mod defects;
mod duplicates;
mod entry;
mod extents;
mod frame;
mod generated_slugs;
mod not_in_database;
mod outside;
mod pass;
mod plan_file;
mod reader;
mod record_ownership;
mod segment;
mod selection;
mod sets;
mod steps;
mod undecided;
mod unreferenced;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
};

use actors::Actors;
use added::Added;
pub use added::{AddedFor, WrittenReader};
pub use addresses::Holder;
use addresses::Holders;
use causeway_silo::env::Environment;
pub use checkpoint::{Checkpoint, Stepped};
use checkpoint::{CheckpointHeader, Log};
use chrono::{DateTime, Utc};
use extents::Extents;
use pass::Pass;
pub use reader::{ModelReader, Record};
use record_ownership::{RecordOwnership, unsigned};
use roaring::RoaringTreemap;
pub use selection::Selection;
pub(crate) use sets::hash_value;
use steps::Notes;

use crate::{
    catalog::{Catalog, FromColumn, Model, ORGANIZATION},
    export::{Decoder, ExportError, Limits, RawRecord, Scanner, Source},
    finding::{Finding, FindingKind},
};

/// The input of planning.
#[derive(Debug)]
pub struct PlanRequest<'a> {
    /// The export that the region has stored; an encrypted one is decrypted while it is read.
    pub source: &'a Source,
    /// The directory for temporary files, with data that is too large for memory.
    pub scratch_dir: &'a Path,
    /// The slugs to select; all organizations if `None`.
    pub filter: Option<&'a BTreeSet<String>>,
    /// Limits on the size and the nesting of records.
    pub limits: Limits,
    /// Whether users of the file are merged into existing ones. Then a defect of a record that is not imported if its user
    /// exists does not refuse the file yet: see [`Plan::refuse_undecided`].
    pub merge_users: bool,
    /// The maximum number of organizations in one import.
    pub most_organizations: usize,
    /// The time that defaults of this import use.
    pub now: DateTime<Utc>,
    /// Identifies the tables that the catalog was fitted to: a stored plan for others does not serve.
    pub tables: &'a str,
    /// Where the plan and the progress of planning are stored; nowhere if `None`.
    pub keep: Option<&'a Checkpoint>,
}

/// The progress of the pass, for other threads, and a flag to stop it.
#[derive(Debug, Default)]
pub struct PlanningProgress {
    /// Records that the pass has read so far.
    pub records: AtomicI64,
    /// Bytes of the file that the pass has read so far.
    pub bytes: AtomicI64,
    /// Set it to end the pass with [`ExportError::Stopped`].
    pub stop: AtomicBool,
}

/// The plan of one model.
#[derive(Debug, Default)]
struct ModelPlan {
    seen: i64,
    runs: Extents,
    marks: Marks,
    /// By attempt: the primary keys of records without a slug that do not get the candidate of this attempt.
    lost_slugs: Vec<RoaringTreemap>,
    /// Records with a name that is the address of an earlier record.
    addresses: Holders,
    /// Rows that are added after those of the records.
    added: Added,
}

/// How many sets [`Marks`] has.
const MARKS: usize = 7;

/// Records of a model with a special property: sets of byte offsets.
#[derive(Debug, Default)]
struct Marks {
    /// A rule drops them because an earlier record is the same.
    repeated: RoaringTreemap,
    /// They contradict an earlier record, and the filter excludes both.
    contradicting: RoaringTreemap,
    /// They break a rule, and the filter excludes them, or they are undecided.
    defective: RoaringTreemap,
    /// They break a rule, and are left out if their user exists.
    undecided: RoaringTreemap,
    /// They belong to two organizations.
    of_two: RoaringTreemap,
    /// No imported record refers to them, so they are of no use. These are primary keys, not offsets.
    useless: RoaringTreemap,
    /// A value that this database needs is missing in them. The findings of the plan report this.
    lacking: RoaringTreemap,
}

impl Marks {
    /// All sets, in an order that must not change: the plan file has it too.
    fn all(&self) -> [&RoaringTreemap; MARKS] {
        [
            &self.repeated,
            &self.contradicting,
            &self.defective,
            &self.of_two,
            &self.useless,
            &self.lacking,
            &self.undecided,
        ]
    }

    fn all_mut(&mut self) -> [&mut RoaringTreemap; MARKS] {
        [
            &mut self.repeated,
            &mut self.contradicting,
            &mut self.defective,
            &mut self.of_two,
            &mut self.useless,
            &mut self.lacking,
            &mut self.undecided,
        ]
    }
}

/// What an import of a file has to do.
#[derive(Debug)]
pub struct Plan {
    source: Source,
    limits: Limits,
    merge_users: bool,
    now: DateTime<Utc>,
    models: Vec<ModelPlan>,
    /// How many records each model has that is removed, excluded or unknown, by the model's name.
    pub passed_over: BTreeMap<String, i64>,
    /// The findings before anything is written.
    pub findings: Vec<Finding>,
    /// The actors that rules name as their owners.
    actors: Actors,
    /// What the filter selects; `None` without a filter.
    pub selection: Option<Selection>,
    /// How many records the file has.
    pub records: i64,
}

impl Plan {
    /// Reads the file once, and some of its records again. Blocks: call it on a thread that may block.
    ///
    /// # Errors
    /// If the file breaks a rule, the filter matches nothing, the file cannot be read, or [`Watch::stop`] is set.
    pub fn make(
        catalog: &Catalog,
        env: &Environment,
        request: &PlanRequest<'_>,
        watch: &PlanningProgress,
    ) -> Result<Self, ExportError> {
        let Some(keep) = request.keep else {
            return Self::empty(catalog, request).pass(catalog, env, request, watch, &mut Log::none());
        };
        let header = CheckpointHeader::of(request, keep);
        let mut plan = Self::empty(catalog, request);
        if plan_file::load(&keep.plan_path(), &header, &mut plan, request.scratch_dir)? {
            return Ok(plan);
        }
        let mut log = Log::open(keep, &header);
        let plan = Self::empty(catalog, request).pass(catalog, env, request, watch, &mut log)?;
        plan_file::store(&keep.plan_path(), &header, &plan);
        Ok(plan)
    }

    /// A plan without any record, with which a pass begins.
    fn empty(catalog: &Catalog, request: &PlanRequest<'_>) -> Self {
        Self {
            source: request.source.clone(),
            limits: request.limits,
            merge_users: request.merge_users,
            now: request.now,
            models: catalog.models().iter().map(|_| ModelPlan::default()).collect(),
            passed_over: BTreeMap::new(),
            findings: Vec::new(),
            actors: Actors::default(),
            selection: request.filter.map(Selection::new),
            records: 0,
        }
    }

    /// Reads the file, or the rest of it after the last step in the log.
    fn pass(
        self,
        catalog: &Catalog,
        env: &Environment,
        request: &PlanRequest<'_>,
        watch: &PlanningProgress,
        log: &mut Log<'_>,
    ) -> Result<Self, ExportError> {
        let mut pass = Pass::new(catalog, env, request, self);
        log.replay(|step| pass.take(step))?;
        pass.read(watch, log)?;
        let (mut plan, sets, duplicates, after) = pass.end()?;
        plan.select(catalog, env, request.filter, after.selected, watch, log)?;
        plan.check_organizations(catalog, request.most_organizations)?;
        plan.count_added(catalog, env, watch)?;
        let mut record_ownership = RecordOwnership::new(catalog, &plan, env, watch);
        let unreferenced = record_ownership.find_unreferenced()?;
        let undecided = record_ownership.check_defects(&unreferenced)?;
        let compared =
            record_ownership.find_duplicates(&unreferenced, (&sets, duplicates), after.compared, log)?;
        record_ownership.check_generated_slugs(&unreferenced, &compared.lost_slugs)?;
        let of_two = record_ownership.find_in_two_organizations()?;
        let outside = record_ownership.find_out_of_scope()?;
        let (not_in_database, lacking) = record_ownership.find_not_in_database(&unreferenced)?;
        let mut mark = |found: HashMap<usize, RoaringTreemap>,
                        marks: fn(&mut Marks) -> &mut RoaringTreemap|
         -> Result<(), ExportError> {
            for (position, found) in found {
                let plan = plan.models.get_mut(position).ok_or_else(no_model)?;
                *marks(&mut plan.marks) |= found;
            }
            Ok(())
        };
        mark(compared.repeated, |marks| &mut marks.repeated)?;
        mark(compared.contradicting, |marks| &mut marks.contradicting)?;
        mark(of_two, |marks| &mut marks.of_two)?;
        mark(unreferenced.useless, |marks| &mut marks.useless)?;
        mark(lacking, |marks| &mut marks.lacking)?;
        mark(undecided, |marks| &mut marks.undecided)?;
        for ((position, attempt), pks) in compared.lost_slugs {
            plan.lose_slugs(position, attempt, pks)?;
        }
        for (position, holders) in compared.addresses {
            plan.models.get_mut(position).ok_or_else(no_model)?.addresses = holders;
        }
        plan.findings.extend(compared.more_addresses);
        plan.findings.extend(counted(outside));
        plan.findings.extend(counted(not_in_database));
        if let Some(selection) = &mut plan.selection {
            selection.leave(unreferenced.filtered);
        }
        plan.findings.extend(plan.nothing_to_import(catalog));
        Ok(plan)
    }

    /// Refuses more organizations than one import takes, before anything is written.
    fn check_organizations(&self, catalog: &Catalog, most: usize) -> Result<(), ExportError> {
        let model = catalog.model(ORGANIZATION).ok_or_else(no_model)?;
        let count = match &self.selection {
            Some(selection) => usize::try_from(selection.organization_count()),
            None => usize::try_from(self.record_count(model)),
        };
        let count = count.map_err(std::io::Error::other)?;
        if count <= most {
            return Ok(());
        }
        let mut taken = 0;
        self.each_raw(model, |ordinal, offset, raw| {
            taken += usize::from(self.selection.as_ref().is_none_or(|selection| selection.takes(model, raw.pk, None)));
            if taken <= most {
                return Ok(());
            }
            let reason = format!(
                "there are {count} organizations to import, and an import takes {most}: import them in parts, each with a filter"
            );
            let finding = Finding::new(FindingKind::ValidationError, reason);
            Err(finding.model(&model.name).record(ordinal, raw.pk).at(offset).into())
        })
    }

    /// How many organizations are imported.
    #[must_use]
    pub fn organization_count(&self, catalog: &Catalog) -> u64 {
        match &self.selection {
            Some(selection) => selection.organization_count(),
            None => catalog.model(ORGANIZATION).map_or(0, |model| self.record_count(model).unsigned_abs()),
        }
    }

    /// Calls `take` with the wanted slug and the name of each organization that is imported.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn each_organization(
        &self,
        catalog: &Catalog,
        env: &Environment,
        mut take: impl FnMut(&str, &str),
    ) -> Result<(), ExportError> {
        let model = catalog.model(ORGANIZATION).ok_or_else(no_model)?;
        let Some(FromColumn { column: slug, from: name }) = model.rules.global_slug else { return Ok(()) };
        let text = |record: &Record, column: usize| {
            let value = record.values.get(column);
            let value = value.ok_or_else(|| ExportError::inconsistent("an organization lacks a value"))?;
            // Null is like an empty text.
            Ok::<_, ExportError>(value.as_text().unwrap_or("").to_owned())
        };
        let mut reader = self.reader(model, env, 1)?;
        while let Some(record) = reader.next_record()? {
            let selection = self.selection.as_ref();
            if selection.is_none_or(|selection| selection.takes(model, record.source_pk, None)) {
                take(&text(&record, slug)?, &text(&record, name)?);
            }
        }
        Ok(())
    }

    /// The finding that the file has no record of a model that is imported; `None` if it has one.
    fn nothing_to_import(&self, catalog: &Catalog) -> Option<Finding> {
        if catalog.models().iter().any(|model| model.in_organization_scope() && self.record_count(model) > 0)
        {
            return None;
        }
        let reason = match self.records {
            0 => "the file has no records, so nothing is imported".to_owned(),
            1 => "the file has one record, which is not of a model that is imported, so nothing is imported"
                .to_owned(),
            records => format!(
                "the file has {records} records, and none of them is of a model that is imported, so nothing is imported"
            ),
        };
        Some(Finding::new(FindingKind::NothingToImport, reason))
    }

    /// How many records of a model the file has.
    #[must_use]
    pub fn record_count(&self, model: &Model) -> i64 {
        self.models.get(model.position).map_or(0, |plan| plan.seen)
    }

    /// Whether the record at this offset is dropped because, to a rule, an earlier record of the file is the same.
    #[must_use]
    pub fn is_repeated(&self, model: &Model, offset: u64) -> bool {
        self.models.get(model.position).is_some_and(|plan| plan.marks.repeated.contains(offset))
    }

    /// Whether the record at this offset, which the filter excludes, contradicts an earlier one.
    #[must_use]
    pub fn is_contradicting(&self, model: &Model, offset: u64) -> bool {
        self.models.get(model.position).is_some_and(|plan| plan.marks.contradicting.contains(offset))
    }

    /// Whether the record at this offset belongs to two organizations of the file.
    #[must_use]
    pub fn is_in_two_organizations(&self, model: &Model, offset: u64) -> bool {
        self.models.get(model.position).is_some_and(|plan| plan.marks.of_two.contains(offset))
    }

    /// Whether the record at this offset breaks a rule, and is left out if its user exists.
    #[must_use]
    pub fn is_undecided(&self, model: &Model, offset: u64) -> bool {
        self.models.get(model.position).is_some_and(|plan| plan.marks.undecided.contains(offset))
    }

    /// Whether a record is of no use because no imported record refers to it.
    #[must_use]
    pub fn is_useless(&self, model: &Model, source_pk: i64) -> bool {
        let pk = unsigned(source_pk);
        self.models.get(model.position).is_some_and(|plan| plan.marks.useless.contains(pk))
    }

    /// Whether a value that this database needs is missing in the record at this offset. A finding of the
    /// plan reports this.
    #[must_use]
    pub fn is_lacking(&self, model: &Model, offset: u64) -> bool {
        self.models.get(model.position).is_some_and(|plan| plan.marks.lacking.contains(offset))
    }

    /// The record that an actor of an older release stands for: the position of its model, and its primary
    /// key. `None` if the export does not show it.
    #[must_use]
    pub fn actor(&self, pk: i64) -> Option<(usize, i64)> {
        self.actors.get(pk)
    }

    /// Reads the records of a model again, from the given ordinal on.
    ///
    /// # Errors
    /// If the stored positions of the records cannot be read.
    pub fn reader<'a>(
        &self,
        model: &'a Model,
        env: &'a Environment,
        from: i64,
    ) -> Result<ModelReader<'a>, ExportError> {
        let plan = self.models.get(model.position).ok_or_else(no_model)?;
        let runs = Box::new(plan.runs.iter()?);
        let decoder = Decoder::new(env, self.now);
        let defective = plan.marks.defective.clone();
        let (source, limits) = (self.source.clone(), self.limits);
        Ok(ModelReader::new(source, runs, model, decoder, limits, from, defective))
    }
}

/// The error that the catalog or the plan does not have a model that it should have.
fn no_model() -> ExportError {
    ExportError::inconsistent("there is no such model in the catalog or the plan")
}

fn stopped(watch: &PlanningProgress) -> Result<(), ExportError> {
    if watch.stop.load(Ordering::Relaxed) { Err(ExportError::Stopped) } else { Ok(()) }
}

/// One finding for each note, with the number of records.
fn counted(notes: Notes) -> impl Iterator<Item = Finding> {
    notes.into_values().map(|(mut finding, count)| {
        if count > 1 {
            finding.reason = format!("{} ({count} records; this is the first)", finding.reason);
        }
        finding
    })
}

/// Reads the record that begins at `offset`, and calls `take` with it and its length.
fn read_raw_at<T>(
    source: &Source,
    offset: u64,
    limits: Limits,
    take: impl FnOnce(RawRecord<'_>, usize) -> Result<T, ExportError>,
) -> Result<T, ExportError> {
    let mut scanner = Scanner::extent(source.from(offset), offset, limits);
    let Some((scanned, bytes)) = scanner.next_record()? else {
        return Err(ExportError::form(offset, "the record is gone"));
    };
    take(RawRecord::parse(bytes, offset)?, scanned.length)
}

#[cfg(test)]
mod tests;
