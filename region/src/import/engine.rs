//! Moves imports from state to state, in the background of the service. A step that fails for a transient reason is
//! retried; any other failure ends the import.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use causeway_audit::{Call, Subject};
use causeway_proto::relocation::v1::ErrorReason;
use causeway_relocation::{
    catalog::ORGANIZATION,
    export::ExportError,
    finding::{Finding, FindingKind},
    writer::WriteError,
};
use causeway_silo::db::HasDbError as _;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{
    Failure, Import, ImportState, Waiting,
    context::ImportContext,
    run::{ImportRun, note_waiting},
    running::RunningImport,
    steps,
    traced::{import_span, step_ended, step_span},
};
use crate::{error::Error, permits::Permits, store};

/// Runs the imports of one region. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(super) context: ImportContext,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    running: Mutex<HashMap<Uuid, Arc<RunningImport>>>,
    permits: Permits,
}

/// The outcome of a step.
enum StepOutcome {
    /// There is another step.
    Next,
    /// No process needs to work on the import any more.
    Done,
}

impl Engine {
    /// An engine that runs nothing yet.
    pub(crate) fn new(context: ImportContext) -> Self {
        let inner = Inner { running: Mutex::default(), permits: Permits::new(&context.limits) };
        Self { context, inner: Arc::new(inner) }
    }

    /// What the parts of an import share.
    pub(crate) fn context(&self) -> &ImportContext {
        &self.context
    }

    /// Permits for uploads, watches and turns.
    pub(crate) fn permits(&self) -> &Permits {
        &self.inner.permits
    }

    /// Stops the region's work, and unlocks the spool directory for the next process.
    pub(crate) async fn stop(&self) {
        self.context.lifecycle.stop().await;
        self.context.unlock_spool();
    }

    /// The import with this id, if it runs in this process.
    pub(crate) fn running(&self, id: Uuid) -> Option<Arc<RunningImport>> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Runs an import in the background. If it already runs in this process, that run checks it once more before it
    /// ends.
    pub(crate) fn spawn(&self, id: Uuid) {
        let running_import = Arc::new(RunningImport::default());
        {
            let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(running) = running.get(&id) {
                running.request_recheck();
                return;
            }
            running.insert(id, Arc::clone(&running_import));
        }
        let engine = self.clone();
        self.context.lifecycle.background(async move {
            loop {
                if engine.context.take_lease(id).await {
                    let kept = engine.context.keep_lease(id, Arc::clone(&running_import));
                    let call = Call::own(id, &engine.context.region, "import");
                    let span = import_span(&engine.context, id).await;
                    let importing =
                        engine.import_organizations(id, Arc::clone(&running_import)).instrument(span);
                    causeway_audit::scope(call, importing).await;
                    drop(kept);
                    engine.context.give_lease_back(id).await;
                }
                let mut running = engine.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
                if engine.context.lifecycle.is_stopping() || !running_import.take_recheck() {
                    running.remove(&id);
                    break;
                }
            }
            running_import.changed();
        });
    }

    /// Continues the imports whose pause has ended, perhaps by a call to another process of the region that does not have
    /// their files. Looks for them until the region stops.
    pub(crate) fn look_for_unpaused(&self) {
        let engine = self.clone();
        self.context.lifecycle.background(async move {
            let context = &engine.context;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(context.throttle.options().look_interval) => {}
                    () = context.lifecycle.stopping() => return,
                }
                let looked = tokio::select! {
                    looked = engine.continue_unpaused() => looked,
                    () = context.lifecycle.stopping() => return,
                };
                if let Err(error) = looked {
                    tracing::debug!(%error, "imports whose pause has ended cannot be looked for now");
                }
            }
        });
    }

    /// Continues the imports whose pause has ended, as far as this process can run them.
    pub(super) async fn continue_unpaused(&self) -> Result<(), Error> {
        for id in store::pause::unpaused(&self.context.db).await? {
            if let Some(import) = store::import::get(&self.context.db, id).await?
                && !import.needs_no_process()
                && self.context.can_run(&import)
            {
                self.spawn(id);
            }
        }
        Ok(())
    }

    /// Runs an import that has not ended: the caller that began it may not know that it was accepted.
    pub(super) fn continue_import(&self, import: &Import) {
        if !import.needs_no_process() && self.context.can_run(import) {
            self.spawn(import.id);
        }
    }

    /// Imports the organizations of a file: plan, write models, resolve slugs and reserve them, write deferred models,
    /// make everything visible. Returns when the import has ended, or when the service stops.
    async fn import_organizations(&self, id: Uuid, running_import: Arc<RunningImport>) {
        let mut run = ImportRun::new(running_import);
        loop {
            let stepped = self.step(id, &mut run).await;
            // A waiting import must not keep others from their turns.
            run.turn = None;
            run.running_import.stepped();
            let error = match stepped {
                Ok(StepOutcome::Next) => {
                    run.waiting = None;
                    continue;
                }
                Ok(StepOutcome::Done) => return,
                Err(error) if error.is_stop() && self.context.lifecycle.is_stopping() => return,
                // Its plan was stopped, because the import is to be reverted, or was paused.
                Err(error) if error.is_stop() => continue,
                Err(error) => error,
            };
            run.forget_attempt();
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
                run.running_import.stepped();
                return;
            }
            // Another process has the lease, or the import is in another state by now.
            if matches!(error, Error::Superseded(_)) {
                if !self.context.take_lease(id).await {
                    return;
                }
                continue;
            }
            self.wait(id, &mut run, &error).await;
            let attempts = run.waiting.as_ref().map_or(1, |waiting| waiting.attempts);
            tokio::select! {
                paused = self.context.pause(attempts) => if paused.is_err() { return },
                () = run.running_import.interrupted() => {}
            }
        }
    }

    /// Stores that an import waits, and for what.
    async fn wait(&self, id: Uuid, run: &mut ImportRun, error: &Error) {
        self.context.registration.note_refusal(error.reason());
        let before = run.waiting.take();
        let since = before.as_ref().map_or_else(|| self.context.env.now(), |waiting| waiting.since);
        let attempts = before.map_or(0, |waiting| waiting.attempts) + 1;
        let reason = error.reason().as_str_name();
        tracing::warn!(import_id = %id, attempts, reason, %error, "an import waits and tries again");
        let waiting =
            Waiting { reason: error.reason(), message: shown_message(&error.to_string()), since, attempts };
        note_waiting(&self.context, id, &run.running_import, Some(&waiting)).await;
        run.waiting = Some(waiting);
        run.running_import.changed();
    }

    async fn step(&self, id: Uuid, run: &mut ImportRun) -> Result<StepOutcome, Error> {
        // Before the state is read, so that no later change of it is missed.
        run.moved = run.running_import.take_interruption();
        let import = store::import::get(&self.context.db, id).await?.ok_or(Error::ImportNotFound(id))?;
        if import.needs_no_process() {
            return Ok(StepOutcome::Done);
        }
        // Planning is one turn however large the file is. It has turns of its own, so that imports that write do not
        // wait for it.
        let turns =
            if import.state == ImportState::Planning { &self.permits().plans } else { &self.permits().turns };
        run.turn = tokio::select! {
            turn = turns.turn(&self.context) => Some(turn?),
            // So that it does not queue for nothing.
            _ = run.moved.changed() => return Ok(StepOutcome::Next),
        };
        let import = store::import::get(&self.context.db, id).await?.ok_or(Error::ImportNotFound(id))?;
        if import.needs_no_process() {
            return Ok(StepOutcome::Done);
        }
        let span = step_span(&import);
        let stepped = self.work(&import, run).instrument(span.clone()).await;
        step_ended(&span, &stepped);
        stepped
    }

    /// The work of the state that an import is in.
    async fn work(&self, import: &Import, run: &mut ImportRun) -> Result<StepOutcome, Error> {
        let context = &self.context;
        match import.state {
            ImportState::Receiving | ImportState::Failed | ImportState::Planned | ImportState::Reverted => {
                return Ok(StepOutcome::Done);
            }
            ImportState::Checking => steps::checking::run(context, import, run).await?,
            ImportState::Planning => steps::planning::run(context, import, run).await?,
            ImportState::Writing => steps::writing::run(context, import, run).await?,
            ImportState::ResolvingSlugs => steps::resolving_slugs::run(context, import, run).await?,
            ImportState::Finishing => steps::finishing::run(context, import, run).await?,
            ImportState::Succeeded => steps::succeeded::run(context, import, run).await?,
            ImportState::Reverting => {
                let call = Call::own(import.id, &context.region, "revert");
                causeway_audit::scope(call, steps::reverting::run(context, import, run)).await?;
            }
        }
        Ok(StepOutcome::Next)
    }

    /// Ends an import with an error. What it wrote stays hidden. `false` if it cannot end this way: what is visible
    /// stays, and is reported until control accepts it; a revert is retried however often it takes.
    async fn end(&self, id: Uuid, error: &Error) -> Result<bool, Error> {
        let Some(import) = store::import::get(&self.context.db, id).await? else { return Ok(true) };
        if import.state.is_final() || import.state == ImportState::Reverting {
            return Ok(false);
        }
        let reason = error.reason().as_str_name();
        match error.reason() {
            // It is the caller's own mistake, and the caller gets the reason. Nobody has to look after the service.
            ErrorReason::ExportInvalid | ErrorReason::FilterMatchesNothing => {
                tracing::info!(import_id = %id, %error, reason, "an import has failed");
            }
            _ => tracing::error!(import_id = %id, %error, reason, "an import has failed"),
        }
        let failure =
            Failure { reason: error.reason(), message: self.message(&import, error), state: import.state };
        let finding = finding_of(error);
        transact_leased!(self.context, &import, |lease| {
            // In a state of its own, so that it is deleted if the import is resumed.
            self.context.add_findings(lease, ImportState::Failed, std::slice::from_ref(&finding)).await?;
            let now = self.context.env.now();
            store::import::fail(lease, &failure, now).await?;
            causeway_audit::append_failure(lease, &Subject::import(id), failure.reason, now).await?;
        })?;
        let failed = Import { state: ImportState::Failed, failure: Some(failure), ..import };
        if !failed.keeps_file() {
            self.context.remove_spool(id).await;
        }
        Ok(true)
    }

    /// Why an import that has met an apparent defect cannot go on: because tables were altered, or because of
    /// the error itself.
    async fn explained(&self, id: Uuid, run: &mut ImportRun, error: Error) -> Error {
        if error.reason() != ErrorReason::Internal {
            return error;
        }
        let Ok(Some(import)) = store::import::get(&self.context.db, id).await else { return error };
        // A revert goes by the tables as they are.
        if import.state == ImportState::Reverting {
            return error;
        }
        match self.context.fitted(&import, &mut run.fitted).await {
            Err(reason @ (Error::SchemaChanged { .. } | Error::TablesUnfit(_))) => {
                tracing::warn!(import_id = %id, %error, "a statement met tables that had changed");
                reason
            }
            _ => error,
        }
    }

    fn message(&self, import: &Import, error: &Error) -> String {
        let consequence = match import.state {
            ImportState::Planning | ImportState::Checking => "nothing was written",
            _ => "what was written up to here stays hidden",
        };
        format!("{} ({consequence})", shown_message(&error.to_string()))
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
