//! What can go wrong with a database, by what the caller can do about it. Decided by codes, never by text.

use std::borrow::Cow;

/// What a caller can do about a database error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DbErrorKind {
    /// No connection, or it was lost. Wait and try again; a write may or may not have happened.
    Unavailable,
    /// The transaction lost against another one and did nothing. Try again at once.
    Contention,
    /// A unique set already holds the value.
    Unique,
    /// A reference leads nowhere.
    ForeignKey,
    /// The database is full, or read-only.
    Full,
    /// Everything else: a defect, or a schema that is not what it should be.
    Other,
}

/// An error of the database. Its text never holds the values of a row.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DbError {
    kind: DbErrorKind,
    message: String,
    /// The constraint that was broken, where the database names it.
    constraint: Option<String>,
}

impl DbError {
    /// A row or column is not what it must be.
    #[must_use]
    pub fn inconsistent(what: impl Into<String>) -> Self {
        Self { kind: DbErrorKind::Other, message: what.into(), constraint: None }
    }

    /// An error as of a lost database, made by a failpoint of a test.
    #[must_use]
    pub fn injected(place: &'static str) -> Self {
        Self {
            kind: DbErrorKind::Unavailable,
            message: format!("the failpoint {place} has failed"),
            constraint: None,
        }
    }

    /// Why a transaction on SQLite could not begin. Others of this process kept it waiting too long, as those of another
    /// process do when the database says that it is busy.
    pub(super) fn of_begin_sqlite(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => Self {
                kind: DbErrorKind::Contention,
                message: "others are writing to the database for too long".to_owned(),
                constraint: None,
            },
            error => error.into(),
        }
    }

    /// What can be done about it.
    #[must_use]
    pub fn kind(&self) -> DbErrorKind {
        self.kind
    }

    /// The constraint that was broken, where the database names it. SQLite names the columns instead.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        self.constraint.as_deref()
    }
}

fn kind_of_postgres(code: &str) -> DbErrorKind {
    match code {
        "40001" | "40P01" | "55P03" => DbErrorKind::Contention,
        "23505" => DbErrorKind::Unique,
        "23503" => DbErrorKind::ForeignKey,
        "53100" | "25006" => DbErrorKind::Full,
        // Cancelled or timed out by an operator, idle too long: the next attempt may pass.
        "57014" | "25P03" => DbErrorKind::Unavailable,
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
        (_, 5 | 6) => DbErrorKind::Contention,
        (_, 8 | 13) => DbErrorKind::Full,
        (_, 10 | 14) => DbErrorKind::Unavailable,
        _ => DbErrorKind::Other,
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let (kind, constraint) = match &error {
            sqlx::Error::Database(inner) => {
                let code = inner.code().unwrap_or(Cow::Borrowed(""));
                let kind = match code.parse::<u32>() {
                    // SQLSTATEs have five characters, SQLite's codes at most four.
                    Ok(number) if code.len() < 5 => kind_of_sqlite(number),
                    _ => kind_of_postgres(&code),
                };
                (kind, inner.constraint().map(str::to_owned))
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::BeginFailed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => (DbErrorKind::Unavailable, None),
            _ => (DbErrorKind::Other, None),
        };
        Self { kind, message: error.to_string(), constraint }
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
        assert_eq!(kind_of_postgres("08006"), DbErrorKind::Unavailable);
        assert_eq!(kind_of_postgres("57P01"), DbErrorKind::Unavailable);
        assert_eq!(kind_of_postgres("42703"), DbErrorKind::Other);
        assert_eq!(kind_of_sqlite(2067), DbErrorKind::Unique);
        assert_eq!(kind_of_sqlite(1555), DbErrorKind::Unique);
        assert_eq!(kind_of_sqlite(517), DbErrorKind::Contention);
        assert_eq!(kind_of_sqlite(5), DbErrorKind::Contention);
        assert_eq!(kind_of_sqlite(13), DbErrorKind::Full);
        assert_eq!(kind_of_sqlite(1), DbErrorKind::Other);
    }
}
