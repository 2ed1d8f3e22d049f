//! The background work on the log: it stores failed calls, adds rows to the chain, and deletes old ones.

use std::{sync::Arc, time::Duration};

use causeway_proto::{
    failure::{reason_name, reason_of},
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
    convert::code_name,
    failures::Failures,
    store::{self, NewEntry},
};

/// How the log of a silo is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long rows are kept; 400 days by default.
    pub retention: Duration,
    /// How often rows are added to the chain; 1 s by default.
    pub seal_every: Duration,
    /// How often old rows are looked for; 1 h by default, for the first time at the start.
    pub retain_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(400 * 24 * 3_600),
            seal_every: Duration::from_secs(1),
            retain_every: Duration::from_secs(3_600),
        }
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
    env: Environment,
    options: Options,
    failures: Failures,
}

impl Audit {
    /// Begins to keep the log in a database that is migrated.
    #[must_use]
    pub fn start(db: Db, env: Environment, options: Options, page_key: PageKey) -> Self {
        let keeper = Arc::new(Keeper { db, env, options, failures: Failures::default() });
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

    /// Stores the failed calls that wait, and adds all rows that are committed to the chain.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn settle(&self) -> Result<(), DbError> {
        self.0.keeper.store_failures().await?;
        self.0.keeper.seal().await
    }

    /// Deletes the rows that are too old.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn retain(&self) -> Result<(), DbError> {
        self.0.keeper.retain().await
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

impl Keeper {
    async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut retained: Option<Instant> = None;
        let mut failing = false;
        loop {
            let stopped = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = sleep(self.options.seal_every) => false,
                () = self.failures.added.notified() => false,
            };
            self.tell_left_out(stopped);
            let mut outcome = self.store_failures().await;
            if outcome.is_ok() {
                outcome = self.seal().await;
            }
            if outcome.is_ok()
                && !stopped
                && retained.is_none_or(|at| at.elapsed() >= self.options.retain_every)
            {
                retained = Some(Instant::now());
                outcome = self.retain().await;
            }
            match outcome {
                Ok(()) => failing = false,
                Err(error) if failing || error.kind() == DbErrorKind::Closed => {
                    tracing::debug!(%error, "the audit log cannot be kept yet");
                }
                Err(error) => {
                    failing = true;
                    tracing::warn!(%error, "the audit log cannot be kept: entries are not added to its chain, and nothing \
                        old is deleted, until the database takes it");
                }
            }
            if stopped {
                let calls = self.failures.take().len();
                if calls > 0 {
                    tracing::warn!(
                        calls,
                        "calls that were refused are not in the audit log: the service has stopped"
                    );
                }
                return;
            }
            if failing {
                // Failed calls must not turn a failing database into a busy loop.
                tokio::select! {
                    () = sleep(self.options.seal_every) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    /// Logs how many failed calls have no row.
    fn tell_left_out(&self, all: bool) {
        for (who, calls) in self.failures.take_left_out(self.env.now(), all) {
            tracing::warn!(
                who,
                calls,
                "calls that were refused are not in the audit log, because there were too many"
            );
        }
    }

    async fn store_failures(&self) -> Result<(), DbError> {
        let entries = self.failures.take();
        if entries.is_empty() {
            return Ok(());
        }
        let stored: Result<(), DbError> = transact!(DbError, self.db, |tx| {
            for (entry, left_out) in &entries {
                store::insert(tx, entry, *left_out).await?;
            }
        });
        match stored.as_ref().map_err(DbError::kind) {
            Ok(()) => {}
            // They would be refused the next time too.
            Err(DbErrorKind::Unique | DbErrorKind::ForeignKey | DbErrorKind::Other) => {
                tracing::error!(
                    calls = entries.len(),
                    "calls that were refused cannot get into the audit log"
                );
            }
            Err(_) => self.failures.put_back(entries),
        }
        stored
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
        let mut deleted = 0;
        loop {
            let batch = store::delete_older(&self.db, horizon).await?;
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
