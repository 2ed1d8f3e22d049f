//! What one process has in memory of an import that it runs.

use std::{collections::HashMap, sync::Arc};

use causeway_relocation::{plan::Plan, writer::DryRun};
use causeway_silo::transact;
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Waiting, batches::Sizes, context::ImportContext, fitted::Fitted, mapped::SharedKeys,
    running::RunningImport,
};
use crate::{
    error::Error,
    permits::Turn,
    store,
    throttle::{Cost, Pass},
};

/// What a process has in memory of an import between its steps. All of it can be made again from the file and the
/// store.
#[derive(Debug)]
pub(super) struct ImportRun {
    /// What watchers see of it, and how it is interrupted.
    pub(super) running_import: Arc<RunningImport>,
    /// The catalog as far as the databases take it, read when this run began.
    pub(super) fitted: Option<Fitted>,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) keys: Option<SharedKeys>,
    /// The last ordinal of each model that a chunk covers, by the model's position.
    pub(super) done: HashMap<usize, i64>,
    /// The current size of batches.
    pub(super) sizes: Sizes,
    /// The progress of a dry run; made again each time that the dry run begins.
    pub(super) dry_run: Option<DryRun>,
    /// Why the last attempt failed; `None` if it did not.
    pub(super) waiting: Option<Waiting>,
    /// Changes when the import has been moved to another state, or paused, since the step began.
    pub(super) moved: watch::Receiver<u64>,
    /// The import's turn, while a step runs.
    pub(super) turn: Option<Turn>,
}

impl ImportRun {
    /// A run that has read nothing yet.
    pub(super) fn new(running_import: Arc<RunningImport>) -> Self {
        Self {
            moved: running_import.take_interruption(),
            running_import,
            fitted: None,
            plan: None,
            keys: None,
            done: HashMap::new(),
            sizes: Sizes::default(),
            dry_run: None,
            waiting: None,
            turn: None,
        }
    }

    /// Forgets what an attempt that failed may have left wrong.
    pub(super) fn forget_attempt(&mut self) {
        // A chunk may have been absorbed only in part, so the keys are read from the store again.
        self.keys = None;
        // Somebody may have altered a table, which then fails in ways that do not show this.
        self.fitted = None;
        self.sizes = Sizes::default();
    }

    /// Notes that the import no longer waits, if it did, because something of it has been done.
    pub(super) async fn note_progress(&mut self, context: &ImportContext, id: Uuid) {
        if self.waiting.take().is_some() {
            note_waiting(context, id, &self.running_import, None).await;
        }
    }

    /// Waits until the throttle lets a chunk pass.
    ///
    /// # Errors
    /// If the service stops, or the import has been moved or paused meanwhile.
    pub(super) async fn pass_throttle(
        &mut self,
        context: &ImportContext,
        id: Uuid,
        cost: Cost,
    ) -> Result<Pass, Error> {
        pass_throttle(context, id, &self.running_import, &mut self.moved, cost).await
    }

    /// Does what control works on and this process only waits for, without a turn meanwhile.
    ///
    /// # Errors
    /// Those of the work, or if the service stops, or the import has been moved or paused meanwhile.
    pub(super) async fn without_turn<T>(
        &mut self,
        context: &ImportContext,
        id: Uuid,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if let Some(turn) = &mut self.turn {
            turn.give_up();
        }
        let outcome = work.await;
        // Also after an error: some mean that there was nothing to do. A wait for control is another matter, in which the
        // import has no turn either.
        if outcome.as_ref().is_err_and(Error::is_transient) {
            return outcome;
        }
        let Some(turn) = &mut self.turn else { return outcome };
        tokio::select! {
            taken = turn.take(context) => taken?,
            // Never an error: the sender lives as long as the import runs.
            _ = self.moved.changed() => return Err(Error::Superseded(id)),
        }
        outcome
    }

    /// Gives the turn to another import if one waits; see [`Turn::pass`].
    ///
    /// # Errors
    /// If the service stops, or the import has been moved or paused meanwhile.
    pub(super) async fn pass_turn(&mut self, context: &ImportContext, id: Uuid) -> Result<(), Error> {
        match &mut self.turn {
            Some(turn) => pass_turn(context, id, turn, &mut self.moved).await,
            None => Ok(()),
        }
    }
}

/// Gives the turn of an import to another one if one waits; `moved` is that of its run.
///
/// # Errors
/// If the service stops, or the import has been moved or paused meanwhile: it does not queue for nothing.
pub(super) async fn pass_turn(
    context: &ImportContext,
    id: Uuid,
    turn: &mut Turn,
    moved: &mut watch::Receiver<u64>,
) -> Result<(), Error> {
    tokio::select! {
        passed = turn.pass(context) => passed,
        // Never an error: the sender lives as long as the import runs.
        _ = moved.changed() => Err(Error::Superseded(id)),
    }
}

/// Shows that nothing holds an import back when this is dropped: also a wait that is given up ends.
struct Shown<'a>(&'a RunningImport);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.throttled(None);
    }
}

/// Waits until the throttle lets a chunk of an import pass; `moved` is that of its run.
///
/// # Errors
/// If the service stops, or the import has been moved or paused meanwhile.
pub(super) async fn pass_throttle(
    context: &ImportContext,
    id: Uuid,
    running_import: &RunningImport,
    moved: &mut watch::Receiver<u64>,
    cost: Cost,
) -> Result<Pass, Error> {
    let shown = Shown(running_import);
    tokio::select! {
        pass = context.throttle.pass(cost, |slowed_by| shown.0.throttled(slowed_by)) => Ok(pass),
        () = context.lifecycle.stopping() => Err(Error::Stopping),
        // Never an error: the sender lives as long as the import runs.
        _ = moved.changed() => Err(Error::Superseded(id)),
    }
}

/// Stores what an import waits for; with `None`, that it no longer waits. If the import waits for the store itself,
/// only this process can report that.
pub(super) async fn note_waiting(
    context: &ImportContext,
    id: Uuid,
    running_import: &RunningImport,
    waiting: Option<&Waiting>,
) {
    let noted = transact!(Error, context.db, |tx| {
        store::import::set_waiting(tx, id, context.holder.id, waiting, context.env.now()).await?;
    });
    let unstored = match &noted {
        Ok(()) => None,
        Err(error) => {
            tracing::debug!(import_id = %id, %error, "what the import waits for cannot be stored");
            waiting.cloned()
        }
    };
    running_import.keep_waiting(unstored);
}
