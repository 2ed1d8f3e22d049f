//! Takes imports from state to state, in the background of the service. A step that fails for a reason that passes is
//! tried again; any other failure ends the import.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use causeway_relocation::{
    ambient::Ambient,
    catalog::{Catalog, ORGANIZATION},
    db::{Db, HasDbError as _},
    export::ExportError,
    finding::{Finding, FindingKind},
    plan::{Keep, Plan},
    transact,
    writer::{Rehearsal, WriteError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    Failure, Holder, Import, ImportState, Waiting,
    batches::Sizes,
    live::Live,
    mapped::SharedKeys,
    places::{UploadPlace, UploadPlaces},
    spool::spool_path,
    turns::{Turn, Turns},
};
use crate::{
    control_client::{ControlClient, ControlError},
    decryption_key::DecryptionKey,
    error::Error,
    limits::Limits,
    pauses::Pauses,
    registration::Registration,
    store,
};

/// Runs the imports of one region. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Runner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    catalog: Arc<Catalog>,
    ambient: Ambient,
    control: ControlClient,
    region: String,
    address: String,
    instance_id: Uuid,
    spool_dir: PathBuf,
    limits: Limits,
    key: Option<DecryptionKey>,
    live: Mutex<HashMap<Uuid, Arc<Live>>>,
    /// No import goes on behind the chunk in hand, and no upload begins.
    stop: CancellationToken,
    /// Uploads that are under way have had their time.
    uploads_over: CancellationToken,
    tasks: TaskTracker,
    /// Those who watch imports, until they have heard the last of it.
    watchers: TaskTracker,
    pauses: Pauses,
    /// Of imports that read their file, and of those that do anything else.
    plans: Turns,
    turns: Turns,
    uploads: UploadPlaces,
    watches: Arc<Semaphore>,
    registration: Registration,
    holder: Holder,
    /// Held as long as this process may write into the spool directory.
    lock: std::fs::File,
}

/// What a runner needs.
pub(crate) struct Setup {
    pub(crate) db: Db,
    pub(crate) catalog: Catalog,
    pub(crate) ambient: Ambient,
    pub(crate) control: ControlClient,
    pub(crate) region: String,
    pub(crate) address: String,
    pub(crate) instance_id: Uuid,
    pub(crate) spool_dir: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) key: Option<DecryptionKey>,
    pub(crate) holder: Holder,
    pub(crate) lock: std::fs::File,
    pub(crate) pauses: Pauses,
}

/// What is remembered of an import between its steps. All of it can be made again from the file and the store.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) live: Arc<Live>,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) keys: Option<SharedKeys>,
    /// The last ordinal of each model, by position, that a chunk covers.
    pub(super) done: HashMap<usize, i64>,
    /// How large batches have become.
    pub(super) sizes: Sizes,
    /// What a dry run has gone through; it is made anew when that begins.
    pub(super) rehearsal: Option<Rehearsal>,
    /// What the last attempt failed for, if it did.
    pub(super) waiting: Option<Waiting>,
    /// Its turn, while a step runs.
    pub(super) turn: Option<Turn>,
}

impl Run {
    /// Gives the turn to another import if one waits; see [`Runner::pass_turn`].
    pub(super) async fn pass_turn(&mut self, runner: &Runner) -> Result<(), Error> {
        match &mut self.turn {
            Some(turn) => runner.pass_turn(turn).await,
            None => Ok(()),
        }
    }
}

/// What a step came to.
enum Step {
    /// There is another one.
    Next,
    /// The import needs nobody any more.
    Done,
}

impl Runner {
    pub(crate) fn new(setup: Setup) -> Self {
        Self(Arc::new(Inner {
            db: setup.db,
            catalog: Arc::new(setup.catalog),
            ambient: setup.ambient,
            control: setup.control,
            region: setup.region,
            address: setup.address,
            instance_id: setup.instance_id,
            spool_dir: setup.spool_dir,
            limits: setup.limits,
            key: setup.key,
            live: Mutex::default(),
            stop: CancellationToken::new(),
            uploads_over: CancellationToken::new(),
            tasks: TaskTracker::new(),
            watchers: TaskTracker::new(),
            pauses: setup.pauses,
            plans: Turns::new(setup.limits.imports_at_once),
            turns: Turns::new(setup.limits.imports_at_once),
            uploads: UploadPlaces::new(setup.limits.uploads, setup.limits.uploads_per_address),
            watches: Arc::new(Semaphore::new(setup.limits.watches)),
            registration: Registration::default(),
            holder: setup.holder,
            lock: setup.lock,
        }))
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.0.catalog
    }

    pub(crate) fn ambient(&self) -> &Ambient {
        &self.0.ambient
    }

    pub(crate) fn control(&self) -> &ControlClient {
        &self.0.control
    }

    pub(crate) fn region(&self) -> &str {
        &self.0.region
    }

    /// Where others reach this region.
    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    /// Whether control knows this region.
    pub(crate) fn registration(&self) -> &Registration {
        &self.0.registration
    }

    /// The id of this region's database.
    pub(crate) fn instance_id(&self) -> Uuid {
        self.0.instance_id
    }

    /// This process, as the holder of leases.
    pub(crate) fn holder(&self) -> &Holder {
        &self.0.holder
    }

    pub(super) fn spool_dir(&self) -> &Path {
        &self.0.spool_dir
    }

    pub(crate) fn pauses(&self) -> &Pauses {
        &self.0.pauses
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// A place for an upload from this address, if it is known; given back when it is dropped.
    ///
    /// # Errors
    /// If there is none left.
    pub(crate) fn place_for_upload(&self, address: Option<IpAddr>) -> Result<UploadPlace, Error> {
        self.0.uploads.take(address)
    }

    /// A place for somebody who watches an import, given back when it is dropped.
    ///
    /// # Errors
    /// If there is none left.
    pub(crate) fn place_for_watch(&self) -> Result<OwnedSemaphorePermit, Error> {
        let place = Arc::clone(&self.0.watches).try_acquire_owned();
        place.map_err(|_| Error::TooManyWatches { limit: self.limits().watches })
    }

    /// What this region opens encrypted exports with, if it does.
    pub(crate) fn key(&self) -> Option<&DecryptionKey> {
        self.0.key.as_ref()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stop.is_cancelled()
    }

    /// Ends when the service begins to stop.
    pub(crate) async fn stopping(&self) {
        self.0.stop.cancelled().await;
    }

    /// Whether uploads that are under way have had their time.
    pub(super) fn are_uploads_over(&self) -> bool {
        self.0.uploads_over.is_cancelled()
    }

    /// Ends when uploads that are under way have had their time.
    pub(crate) async fn uploads_over(&self) {
        self.0.uploads_over.cancelled().await;
    }

    /// Ends when the service stops and nothing runs in its background any more.
    pub(crate) async fn ended(&self) {
        self.stopping().await;
        self.0.tasks.wait().await;
    }

    /// Begins to stop: running steps end at the next chunk, and go on when the service is back.
    pub(crate) fn begin_stop(&self) {
        self.0.stop.cancel();
    }

    /// Stops, and ends the uploads that are still under way.
    pub(crate) async fn stop(&self) {
        self.begin_stop();
        self.0.uploads_over.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        // They look once more, for the last chunk.
        self.0.watchers.close();
        self.0.watchers.wait().await;
        if let Err(error) = self.0.lock.unlock() {
            tracing::warn!(%error, "the spool directory stays locked until the process ends");
        }
    }

    /// Runs something that ends by itself when the service stops, before it has stopped.
    pub(crate) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        if tokio::runtime::Handle::try_current().is_ok() {
            self.0.tasks.spawn(task);
        }
    }

    /// Runs something that tells somebody of imports, as long as the database is there.
    pub(crate) fn watched(&self, watcher: impl Future<Output = ()> + Send + 'static) {
        self.0.watchers.spawn(watcher);
    }

    /// The running import of that id.
    pub(crate) fn live(&self, id: Uuid) -> Option<Arc<Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Runs an import. One that is running in this process is looked at again before it ends.
    pub(super) fn spawn(&self, id: Uuid) {
        let live = Arc::new(Live::default());
        {
            let mut running = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(running) = running.get(&id) {
                running.ask_again();
                return;
            }
            running.insert(id, Arc::clone(&live));
        }
        let runner = self.clone();
        self.0.tasks.spawn(async move {
            loop {
                if runner.take_lease(id).await {
                    let kept = runner.keep_lease(id);
                    runner.import_organizations(id, Arc::clone(&live)).await;
                    drop(kept);
                    runner.give_lease_back(id).await;
                }
                let mut running = runner.0.live.lock().unwrap_or_else(PoisonError::into_inner);
                if runner.is_stopping() || !live.asked_again() {
                    running.remove(&id);
                    break;
                }
            }
            live.changed();
        });
    }

    /// Runs something to its end, also if whoever asked for it goes away.
    pub(super) async fn to_its_end<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.0.tasks.spawn(task).await.map_err(|error| Error::of_task("a task", &error))?
    }

    /// Imports the organizations of a file: plan, write models, resolve slugs and reserve them, write deferred models,
    /// make everything visible. Ends when the import has, or when the service stops.
    async fn import_organizations(&self, id: Uuid, live: Arc<Live>) {
        let mut run = Run {
            live,
            plan: None,
            keys: None,
            done: HashMap::new(),
            sizes: Sizes::default(),
            rehearsal: None,
            waiting: None,
            turn: None,
        };
        loop {
            let stepped = self.step(id, &mut run).await;
            // An import that waits does not keep others from their turns.
            run.turn = None;
            run.live.stepped();
            let error = match stepped {
                Ok(Step::Next) => {
                    run.waiting = None;
                    continue;
                }
                Ok(Step::Done) => return,
                Err(error) if error.is_stop() && self.is_stopping() => return,
                // Its plan was ended, because it is to be reverted.
                Err(error) if error.is_stop() => continue,
                Err(error) => error,
            };
            // What a chunk left half absorbed is read from the store again.
            run.keys = None;
            run.sizes = Sizes::default();
            let (ended, error) = match error {
                error if error.passes() => (false, error),
                error => match self.end(id, &error).await {
                    Ok(ended) => (ended, error),
                    Err(other) => (false, other),
                },
            };
            if ended {
                run.live.stepped();
                return;
            }
            // Another process has it, or it stands elsewhere by now.
            if matches!(error, Error::Superseded(_)) {
                if !self.take_lease(id).await {
                    return;
                }
                continue;
            }
            self.wait(id, &mut run, &error).await;
            let attempts = run.waiting.as_ref().map_or(1, |waiting| waiting.attempts);
            tokio::select! {
                paused = self.pause(attempts) => if paused.is_err() { return },
                () = run.live.interrupted() => {}
            }
        }
    }

    /// Notes that an import waits, and for what.
    async fn wait(&self, id: Uuid, run: &mut Run, error: &Error) {
        self.registration().note_refusal(error.reason());
        let before = run.waiting.take();
        let since = before.as_ref().map_or_else(|| self.ambient().now(), |waiting| waiting.since);
        let attempts = before.map_or(0, |waiting| waiting.attempts) + 1;
        let reason = error.reason().as_str_name();
        tracing::warn!(import_id = %id, attempts, reason, %error, "an import waits and tries again");
        let waiting =
            Waiting { reason: error.reason(), message: shown_message(&error.to_string()), since, attempts };
        self.note_waiting(id, Some(&waiting)).await;
        run.waiting = Some(waiting);
        run.live.changed();
    }

    /// A call to control, given up when the service stops: every call is idempotent and is made again.
    pub(crate) async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, ControlError>>,
    ) -> Result<T, Error> {
        tokio::select! {
            answer = call => Ok(answer?),
            () = self.stopping() => Err(Error::Stopping),
        }
    }

    async fn step(&self, id: Uuid, run: &mut Run) -> Result<Step, Error> {
        let import = store::import::get(self.db(), id).await?.ok_or(Error::ImportNotFound(id))?;
        // A plan is a turn however large its file is, so it is one of its own: nobody who writes waits for it.
        let turns = if import.state == ImportState::Planning { &self.0.plans } else { &self.0.turns };
        run.turn = Some(self.turn(turns).await?);
        let import = store::import::get(self.db(), id).await?.ok_or(Error::ImportNotFound(id))?;
        match import.state {
            _ if import.needs_nobody() => return Ok(Step::Done),
            ImportState::Receiving | ImportState::Failed | ImportState::Planned | ImportState::Reverted => {
                return Ok(Step::Done);
            }
            ImportState::Checking => self.check_import(&import, run).await?,
            ImportState::Planning => self.plan_import(&import, run).await?,
            ImportState::Writing => self.import_in_organization_scope(&import, run).await?,
            ImportState::ResolvingSlugs => self.resolve_org_slugs(&import, run).await?,
            ImportState::Finishing => self.finish(&import, run).await?,
            ImportState::Succeeded => self.report(&import, run).await?,
            ImportState::Reverting => self.revert(&import, run).await?,
        }
        Ok(Step::Next)
    }

    /// Waits before the next attempt, longer each time.
    pub(crate) async fn pause(&self, attempts: i64) -> Result<(), Error> {
        tokio::select! {
            () = tokio::time::sleep(self.0.pauses.behind(attempts, self.ambient())) => Ok(()),
            () = self.stopping() => Err(Error::Stopping),
        }
    }

    /// Notes what an import waits for, or that it no longer does. If the store is what it waits for, this process alone can
    /// tell.
    pub(super) async fn note_waiting(&self, id: Uuid, waiting: Option<&Waiting>) {
        let noted = transact!(Error, self.db(), |tx| {
            store::import::set_waiting(tx, id, self.holder().id, waiting, self.ambient().now()).await?;
        });
        let unstored = match &noted {
            Ok(()) => None,
            Err(error) => {
                tracing::debug!(import_id = %id, %error, "what the import waits for cannot be stored");
                waiting.cloned()
            }
        };
        if let Some(live) = self.live(id) {
            live.keep_waiting(unstored);
        }
    }

    /// Ends an import by an error. What it wrote stays hidden. `false` if it cannot end so: what is visible stays, and
    /// is reported until control takes it; what is being reverted is, however often it takes.
    async fn end(&self, id: Uuid, error: &Error) -> Result<bool, Error> {
        let Some(import) = store::import::get(self.db(), id).await? else { return Ok(true) };
        if import.state.is_final() || import.state == ImportState::Reverting {
            return Ok(false);
        }
        tracing::error!(import_id = %id, %error, reason = error.reason().as_str_name(), "an import has failed");
        let failure =
            Failure { reason: error.reason(), message: self.message(&import, error), state: import.state };
        let finding = finding_of(error);
        transact_leased!(self, &import, |lease| {
            // Under a state of its own: it goes if the import is resumed.
            self.add_findings(lease, ImportState::Failed, std::slice::from_ref(&finding)).await?;
            store::import::fail(lease, &failure, self.ambient().now()).await?;
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

    /// Removes the file of an import that nobody needs any more, and its plan.
    pub(super) async fn remove_spool(&self, id: Uuid) {
        let kept = Keep::ENDINGS.iter().map(|ending| self.spool_dir().join(format!("{id}{ending}")));
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

/// The finding of an import that an error has ended: where, and of which kind.
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

/// The most bytes of a message that is stored.
const MAX_MESSAGE: usize = 4_000;

/// A message as any database and terminal can hold it.
fn shown_message(message: &str) -> String {
    let mut clean: String = message.chars().filter(|character| !character.is_control()).collect();
    clean.truncate(clean.floor_char_boundary(MAX_MESSAGE));
    clean
}
