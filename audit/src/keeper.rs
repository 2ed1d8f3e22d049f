//! The background work on the log: it stores failed calls, adds rows to the chain, and deletes old ones.

use std::{sync::Arc, time::Duration};

use causeway_proto::{
    failure::{code_name, reason_name, reason_of},
    page::PageKey,
};
use causeway_silo::{
    db::{Db, DbError, DbErrorKind},
    env::Environment,
    transact,
};
use chrono::TimeDelta;
use tokio::time::{Instant, sleep};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::Status;

use crate::{
    Call,
    failures::Failures,
    store::{self, NewEntry},
};

/// How often failed calls are stored, and rows are added to the chain.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// How often old rows are searched for and deleted; for the first time at the start.
const RETAIN_EVERY: Duration = Duration::from_secs(3_600);
/// The most failed calls that are stored in one transaction.
const AT_ONCE: usize = 100;

/// How long the log of a silo is stored.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long rows are stored; 400 days by default.
    pub retention: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { retention: Duration::from_secs(400 * 24 * 3_600) }
    }
}

/// The audit log of a silo. Cheap to clone. Its background work ends when all clones are dropped.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    keeper: Arc<Keeper>,
    page_key: PageKey,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

#[derive(Debug)]
struct Keeper {
    db: Db,
    /// The service, as rows about its own work name it.
    who: String,
    env: Environment,
    options: Options,
    failures: Failures,
}

impl Audit {
    /// Begins to keep the log in a database that is migrated. `who` is the service, as rows about its own work name it.
    #[must_use]
    pub fn start(db: Db, who: &str, env: Environment, options: Options, page_key: PageKey) -> Self {
        let who = who.to_owned();
        let keeper = Arc::new(Keeper { db, who, env, options, failures: Failures::default() });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(Arc::clone(&keeper).run(stop.clone()));
        let handle = Handle { keeper, page_key, tasks, _stop_on_drop: stop.clone().drop_guard(), stop };
        Self(Arc::new(handle))
    }

    /// Stores that a call has failed, soon. What cannot be stored is logged.
    pub fn failed(&self, call: &Call, status: &Status) {
        let keeper = &self.0.keeper;
        let now = keeper.env.now();
        let reason = reason_of(status).map(reason_name).unwrap_or_default();
        let entry = NewEntry::new(call, call.subject(), code_name(status.code()), reason, now);
        keeper.failures.add(entry, now);
    }

    /// Ends the background work, after it has stored and sealed what is left. Call it before the database is closed.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.keeper.db
    }

    pub(crate) fn page_key(&self) -> &PageKey {
        &self.0.page_key
    }
}

/// Whether something fails again and again, so that it is logged once.
#[derive(Debug, Default)]
struct Trouble(bool);

impl Trouble {
    fn note(&mut self, outcome: Result<(), DbError>, what: &str) {
        match outcome {
            Ok(()) => self.0 = false,
            Err(error) if self.0 || error.kind() == DbErrorKind::Closed => tracing::debug!(%error, "{what}"),
            Err(error) => {
                self.0 = true;
                tracing::warn!(%error, "{what}");
            }
        }
    }
}

impl Keeper {
    async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut retained: Option<Instant> = None;
        let (mut keeping, mut deleting) = (Trouble::default(), Trouble::default());
        loop {
            let stopped = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = sleep(SEAL_EVERY) => false,
            };
            self.log_left_out(stopped);
            let mut kept = self.store_failures().await;
            if kept.is_ok() {
                kept = self.seal().await;
            }
            keeping.note(kept, "the audit log cannot be kept: entries are not added to its chain until the database takes it");
            if stopped {
                let calls = self.failures.take().len();
                if calls > 0 {
                    tracing::warn!(calls, "failed calls are not in the audit log: the service has stopped");
                }
                return;
            }
            if retained.is_none_or(|at| at.elapsed() >= RETAIN_EVERY) {
                let deleted = self.retain().await;
                // One that failed is tried again soon, unless the log itself is the reason.
                if deleted.as_ref().err().is_none_or(|error| error.kind() == DbErrorKind::Other) {
                    retained = Some(Instant::now());
                }
                deleting.note(deleted, "old entries of the audit log cannot be deleted");
            }
        }
    }

    /// Logs how many failed calls have no row.
    fn log_left_out(&self, all: bool) {
        for (who, calls) in self.failures.take_left_out(self.env.now(), all) {
            tracing::warn!(who, calls, "failed calls are not in the audit log, because there were too many");
        }
    }

    async fn store_failures(&self) -> Result<(), DbError> {
        let mut entries = self.failures.take();
        while !entries.is_empty() {
            let mut later = entries.split_off(AT_ONCE.min(entries.len()));
            let stored: Result<(), DbError> = transact!(DbError, self.db, |tx| {
                store::insert(tx, &entries).await?;
            });
            if let Err(error) = stored {
                match error.kind() {
                    // They would be refused the next time too.
                    DbErrorKind::Unique
                    | DbErrorKind::ForeignKey
                    | DbErrorKind::Check
                    | DbErrorKind::Other => {
                        tracing::error!(calls = entries.len(), "failed calls cannot get into the audit log");
                    }
                    _ => {
                        entries.append(&mut later);
                        later = entries;
                    }
                }
                self.failures.put_back(later);
                return Err(error);
            }
            entries = later;
        }
        Ok(())
    }

    async fn seal(&self) -> Result<(), DbError> {
        while store::seal(&self.db).await? == store::BATCH {}
        Ok(())
    }

    async fn retain(&self) -> Result<(), DbError> {
        let horizon = TimeDelta::from_std(self.options.retention)
            .ok()
            .and_then(|kept| self.env.now().checked_sub_signed(kept));
        // Longer than time itself.
        let Some(horizon) = horizon else { return Ok(()) };
        let call = Call::own(self.env.uuid(), &self.who, store::DELETE);
        let mut deleted = 0;
        loop {
            let batch = store::delete_older(&self.db, horizon, &call, self.env.now()).await?;
            deleted += batch;
            if batch < store::BATCH {
                break;
            }
            // Others want to write too.
            tokio::task::yield_now().await;
        }
        if deleted > 0 {
            tracing::info!(deleted, %horizon, "old entries of the audit log were deleted");
        }
        Ok(())
    }
}
