//! Connecting by URL, and migrating at start.

use std::{borrow::Cow, str::FromStr as _, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Db, DbError, Dialect, Pool};

/// What every connection to PostgreSQL begins with. Statements here ask for rows by an index; while a table is small,
/// PostgreSQL may rather read all of it, and it keeps such plans as long as the connection lives, those of foreign keys
/// too: an import of a thousand records would leave plans behind that make one of a million read whole tables for each
/// row. A statement that cannot do without reading a table seems so expensive then that it would be compiled first.
/// Costs are those of a disk that reads any page as fast as the next one.
const PLANS: &str = "SELECT set_config(name, value, false) \
    FROM (VALUES ('enable_seqscan', 'off'), ('jit', 'off'), ('random_page_cost', '1.1')) AS plans (name, value)";

/// How long a connection to PostgreSQL may have been idle and be used without being tested. Each is tested when it is given
/// back; testing it again at once is a round trip for every statement outside of a transaction.
const FRESH: Duration = Duration::from_millis(100);

/// Memory for pages of the connection that writes to SQLite, in KiB (hence negative).
const WRITER_CACHE: &str = "-4000";
/// The same for each of those that read: few pages, of many calls.
const READER_CACHE: &str = "-500";
/// Pages in the log of SQLite from which on a commit also brings the file up to date. Rows of a table go to pages of its
/// indexes in no order, so the same pages change again and again; each is copied once for so many.
const WAL_PAGES: &str = "4000";

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// The most connections at once; on SQLite, two at the least, of which one writes.
    pub max_connections: u32,
    /// How long to wait for a connection before the database counts as unavailable.
    pub acquire_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_connections: 10, acquire_timeout: Duration::from_secs(5) }
    }
}

/// The migrations of one silo, for both databases: number, name and SQL of each. Once landed, none is ever edited.
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    /// For PostgreSQL.
    pub postgres: &'static [(i64, &'static str, &'static str)],
    /// For SQLite.
    pub sqlite: &'static [(i64, &'static str, &'static str)],
}

impl Migrations {
    fn migrator(self, dialect: Dialect) -> Migrator {
        let list = match dialect {
            Dialect::Postgres => self.postgres,
            Dialect::Sqlite => self.sqlite,
        };
        let migrations = list
            .iter()
            .map(|(version, name, sql)| {
                Migration::new(
                    *version,
                    Cow::Borrowed(*name),
                    MigrationType::Simple,
                    AssertSqlSafe(*sql).into_sql_str(),
                    false,
                )
            })
            .collect();
        let mut migrator = Migrator::with_migrations(migrations);
        // An application whose tables are here too may have a migration table of the usual name.
        migrator.dangerous_set_table_name("causeway_migration");
        migrator
    }
}

/// A URL without its password, fit for a log. What is no URL may be all secret.
#[must_use]
pub fn redact(url: &str) -> String {
    if url.starts_with("sqlite:") {
        return url.to_owned();
    }
    let Some((scheme, rest)) = url.split_once("://") else { return "(hidden)".to_owned() };
    // A password may have anything in it, also what ends it in a URL that is right.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let user = user
        .map_or(String::new(), |user| format!("{}@", user.split([':', '/', '?']).next().unwrap_or_default()));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?..."));
    format!("{scheme}://{user}{rest}{query}")
}

/// Whether a URL is one of a database, without connecting to it.
///
/// # Errors
/// If it is not; the words do not repeat it.
pub fn check_url(url: &str) -> Result<(), DbError> {
    Target::of(url).map(|_| ())
}

/// What a URL leads to.
enum Target {
    Postgres(Box<PgConnectOptions>),
    Sqlite(Box<SqliteConnectOptions>),
}

impl Target {
    fn of(url: &str) -> Result<Self, DbError> {
        let malformed = |_| DbError::inconsistent("the database URL is malformed");
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(Box::new(PgConnectOptions::from_str(url).map_err(malformed)?)));
        }
        if url.starts_with("sqlite:") {
            return Ok(Self::Sqlite(Box::new(SqliteConnectOptions::from_str(url).map_err(malformed)?)));
        }
        Err(DbError::inconsistent("the database URL must begin with postgres:// or sqlite:"))
    }
}

impl Db {
    /// Connects to `postgres://...` or `sqlite:PATH` (made if absent). The first connection is made here, so that a
    /// wrong URL shows at once.
    ///
    /// # Errors
    /// If the URL is neither, or the database cannot be reached.
    pub async fn connect(url: &str, options: &Options) -> Result<Self, DbError> {
        match Target::of(url)? {
            Target::Postgres(connect) => {
                let pool = PgPoolOptions::new()
                    .max_connections(options.max_connections)
                    .acquire_timeout(options.acquire_timeout)
                    .after_connect(|connection, _| {
                        Box::pin(async move {
                            sqlx::query(PLANS).execute(connection).await?;
                            Ok(())
                        })
                    })
                    .test_before_acquire(false)
                    .before_acquire(|connection, meta| {
                        Box::pin(async move {
                            if meta.idle_for > FRESH {
                                connection.ping().await?;
                            }
                            Ok(true)
                        })
                    })
                    .connect_with(connect.application_name("causeway"))
                    .await?;
                Ok(Self(Pool::Postgres(pool)))
            }
            Target::Sqlite(connect) => {
                let connect = connect
                    .create_if_missing(true)
                    .foreign_keys(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // Both silos must be able to trust what the other one says it has committed.
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(options.acquire_timeout);
                let pool = |most| {
                    SqlitePoolOptions::new()
                        .max_connections(most)
                        .acquire_timeout(options.acquire_timeout)
                        // There is no server that could have gone away.
                        .test_before_acquire(false)
                };
                let writer = pool(1)
                    .connect_with(
                        connect
                            .clone()
                            .pragma("cache_size", WRITER_CACHE)
                            .pragma("wal_autocheckpoint", WAL_PAGES),
                    )
                    .await?;
                let readers = pool(options.max_connections.saturating_sub(1).max(1))
                    .connect_lazy_with(connect.pragma("cache_size", READER_CACHE));
                Ok(Self(Pool::Sqlite { readers, writer }))
            }
        }
    }

    /// Brings the schema up to date. Several processes may do this at once; doing it again changes nothing.
    ///
    /// # Errors
    /// If the database refuses, or a migration that has been applied is not the one that is known now.
    pub async fn migrate(&self, migrations: Migrations) -> Result<(), DbError> {
        let migrator = migrations.migrator(self.dialect());
        let done = match &self.0 {
            Pool::Postgres(pool) => migrator.run(pool).await,
            Pool::Sqlite { writer, .. } => migrator.run(writer).await,
        };
        done.map_err(|error| DbError::inconsistent(format!("the schema cannot be migrated: {error}")))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_password_never_shows() {
        for url in [
            "postgres://me:secret@host:5432/db",
            "postgres://me:se@cret@host/db?password=secret",
            "sqlite:/var/x.db",
        ] {
            let shown = super::redact(url);
            assert!(!shown.contains("secret") && !shown.contains("cret@"), "{shown}");
        }
        assert_eq!(super::redact("postgres://me:secret@host:5432/db"), "postgres://me@host:5432/db");
        for broken in [
            "postgres:me:secret@host/db",
            "me:secret",
            "postgres://me:secret?x@host/db",
            "postgres://me:x?secret@host/db",
            "postgres://me:x/secret@host/db",
            "postgres://host/db?password=secret&x=1",
        ] {
            assert!(!super::redact(broken).contains("secret"), "{}", super::redact(broken));
        }
    }
}
