//! Writes the models of an import chunk by chunk, several models at once. A model is written when all that it refers to
//! has been written.
//!
//! Within a model, chunks follow each other, so what has been written of a model is always its first records.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use causeway_relocation::{
    catalog::{Catalog, Model, Silo},
    keys::ChunkKeys,
    plan::Plan,
    schema::Tables,
    writer::DryRun,
};
use causeway_silo::db::Dialect;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use super::{
    Import, Waiting,
    batches::{self, BatchLimits},
    chunks::{ControlChunk, note_chunk_of_control, write_at_control, write_here},
    context::ImportContext,
    copied_columns::copy_columns,
    dry_run_chunk::dry_run_chunk,
    fitted::Fitted,
    keys::load_keys,
    mapped::{Covered, Mapped, Mapper, SharedKeys},
    plan::plan,
    run::{ImportRun, note_waiting, pass_throttle, pass_turn},
    running::RunningImport,
    traced::{self, chunk_span},
};
use crate::{
    control_client::ControlTables,
    error::Error,
    permits::Turn,
    throttle::{Cost, Pass},
};

/// Models of one silo that are written at once on PostgreSQL.
const AT_ONCE: usize = 3;
/// The same on SQLite, which has one writer at a time: while one model's chunk is written, the next model's chunk is
/// prepared.
const AT_ONCE_SQLITE: usize = 2;

/// Models of the region that are written at once while others of them wait for models at control. This is enough to
/// write in time what can be written meanwhile, and leaves control what it needs where both share a machine.
const MAX_MODELS_WHILE_AWAITING_CONTROL: usize = 1;

/// The models of an import that are being written.
struct Writes<'a> {
    context: &'a ImportContext,
    /// The catalog as far as the databases take it.
    catalog: Arc<Catalog>,
    /// The tables of control for which the import was planned; `None` if they are Causeway's own.
    tables_of_control: Option<Arc<ControlTables>>,
    import: &'a Import,
    plan: Arc<Plan>,
    running_import: Arc<RunningImport>,
    keys: SharedKeys,
    /// The last ordinal of each model that a chunk covers, by the model's position.
    done: Mutex<HashMap<usize, i64>>,
    /// What a dry run has gone through; `None` for any other import.
    dry_run: AsyncMutex<Option<DryRun>>,
    waiting: Mutex<Option<Waiting>>,
    limits: BatchLimits,
    /// Changes when the import has been moved to another state, or paused.
    moved: watch::Receiver<u64>,
    turn: AsyncMutex<Option<Turn>>,
    /// Another import waits for its turn: all models end after the current chunk, and continue in the next turn.
    passing: AtomicBool,
    /// One of the models has failed. The others end after the current chunk, because a COPY that is cut off in the
    /// middle would leave its connection out of step. One that waits for the throttle ends at once.
    ending: CancellationToken,
}

/// Writes models in the order of the catalog, whatever their order in the file: the deferred ones, or the others.
pub(super) async fn do_writes(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
    deferred: bool,
) -> Result<(), Error> {
    let plan = plan(context, import, run).await?;
    load_keys(context, import, run).await?;
    let Some(keys) = run.keys.take() else {
        return Err(Error::Internal("there is no primary key map".to_owned()));
    };
    let Fitted { catalog, of_control, .. } = context.fitted(import, &mut run.fitted).await?;
    let models: Vec<&Model> = catalog
        .written()
        .filter(|model| model.rules.deferred == deferred && plan.last_ordinal(model) > 0)
        .collect();
    run.running_import.begin(models.iter().map(|model| plan.last_ordinal(model)).sum());
    let writes = Writes {
        context,
        catalog: Arc::clone(&catalog),
        tables_of_control: of_control,
        import,
        plan,
        running_import: Arc::clone(&run.running_import),
        keys,
        done: Mutex::new(std::mem::take(&mut run.done)),
        dry_run: AsyncMutex::new(run.dry_run.take()),
        waiting: Mutex::new(run.waiting.take()),
        limits: BatchLimits {
            sizes: run.sizes.clone(),
            control: import.control_batch,
            throttle: context.throttle.clone(),
        },
        moved: run.moved.clone(),
        turn: AsyncMutex::new(run.turn.take()),
        passing: AtomicBool::new(false),
        ending: CancellationToken::new(),
    };
    let written = writes.models(models).await;
    run.waiting = writes.waiting.into_inner().unwrap_or_else(PoisonError::into_inner);
    run.turn = writes.turn.into_inner();
    written?;
    run.done = writes.done.into_inner().unwrap_or_else(PoisonError::into_inner);
    run.dry_run = writes.dry_run.into_inner();
    run.keys = Some(writes.keys);
    Ok(())
}

impl Writes<'_> {
    /// Writes all of these models. When it returns an error, no write is in progress any more.
    async fn models(&self, mut waiting: Vec<&Model>) -> Result<(), Error> {
        let catalog = &self.catalog;
        let most = match self.context.db.dialect() {
            Dialect::Postgres => AT_ONCE,
            Dialect::Sqlite => AT_ONCE_SQLITE,
        };
        let mut unwritten: HashSet<usize> = waiting.iter().map(|model| model.position).collect();
        for model in &waiting {
            self.running_import.add(self.done(model));
        }
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
            let is_awaited = waiting.iter().any(|model| {
                let mut needed = model.needs().filter_map(|name| catalog.model(name));
                model.silo == Silo::Region
                    && needed
                        .any(|needed| needed.silo == Silo::Control && unwritten.contains(&needed.position))
            });
            let most_here = if is_awaited { MAX_MODELS_WHILE_AWAITING_CONTROL } else { most };
            while outcome.is_ok()
                && !self.passing.load(Ordering::Relaxed)
                && let Some(index) = waiting.iter().position(|model| {
                    let (busy, most) =
                        if model.silo == Silo::Control { (control, most) } else { (region, most_here) };
                    busy < most && ready(model)
                })
            {
                let model = waiting.remove(index);
                *(if model.silo == Silo::Control { &mut control } else { &mut region }) += 1;
                running.push(async move { (model, self.model(model).await) });
            }
            let Some((model, ended)) = running.next().await else {
                if outcome.is_ok() && self.passing.swap(false, Ordering::Relaxed) {
                    if let Some(turn) = self.turn.lock().await.as_mut() {
                        pass_turn(self.context, self.import.id, turn, &mut self.moved.clone()).await?;
                    }
                    continue;
                }
                return outcome;
            };
            *(if model.silo == Silo::Control { &mut control } else { &mut region }) -= 1;
            match ended {
                Ok(()) if self.done(model) < self.plan.last_ordinal(model) => waiting.insert(0, model),
                Ok(()) => {
                    unwritten.remove(&model.position);
                }
                Err(error) => {
                    self.ending.cancel();
                    // The first error is the reason; later ones are those of chunks that were in progress.
                    outcome = outcome.and(Err(error));
                }
            }
        }
    }

    /// Whether a model must end before its next chunk. Before its first chunk of a turn, it does not end for the sake
    /// of other imports.
    async fn ends(&self, first: bool) -> bool {
        if self.turn.lock().await.as_ref().is_some_and(Turn::is_awaited) {
            self.passing.store(true, Ordering::Relaxed);
        }
        let passes = !first && self.passing.load(Ordering::Relaxed);
        passes || self.context.lifecycle.is_stopping() || self.ending.is_cancelled()
    }

    /// Writes one model to its end, or until its turn ends.
    async fn model(&self, model: &Model) -> Result<(), Error> {
        let done = self.done(model);
        if done >= self.plan.last_ordinal(model) {
            return Ok(());
        }
        let mapper = Mapper {
            catalog: Arc::clone(&self.catalog),
            plan: Arc::clone(&self.plan),
            keys: Arc::clone(&self.keys),
            position: model.position,
            state: self.import.state,
            hides: self.import.parameters.hide_organizations,
            tense: self.import.tense(),
        };
        let (mut batches, reading) = batches::read(
            Arc::clone(&self.catalog),
            Arc::clone(&self.plan),
            self.context.env.clone(),
            self.limits.clone(),
            model.position,
            done + 1,
            move |batch| mapper.map(batch),
        );
        // While control writes a chunk, the region records the one before.
        let mut unnoted = None;
        // Each turn writes at least one chunk.
        let mut first = true;
        while let Some(batch) = batches.recv().await {
            if self.ends(first).await {
                self.note(model, unnoted).await?;
                // If the service does not stop, the model that failed reports why, or this one continues in another
                // turn.
                return if self.context.lifecycle.is_stopping() { Err(Error::Stopping) } else { Ok(()) };
            }
            first = false;
            self.running_import.model(&model.name);
            let mapped = batch??;
            let Some(pass) = self.pass_throttle(&mapped, &mut unnoted, model).await? else {
                return Ok(());
            };
            let chunk = chunk_span(&model.name, model.silo, &mapped);
            if model.silo == Silo::Control && !self.import.parameters.dry_run {
                // Sending comes first, because everything waits for control.
                let sending = self.send(model, mapped).instrument(chunk.clone());
                let (sent, noted) = tokio::join!(sending, self.note(model, unnoted.take()));
                let sent = sent.inspect(|_| pass.written());
                noted?;
                let (sent, covered) = sent?;
                unnoted = Some((sent, covered, chunk));
            } else {
                self.write(model, mapped).instrument(chunk).await?;
                pass.written();
            }
        }
        self.note(model, unnoted).await?;
        if self.done(model) != self.plan.last_ordinal(model) {
            let what = format!("reading the records of {}", model.name);
            reading.await.map_err(|error| Error::of_task(&what, &error))?;
            return Err(Error::Internal(format!("{what} ended early")));
        }
        Ok(())
    }

    /// Waits until the throttle lets a batch pass. `None` if another model has failed meanwhile. What control has written
    /// is recorded before, because the wait may be long.
    async fn pass_throttle(
        &self,
        mapped: &Mapped,
        unnoted: &mut Option<(ControlChunk, Covered, Span)>,
        model: &Model,
    ) -> Result<Option<Pass>, Error> {
        let (context, id) = (self.context, self.import.id);
        // A dry run only reads.
        let cost = if self.import.parameters.dry_run { Cost::default() } else { mapped.covered.cost };
        if context.throttle.holds(cost) {
            self.note(model, unnoted.take()).await?;
        }
        let mut moved = self.moved.clone();
        tokio::select! {
            pass = pass_throttle(context, id, &self.running_import, &mut moved, cost) => pass.map(Some),
            () = self.ending.cancelled() => {
                self.note(model, unnoted.take()).await?;
                Ok(None)
            }
        }
    }

    fn done(&self, model: &Model) -> i64 {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.get(&model.position).copied().unwrap_or(0)
    }

    /// Notes that the import no longer waits, because a chunk has been written.
    async fn note_progress(&self) {
        let waited = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take().is_some();
        if waited {
            note_waiting(self.context, self.import.id, &self.running_import, None).await;
        }
    }

    /// Writes a batch in this silo. A dry run goes through it instead, whatever its silo.
    async fn write(&self, model: &Model, mapped: Mapped) -> Result<(), Error> {
        let (context, import) = (self.context, self.import);
        let Mapped { covered, mut records, draft } = mapped;
        let keys = if import.parameters.dry_run {
            // Columns that copy from a row of control are in no unique set, so a dry run does not need them.
            dry_run_chunk(context, import, model, records, draft, self.catalog.emails(), &self.dry_run)
                .await?
        } else {
            copy_columns(context, import, model, &mut records).await?;
            write_here(context, import, model, records, draft).await?
        };
        self.written(model, &keys, covered).await
    }

    /// Lets control write a batch.
    async fn send(&self, model: &Model, mapped: Mapped) -> Result<(ControlChunk, Covered), Error> {
        let Mapped { covered, mut records, draft } = mapped;
        copy_columns(self.context, self.import, model, &mut records).await?;
        let tables = self.tables_of_control.as_deref();
        let tables = tables.map_or(Tables::OWN, |tables| tables.fingerprint_for(&model.table));
        let sent = write_at_control(self.context, self.import, tables, model, records, draft).await?;
        Ok((sent, covered))
    }

    /// Records a batch that control has written, if there is one, as the rest of the span of its chunk.
    async fn note(&self, model: &Model, unnoted: Option<(ControlChunk, Covered, Span)>) -> Result<(), Error> {
        let Some((sent, covered, chunk)) = unnoted else { return Ok(()) };
        let noting = async {
            let keys = note_chunk_of_control(self.context, self.import, model, sent).await?;
            self.written(model, &keys, covered).await
        };
        noting.instrument(chunk).await
    }

    /// Takes note of a batch that has been committed, here too.
    async fn written(&self, model: &Model, keys: &ChunkKeys, covered: Covered) -> Result<(), Error> {
        traced::rows(&Span::current(), keys);
        let absorbed =
            self.keys.write().unwrap_or_else(PoisonError::into_inner).add_chunk(model.position, keys);
        absorbed.map_err(|error| Error::Internal(error.to_string()))?;
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(model.position, covered.max_ordinal);
        self.running_import.add(covered.count);
        self.limits.sizes.grow();
        self.note_progress().await;
        Ok(())
    }
}
