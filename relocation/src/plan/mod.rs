//! One streaming pass over the spooled file: checks every record against the catalog, notes where each model's
//! records lie, finds records that contradict each other, applies the slug filter, counts. Writes nothing.

mod actors;
mod adrift;
mod duplicates;
mod kept;
mod made_slugs;
mod pass;
mod reader;
mod runs;
mod saved;
mod segment;
mod selection;
mod sets;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
};

use actors::Actors;
use chrono::{DateTime, Utc};
pub use kept::{Keep, Stepped};
use kept::{Kept, Log};
use pass::Pass;
pub use reader::{ModelReader, Record};
use roaring::RoaringTreemap;
use runs::Runs;
pub use selection::Selection;
pub(crate) use sets::hash_value;

use crate::{
    ambient::Ambient,
    catalog::{Catalog, Model},
    export::{Decoder, ExportError, Limits, RawRecord, Scanner, Source},
    finding::Finding,
};

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
    /// Where the plan is kept, and how far its making is; nowhere if `None`.
    pub keep: Option<&'a Keep>,
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
    /// Where records begin that a rule keeps out because an earlier one is the same.
    repeated: RoaringTreemap,
    /// The primary keys of records without slug that do not get the candidate of each attempt.
    lost_slugs: Vec<RoaringTreemap>,
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
    /// The actors that rules name as their owners.
    actors: Actors,
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
        let Some(keep) = request.keep else {
            return Self::empty(catalog, request).pass(catalog, ambient, request, watch, &mut Log::none());
        };
        let kept = Kept::of(request, keep);
        let mut plan = Self::empty(catalog, request);
        if saved::load(&keep.plan_path(), &kept, &mut plan, request.scratch_dir)? {
            return Ok(plan);
        }
        let mut log = Log::open(keep, &kept);
        let plan = Self::empty(catalog, request).pass(catalog, ambient, request, watch, &mut log)?;
        saved::store(&keep.plan_path(), &kept, &plan);
        Ok(plan)
    }

    /// The plan of which nothing is known yet.
    fn empty(catalog: &Catalog, request: &Request<'_>) -> Self {
        Self {
            source: request.source.clone(),
            limits: request.limits,
            now: request.now,
            models: catalog.models().iter().map(|_| ModelPlan::default()).collect(),
            passed_over: BTreeMap::new(),
            findings: Vec::new(),
            actors: Actors::default(),
            selection: request.filter.map(Selection::new),
            records: 0,
        }
    }

    /// Reads the file, or what is left of it since the log ends.
    fn pass(
        self,
        catalog: &Catalog,
        ambient: &Ambient,
        request: &Request<'_>,
        watch: &Watch,
        log: &mut Log<'_>,
    ) -> Result<Self, ExportError> {
        let mut pass = Pass::new(catalog, ambient, request, self);
        log.replay(&mut pass)?;
        pass.read(watch, log)?;
        let (mut plan, sets, duplicates, after) = pass.end()?;
        plan.find_duplicates(catalog, ambient, (&sets, duplicates), after.compared, watch, log)?;
        plan.select(catalog, ambient, request.filter, after.selected, watch, log)?;
        Ok(plan)
    }

    /// How many records of a model the file holds.
    #[must_use]
    pub fn seen(&self, model: &Model) -> i64 {
        self.models.get(model.position).map_or(0, |plan| plan.seen)
    }

    /// Whether a record, known by where it begins, is kept out because an earlier one of the file is the same to a rule.
    #[must_use]
    pub fn is_repeated(&self, model: &Model, offset: u64) -> bool {
        self.models.get(model.position).is_some_and(|plan| plan.repeated.contains(offset))
    }

    /// The model, by its position, and the record that an actor of an older release stands for, if the export says so.
    #[must_use]
    pub fn actor(&self, pk: i64) -> Option<(usize, i64)> {
        self.actors.get(pk)
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
        actor: decoded.actor,
        fields: None,
    })
}

#[cfg(test)]
mod tests;
