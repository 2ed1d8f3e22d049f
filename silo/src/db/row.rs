//! A row of either database. Every getter names the column in its error.

use chrono::{DateTime, Utc};
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};
use uuid::Uuid;

use super::DbError;

/// A row of a query's answer.
#[derive(Debug)]
pub enum Row {
    /// A row that PostgreSQL has returned.
    Postgres(PgRow),
    /// A row that SQLite has returned.
    Sqlite(SqliteRow),
}

macro_rules! getter {
    ($(#[$doc:meta])* $name:ident, $optional:ident, $type:ty) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// If there is no such column, it is null, or of another type.
        pub fn $name(&self, column: &str) -> Result<$type, DbError> {
            self.$optional(column)?.ok_or_else(|| DbError::inconsistent(format!("column {column} is null")))
        }

        $(#[$doc])*
        /// Null is `None`.
        ///
        /// # Errors
        /// If there is no such column, or it is of another type.
        pub fn $optional(&self, column: &str) -> Result<Option<$type>, DbError> {
            Ok(match self {
                Self::Postgres(row) => row.try_get(column)?,
                Self::Sqlite(row) => row.try_get(column)?,
            })
        }
    };
}

impl Row {
    pub(super) fn all_postgres(rows: Vec<PgRow>) -> Vec<Self> {
        rows.into_iter().map(Self::Postgres).collect()
    }

    pub(super) fn all_sqlite(rows: Vec<SqliteRow>) -> Vec<Self> {
        rows.into_iter().map(Self::Sqlite).collect()
    }

    getter!(/// The value of a `bigint` column.
        int, opt_int, i64);
    getter!(/// The value of a text column.
        text, opt_text, String);
    getter!(/// The value of a boolean column.
        bool, opt_bool, bool);
    getter!(/// The value of a column of bytes.
        bytes, opt_bytes, Vec<u8>);

    /// The value of a column with a time, which is RFC 3339 text on SQLite.
    ///
    /// # Errors
    /// If there is no such column, it is null, or not a time.
    pub fn time(&self, column: &str) -> Result<DateTime<Utc>, DbError> {
        self.opt_time(column)?.ok_or_else(|| DbError::inconsistent(format!("column {column} is null")))
    }

    /// The value of a column with a time, which is RFC 3339 text on SQLite. Null is `None`.
    ///
    /// # Errors
    /// If there is no such column, or it is not a time.
    pub fn opt_time(&self, column: &str) -> Result<Option<DateTime<Utc>>, DbError> {
        match self {
            Self::Postgres(row) => Ok(row.try_get(column)?),
            Self::Sqlite(row) => row
                .try_get::<Option<String>, _>(column)?
                .map(|text| {
                    DateTime::parse_from_rfc3339(&text)
                        .map(|time| time.to_utc())
                        .map_err(|_| DbError::inconsistent(format!("column {column} holds no time")))
                })
                .transpose(),
        }
    }

    /// The value of a column with a UUID, which is text on SQLite.
    ///
    /// # Errors
    /// If there is no such column, it is null, or not a UUID.
    pub fn uuid(&self, column: &str) -> Result<Uuid, DbError> {
        match self {
            Self::Postgres(row) => Ok(row.try_get(column)?),
            Self::Sqlite(row) => Uuid::try_parse(&row.try_get::<String, _>(column)?)
                .map_err(|_| DbError::inconsistent(format!("column {column} holds no UUID"))),
        }
    }

    /// The value of a column with a UUID, which is text on SQLite. Null is `None`.
    ///
    /// # Errors
    /// If there is no such column, or it is not a UUID.
    pub fn opt_uuid(&self, column: &str) -> Result<Option<Uuid>, DbError> {
        match self {
            Self::Postgres(row) => Ok(row.try_get(column)?),
            Self::Sqlite(row) => row
                .try_get::<Option<String>, _>(column)?
                .map(|text| {
                    Uuid::try_parse(&text)
                        .map_err(|_| DbError::inconsistent(format!("column {column} holds no UUID")))
                })
                .transpose(),
        }
    }
}
