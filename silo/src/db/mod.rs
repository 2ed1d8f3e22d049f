//! The interface to the database: one type, `Db`, for PostgreSQL and SQLite. The URL decides which it is.
//!
//! SQL is written once, with `$1` parameters, `ON CONFLICT` and `RETURNING`, which both databases understand. This
//! module handles the differences: connecting, the types of parameters and rows, sets of rows as a parameter
//! ([`Statement::rows`]), which errors mean that a retry may succeed ([`DbError`]), and access to the connection itself
//! for bulk writing ([`Tx`]).
//!
//! Reads go to [`Db`] directly, and are retried there. Writes go through [`transact!`](crate::transact), which retries
//! a transaction that lost against another one. So its body may run more than once, and must have no effect outside the
//! transaction.

mod bisect;
mod connect;
mod digest;
mod disk_space;
mod error;
mod examine;
mod files;
mod hosts;
mod limited;
mod migrate;
mod own_schema;
mod place;
mod pool_use;
mod postgres_pool;
mod probe;
mod replica;
mod retry;
mod row;
mod servers;
mod statement;
mod tx;
mod unusable_server;
mod url;

use std::sync::Arc;

use sqlx::{
    AssertSqlSafe, Postgres, Sqlite, SqlitePool,
    postgres::PgArguments,
    sqlite::{SqliteArguments, SqlitePoolOptions},
};

use self::{disk_space::DiskSpace, postgres_pool::PostgresPool};

pub use bisect::{Parts, Refused, is_refusal, outside, write_bisecting};
pub use connect::{ConnectError, Options};
pub use digest::digest_of;
pub use error::{DbError, DbErrorKind, count};
pub use examine::{LackingRights, OLDEST_POSTGRES, SequenceBehind, ServerFacts, absent_file, file_of_url};
pub use migrate::{MigrateError, Migrations};
pub use own_schema::OwnTables;
pub use place::{check_url, redact};
pub use pool_use::PoolUse;
pub use postgres_pool::Watch;
pub use probe::{Probe, ProbeError};
pub use replica::{Readers, ReplicaError, ReplicaOptions};
pub use retry::{Attempts, HasDbError, retried, retried_by_code};
pub use row::Row;
pub use statement::{Arg, Column, Statement, time_text};
pub use tx::{OpenTransaction, Transactional, Tx};
pub use url::DatabaseUrl;

/// Which of the two databases it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL 15 or later.
    Postgres,
    /// SQLite, the embedded default.
    Sqlite,
}

/// Runs a query, again if it lost against another transaction: a single query is a transaction too, and may lose under
/// SERIALIZABLE.
macro_rules! retry {
    ($db:expr, $query:expr) => {{
        let mut attempts = Attempts::default();
        loop {
            match $query {
                Ok(answer) => break Ok(answer),
                Err(error) => {
                    let error: DbError = error.at(&$db.place);
                    if !attempts.should_retry(&error).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}

/// A pool of connections to one silo's database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    pool: Pool,
    /// The name of the database in errors, without anything secret.
    place: Arc<str>,
    /// The option that names it, for errors that say what to do.
    option: &'static str,
    disk_space: Arc<DiskSpace>,
}

#[derive(Debug, Clone)]
enum Pool {
    Postgres(PostgresPool),
    /// SQLite has one writer at a time, so one connection does all writing. Writers wait in turn instead of polling,
    /// the cached pages stay valid because no other connection changes any, and statements are prepared once.
    Sqlite {
        readers: SqlitePool,
        writer: SqlitePool,
    },
}

fn pg_query(statement: Statement) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>, DbError> {
    let (sql, args) = statement.into_postgres()?;
    Ok(sqlx::query_with(AssertSqlSafe(sql), args))
}

fn sqlite_query(
    statement: Statement,
) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>, DbError> {
    let (sql, args) = statement.into_sqlite()?;
    Ok(sqlx::query_with(AssertSqlSafe(sql), args))
}

impl Db {
    /// Which database it is.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self.pool {
            Pool::Postgres(_) => Dialect::Postgres,
            Pool::Sqlite { .. } => Dialect::Sqlite,
        }
    }

    /// The name of the database in errors, without anything secret.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Begins a transaction. Prefer [`transact!`](crate::transact).
    ///
    /// # Errors
    /// If no connection can be had in time.
    pub async fn begin(&self) -> Result<Tx, DbError> {
        Ok(match &self.pool {
            Pool::Postgres(pool) => {
                let pooled = pool.acquire().await.map_err(|error| DbError::from(error).at(&self.place))?;
                let (connection, watch) = pooled.into_parts()?;
                Tx::Postgres(OpenTransaction::begin(connection, watch, &self.disk_space).await?)
            }
            Pool::Sqlite { writer, .. } => {
                let connection = writer.acquire().await.map_err(DbError::of_begin_sqlite)?;
                Tx::Sqlite(OpenTransaction::begin(connection, Watch::none(), &self.disk_space).await?)
            }
        })
    }

    /// On SQLite, the same database through a connection of its own on which tables can be written again: it checks no
    /// foreign keys, and renames a table without looking at what names it. Check the foreign keys with
    /// `pragma_foreign_key_check` before the commit, and close it afterwards. `None` on PostgreSQL, which alters tables in
    /// place.
    ///
    /// # Errors
    /// If the database cannot be opened.
    pub async fn for_rebuilding(&self) -> Result<Option<Self>, DbError> {
        let Pool::Sqlite { writer, .. } = &self.pool else { return Ok(None) };
        let options = writer.connect_options().as_ref().clone();
        let options = options.foreign_keys(false).pragma("legacy_alter_table", "ON");
        let one = || SqlitePoolOptions::new().max_connections(1);
        let writer = one().connect_with(options.clone()).await?;
        let pool = Pool::Sqlite { readers: one().connect_lazy_with(options), writer };
        let (place, disk_space) = (Arc::clone(&self.place), Arc::clone(&self.disk_space));
        Ok(Some(Self { pool, place, option: self.option, disk_space }))
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    pub async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, DbError> {
        retry!(
            self,
            match &self.pool {
                Pool::Postgres(pool) =>
                    pool.fetch_all(pg_query(statement.clone())?).await.map(Row::all_postgres),
                Pool::Sqlite { readers, .. } => sqlite_query(statement.clone())?
                    .fetch_all(readers)
                    .await
                    .map(Row::all_sqlite)
                    .map_err(DbError::from),
            }
        )
    }

    /// All rows of a query that has many, in no order, each as the values of these columns. The database returns them
    /// as one JSON text: SQLite would wake a thread for each row, which takes longer than finding the row. Booleans are
    /// numbers on SQLite.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached, or a value has no form in JSON.
    pub async fn fetch_many<const N: usize>(
        &self,
        statement: Statement,
        columns: [&str; N],
    ) -> Result<Vec<[serde_json::Value; N]>, DbError> {
        let names = columns.map(|column| format!("\"{column}\"")).join(", ");
        let begin = match self.dialect() {
            Dialect::Postgres => {
                format!(
                    "SELECT CAST(COALESCE(json_agg(json_build_array({names})), '[]') AS text) AS many FROM ("
                )
            }
            Dialect::Sqlite => format!("SELECT json_group_array(json_array({names})) AS many FROM ("),
        };
        let many = self.fetch_optional(statement.within(&begin, ") AS q")).await?;
        let text = many.map_or_else(|| Ok("[]".to_owned()), |row| row.text("many"))?;
        let rows: Vec<Vec<serde_json::Value>> =
            serde_json::from_str(&text).map_err(|error| DbError::inconsistent(error.to_string()))?;
        let row = |row: Vec<serde_json::Value>| {
            <[serde_json::Value; N]>::try_from(row)
                .map_err(|_| DbError::inconsistent("a row has other columns than were asked for"))
        };
        rows.into_iter().map(row).collect()
    }

    /// The first row of a query, if there is one.
    ///
    /// # Errors
    /// If the database refuses the statement or cannot be reached.
    pub async fn fetch_optional(&self, statement: Statement) -> Result<Option<Row>, DbError> {
        retry!(
            self,
            match &self.pool {
                Pool::Postgres(pool) =>
                    pool.fetch_optional(pg_query(statement.clone())?).await.map(|row| row.map(Row::Postgres)),
                Pool::Sqlite { readers, .. } => sqlite_query(statement.clone())?
                    .fetch_optional(readers)
                    .await
                    .map(|row| row.map(Row::Sqlite))
                    .map_err(DbError::from),
            }
        )
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.fetch_optional(Statement::new("SELECT 1 AS one")).await.map(|_| ())
    }

    fn disk_space(&self) -> &DiskSpace {
        &self.disk_space
    }

    /// Closes all connections and waits for those in use.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Postgres(pool) => pool.close().await,
            Pool::Sqlite { readers, writer } => {
                // The last connection to close copies the log into the database file, so it must be the one that can
                // write.
                readers.close().await;
                writer.close().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn on_sqlite_those_who_write_wait_in_turn_and_not_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("x.db").display());
        let options =
            Options { max_connections: 1, acquire_timeout: Duration::from_millis(100), ..Options::default() };
        let db = Db::connect(&url, &options).await.unwrap();
        let first = db.begin().await.unwrap();
        // Readers need not wait meanwhile.
        db.ping().await.unwrap();
        assert_eq!(db.begin().await.unwrap_err().kind(), DbErrorKind::Contention);
        let (begun, committed) = tokio::join!(db.begin(), first.commit());
        committed.unwrap();
        begun.unwrap().commit().await.unwrap();
    }

    #[tokio::test]
    async fn many_rows_of_sqlite_come_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("x.db").display());
        let db = Db::connect(&url, &Options::default()).await.unwrap();
        let rows = || {
            Statement::new("SELECT r.id AS id, r.name AS name FROM ").rows(
                Dialect::Sqlite,
                "r",
                [("id", Column::Ints(vec![1, 2])), ("name", Column::OptTexts(vec![Some("a".into()), None]))],
            )
        };
        let many = db.fetch_many(rows(), ["id", "name"]).await.unwrap();
        assert_eq!(many, [[1.into(), "a".into()], [2.into(), serde_json::Value::Null]]);
        assert!(db.fetch_many(rows().push(" WHERE r.id > 2"), ["id"]).await.unwrap().is_empty());
    }
}
