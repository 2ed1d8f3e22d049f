//! Writes the models of an import chunk by chunk, several models at once: each when all that it refers to is there.
//!
//! Within a model, chunks follow each other, so that what is done of it is always a beginning.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use causeway_relocation::{
    catalog::{Model, Silo},
    db::Dialect,
    keys::KeyMap,
    mapping::{Fate, Mapping},
    plan::Plan,
    writer::Rehearsal,
};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Mutex as AsyncMutex;

use super::{
    Import, Runner, Waiting,
    batches::{self, Batch, Sizes},
    chunks::ChunkDraft,
    live::Live,
    runner::Run,
};
use crate::error::Error;

/// Models of one silo that are written at once on PostgreSQL. SQLite has one writer at a time.
const AT_ONCE: usize = 3;

/// The models of an import that are being written.
struct Writes<'a> {
    runner: &'a Runner,
    import: &'a Import,
    plan: Arc<Plan>,
    live: Arc<Live>,
    keys: RwLock<KeyMap>,
    /// The last ordinal of each model, by position, that a chunk covers.
    done: Mutex<HashMap<usize, i64>>,
    /// What a dry run has gone through; `None` for any other import.
    rehearsal: AsyncMutex<Option<Rehearsal>>,
    waiting: Mutex<Option<Waiting>>,
    sizes: Sizes,
    /// One of them has failed. The others end behind the chunk in hand: one that is cut off in the middle of a COPY
    /// would leave its connection out of step.
    ending: AtomicBool,
}

impl Runner {
    /// Writes models in the order of the catalog, whatever their order in the file: the deferred ones, or the others.
    pub(super) async fn do_writes(
        &self,
        import: &Import,
        run: &mut Run,
        deferred: bool,
    ) -> Result<(), Error> {
        let plan = self.plan(import, run).await?;
        self.load_keys(import, run).await?;
        let Some(keys) = run.keys.take() else {
            return Err(Error::Internal("there is no primary key map".to_owned()));
        };
        let catalog = Arc::clone(self.catalog());
        let models: Vec<&Model> = catalog
            .written()
            .filter(|model| model.is_deferred() == deferred && plan.seen(model) > 0)
            .collect();
        run.live.begin(models.iter().map(|model| plan.seen(model)).sum());
        let writes = Writes {
            runner: self,
            import,
            plan,
            live: Arc::clone(&run.live),
            keys: RwLock::new(keys),
            done: Mutex::new(std::mem::take(&mut run.done)),
            rehearsal: AsyncMutex::new(run.rehearsal.take()),
            waiting: Mutex::new(run.waiting.take()),
            sizes: run.sizes.clone(),
            ending: AtomicBool::new(false),
        };
        let written = writes.models(models).await;
        run.waiting = writes.waiting.into_inner().unwrap_or_else(PoisonError::into_inner);
        written?;
        run.done = writes.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        run.rehearsal = writes.rehearsal.into_inner();
        run.keys = Some(writes.keys.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}

impl Writes<'_> {
    /// Writes all of these models. After an error, nothing is under way any more.
    async fn models(&self, mut waiting: Vec<&Model>) -> Result<(), Error> {
        let catalog = self.runner.catalog();
        let most = match self.runner.db().dialect() {
            Dialect::Postgres => AT_ONCE,
            Dialect::Sqlite => 1,
        };
        let mut unwritten: HashSet<usize> = waiting.iter().map(|model| model.position).collect();
        let (mut control, mut region) = (0, 0);
        let mut running = FuturesUnordered::new();
        let mut outcome = Ok(());
        loop {
            let ready = |model: &&Model| {
                model
                    .needs()
                    .filter_map(|name| catalog.position(name))
                    .all(|needed| !unwritten.contains(&needed))
            };
            while outcome.is_ok()
                && let Some(index) = waiting.iter().position(|model| {
                    let busy = if model.silo == Silo::Control { control } else { region };
                    busy < most && ready(model)
                })
            {
                let model = waiting.remove(index);
                *(if model.silo == Silo::Control { &mut control } else { &mut region }) += 1;
                running.push(async move { (model, self.model(model).await) });
            }
            let Some((model, ended)) = running.next().await else { return outcome };
            *(if model.silo == Silo::Control { &mut control } else { &mut region }) -= 1;
            match ended {
                Ok(()) => {
                    unwritten.remove(&model.position);
                }
                Err(error) => {
                    self.ending.store(true, Ordering::Relaxed);
                    // The first error is the reason; later ones are those of chunks that were in hand.
                    outcome = outcome.and(Err(error));
                }
            }
        }
    }

    /// Writes one model to its end.
    async fn model(&self, model: &Model) -> Result<(), Error> {
        let done = self.done(model);
        self.live.add(done);
        if done >= self.plan.seen(model) {
            return Ok(());
        }
        let (mut batches, reading) = batches::read(
            Arc::clone(self.runner.catalog()),
            Arc::clone(&self.plan),
            self.runner.ambient().clone(),
            self.sizes.clone(),
            model.position,
            done + 1,
        );
        while let Some(batch) = batches.recv().await {
            if self.runner.is_stopping() {
                return Err(Error::Stopping);
            }
            if self.ending.load(Ordering::Relaxed) {
                // Whoever failed says why.
                return Ok(());
            }
            self.live.model(&model.name);
            self.batch(model, batch?).await?;
            self.goes_on().await;
        }
        if self.done(model) != self.plan.seen(model) {
            let what = format!("reading the records of {}", model.name);
            reading.await.map_err(|error| Error::of_task(&what, &error))?;
            return Err(Error::Internal(format!("{what} ended early")));
        }
        Ok(())
    }

    fn done(&self, model: &Model) -> i64 {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.get(&model.position).copied().unwrap_or(0)
    }

    /// Notes that the import no longer waits: a chunk has been written.
    async fn goes_on(&self) {
        let waited = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take().is_some();
        if waited {
            self.runner.note_waiting(self.import.id, None).await;
        }
    }

    async fn batch(&self, model: &Model, batch: Batch) -> Result<(), Error> {
        let (runner, import) = (self.runner, self.import);
        let count = batch.max_ordinal - batch.min_ordinal + 1;
        let max_ordinal = batch.max_ordinal;
        let mut draft = ChunkDraft::new(import, model, &batch);
        let mut records = Vec::with_capacity(batch.records.len());
        {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            let mapping = Mapping { catalog: runner.catalog(), plan: &self.plan, keys: &keys };
            for record in batch.records {
                let source_pk = record.source_pk;
                match mapping.map(model, record, &mut draft.findings) {
                    Fate::Write(record) => records.push(*record),
                    Fate::Filtered => draft.keys.filtered.push(source_pk),
                    Fate::OutOfScope => draft.keys.out_of_scope.push(source_pk),
                    Fate::Dropped(finding) => {
                        draft.dropped += 1;
                        draft.findings.push(finding);
                    }
                }
            }
        }
        let written = if import.parameters.dry_run {
            // What follows a row of control is in no unique set, and is not needed here.
            runner.rehearse(import, model, records, draft, &self.rehearsal).await?
        } else {
            runner.follow(import, model, &mut records).await?;
            match model.silo {
                Silo::Region => runner.write_here(import, model, records, draft).await?,
                Silo::Control => runner.write_at_control(import, model, records, draft).await?,
            }
        };
        self.keys.write().unwrap_or_else(PoisonError::into_inner).absorb(model.position, &written);
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(model.position, max_ordinal);
        self.live.add(count);
        self.sizes.grow();
        Ok(())
    }
}
