//! Errors of a database, classified by what the caller can do about them. The error code decides, never the text.

use std::borrow::Cow;

use sqlx::error::DatabaseError;

/// What a caller can do about a database error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DbErrorKind {
    /// No connection, or it was lost. Wait and try again; a write may or may not have happened.
    Unavailable,
    /// The transaction lost against another one and did nothing. Try again at once.
    Contention,
    /// Another row has the same values in a unique set.
    Unique,
    /// A foreign key is violated.
    ForeignKey,
    /// A check of a table is violated.
    Check,
    /// The disk of the database is full. Wait until somebody has made room.
    Full,
    /// The database can only be read. Wait until somebody has fixed that.
    ReadOnly,
    /// The service is stopping and has closed its connections. Try again when it has started again.
    Closed,
    /// Everything else: a defect, or a schema that is not what it should be.
    Other,
}

/// An error of the database. Its text never contains the values of a row.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DbError {
    kind: DbErrorKind,
    message: String,
    /// The constraint that was broken, where the database names it.
    constraint: Option<String>,
    /// The code of the database, if it gave one.
    code: Option<String>,
}

impl DbError {
    /// An error that the database itself has not reported.
    fn of(kind: DbErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), constraint: None, code: None }
    }

    /// A row or column is not what it must be.
    #[must_use]
    pub fn inconsistent(what: impl Into<String>) -> Self {
        Self::of(DbErrorKind::Other, what)
    }

    /// An error like that of a lost database, made by a failpoint of a test.
    #[must_use]
    pub fn injected(place: &'static str) -> Self {
        Self::of(DbErrorKind::Unavailable, format!("the failpoint {place} has failed"))
    }

    /// The error of a transaction on SQLite that could not begin. If it waited too long for other writers of
    /// this process, that is contention, as when SQLite reports that another process is using the database.
    pub(super) fn of_begin_sqlite(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => {
                Self::of(DbErrorKind::Contention, "others are writing to the database for too long")
            }
            error => error.into(),
        }
    }

    /// Other writers kept the database busy for as long as the caller was ready to wait.
    pub(super) fn busy() -> Self {
        Self::of(DbErrorKind::Contention, "others are using the database all the time")
    }

    /// The database has not answered within the time that the caller gave it.
    pub(super) fn unanswered(limit: std::time::Duration) -> Self {
        Self::of(DbErrorKind::Unavailable, format!("the database has not answered within {limit:?}"))
    }

    /// The database cannot be used, and the database itself has not said so.
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::of(DbErrorKind::Unavailable, why)
    }

    /// The caller continues a transaction that the database may have ended.
    pub(super) fn lost() -> Self {
        Self::of(DbErrorKind::Unavailable, "the transaction has been lost by an error before")
    }

    /// Adds the name of the database to the message, if the database is unavailable.
    pub(super) fn at(mut self, place: &str) -> Self {
        if self.kind == DbErrorKind::Unavailable {
            self.message = format!("{place}: {}", self.message);
        }
        self
    }

    /// Puts before the message what could not be done.
    #[must_use]
    pub fn doing(mut self, what: impl std::fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> DbErrorKind {
        self.kind
    }

    /// The SQLSTATE of PostgreSQL or the result code of SQLite; `None` if the error is not one of a statement.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Whether PostgreSQL has cancelled the statement, for a `statement_timeout` or because somebody asked for it.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.code() == Some("57014")
    }

    /// The constraint that was broken, where the database names it. SQLite names only checks, and of unique sets the
    /// columns.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        self.constraint.as_deref()
    }
}

/// A number as the database and the contract have it.
///
/// # Errors
/// If it is larger than an integer of 64 bits can be.
pub fn count(number: impl TryInto<i64>) -> Result<i64, DbError> {
    number
        .try_into()
        .map_err(|_| DbError::inconsistent("a number is larger than an integer of 64 bits can be"))
}

fn kind_of_postgres(code: &str) -> DbErrorKind {
    match code {
        "40001" | "40P01" | "55P03" => DbErrorKind::Contention,
        "23505" => DbErrorKind::Unique,
        "23503" => DbErrorKind::ForeignKey,
        "23514" => DbErrorKind::Check,
        "53100" => DbErrorKind::Full,
        "25006" => DbErrorKind::ReadOnly,
        // Cancelled or timed out by an operator, idle too long: the next attempt may pass.
        "57014" | "25P03" => DbErrorKind::Unavailable,
        // Problems for which PostgreSQL has no other code, such as a quota of the disk, or a limit on the size of
        // files.
        "XX000" => DbErrorKind::Unavailable,
        // Connection exceptions, out of resources, shutting down or starting up, trouble with its disks.
        _ if matches!(code.get(..2), Some("08" | "53" | "57" | "58")) => DbErrorKind::Unavailable,
        _ => DbErrorKind::Other,
    }
}

/// By SQLite's extended result code, whose low byte is the primary one.
fn kind_of_sqlite(code: u32) -> DbErrorKind {
    match (code, code & 0xff) {
        (1555 | 2067, _) => DbErrorKind::Unique,
        (787, _) => DbErrorKind::ForeignKey,
        (275, _) => DbErrorKind::Check,
        // Busy, locked, and a failure of the locking protocol.
        (_, 5 | 6 | 15) => DbErrorKind::Contention,
        (_, 8) => DbErrorKind::ReadOnly,
        (_, 13) => DbErrorKind::Full,
        // Out of memory, interrupted, an error of the disk, a file that cannot be opened (the log, on a full disk).
        (_, 7 | 9 | 10 | 14) => DbErrorKind::Unavailable,
        _ => DbErrorKind::Other,
    }
}

/// The name of the check that is violated, which SQLite has in its message only.
fn check_of_sqlite(kind: DbErrorKind, message: &str) -> Option<&str> {
    message.strip_prefix("CHECK constraint failed: ").filter(|_| kind == DbErrorKind::Check)
}

/// The message of the database with its error code, but without a place in the database's source.
fn said(error: &dyn DatabaseError, code: &str) -> String {
    let of = if code.len() < 5 { "SQLite code" } else { "SQLSTATE" };
    format!("{} ({of} {code})", error.message())
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let (kind, message, constraint) = match &error {
            sqlx::Error::Database(inner) => {
                let code = inner.code().unwrap_or(Cow::Borrowed(""));
                let kind = match code.parse::<u32>() {
                    // SQLSTATEs have five characters, SQLite's codes at most four.
                    Ok(number) if code.len() < 5 => kind_of_sqlite(number),
                    _ => kind_of_postgres(&code),
                };
                let said = said(inner.as_ref(), &code);
                let message = match kind {
                    DbErrorKind::Full => {
                        format!("the disk of the database is full; make room there, and this goes on: {said}")
                    }
                    DbErrorKind::ReadOnly => {
                        format!(
                            "the database can only be read; make it writable, or name all its hosts in \
                             --database-url if it has moved to another one, and this goes on: {said}"
                        )
                    }
                    _ => said,
                };
                let constraint = inner.constraint().or_else(|| check_of_sqlite(kind, inner.message()));
                (kind, message, constraint.map(str::to_owned))
            }
            sqlx::Error::PoolTimedOut => (
                DbErrorKind::Unavailable,
                "no connection could be had in time: it does not answer, or all connections are in use"
                    .to_owned(),
                None,
            ),
            sqlx::Error::PoolClosed => {
                (DbErrorKind::Closed, "the service stops and has closed its connections".to_owned(), None)
            }
            sqlx::Error::Io(error) => (DbErrorKind::Unavailable, error.to_string(), None),
            sqlx::Error::Tls(_)
            | sqlx::Error::BeginFailed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => (DbErrorKind::Unavailable, error.to_string(), None),
            _ => (DbErrorKind::Other, error.to_string(), None),
        };
        let code = error.as_database_error().and_then(DatabaseError::code).map(Cow::into_owned);
        Self { kind, message, constraint, code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_what_can_be_done() {
        assert_eq!(kind_of_postgres("40001"), DbErrorKind::Contention);
        assert_eq!(kind_of_postgres("40P01"), DbErrorKind::Contention);
        assert_eq!(kind_of_postgres("23505"), DbErrorKind::Unique);
        assert_eq!(kind_of_postgres("23514"), DbErrorKind::Check);
        assert_eq!(kind_of_postgres("08006"), DbErrorKind::Unavailable);
        assert_eq!(kind_of_postgres("57P01"), DbErrorKind::Unavailable);
        assert_eq!(kind_of_postgres("42703"), DbErrorKind::Other);
        assert_eq!(kind_of_sqlite(2067), DbErrorKind::Unique);
        assert_eq!(kind_of_sqlite(1555), DbErrorKind::Unique);
        assert_eq!(kind_of_sqlite(275), DbErrorKind::Check);
        assert_eq!(kind_of_sqlite(517), DbErrorKind::Contention);
        assert_eq!(kind_of_sqlite(5), DbErrorKind::Contention);
        assert_eq!(kind_of_sqlite(13), DbErrorKind::Full);
        assert_eq!(kind_of_sqlite(8), DbErrorKind::ReadOnly);
        assert_eq!(kind_of_sqlite(1032), DbErrorKind::ReadOnly);
        // Out of memory, writing failed, the log cannot be opened.
        for passing in [7, 10, 778, 14, 3082] {
            assert_eq!(kind_of_sqlite(passing), DbErrorKind::Unavailable, "{passing}");
        }
        assert_eq!(kind_of_postgres("53100"), DbErrorKind::Full);
        assert_eq!(kind_of_postgres("25006"), DbErrorKind::ReadOnly);
        assert_eq!(kind_of_postgres("58030"), DbErrorKind::Unavailable);
        assert_eq!(kind_of_sqlite(1), DbErrorKind::Other);
    }
}
