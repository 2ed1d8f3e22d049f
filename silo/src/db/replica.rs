//! Reads that may be a little old, from a replica of the database.
//!
//! How far a replica is behind cannot be asked of the replica: one that has lost its primary does not know what it
//! misses. So a number is increased in the primary at short intervals. What the replica has of it shows until when it has
//! everything, whatever replicates it. Nothing is read from a replica that has not shown that for longer than the bound,
//! and a read that fails there is made again on the primary.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    DatabaseUrl, Db, DbError, Dialect, HasDbError, Options, Statement, postgres_pool::loses_connection,
};
use crate::Silo;

/// The number that is increased: that of the check whether the database accepts writes.
const BEAT: &str = "INSERT INTO causeway_health (id, checks) VALUES (1, 1) \
    ON CONFLICT (id) DO UPDATE SET checks = causeway_health.checks + 1 RETURNING checks";
const SEEN: &str = "SELECT checks FROM causeway_health WHERE id = 1";
/// Distinguishes a replica from another database.
const SYSTEM: &str = "SELECT system_identifier::bigint AS system FROM pg_control_system()";

/// The longest pause between two increases. With a small bound it is a fifth of the bound.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The shortest one, however small the bound is: each increase is a transaction of the primary.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// How long one of the two databases may take to answer about the number.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long a statement may take on the replica before the replica cancels it, and the read is made on the primary.
const STATEMENT_WITHIN: Duration = Duration::from_secs(2);
/// How long a read may take there in all, connection and statements. A server that stands still keeps its connections,
/// and nobody answers on them: it is not used until it has answered again.
const READ_WITHIN: Duration = Duration::from_secs(3);
/// The pause after a replica could not be reached.
const CONNECT_EVERY: Duration = Duration::from_secs(5);

/// The option that names the replica, for messages.
const OPTION: &str = "--read-database-url";

/// Where the replica is, and how old its answers may be.
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    /// Its URL: a physical standby of the same PostgreSQL.
    pub url: DatabaseUrl,
    /// How far it may be behind. Reads go to the primary while it is further behind, or while that is not known.
    pub max_lag: Duration,
}

/// Why a replica cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// Only PostgreSQL has replicas.
    #[error("--read-database-url needs PostgreSQL, both for it and for --database-url")]
    NotPostgres,
    /// The URL is not the URL of a database.
    #[error("--read-database-url: {0}")]
    Url(#[from] super::ConnectError),
}

/// A database, and perhaps a replica of it for reads that may be old. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readers {
    primary: Db,
    replica: Option<Arc<Replica>>,
}

#[derive(Debug)]
struct Replica {
    max_lag: Duration,
    state: Mutex<State>,
    stops: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Its connections; `None` while it cannot be reached.
    db: Option<Db>,
    /// It has everything that was committed before this.
    complete_until: Option<Instant>,
    /// Whether reads go there; only for the log.
    is_used: bool,
}

impl Replica {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its connections, if it is known to be near enough.
    fn usable(&self) -> Option<Db> {
        let state = self.state();
        let is_near = state.complete_until.is_some_and(|until| until.elapsed() <= self.max_lag);
        state.db.clone().filter(|_| is_near)
    }

    /// Does not use it until it has shown again that it is there. Its connections may have been closed meanwhile: that is
    /// the end of the replica, and not of the service.
    fn doubt(&self) {
        self.state().complete_until = None;
    }

    fn note(&self, is_used: bool, why: &dyn std::fmt::Display) {
        let mut state = self.state();
        if std::mem::replace(&mut state.is_used, is_used) == is_used {
            return;
        }
        if is_used {
            tracing::info!(max_lag = ?self.max_lag, "reads that may be old go to the replica");
        } else {
            tracing::warn!(max_lag = ?self.max_lag, %why, "reads go to the primary, and not to the replica");
        }
    }
}

impl Readers {
    /// Reads only from the database itself.
    #[must_use]
    pub fn of(primary: Db) -> Self {
        Self { primary, replica: None }
    }

    /// Reads from a replica while it is near enough. It need not be there yet.
    ///
    /// # Errors
    /// If one of the two is not PostgreSQL.
    pub fn with_replica(
        primary: Db,
        silo: Silo,
        database: Options,
        replica: ReplicaOptions,
    ) -> Result<Self, ReplicaError> {
        super::check_url(replica.url.secret())?;
        if primary.dialect() != Dialect::Postgres || replica.url.secret().starts_with("sqlite:") {
            return Err(ReplicaError::NotPostgres);
        }
        let shared = Arc::new(Replica {
            max_lag: replica.max_lag,
            // So that the log says once what it does at the start, whatever that is.
            state: Mutex::new(State { is_used: true, ..State::default() }),
            stops: watch::Sender::new(false),
            task: Mutex::default(),
        });
        let database = Options { statement_timeout: Some(STATEMENT_WITHIN), ..database };
        let follower = Follower { primary: primary.clone(), silo, database, url: replica.url };
        let (watching, mut stops) = (Arc::clone(&shared), shared.stops.subscribe());
        let task = tokio::spawn(async move {
            tokio::select! {
                _ = stops.wait_for(|stops| *stops) => {}
                () = follower.follow(&watching) => {}
            }
        });
        *shared.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(Self { primary, replica: Some(shared) })
    }

    /// The database itself.
    pub(super) fn primary(&self) -> &Db {
        &self.primary
    }

    /// The connections to the replica, whether or not it is near enough; `None` while it cannot be reached.
    pub(super) fn connected_replica(&self) -> Option<Db> {
        self.replica.as_ref()?.state().db.clone()
    }

    /// Makes a read that may be old: on the replica if that is near enough, and otherwise, or if it fails there or takes
    /// some seconds, on the primary. Nothing that decides something may be read this way.
    ///
    /// # Errors
    /// That of the read on the primary.
    pub async fn read<T, E, F>(&self, read: impl Fn(Db) -> F) -> Result<T, E>
    where
        E: HasDbError,
        F: Future<Output = Result<T, E>>,
    {
        if let Some((replica, db)) = self.replica.as_ref().and_then(|it| Some((it, it.usable()?))) {
            match timeout(READ_WITHIN, read(db)).await {
                Ok(Err(error)) if error.db_error().is_some() => {
                    let error = error.db_error();
                    tracing::debug!(?error, "a read failed on the replica");
                    // A statement that was cancelled, because it took long or what the primary has done since ruled it
                    // out, says nothing about the reads of others.
                    if error.is_some_and(loses_connection) {
                        replica.doubt();
                    }
                }
                Ok(outcome) => return outcome,
                Err(_) => {
                    tracing::debug!("a read was not answered by the replica within {READ_WITHIN:?}");
                    replica.doubt();
                }
            }
        }
        read(self.primary.clone()).await
    }

    /// Ends what watches the replica, and closes its connections. Those of the primary stay open.
    pub async fn stop(&self) {
        let Some(replica) = &self.replica else { return };
        replica.stops.send_replace(true);
        let task = replica.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It has ended either way.
            let _ended = task.await;
        }
        let db = replica.state().db.take();
        if let Some(db) = db {
            db.close().await;
        }
    }
}

/// Keeps finding out how far a replica is behind.
struct Follower {
    primary: Db,
    silo: Silo,
    database: Options,
    url: DatabaseUrl,
}

impl Follower {
    async fn follow(&self, replica: &Replica) {
        loop {
            let db = match self.connect().await {
                Ok(db) => db,
                Err(error) => {
                    replica.note(false, &error);
                    sleep(CONNECT_EVERY).await;
                    continue;
                }
            };
            replica.state().db = Some(db.clone());
            let error = self.watch(replica, &db).await;
            replica.note(false, &error);
            {
                let mut state = replica.state();
                (state.db, state.complete_until) = (None, None);
            }
            db.close().await;
            sleep(CONNECT_EVERY).await;
        }
    }

    async fn connect(&self) -> Result<Db, DbError> {
        let db = Db::connect_by(OPTION, self.url.secret(), &self.database).await;
        let db = db.map_err(|error| DbError::unavailable(error.to_string()))?;
        let systems = async {
            let here = ask(&self.primary, SYSTEM, "system").await?;
            Ok::<_, DbError>((here, ask(&db, SYSTEM, "system").await?))
        };
        match systems.await {
            Ok((here, there)) if here == there => {}
            other => {
                db.close().await;
                other?;
                return Err(DbError::unavailable(
                    "the server of --read-database-url is not a standby of that of --database-url, but another database: \
                     name a standby there and restart control, or leave --read-database-url out",
                ));
            }
        }
        db.in_its_schema(self.silo).await.map_err(|error| DbError::unavailable(error.to_string()))
    }

    /// Watches a replica until it does not answer.
    async fn watch(&self, replica: &Replica, db: &Db) -> DbError {
        let pause = pause(replica.max_lag);
        let mut beats = Beats::new(replica.max_lag);
        loop {
            let now = Instant::now();
            // Without the primary, nobody knows how old the replica is.
            if let Ok(Ok(number)) = timeout(ANSWER_WITHIN, self.beat()).await {
                beats.add(now, number);
            }
            let seen = match timeout(ANSWER_WITHIN, ask(db, SEEN, "checks")).await {
                Ok(Ok(seen)) => seen.unwrap_or_default(),
                Ok(Err(error)) => return error,
                Err(_) => return DbError::unavailable("it does not answer"),
            };
            if let Some(at) = beats.seen(seen) {
                replica.state().complete_until = Some(at);
            }
            replica.note(replica.usable().is_some(), &"it is too far behind");
            sleep(pause).await;
        }
    }

    async fn beat(&self) -> Result<i64, DbError> {
        let mut tx = self.primary.begin().await?;
        let number = tx.fetch_one(Statement::new(BEAT)).await?.int("checks")?;
        tx.commit().await?;
        Ok(number)
    }
}

/// The pause between two increases.
fn pause(max_lag: Duration) -> Duration {
    (max_lag / 5).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// The increases that the replica has not shown yet.
struct Beats {
    max_lag: Duration,
    /// When each was made, and the number then; the oldest first.
    waiting: VecDeque<(Instant, i64)>,
}

impl Beats {
    fn new(max_lag: Duration) -> Self {
        Self { max_lag, waiting: VecDeque::new() }
    }

    /// Adds one that is made `now`, and forgets those that are too old: whoever shows one of them is too far behind.
    fn add(&mut self, now: Instant, number: i64) {
        self.waiting.push_back((now, number));
        while self.waiting.pop_front_if(|(at, _)| now.duration_since(*at) > self.max_lag).is_some() {}
    }

    /// When the newest of those was made that a replica with this number has.
    fn seen(&mut self, seen: i64) -> Option<Instant> {
        let mut newest = None;
        while let Some((at, _)) = self.waiting.pop_front_if(|(_, number)| *number <= seen) {
            newest = Some(at);
        }
        newest
    }
}

async fn ask(db: &Db, sql: &'static str, column: &str) -> Result<Option<i64>, DbError> {
    db.fetch_optional(Statement::new(sql)).await?.map(|row| row.int(column)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_is_steadily_behind_within_the_bound_is_used() {
        let (began, max_lag) = (Instant::now(), Duration::from_secs(60));
        let mut beats = Beats::new(max_lag);
        let made = |second: i64| began + Duration::from_secs(second.try_into().expect("a time"));
        for second in 0..300 {
            beats.add(made(second), second);
            let seen = beats.seen(second - 50);
            assert_eq!(seen, (second >= 50).then(|| made(second - 50)), "after {second} s");
        }
        // It stands still, and what it lacks is not kept for ever.
        for second in 300..3_000 {
            beats.add(made(second), second);
            assert_eq!(beats.seen(249), None);
            assert!(beats.waiting.len() <= 61, "{} are kept", beats.waiting.len());
        }
        // It goes on. Several come at once, and the newest one counts.
        assert_eq!(beats.seen(2_990), Some(made(2_990)));
    }

    #[tokio::test]
    async fn errors_about_the_replica_name_its_option() {
        let options =
            Options { max_connections: 1, acquire_timeout: Duration::from_millis(50), ..Options::default() };
        for (url, why) in [
            ("postgres://127.0.0.1:1/db", "nothing listens there"),
            ("postgres://127.0.0.1:1,127.0.0.1:1/db", "start one of them as the primary"),
        ] {
            let error = Db::connect_by(OPTION, url, &options).await.expect_err("nobody is there").to_string();
            assert!(error.contains(why) && error.contains("--read-database-url"), "{error}");
            assert!(!error.contains(" --database-url"), "{error}");
        }
    }

    #[test]
    fn the_number_is_not_increased_all_the_time() {
        let pauses = [1, 400, 2_000, 5_000, 600_000].map(|lag| pause(Duration::from_millis(lag)).as_millis());
        assert_eq!(pauses, [100, 100, 400, 1_000, 1_000]);
    }
}
