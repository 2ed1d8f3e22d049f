//! Takes imports from state to state, in the background of the service. A step that fails for a reason that passes is
//! tried again; any other failure ends the import.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use causeway_proto::relocation::v1::ErrorReason;
use causeway_relocation::{ambient::Ambient, catalog::Catalog, db::Db, keys::KeyMap, plan::Plan, transact};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{Failure, Import, ImportState, Waiting, live::Live, receive::spool_path};
use crate::{control_client::ControlClient, error::Error, store};

/// Imports that run at once; others wait for their turn.
const AT_ONCE: usize = 2;
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

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
    live: Mutex<HashMap<Uuid, Arc<Live>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
    turns: Semaphore,
    registered: AtomicBool,
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
}

/// What is remembered of an import between its steps. All of it can be made again from the file and the store.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) live: Arc<Live>,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) keys: Option<KeyMap>,
    /// The last ordinal of each model, by position, that a chunk covers.
    pub(super) done: HashMap<usize, i64>,
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
            live: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            turns: Semaphore::new(AT_ONCE),
            registered: AtomicBool::new(false),
        }))
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(super) fn catalog(&self) -> &Arc<Catalog> {
        &self.0.catalog
    }

    pub(crate) fn ambient(&self) -> &Ambient {
        &self.0.ambient
    }

    pub(super) fn control(&self) -> &ControlClient {
        &self.0.control
    }

    pub(crate) fn region(&self) -> &str {
        &self.0.region
    }

    pub(super) fn spool_dir(&self) -> &Path {
        &self.0.spool_dir
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stop.is_cancelled()
    }

    /// Ends when the service begins to stop.
    pub(crate) async fn stopping(&self) {
        self.0.stop.cancelled().await;
    }

    /// Goes on with all imports that a former process left, and begins to register with control.
    pub(crate) async fn resume(&self) -> Result<(), Error> {
        transact!(Error, self.db(), |tx| { store::import::forget_receiving(tx, None).await? })?;
        let unfinished = store::import::unfinished(self.db()).await?;
        self.clear_spool(&unfinished).await.map_err(Error::SpoolFailed)?;
        for id in unfinished {
            tracing::info!(import_id = %id, "going on with an import");
            self.spawn(id);
        }
        let runner = self.clone();
        self.0.tasks.spawn(async move {
            let mut attempts = 0;
            while let Err(error) = runner.register().await {
                tracing::warn!(%error, "the region cannot register with control");
                attempts += 1;
                if runner.pause(attempts).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Removes what uploads that never ended have left, and files of imports that have.
    async fn clear_spool(&self, unfinished: &[Uuid]) -> std::io::Result<()> {
        let mut entries = tokio::fs::read_dir(self.spool_dir()).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let import = name.strip_suffix(".json").and_then(|id| Uuid::try_parse(id).ok());
            let leftover = name.ends_with(".part") || import.is_some_and(|id| !unfinished.contains(&id));
            // A failed import keeps its file.
            let kept = match import {
                Some(id) => store::import::get(self.db(), id)
                    .await
                    .ok()
                    .flatten()
                    .is_some_and(|import| import.state == ImportState::Failed),
                None => false,
            };
            if leftover && !kept {
                tokio::fs::remove_file(entry.path()).await?;
            }
        }
        Ok(())
    }

    /// Stops: running steps end at the next chunk, and go on when the service is back.
    pub(crate) async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Runs something short that must be done before the service has stopped.
    pub(super) fn spawn_cleanup(&self, task: impl Future<Output = ()> + Send + 'static) {
        if tokio::runtime::Handle::try_current().is_ok() {
            self.0.tasks.spawn(task);
        }
    }

    /// The running import of that id.
    pub(crate) fn live(&self, id: Uuid) -> Option<Arc<Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Runs an import, unless it is running.
    pub(super) fn spawn(&self, id: Uuid) {
        let live = Arc::new(Live::default());
        {
            let mut running = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
            if running.contains_key(&id) {
                return;
            }
            running.insert(id, Arc::clone(&live));
        }
        let runner = self.clone();
        self.0.tasks.spawn(async move {
            let turn = tokio::select! {
                turn = runner.0.turns.acquire() => turn,
                () = runner.stopping() => return,
            };
            runner.import_organizations(id, Arc::clone(&live)).await;
            drop(turn);
            runner.0.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            live.changed();
        });
    }

    /// Imports the organizations of a file: plan, write models, resolve slugs and reserve them, write deferred models,
    /// make everything visible. Ends when the import has, or when the service stops.
    async fn import_organizations(&self, id: Uuid, live: Arc<Live>) {
        let mut run = Run { live, plan: None, keys: None, done: HashMap::new() };
        let mut waiting: Option<Waiting> = None;
        loop {
            let error = match self.step(id, &mut run).await {
                Ok(step) => {
                    waiting = None;
                    run.live.changed();
                    match step {
                        Step::Next => continue,
                        Step::Done => return,
                    }
                }
                Err(error) => error,
            };
            if error.is_stop() {
                return;
            }
            // What a chunk left half absorbed is read from the store again.
            run.keys = None;
            if error.passes() {
                if error.reason() == ErrorReason::RegionNotRegistered {
                    self.0.registered.store(false, Ordering::Relaxed);
                }
                let since = waiting.as_ref().map_or_else(|| self.ambient().now(), |waiting| waiting.since);
                let attempts = waiting.map_or(0, |waiting| waiting.attempts) + 1;
                tracing::warn!(import_id = %id, attempts, %error, "an import waits and tries again");
                let now = Waiting { reason: error.reason(), message: error.to_string(), since, attempts };
                self.note_waiting(id, &now).await;
                run.live.changed();
                waiting = Some(now);
                if self.pause(attempts).await.is_err() {
                    return;
                }
            } else if self.end(id, &error).await.is_ok() {
                run.live.changed();
                return;
            } else if self.pause(waiting.as_ref().map_or(1, |waiting| waiting.attempts)).await.is_err() {
                return;
            }
        }
    }

    async fn step(&self, id: Uuid, run: &mut Run) -> Result<Step, Error> {
        let import = store::import::get(self.db(), id).await?.ok_or(Error::ImportNotFound(id))?;
        match import.state {
            ImportState::Receiving | ImportState::Failed => return Ok(Step::Done),
            ImportState::Succeeded if import.reported => return Ok(Step::Done),
            ImportState::Planning => self.plan_import(&import, run).await?,
            ImportState::Writing => self.import_in_organization_scope(&import, run).await?,
            ImportState::ResolvingSlugs => self.resolve_org_slugs(&import, run).await?,
            ImportState::Finishing => self.finish(&import, run).await?,
            ImportState::Succeeded => self.report(&import).await?,
        }
        Ok(Step::Next)
    }

    /// Makes this region known to control, unless it is.
    pub(super) async fn register(&self) -> Result<(), Error> {
        if !self.0.registered.load(Ordering::Relaxed) {
            self.control().register(&self.0.address, self.0.instance_id).await?;
            self.0.registered.store(true, Ordering::Relaxed);
            tracing::info!(region = self.region(), "registered with control");
        }
        Ok(())
    }

    /// Waits before the next attempt: a quarter of a second, twice as long each time, with jitter.
    async fn pause(&self, attempts: i64) -> Result<(), Error> {
        let exponent = u32::try_from(attempts.clamp(1, 8)).unwrap_or(8);
        let pause = Duration::from_millis(125 * (1 << exponent)).min(LONGEST_PAUSE);
        let jitter =
            Duration::from_millis(self.ambient().below(u64::try_from(pause.as_millis() / 4).unwrap_or(0)));
        tokio::select! {
            () = tokio::time::sleep(pause + jitter) => Ok(()),
            () = self.stopping() => Err(Error::Stopping),
        }
    }

    /// Notes that an import waits. If the store is what it waits for, that is in the log alone.
    async fn note_waiting(&self, id: Uuid, waiting: &Waiting) {
        let noted = transact!(Error, self.db(), |tx| {
            store::import::set_waiting(tx, id, Some(waiting), self.ambient().now()).await?;
        });
        if let Err(error) = noted {
            tracing::warn!(import_id = %id, %error, "that the import waits cannot be stored");
        }
    }

    /// Ends an import by an error. What it wrote stays hidden.
    async fn end(&self, id: Uuid, error: &Error) -> Result<(), Error> {
        tracing::error!(import_id = %id, %error, reason = error.reason().as_str_name(), "an import has failed");
        let Some(import) = store::import::get(self.db(), id).await? else { return Ok(()) };
        let failure =
            Failure { reason: error.reason(), message: self.message(&import, error), state: import.state };
        transact!(Error, self.db(), |tx| {
            store::import::fail(tx, id, &failure, self.ambient().now()).await?
        })?;
        if import.state == ImportState::Planning {
            self.remove_spool(id).await;
        }
        Ok(())
    }

    fn message(&self, import: &Import, error: &Error) -> String {
        let consequence = match import.state {
            ImportState::Planning => "nothing was written",
            _ => "what was written up to here stays hidden",
        };
        format!("{error} ({consequence})")
    }

    /// Removes the file of an import that nobody needs any more.
    pub(super) async fn remove_spool(&self, id: Uuid) {
        if let Err(error) = tokio::fs::remove_file(spool_path(self.spool_dir(), id)).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(import_id = %id, %error, "the spool file of an import that has ended cannot be removed");
        }
    }
}
