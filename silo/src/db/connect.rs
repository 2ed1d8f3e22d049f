//! Connecting by URL.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use log::LevelFilter;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::PgConnectOptions,
    sqlite::{SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::{Instant, timeout_at};

use super::{
    Db, DbError, Pool,
    disk_space::DiskSpace,
    files,
    place::{Target, file_of},
    postgres_pool::PostgresPool,
    servers::Servers,
};

/// The page cache of the connection that writes to SQLite, in KiB (hence negative).
const WRITER_CACHE: &str = "-4000";
/// The same for each connection that reads: small, because each of the many calls reads few pages.
const READER_CACHE: &str = "-500";
/// How many pages the write-ahead log of SQLite has before a commit also copies them into the database file. New rows
/// change the pages of an index in no order, so the same pages change again and again. This way a page is copied once
/// for many changes.
const WAL_PAGES: &str = "4000";

/// How many connections there may be, and how long to wait for one.
#[derive(Debug, Clone)]
pub struct Options {
    /// The maximum number of connections; on SQLite at least two, one of which writes.
    pub max_connections: u32,
    /// How long to wait for a connection before the database counts as unavailable.
    pub acquire_timeout: Duration,
    /// How long a statement may run before PostgreSQL cancels it; `None` has no limit. SQLite has none either.
    pub statement_timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_connections: 10, acquire_timeout: Duration::from_secs(5), statement_timeout: None }
    }
}

/// A statement that takes longer is logged at level `debug`, with its text, which may be long.
const SLOW: Duration = Duration::from_secs(1);

/// The pause between two attempts to reach a server that asks to try again later.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Why a database cannot be reached. The message contains what was tried, where, and what to do. It never
/// contains a password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not the URL of a database.
    #[error("{0}")]
    Url(&'static str),
    /// The file of a SQLite database cannot be created or used.
    #[error("the database file {} cannot be used: {error}; {}", path.display(), files::advice(path, error))]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error of the file system.
        error: io::Error,
    },
    /// The database, or whatever is at that address, refused or did not answer.
    #[error("{place} cannot be used: {error}; {advice}")]
    Refused {
        /// The name of the database, without anything secret.
        place: String,
        /// The error, or that there was no answer.
        error: DbError,
        /// What an operator can do about the error.
        advice: String,
    },
}

/// What to do about an error that PostgreSQL returned before it accepted a statement.
fn advice(options: &PgConnectOptions, error: &sqlx::Error, option: &str) -> String {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match (error, code.as_deref()) {
        (_, Some("3D000")) => {
            let user = options.get_username();
            format!(
                "make it (createdb -h {} -p {} -U {user} {}), or mend {option}",
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or(user)
            )
        }
        (_, Some("28P01" | "28000")) => {
            format!("mend user and password in {option}, or what pg_hba.conf of the server says of this user")
        }
        (_, Some("53300")) => {
            "close connections, raise max_connections of the server, or lower --database-max-connections"
                .to_owned()
        }
        (sqlx::Error::Io(error), _) if error.kind() == io::ErrorKind::ConnectionRefused => {
            format!("nothing listens there: start PostgreSQL, or mend host and port in {option}")
        }
        (sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut, _) => {
            format!("mend host and port in {option}, or the way there")
        }
        (sqlx::Error::Tls(_), _) => format!("mend sslmode in {option}, or the server's certificate"),
        _ => format!("mend that, or {option}"),
    }
}

/// Connects once, and closes the connection again: a pool would retry silently until its timeout.
async fn try_postgres(
    servers: &Servers,
    place: &str,
    option: &str,
    patience: Duration,
) -> Result<(), ConnectError> {
    let until = Instant::now() + patience;
    let Some(options) = servers.current().filter(|_| !servers.are_several()) else {
        return try_several(servers, place, option, until).await;
    };
    loop {
        let error = match timeout_at(until, PgConnection::connect_with(&options)).await {
            Ok(Ok(connection)) => {
                // An error on closing does not matter.
                let _closed = connection.close().await;
                return try_several(servers, place, option, until).await;
            }
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        // The server is starting up, or has no free connection at the moment.
        if matches!(code.as_deref(), Some("57P03" | "53300")) && Instant::now() + RETRY_PAUSE < until {
            tokio::time::sleep(RETRY_PAUSE).await;
            continue;
        }
        let advice = advice(&options, &error, option);
        let error = match error {
            sqlx::Error::PoolTimedOut => {
                DbError::inconsistent(format!("there is no answer within {patience:?}"))
            }
            error => error.into(),
        };
        return Err(ConnectError::Refused { place: place.to_owned(), error, advice });
    }
}

/// Looks for the server that the URL wants, until there is one. During a failover that takes some time.
async fn try_several(
    servers: &Servers,
    place: &str,
    option: &str,
    until: Instant,
) -> Result<(), ConnectError> {
    loop {
        let Err(nowhere) = servers.look(None).await else { return Ok(()) };
        if Instant::now() + RETRY_PAUSE >= until {
            return Err(ConnectError::Refused {
                place: place.to_owned(),
                error: DbError::unavailable(nowhere.to_string()),
                advice: format!(
                    "start one of them as the primary, or mend hosts and target_session_attrs in {option}"
                ),
            });
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

impl Db {
    /// Connects to `postgres://...` or `sqlite:PATH` (created if absent, so that only its owner can read it). The first
    /// connection is made here, so that a wrong URL shows at once.
    ///
    /// # Errors
    /// If the URL is neither, or the database cannot be reached.
    pub async fn connect(url: &str, options: &Options) -> Result<Self, ConnectError> {
        Self::connect_by("--database-url", url, options).await
    }

    /// The same for a URL that another option gives. Errors say what to change there.
    pub(super) async fn connect_by(
        option: &'static str,
        url: &str,
        options: &Options,
    ) -> Result<Self, ConnectError> {
        let target = Target::of(url)?;
        let place = target.name();
        let refused = |error: sqlx::Error, advice: &str| ConnectError::Refused {
            place: place.clone(),
            error: error.into(),
            advice: advice.to_owned(),
        };
        let pool = match target {
            Target::Postgres(mut hosts) => {
                hosts.each = hosts
                    .each
                    .into_iter()
                    .map(|host| {
                        host.application_name("causeway").log_slow_statements(LevelFilter::Debug, SLOW)
                    })
                    .collect();
                let servers = Servers::new(*hosts);
                try_postgres(&servers, &place, option, options.acquire_timeout).await?;
                let pool = PostgresPool::open(servers, options)
                    .await
                    .map_err(|error| refused(error, &format!("mend that, or {option}")))?;
                Pool::Postgres(pool)
            }
            Target::Sqlite(connect) => {
                let file = file_of(&connect);
                if let Some(path) = &file {
                    files::prepare(path).map_err(|error| ConnectError::File { path: path.clone(), error })?;
                }
                let connect = connect
                    .log_slow_statements(LevelFilter::Debug, SLOW)
                    .create_if_missing(true)
                    .foreign_keys(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // Each silo must be able to rely on what the other one reports as committed.
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(options.acquire_timeout);
                let pool = |most| {
                    SqlitePoolOptions::new()
                        .max_connections(most)
                        .acquire_timeout(options.acquire_timeout)
                        // A wait for other writers is nothing to be warned of.
                        .acquire_slow_level(LevelFilter::Debug)
                        // There is no server that could have disconnected.
                        .test_before_acquire(false)
                };
                let writer = pool(1)
                    .connect_with(
                        connect
                            .clone()
                            .pragma("cache_size", WRITER_CACHE)
                            .pragma("wal_autocheckpoint", WAL_PAGES),
                    )
                    .await
                    .map_err(|error| {
                        refused(
                            error,
                            "the file must be a SQLite database that this user can read and write, in a directory that \
                             this user can write in, with room on its disk",
                        )
                    })?;
                let readers = pool(options.max_connections.saturating_sub(1).max(1))
                    .connect_lazy_with(connect.pragma("cache_size", READER_CACHE));
                Pool::Sqlite { readers, writer }
            }
        };
        Ok(Self { pool, place: Arc::from(place), option, disk_space: Arc::new(DiskSpace::default()) })
    }
}
