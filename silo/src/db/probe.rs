//! Measures how long a statement takes that is like the application's own. It has a connection of its own, so it waits for
//! nobody of this process, and runs in a transaction that cannot write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use log::LevelFilter;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, SqliteConnection,
};
use tokio::time::{Instant, timeout};

use super::{Db, Pool};

/// What the server may take longer than the statement to say that it has given up.
const GRACE: Duration = Duration::from_secs(1);
/// How many steps of its machine SQLite makes before it looks whether the time is over.
const STEPS: i32 = 1_000;

/// Why there is no measurement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The statement did not end within this time, and was cancelled.
    #[error("the probe statement did not end within {0:?}")]
    Slow(Duration),
    /// The database refuses the statement: it is wrong, may not be executed, or writes.
    #[error("the database refuses the probe statement: {0}")]
    Refused(String),
    /// There is no connection to the database.
    #[error("the database cannot be reached to measure the probe statement: {0}")]
    Unavailable(String),
}

/// A statement that is measured again and again.
#[derive(Debug)]
pub struct Probe {
    /// Says which server the database is on at the moment.
    db: Db,
    statement: String,
    open: Option<Open>,
}

#[derive(Debug)]
enum Open {
    Postgres(PgConnection),
    Sqlite {
        connection: SqliteConnection,
        /// Tells SQLite to give up.
        over: Arc<AtomicBool>,
    },
}

/// The SQLSTATE of a statement that `statement_timeout` has cancelled.
const QUERY_CANCELED: &str = "57014";

fn why(error: &sqlx::Error, limit: Duration) -> ProbeError {
    match error {
        sqlx::Error::Database(error) if error.code().as_deref() == Some(QUERY_CANCELED) => {
            ProbeError::Slow(limit)
        }
        sqlx::Error::Database(error) => ProbeError::Refused(error.message().to_owned()),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => {
            ProbeError::Unavailable(error.to_string())
        }
        error => ProbeError::Refused(error.to_string()),
    }
}

impl Probe {
    /// A probe of a database. It connects when it measures for the first time, to the server that the database is on by
    /// then.
    #[must_use]
    pub fn new(db: &Db, statement: &str) -> Self {
        Self { db: db.clone(), statement: statement.to_owned(), open: None }
    }

    /// Runs the statement and returns how long it took, without connecting and without the transaction around it. A
    /// statement that takes longer than `limit` is cancelled. May itself be cancelled at any time.
    ///
    /// # Errors
    /// If it did not end in time, the database refuses it, or there is no connection.
    pub async fn measure(&mut self, limit: Duration) -> Result<Duration, ProbeError> {
        // Taken out, so that a connection on which something is left over is not used again.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => match timeout(limit + GRACE, self.connect()).await {
                Ok(Ok(open)) => open,
                Ok(Err(error)) => return Err(ProbeError::Unavailable(error.to_string())),
                Err(_) => return Err(ProbeError::Unavailable("it does not answer".to_owned())),
            },
        };
        let outcome = match &mut open {
            Open::Postgres(connection) => {
                let measuring = on_postgres(connection, &self.statement, limit);
                timeout(limit + GRACE, measuring).await.unwrap_or(Err(ProbeError::Slow(limit)))
            }
            Open::Sqlite { connection, over } => on_sqlite(connection, &self.statement, limit, over).await,
        };
        if outcome.is_ok() {
            self.open = Some(open);
        }
        outcome
    }

    async fn connect(&self) -> Result<Open, sqlx::Error> {
        Ok(match &self.db.pool {
            Pool::Postgres(pool) => {
                let options = pool.connect_options().application_name("causeway probe");
                Open::Postgres(options.log_statements(LevelFilter::Trace).connect().await?)
            }
            Pool::Sqlite { readers, .. } => {
                let options =
                    readers.connect_options().as_ref().clone().read_only(true).create_if_missing(false);
                let options = options.log_statements(LevelFilter::Trace);
                let mut connection = options.connect().await?;
                let over = Arc::new(AtomicBool::new(false));
                let is_over = Arc::clone(&over);
                connection
                    .lock_handle()
                    .await?
                    .set_progress_handler(STEPS, move || !is_over.load(Ordering::Relaxed));
                Open::Sqlite { connection, over }
            }
        })
    }

    /// Closes the connection until the next measurement.
    pub async fn close(&mut self) {
        match self.open.take() {
            // An error on closing does not matter.
            Some(Open::Postgres(connection)) => {
                let _closed = timeout(GRACE, connection.close()).await;
            }
            Some(Open::Sqlite { connection, .. }) => {
                let _closed = timeout(GRACE, connection.close()).await;
            }
            None => {}
        }
    }
}

async fn on_postgres(
    connection: &mut PgConnection,
    statement: &str,
    limit: Duration,
) -> Result<Duration, ProbeError> {
    let failed = |error: sqlx::Error| why(&error, limit);
    connection.execute("BEGIN READ ONLY").await.map_err(failed)?;
    let cancel = format!("SET LOCAL statement_timeout = {}", limit.as_millis().max(1));
    connection.execute(AssertSqlSafe(cancel)).await.map_err(failed)?;
    let begun = Instant::now();
    // Prepared, so that it can be one statement only.
    let ended = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut *connection).await;
    let took = begun.elapsed();
    ended.map_err(failed)?;
    connection.execute("ROLLBACK").await.map_err(failed)?;
    Ok(took)
}

async fn on_sqlite(
    connection: &mut SqliteConnection,
    statement: &str,
    limit: Duration,
    over: &AtomicBool,
) -> Result<Duration, ProbeError> {
    let begun = Instant::now();
    let running = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection);
    match timeout(limit, running).await {
        Ok(Ok(_)) => Ok(begun.elapsed()),
        Ok(Err(error)) => Err(why(&error, limit)),
        Err(_) => {
            // The thread of the connection still executes it, until it sees this.
            over.store(true, Ordering::Relaxed);
            Err(ProbeError::Slow(limit))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Options, Statement};

    const LIMIT: Duration = Duration::from_secs(5);

    async fn database() -> (tempfile::TempDir, Db) {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("x.db").display());
        let db = Db::connect(&url, &Options::default()).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        tx.execute(Statement::new("CREATE TABLE t (id bigint)")).await.unwrap();
        tx.execute(Statement::new("INSERT INTO t (id) VALUES (1)")).await.unwrap();
        tx.commit().await.unwrap();
        (directory, db)
    }

    #[tokio::test]
    async fn a_statement_is_measured_on_a_connection_that_cannot_write() {
        let (_directory, db) = database().await;
        assert!(Probe::new(&db, "SELECT id FROM t").measure(LIMIT).await.unwrap() < LIMIT);
        for statement in [
            "DELETE FROM t",
            "PRAGMA query_only = 0; DELETE FROM t",
            "SELECT 1; DELETE FROM t",
            "nonsense",
            "SELECT id FROM nothing",
        ] {
            let mut probe = Probe::new(&db, statement);
            for _ in 0..2 {
                let refused = probe.measure(LIMIT).await;
                assert!(matches!(refused, Err(ProbeError::Refused(_))), "{statement}: {refused:?}");
            }
        }
        assert_eq!(db.fetch_all(Statement::new("SELECT id FROM t")).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_statement_without_an_end_is_cancelled_and_does_not_go_on() {
        let (_directory, db) = database().await;
        let endless =
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let mut probe = Probe::new(&db, endless);
        let limit = Duration::from_millis(50);
        assert_eq!(probe.measure(limit).await, Err(ProbeError::Slow(limit)));
        assert_eq!(probe.measure(limit).await, Err(ProbeError::Slow(limit)));
        // Closing waits for its thread, which ends because the statement does.
        probe.close().await;
    }

    #[tokio::test]
    async fn a_database_that_is_away_is_reported() {
        let (directory, db) = database().await;
        drop(directory);
        let mut probe = Probe::new(&db, "SELECT 1");
        assert!(matches!(probe.measure(LIMIT).await, Err(ProbeError::Unavailable(_))));
    }
}
