//! Moves imports from state to state, in the background of the service. A step that fails for a transient reason is
//! retried; any other failure ends the import.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use causeway_audit::{Call, Subject};
use causeway_relocation::{
    catalog::ORGANIZATION,
    export::ExportError,
    finding::{Finding, FindingKind},
    plan::{Checkpoint, Plan},
    writer::{DryRun, WriteError},
};
use causeway_silo::{db::HasDbError as _, transact};
use uuid::Uuid;

use super::{
    Failure, Import, ImportState, Waiting, batches::Sizes, fitted::Fitted, mapped::SharedKeys,
    running::RunningImport, spool::spool_path,
};
use crate::{
    context::Context,
    control_client::ControlTables,
    decryption_key::DecryptionKeys,
    error::Error,
    permits::{Permits, Turn},
    store,
};

/// Runs the imports of one region. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(super) context: Context,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    spool_dir: PathBuf,
    keys: Option<DecryptionKeys>,
    running: Mutex<HashMap<Uuid, Arc<RunningImport>>>,
    permits: Permits,
    /// Control's tables as it has described them last.
    control_tables: Mutex<Option<Arc<ControlTables>>>,
    /// Locked as long as this process may write into the spool directory.
    lock: std::fs::File,
}

/// What a process remembers of an import between its steps. All of it can be made again from the file and the store.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) live: Arc<RunningImport>,
    /// The catalog as far as the databases take it, read when this run began.
    pub(super) fitted: Option<Fitted>,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) keys: Option<SharedKeys>,
    /// The last ordinal of each model that a chunk covers, by the model's position.
    pub(super) done: HashMap<usize, i64>,
    /// The current size of batches.
    pub(super) sizes: Sizes,
    /// What a dry run has gone through; made again each time that the dry run begins.
    pub(super) dry_run: Option<DryRun>,
    /// Why the last attempt failed; `None` if it did not.
    pub(super) waiting: Option<Waiting>,
    /// The import's turn, while a step runs.
    pub(super) turn: Option<Turn>,
}

impl Run {
    /// Gives the turn to another import if one waits; see [`Turn::pass`].
    pub(super) async fn pass_turn(&mut self, engine: &Engine) -> Result<(), Error> {
        match &mut self.turn {
            Some(turn) => turn.pass(&engine.context).await,
            None => Ok(()),
        }
    }
}

/// The outcome of a step.
enum Step {
    /// There is another step.
    Next,
    /// No process needs to work on the import any more.
    Done,
}

impl Engine {
    /// An engine that stores its files in `spool_dir`, which this process has locked with `lock`. `keys` open encrypted
    /// exports.
    pub(crate) fn new(
        context: &Context,
        spool_dir: PathBuf,
        lock: std::fs::File,
        keys: Option<DecryptionKeys>,
    ) -> Self {
        let inner = Inner {
            spool_dir,
            keys,
            running: Mutex::default(),
            permits: Permits::new(&context.limits),
            control_tables: Mutex::default(),
            lock,
        };
        Self { context: context.clone(), inner: Arc::new(inner) }
    }

    /// What all parts of the region share.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Permits for uploads, watches and turns.
    pub(crate) fn permits(&self) -> &Permits {
        &self.inner.permits
    }

    /// Control's tables as it has described them last to this process.
    pub(super) fn known_tables(&self) -> &Mutex<Option<Arc<ControlTables>>> {
        &self.inner.control_tables
    }

    pub(super) fn spool_dir(&self) -> &Path {
        &self.inner.spool_dir
    }

    /// The keys that open encrypted exports; `None` if this region has none.
    pub(crate) fn keys(&self) -> Option<&DecryptionKeys> {
        self.inner.keys.as_ref()
    }

    /// Stops the region's work, and unlocks the spool directory for the next process.
    pub(crate) async fn stop(&self) {
        self.context.lifecycle.stop().await;
        if let Err(error) = self.inner.lock.unlock() {
            tracing::warn!(%error, "the spool directory stays locked until the process ends");
        }
    }

    /// The import with this id, if it runs in this process.
    pub(crate) fn running(&self, id: Uuid) -> Option<Arc<RunningImport>> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Runs an import in the background. If it already runs in this process, that run checks it once more before it
    /// ends.
    pub(super) fn spawn(&self, id: Uuid) {
        let live = Arc::new(RunningImport::default());
        {
            let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(running) = running.get(&id) {
                running.ask_again();
                return;
            }
            running.insert(id, Arc::clone(&live));
        }
        let engine = self.clone();
        self.context.lifecycle.background(async move {
            loop {
                if engine.take_lease(id).await {
                    let kept = engine.keep_lease(id);
                    let call = Call::own(id, &engine.context.region, "import");
                    causeway_audit::scope(call, engine.import_organizations(id, Arc::clone(&live))).await;
                    drop(kept);
                    engine.give_lease_back(id).await;
                }
                let mut running = engine.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
                if engine.context.lifecycle.is_stopping() || !live.take_recheck() {
                    running.remove(&id);
                    break;
                }
            }
            live.changed();
        });
    }

    /// Imports the organizations of a file: plan, write models, resolve slugs and reserve them, write deferred models,
    /// make everything visible. Returns when the import has ended, or when the service stops.
    async fn import_organizations(&self, id: Uuid, live: Arc<RunningImport>) {
        let mut run = Run {
            live,
            fitted: None,
            plan: None,
            keys: None,
            done: HashMap::new(),
            sizes: Sizes::default(),
            dry_run: None,
            waiting: None,
            turn: None,
        };
        loop {
            let stepped = self.step(id, &mut run).await;
            // A waiting import must not keep others from their turns.
            run.turn = None;
            run.live.stepped();
            let error = match stepped {
                Ok(Step::Next) => {
                    run.waiting = None;
                    continue;
                }
                Ok(Step::Done) => return,
                Err(error) if error.is_stop() && self.context.lifecycle.is_stopping() => return,
                // Its plan was stopped, because the import is to be reverted.
                Err(error) if error.is_stop() => continue,
                Err(error) => error,
            };
            // A chunk may have been absorbed only in part, so the keys are read from the store again.
            run.keys = None;
            // Somebody may have altered a table, which then fails in ways that do not say so.
            run.fitted = None;
            run.sizes = Sizes::default();
            let (ended, error) = match error {
                error if error.is_transient() => (false, error),
                error => {
                    let error = self.explained(id, &mut run, error).await;
                    match self.end(id, &error).await {
                        Ok(ended) => (ended, error),
                        Err(other) => (false, other),
                    }
                }
            };
            if ended {
                run.live.stepped();
                return;
            }
            // Another process has the lease, or the import is in another state by now.
            if matches!(error, Error::Superseded(_)) {
                if !self.take_lease(id).await {
                    return;
                }
                continue;
            }
            self.wait(id, &mut run, &error).await;
            let attempts = run.waiting.as_ref().map_or(1, |waiting| waiting.attempts);
            tokio::select! {
                paused = self.context.pause(attempts) => if paused.is_err() { return },
                () = run.live.interrupted() => {}
            }
        }
    }

    /// Stores that an import waits, and for what.
    async fn wait(&self, id: Uuid, run: &mut Run, error: &Error) {
        self.context.registration.note_refusal(error.reason());
        let before = run.waiting.take();
        let since = before.as_ref().map_or_else(|| self.context.env.now(), |waiting| waiting.since);
        let attempts = before.map_or(0, |waiting| waiting.attempts) + 1;
        let reason = error.reason().as_str_name();
        tracing::warn!(import_id = %id, attempts, reason, %error, "an import waits and tries again");
        let waiting =
            Waiting { reason: error.reason(), message: shown_message(&error.to_string()), since, attempts };
        self.note_waiting(id, Some(&waiting)).await;
        run.waiting = Some(waiting);
        run.live.changed();
    }

    async fn step(&self, id: Uuid, run: &mut Run) -> Result<Step, Error> {
        let import = store::import::get(&self.context.db, id).await?.ok_or(Error::ImportNotFound(id))?;
        // Planning is one turn however large the file is. It has turns of its own, so that imports that write do not
        // wait for it.
        let turns =
            if import.state == ImportState::Planning { &self.permits().plans } else { &self.permits().turns };
        run.turn = Some(turns.turn(&self.context).await?);
        let import = store::import::get(&self.context.db, id).await?.ok_or(Error::ImportNotFound(id))?;
        match import.state {
            _ if import.needs_no_process() => return Ok(Step::Done),
            ImportState::Receiving | ImportState::Failed | ImportState::Planned | ImportState::Reverted => {
                return Ok(Step::Done);
            }
            ImportState::Checking => self.check_import(&import, run).await?,
            ImportState::Planning => self.plan_import(&import, run).await?,
            ImportState::Writing => self.import_in_organization_scope(&import, run).await?,
            ImportState::ResolvingSlugs => self.resolve_org_slugs(&import, run).await?,
            ImportState::Finishing => self.finish(&import, run).await?,
            ImportState::Succeeded => self.report(&import, run).await?,
            ImportState::Reverting => {
                let call = Call::own(id, &self.context.region, "revert");
                causeway_audit::scope(call, self.revert(&import, run)).await?;
            }
        }
        Ok(Step::Next)
    }

    /// Stores what an import waits for; with `None`, that it no longer waits. If the import waits for the store itself,
    /// only this process can report that.
    pub(super) async fn note_waiting(&self, id: Uuid, waiting: Option<&Waiting>) {
        let noted = transact!(Error, self.context.db, |tx| {
            store::import::set_waiting(tx, id, self.context.holder.id, waiting, self.context.env.now())
                .await?;
        });
        let unstored = match &noted {
            Ok(()) => None,
            Err(error) => {
                tracing::debug!(import_id = %id, %error, "what the import waits for cannot be stored");
                waiting.cloned()
            }
        };
        if let Some(live) = self.running(id) {
            live.keep_waiting(unstored);
        }
    }

    /// Ends an import with an error. What it wrote stays hidden. `false` if it cannot end this way: what is visible
    /// stays, and is reported until control accepts it; a revert is retried however often it takes.
    async fn end(&self, id: Uuid, error: &Error) -> Result<bool, Error> {
        let Some(import) = store::import::get(&self.context.db, id).await? else { return Ok(true) };
        if import.state.is_final() || import.state == ImportState::Reverting {
            return Ok(false);
        }
        tracing::error!(import_id = %id, %error, reason = error.reason().as_str_name(), "an import has failed");
        let failure =
            Failure { reason: error.reason(), message: self.message(&import, error), state: import.state };
        let finding = finding_of(error);
        transact_leased!(self, &import, |lease| {
            // In a state of its own, so that it is deleted if the import is resumed.
            self.add_findings(lease, ImportState::Failed, std::slice::from_ref(&finding)).await?;
            let now = self.context.env.now();
            store::import::fail(lease, &failure, now).await?;
            causeway_audit::append_failure(lease, &Subject::import(id), failure.reason, now).await?;
        })?;
        let failed = Import { state: ImportState::Failed, failure: Some(failure), ..import };
        if !failed.keeps_file() {
            self.remove_spool(id).await;
        }
        Ok(true)
    }

    fn message(&self, import: &Import, error: &Error) -> String {
        let consequence = match import.state {
            ImportState::Planning | ImportState::Checking => "nothing was written",
            _ => "what was written up to here stays hidden",
        };
        format!("{} ({consequence})", shown_message(&error.to_string()))
    }

    /// Removes the file of an import that no longer needs it, and its plan.
    pub(super) async fn remove_spool(&self, id: Uuid) {
        let kept = Checkpoint::ENDINGS.iter().map(|ending| self.spool_dir().join(format!("{id}{ending}")));
        let paths: Vec<PathBuf> = [spool_path(self.spool_dir(), id)].into_iter().chain(kept).collect();
        let removed = tokio::task::spawn_blocking(move || {
            for path in paths {
                if let Err(error) = std::fs::remove_file(&path)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(import_id = %id, path = %path.display(), %error, "a file of an import that has ended cannot be removed");
                }
            }
        });
        if let Err(error) = removed.await {
            tracing::warn!(import_id = %id, %error, "the files of an import that has ended cannot be removed");
        }
    }
}

/// The finding about an error that has ended an import: its place and its kind.
fn finding_of(error: &Error) -> Finding {
    match error {
        Error::Export(ExportError::Invalid(finding) | ExportError::OverLimit { finding, .. })
        | Error::Write(WriteError::Value(finding)) => {
            Finding { reason: shown_message(&finding.reason), ..(**finding).clone() }
        }
        Error::Export(ExportError::FilterMatchesNothing(reason)) => {
            Finding::new(FindingKind::FilterMatchesNothing, shown_message(reason)).model(ORGANIZATION)
        }
        error if error.db_error().is_some() => {
            Finding::new(FindingKind::DatabaseError, shown_message(&error.to_string()))
        }
        error => Finding::new(FindingKind::Unknown, shown_message(&error.to_string())),
    }
}

/// The most bytes of a stored message.
const MAX_MESSAGE: usize = 4_000;

/// A message that any database and terminal can handle: short, and without control characters.
fn shown_message(message: &str) -> String {
    let mut clean: String = message.chars().filter(|character| !character.is_control()).collect();
    clean.truncate(clean.floor_char_boundary(MAX_MESSAGE));
    clean
}
