//! A transaction, and what happens to its connection.
//!
//! A connection goes back to its pool only if it is known to have no transaction any more: it was committed, or a
//! `ROLLBACK` succeeded. SQLite rolls back by itself when its disk is full, a file cannot be read or written, or memory
//! is short, and then refuses a `ROLLBACK`. A statement may still run after its future was dropped. In each of these
//! cases the connection is closed, and the pool opens another one.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use sqlx::{Database, Executor as _, Postgres, Sqlite, pool::PoolConnection};
use tokio::time::timeout;

use super::{
    DbError, DbErrorKind, Dialect, HasDbError, Row, Statement, Watch,
    disk_space::DiskSpace,
    pg_query,
    postgres_pool::{TEST_WITHIN, give_back},
    sqlite_query,
};

/// What differs between databases when a transaction begins and ends.
pub trait Transactional: Database {
    /// The statement that begins one.
    const BEGIN: &'static str;

    /// Runs a statement that has no parameters and gives no rows.
    fn run(
        connection: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<(), DbError>> + Send;
}

impl Transactional for Postgres {
    const BEGIN: &'static str = "BEGIN";

    async fn run(connection: &mut Self::Connection, sql: &'static str) -> Result<(), DbError> {
        connection.execute(sql).await?;
        Ok(())
    }
}

impl Transactional for Sqlite {
    const BEGIN: &'static str = "BEGIN IMMEDIATE";

    async fn run(connection: &mut Self::Connection, sql: &'static str) -> Result<(), DbError> {
        connection.execute(sql).await?;
        Ok(())
    }
}

/// The state of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It accepts a statement: none is under way.
    Open,
    /// A statement is under way, or its future was dropped.
    Underway,
    /// The database may have ended it by itself, or does not answer.
    Lost,
    /// It has been committed or rolled back.
    Ended,
}

/// A transaction on a database of one kind, with its connection.
pub struct OpenTransaction<D: Transactional> {
    /// `None` only while this is being dropped.
    connection: Option<PoolConnection<D>>,
    state: State,
    watch: Watch,
    disk_space: Arc<DiskSpace>,
}

impl<D: Transactional> fmt::Debug for OpenTransaction<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTransaction").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<D: Transactional> OpenTransaction<D> {
    /// Begins a transaction on a connection of a pool.
    pub(super) async fn begin(
        connection: PoolConnection<D>,
        watch: Watch,
        disk_space: &Arc<DiskSpace>,
    ) -> Result<Self, DbError> {
        let mut begun = Self {
            connection: Some(connection),
            state: State::Open,
            watch,
            disk_space: Arc::clone(disk_space),
        };
        let outcome = begun.run(D::BEGIN).await;
        if outcome.is_err() && begun.state == State::Open {
            // For example, another process writes to the database. There is no transaction to roll back.
            begun.state = State::Ended;
        }
        outcome.map(|()| begun)
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), DbError> {
        let watch = self.watch();
        let mut work = self.work()?;
        let outcome = watch.during(D::run(&mut work, sql)).await;
        work.done(outcome)
    }

    /// Knows whether the server of the connection is still there. Work on the connection must be done during it.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    pub(super) async fn commit(mut self) -> Result<(), DbError> {
        self.run("COMMIT").await?;
        self.state = State::Ended;
        Ok(())
    }

    /// The connection, for one piece of work. Its outcome must go to [`Work::done`].
    ///
    /// # Errors
    /// If the transaction has ended: anything written after that would be committed on its own.
    pub fn work(&mut self) -> Result<Work<'_, D>, DbError> {
        match (&mut self.connection, self.state) {
            (Some(connection), State::Open) => {
                self.state = State::Underway;
                Ok(Work { connection, state: &mut self.state, disk_space: &self.disk_space })
            }
            _ => Err(DbError::lost()),
        }
    }
}

impl<D: Transactional> Drop for OpenTransaction<D> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // Without a runtime the connection cannot return to the pool. The database rolls back when the connection
            // ends.
            drop(connection.detach());
            return;
        };
        match self.state {
            State::Ended => give_back(connection),
            State::Underway | State::Lost => {
                self.watch.doubt();
                connection.close_on_drop();
            }
            State::Open => drop(runtime.spawn(async move {
                let rolled_back = timeout(TEST_WITHIN, D::run(&mut connection, "ROLLBACK")).await;
                match rolled_back.unwrap_or_else(|_| Err(DbError::unavailable("it does not answer"))) {
                    Ok(()) => give_back(connection),
                    Err(error) => {
                        tracing::debug!(%error, "a connection is closed because it cannot roll back");
                        connection.close_on_drop();
                    }
                }
            })),
        }
    }
}

/// The connection of a transaction during one piece of work.
pub struct Work<'a, D: Transactional> {
    connection: &'a mut PoolConnection<D>,
    state: &'a mut State,
    disk_space: &'a DiskSpace,
}

impl<D: Transactional> Work<'_, D> {
    /// Reports the outcome of the work. Without this call the transaction cannot continue.
    pub fn done<T, E: HasDbError>(self, outcome: Result<T, E>) -> Result<T, E> {
        let kind = outcome.as_ref().err().and_then(HasDbError::db_error).map(DbError::kind);
        if let Some(DbErrorKind::Full | DbErrorKind::ReadOnly) = kind {
            self.disk_space.mark_full();
        }
        *self.state = match kind {
            Some(
                DbErrorKind::Unavailable | DbErrorKind::Full | DbErrorKind::ReadOnly | DbErrorKind::Closed,
            ) => State::Lost,
            _ => State::Open,
        };
        outcome
    }
}

impl<D: Transactional> Deref for Work<'_, D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        self.connection
    }
}

impl<D: Transactional> DerefMut for Work<'_, D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        self.connection
    }
}

/// A transaction. Dropped without [`commit`](Tx::commit), it is rolled back.
#[derive(Debug)]
pub enum Tx {
    /// A transaction on PostgreSQL, where others may write at the same time.
    Postgres(OpenTransaction<Postgres>),
    /// On SQLite, begun `IMMEDIATE`: it is the only writer until it ends.
    Sqlite(OpenTransaction<Sqlite>),
}

/// Runs a query on the connection of a transaction.
macro_rules! on {
    ($begun:expr, $query:expr, $run:ident) => {{
        let query = $query;
        let watch = $begun.watch();
        let mut work = $begun.work()?;
        let outcome = watch.during(async { Ok::<_, DbError>(query.$run(&mut *work).await?) }).await;
        work.done(outcome)
    }};
}

impl Tx {
    /// Which database it is.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    pub async fn execute(&mut self, statement: Statement) -> Result<u64, DbError> {
        Ok(match self {
            Self::Postgres(tx) => on!(tx, pg_query(statement)?, execute)?.rows_affected(),
            Self::Sqlite(tx) => on!(tx, sqlite_query(statement)?, execute)?.rows_affected(),
        })
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    pub async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, DbError> {
        Ok(match self {
            Self::Postgres(tx) => Row::all_postgres(on!(tx, pg_query(statement)?, fetch_all)?),
            Self::Sqlite(tx) => Row::all_sqlite(on!(tx, sqlite_query(statement)?, fetch_all)?),
        })
    }

    /// The first row of a query, if there is one.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    pub async fn fetch_optional(&mut self, statement: Statement) -> Result<Option<Row>, DbError> {
        Ok(match self {
            Self::Postgres(tx) => on!(tx, pg_query(statement)?, fetch_optional)?.map(Row::Postgres),
            Self::Sqlite(tx) => on!(tx, sqlite_query(statement)?, fetch_optional)?.map(Row::Sqlite),
        })
    }

    /// The only row of a query.
    ///
    /// # Errors
    /// As [`Tx::fetch_optional`], and if there is no row.
    pub async fn fetch_one(&mut self, statement: Statement) -> Result<Row, DbError> {
        self.fetch_optional(statement)
            .await?
            .ok_or_else(|| DbError::inconsistent("a row that must be there is not"))
    }

    /// Checks deferred constraints now, and not when the transaction ends, so that locks that are acquired
    /// after this call are not held during the checks. SQLite has one writer and gains nothing from that.
    ///
    /// # Errors
    /// If a constraint is broken, or the database cannot be reached.
    pub async fn check_constraints(&mut self) -> Result<(), DbError> {
        if let Self::Postgres(_) = self {
            self.execute(Statement::new("SET CONSTRAINTS ALL IMMEDIATE")).await?;
        }
        Ok(())
    }

    /// Begins a part of the transaction, which ends with [`Self::end_part`] and can be undone there. Parts of this kind
    /// are not nested.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn begin_part(&mut self) -> Result<(), DbError> {
        self.execute(Statement::new("SAVEPOINT causeway_undoable")).await.map(|_| ())
    }

    /// Ends a part of the transaction, and undoes what it did unless it `keeps` that.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn end_part(&mut self, keeps: bool) -> Result<(), DbError> {
        if !keeps {
            self.execute(Statement::new("ROLLBACK TO SAVEPOINT causeway_undoable")).await?;
        }
        self.execute(Statement::new("RELEASE SAVEPOINT causeway_undoable")).await.map(|_| ())
    }

    /// Ends the transaction and keeps what it did.
    ///
    /// # Errors
    /// If the database refuses, e.g. because a deferred constraint is broken, or its disk is full. If the connection is
    /// lost here, it is not known whether the transaction was committed: a caller that retries must be able to repeat
    /// it.
    pub async fn commit(self) -> Result<(), DbError> {
        match self {
            Self::Postgres(tx) => tx.commit().await,
            Self::Sqlite(tx) => tx.commit().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::db::{Db, Options};

    const PATIENCE: Duration = Duration::from_secs(30);

    async fn database(directory: &tempfile::TempDir) -> Db {
        let url = format!("sqlite:{}", directory.path().join("x.db").display());
        let db = Db::connect(&url, &Options::default()).await.expect("a database");
        let mut tx = db.begin().await.expect("a transaction");
        tx.execute(Statement::new(include_str!("../../../migrations/region/sqlite/0012_health.sql")))
            .await
            .expect("a table");
        tx.execute(Statement::new("CREATE TABLE t (a integer)")).await.expect("a table");
        tx.commit().await.expect("it is kept");
        db
    }

    async fn count(db: &Db) -> i64 {
        let row =
            db.fetch_optional(Statement::new("SELECT COUNT(*) AS many FROM t")).await.expect("it answers");
        row.expect("a row").int("many").expect("a number")
    }

    async fn insert(db: &Db) {
        let mut tx = db.begin().await.expect("a transaction");
        assert_eq!(tx.execute(Statement::new("INSERT INTO t VALUES (1)")).await.expect("it is written"), 1);
        tx.commit().await.expect("it is kept");
    }

    /// Limits the writing connection to the pages that it has, like a full disk. Other connections have no such limit.
    async fn fill(db: &Db) {
        let mut tx = db.begin().await.expect("a transaction");
        let pages = tx.fetch_one(Statement::new("PRAGMA page_count")).await.expect("it answers");
        let pages = pages.int("page_count").expect("a number");
        let limit = Statement::new("PRAGMA max_page_count = ").push(&pages.to_string());
        tx.execute(limit).await.expect("it is taken");
        tx.commit().await.expect("it is kept");
    }

    fn large() -> Statement {
        Statement::new(
            "WITH RECURSIVE n (a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 200000) INSERT INTO t SELECT a FROM n",
        )
    }

    #[tokio::test]
    async fn a_full_disk_ends_one_transaction_and_breaks_no_connection() {
        let directory = tempfile::tempdir().expect("a directory");
        let db = database(&directory).await;
        for commits in [false, true] {
            fill(&db).await;
            let mut tx = db.begin().await.expect("a transaction");
            tx.execute(Statement::new("INSERT INTO t VALUES (1)")).await.expect("there is room for it");
            let error = tx.execute(large()).await.expect_err("there is no room");
            assert_eq!(error.kind(), DbErrorKind::Full, "{error}");
            assert!(error.to_string().contains("make room there"), "{error}");
            // SQLite has rolled back by itself. A statement now would be committed on its own.
            let error = tx.execute(Statement::new("INSERT INTO t VALUES (1)")).await.expect_err("it is over");
            assert_eq!(error.kind(), DbErrorKind::Unavailable, "{error}");
            if commits {
                tx.commit().await.expect_err("it is over");
            } else {
                drop(tx);
            }
            assert_eq!(count(&db).await, 0, "nothing of it is kept");
            // The next transaction has a connection that can begin one.
            db.begin().await.expect("a transaction").commit().await.expect("it is kept");
        }
        insert(&db).await;
        assert_eq!(count(&db).await, 1);
        db.close().await;
    }

    #[tokio::test]
    async fn a_full_disk_is_known_until_there_is_room() {
        let directory = tempfile::tempdir().expect("a directory");
        let db = database(&directory).await;
        db.check_writable(PATIENCE).await.expect("it can be written to");
        fill(&db).await;
        // A small row replaces an old page, so it shows nothing.
        db.check_writable(PATIENCE).await.expect("there is room for a row");
        let mut tx = db.begin().await.expect("a transaction");
        tx.execute(large()).await.expect_err("there is no room");
        drop(tx);
        // That connection is gone, and its limit with it.
        fill(&db).await;
        let error = db.check_writable(PATIENCE).await.expect_err("there is no room");
        assert_eq!(error.kind(), DbErrorKind::Full, "{error}");
        db.check_writable(PATIENCE).await.expect("there is room on the next connection");
        let rows = db.fetch_all(Statement::new("SELECT id FROM causeway_health")).await.expect("it answers");
        assert_eq!(rows.len(), 1, "what it took to know is gone");
        db.close().await;
    }

    #[tokio::test]
    async fn whoever_writes_all_the_time_is_no_sign_of_a_full_disk() {
        let directory = tempfile::tempdir().expect("a directory");
        let db = database(&directory).await;
        let tx = db.begin().await.expect("a transaction");
        let error = db.check_writable(Duration::from_millis(10)).await.expect_err("nobody knows");
        assert_eq!(error.kind(), DbErrorKind::Contention);
        tx.commit().await.expect("it is kept");
        db.check_writable(PATIENCE).await.expect("it can be written to");
        db.close().await;
    }

    #[tokio::test]
    async fn a_statement_that_is_dropped_half_way_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let db = database(&directory).await;
        let mut tx = db.begin().await.expect("a transaction");
        tokio::select! {
            biased;
            _ = tx.execute(large()) => panic!("it takes longer"),
            () = tokio::task::yield_now() => {}
        }
        let error = tx.execute(Statement::new("INSERT INTO t VALUES (1)")).await.expect_err("it is lost");
        assert_eq!(error.kind(), DbErrorKind::Unavailable);
        drop(tx);
        insert(&db).await;
        assert_eq!(count(&db).await, 1);
        db.close().await;
    }

    #[test]
    fn a_transaction_that_is_dropped_outside_a_runtime_is_rolled_back() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let db = runtime.block_on(database(&directory));
        for writes in [false, true] {
            let mut tx = runtime.block_on(db.begin()).expect("a transaction");
            if writes {
                let insert = Statement::new("INSERT INTO t VALUES (1)");
                runtime.block_on(tx.execute(insert)).expect("there is room for it");
            }
            drop(tx);
            assert_eq!(runtime.block_on(count(&db)), 0);
        }
        // The next one has a connection.
        runtime.block_on(insert(&db));
        assert_eq!(runtime.block_on(count(&db)), 1);
        runtime.block_on(db.close());
    }

    #[tokio::test]
    async fn a_transaction_that_is_dropped_is_rolled_back_and_its_connection_is_used_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let db = database(&directory).await;
        fill(&db).await;
        let mut tx = db.begin().await.expect("a transaction");
        tx.execute(Statement::new("INSERT INTO t VALUES (1)")).await.expect("there is room for it");
        drop(tx);
        assert_eq!(count(&db).await, 0);
        // It still has its limit, so it is the same connection.
        let mut tx = db.begin().await.expect("a transaction");
        assert_eq!(tx.execute(large()).await.expect_err("no room").kind(), DbErrorKind::Full);
        drop(tx);
        db.close().await;
    }
}
