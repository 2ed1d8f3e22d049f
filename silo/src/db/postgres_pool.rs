//! The pool of connections to PostgreSQL: it follows the database to another server, and no statement waits for ever
//! for a server that is gone.

use std::{sync::Arc, time::Duration};

use log::LevelFilter;
use sqlx::{
    Connection as _, Database, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{DbError, DbErrorKind, Options, servers::Servers};

/// The settings of every connection to PostgreSQL. The statements of Causeway look up rows by an index. While a table
/// is small, PostgreSQL may prefer to read all of it, and it keeps such plans as long as the connection lives,
/// including those of foreign keys. An import of a thousand records would then leave plans that make an import of a
/// million read whole tables for each row. So such reads are off. A statement that must read a table then seems so
/// expensive that PostgreSQL would compile it first, so JIT is off too. The page costs are those of a disk that reads
/// any page as fast as the next one. Notices that something exists already are not sent.
///
/// The server looks after clients that vanish with their machine, and ends their transactions, whose locks would
/// otherwise be held for two hours. On a socket of the file system these settings do nothing.
const SESSION_SETTINGS: &str = "SELECT set_config(name, value, false) \
    FROM (VALUES ('enable_seqscan', 'off'), ('jit', 'off'), ('random_page_cost', '1.1'), \
    ('client_min_messages', 'warning'), ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), \
    ('tcp_keepalives_count', '3'), ('tcp_user_timeout', '30s')) AS plans (name, value)";

/// How long a connection to PostgreSQL may have been idle and is still used without a test. Each connection is tested
/// when it returns to the pool. Another test right after that would cost a round trip for every statement outside a
/// transaction.
const FRESH: Duration = Duration::from_millis(100);

/// How long such a test may take, and the return of a connection to the pool.
pub(super) const TEST_WITHIN: Duration = Duration::from_secs(2);

/// How long a statement waits before its server is looked for, and again after each such look.
const LOOK_AFTER: Duration = Duration::from_secs(4);

/// The pause before a connection is tried again, while no server can be used.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A pool of connections to the server that the database is on at the moment.
#[derive(Debug, Clone)]
pub(super) struct PostgresPool {
    pool: PgPool,
    servers: Arc<Servers>,
    options: Options,
}

/// A connection of the pool. It is closed, and does not go back, if a statement on it did not end as it should.
#[derive(Debug)]
pub(super) struct PooledConnection {
    connection: Option<PoolConnection<Postgres>>,
    watch: Watch,
    is_busy: bool,
}

/// Knows whether the server of a connection is still there.
#[derive(Debug, Clone)]
pub struct Watch {
    /// `None` on SQLite, which has no server.
    of: Option<(PostgresPool, u64)>,
}

impl Watch {
    /// That of a database without a server.
    pub(super) fn none() -> Self {
        Self { of: None }
    }

    /// Its connection has failed, or its caller has gone away while a statement was under way.
    pub(super) fn doubt(&self) {
        if let Some((pool, _)) = &self.of {
            pool.servers.doubt();
        }
    }

    /// Does some work on a connection. Gives it up when the server of the connection is gone, which no deadline could
    /// tell from a statement that takes long: the work may or may not have happened then.
    ///
    /// # Errors
    /// That of the work, or [`DbErrorKind::Unavailable`].
    pub async fn during<T, E: From<DbError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some((pool, era)) = &self.of else { return work.await };
        tokio::select! {
            biased;
            outcome = work => outcome,
            () = pool.gone(*era) => {
                Err(DbError::unavailable("its server was replaced, or does not answer any more").into())
            }
        }
    }
}

impl PostgresPool {
    /// A pool with one connection to the current server.
    pub(super) async fn open(servers: Servers, options: &Options) -> Result<Self, sqlx::Error> {
        let servers = Arc::new(servers);
        let current = servers.current().ok_or(sqlx::Error::WorkerCrashed)?;
        let (checks, follows) = (Arc::clone(&servers), Arc::clone(&servers));
        // PostgreSQL counts in milliseconds, and 0 is no limit.
        let statement_timeout = options.statement_timeout.map(|it| it.as_millis().max(1).to_string());
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .acquire_slow_level(LevelFilter::Debug)
            .after_connect(move |connection, _| {
                let (servers, statement_timeout) = (Arc::clone(&checks), statement_timeout.clone());
                Box::pin(async move {
                    sqlx::query(SESSION_SETTINGS).execute(&mut *connection).await?;
                    if let Some(limit) = statement_timeout {
                        let set =
                            sqlx::query("SELECT set_config('statement_timeout', $1, false)").bind(limit);
                        set.execute(&mut *connection).await?;
                    }
                    servers.check(connection).await
                })
            })
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let servers = Arc::clone(&follows);
                Box::pin(async move {
                    if servers.is_before_era(meta.age) {
                        return Ok(false);
                    }
                    if meta.idle_for > FRESH {
                        timeout(TEST_WITHIN, connection.ping())
                            .await
                            .map_err(|_| sqlx::Error::PoolTimedOut)
                            .flatten()
                            .inspect_err(|_| servers.doubt())?;
                    }
                    Ok(true)
                })
            })
            .connect_with(current)
            .await?;
        Ok(Self { pool, servers, options: options.clone() })
    }

    /// The same database through other connections, which differ by their options. Those of this one are closed.
    pub(super) async fn reopened(
        self,
        change: impl Fn(PgConnectOptions) -> PgConnectOptions,
    ) -> Result<Self, sqlx::Error> {
        let new = Self::open(self.servers.with(change), &self.options).await?;
        self.pool.close().await;
        Ok(new)
    }

    /// How to connect to the server that is used at the moment.
    pub(super) fn connect_options(&self) -> PgConnectOptions {
        self.pool.connect_options().as_ref().clone()
    }

    /// The connections themselves, to count them.
    pub(super) fn connections(&self) -> &PgPool {
        &self.pool
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Watches the connections that are made now.
    pub(super) fn watch(&self) -> Watch {
        Watch { of: Some((self.clone(), self.servers.era())) }
    }

    /// Returns when the connections of an era are lost. Looks for the server while it waits.
    async fn gone(&self, era: u64) {
        while timeout(LOOK_AFTER, self.servers.era_after(era)).await.is_err() {
            if let Err(error) = self.servers.look(Some(&self.pool)).await {
                tracing::debug!(%error, "a statement waits, and the database cannot be found");
            }
        }
    }

    /// Looks for the server again and again. Never returns.
    async fn look_while_slow(&self) {
        loop {
            let pause = if self.servers.is_doubted() { RETRY_PAUSE } else { self.servers.connect_timeout() };
            sleep(pause).await;
            if self.servers.are_several() {
                // Without an outcome, the caller goes on waiting for a connection.
                let _whether = self.servers.look(Some(&self.pool)).await;
            }
        }
    }

    /// A connection. If connections fail, looks for the server, for as long as a caller may wait for a connection.
    pub(super) async fn acquire(&self) -> Result<PooledConnection, sqlx::Error> {
        if self.servers.is_look_due() {
            let (servers, pool) = (Arc::clone(&self.servers), self.pool.clone());
            // Nobody waits for it. It ends with the timeouts of its connections.
            drop(tokio::spawn(async move { servers.look(Some(&pool)).await }));
        }
        let until = Instant::now() + self.pool.options().get_acquire_timeout();
        timeout_at(until, async {
            loop {
                if self.servers.is_doubted() && self.servers.are_several() {
                    let _whether = self.servers.look(Some(&self.pool)).await;
                }
                let era = self.servers.era();
                let watch = Watch { of: Some((self.clone(), era)) };
                let outcome = tokio::select! {
                    biased;
                    outcome = self.pool.acquire() => outcome,
                    () = self.servers.era_after(era) => continue,
                    () = self.look_while_slow() => continue,
                };
                match outcome {
                    // It was made just now, and was the first to show that the server was restarted or replaced. What
                    // is watched now is the era before, which is over. The next attempt takes this one.
                    Ok(connection) if self.servers.era() != era => give_back(connection),
                    Ok(connection) => {
                        return Ok(PooledConnection { connection: Some(connection), watch, is_busy: false });
                    }
                    Err(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) if self.servers.are_several() => {
                        self.servers.doubt();
                        sleep(RETRY_PAUSE).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        })
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)?
    }

    /// All rows of a query.
    pub(super) async fn fetch_all(
        &self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, DbError> {
        let mut pooled = self.acquire().await?;
        let watch = pooled.watch.clone();
        pooled.is_busy = true;
        let outcome = watch.during(async { Ok(query.fetch_all(pooled.connection()?).await?) }).await;
        pooled.end(outcome)
    }

    /// The first row of a query, if there is one.
    pub(super) async fn fetch_optional(
        &self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<Option<PgRow>, DbError> {
        let mut pooled = self.acquire().await?;
        let watch = pooled.watch.clone();
        pooled.is_busy = true;
        let outcome = watch.during(async { Ok(query.fetch_optional(pooled.connection()?).await?) }).await;
        pooled.end(outcome)
    }
}

impl PooledConnection {
    fn connection(&mut self) -> Result<&mut PgConnection, DbError> {
        self.connection.as_deref_mut().ok_or_else(DbError::lost)
    }

    /// Notes how a statement has ended. After one that did not end as it should, the connection is closed.
    fn end<T>(mut self, outcome: Result<T, DbError>) -> Result<T, DbError> {
        self.is_busy = outcome.as_ref().is_err_and(loses_connection);
        if self.is_busy {
            self.watch.doubt();
        }
        outcome
    }

    /// The connection for a transaction, which decides itself what becomes of it.
    pub(super) fn into_parts(mut self) -> Result<(PoolConnection<Postgres>, Watch), DbError> {
        let connection = self.connection.take().ok_or_else(DbError::lost)?;
        Ok((connection, self.watch.clone()))
    }
}

/// Whether an error means that the connection is broken, or leads to a server that cannot be used. A server that has
/// cancelled a statement has answered.
pub(super) fn loses_connection(error: &DbError) -> bool {
    !error.is_cancelled()
        && matches!(error.kind(), DbErrorKind::Unavailable | DbErrorKind::ReadOnly | DbErrorKind::Closed)
}

/// Gives a connection back to its pool, which tests it. If the server does not answer, it is closed: the pool itself
/// would wait for ever, and have one place less.
pub(super) fn give_back<D: Database>(mut connection: PoolConnection<D>) {
    if let Ok(runtime) = Handle::try_current() {
        drop(runtime.spawn(async move {
            let _either_way = timeout(TEST_WITHIN, connection.return_to_pool()).await;
        }));
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(mut connection) if self.is_busy => connection.close_on_drop(),
            Some(connection) => give_back(connection),
            None => {}
        }
    }
}
