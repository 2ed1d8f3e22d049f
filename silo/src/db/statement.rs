//! A statement with its parameters, for either database.

use std::{borrow::Cow, fmt::Write as _};

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::{Arguments as _, postgres::PgArguments, sqlite::SqliteArguments};
use uuid::Uuid;

use super::{DbError, Dialect};

/// The value of one parameter of a statement; `None` is null.
#[derive(Debug, Clone)]
pub enum Arg {
    /// A boolean; `boolean` on PostgreSQL.
    Bool(Option<bool>),
    /// A number; `bigint` on PostgreSQL.
    Int(Option<i64>),
    /// A text; `text` on PostgreSQL.
    Text(Option<String>),
    /// Bytes; `bytea` on PostgreSQL.
    Bytes(Option<Vec<u8>>),
    /// A time: `timestamptz`, or RFC 3339 text with microseconds in UTC on SQLite, which sorts as time does.
    Time(Option<DateTime<Utc>>),
    /// A UUID: `uuid`, or its hyphenated text on SQLite.
    Uuid(Option<Uuid>),
    /// A column of a set of rows; only [`Statement::rows`] adds it, and only on PostgreSQL.
    Column(Column),
}

/// The values of one column of a set of rows.
#[derive(Debug, Clone)]
pub enum Column {
    /// Numbers, none of them null.
    Ints(Vec<i64>),
    /// Numbers; `None` is null.
    OptInts(Vec<Option<i64>>),
    /// Texts, none of them null.
    Texts(Vec<String>),
    /// Texts; `None` is null.
    OptTexts(Vec<Option<String>>),
    /// Booleans, none of them null.
    Bools(Vec<bool>),
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Ints(values) => values.len(),
            Self::OptInts(values) => values.len(),
            Self::Texts(values) => values.len(),
            Self::OptTexts(values) => values.len(),
            Self::Bools(values) => values.len(),
        }
    }

    /// The value in a row; null if there is none.
    fn json(&self, row: usize) -> serde_json::Value {
        match self {
            Self::Ints(values) => values.get(row).copied().into(),
            Self::OptInts(values) => values.get(row).copied().flatten().into(),
            Self::Texts(values) => values.get(row).map(String::as_str).into(),
            Self::OptTexts(values) => values.get(row).and_then(Option::as_deref).into(),
            Self::Bools(values) => values.get(row).copied().into(),
        }
    }

    fn postgres_type(&self) -> &'static str {
        match self {
            Self::Ints(_) | Self::OptInts(_) => "bigint[]",
            Self::Texts(_) | Self::OptTexts(_) => "text[]",
            Self::Bools(_) => "boolean[]",
        }
    }
}

macro_rules! arg_from {
    ($($from:ty => $to:ident),* $(,)?) => {$(
        impl From<$from> for Arg {
            fn from(value: $from) -> Self {
                Self::$to(Some(value.into()))
            }
        }
        impl From<Option<$from>> for Arg {
            fn from(value: Option<$from>) -> Self {
                Self::$to(value.map(Into::into))
            }
        }
    )*};
}

arg_from!(bool => Bool, i64 => Int, i32 => Int, u32 => Int, String => Text, &str => Text, Vec<u8> => Bytes, DateTime<Utc> => Time, Uuid => Uuid);

impl From<&String> for Arg {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

/// How a time is written in SQLite: in UTC, with microseconds, so that texts sort as times do.
#[must_use]
pub fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// SQL text with its parameters. Build it piece by piece, or from a text with `$1`, `$2`, ... and
/// [`with`](Statement::with).
#[derive(Debug, Clone)]
pub struct Statement {
    sql: Cow<'static, str>,
    args: Vec<Arg>,
}

impl Statement {
    /// A statement. Add its parameters by [`with`](Self::with), [`arg`](Self::arg) or [`rows`](Self::rows).
    #[must_use]
    pub fn new(sql: &'static str) -> Self {
        Self { sql: Cow::Borrowed(sql), args: Vec::new() }
    }

    /// Sets the next numbered parameter, `$1` first.
    #[must_use]
    pub fn with(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Appends SQL. Never pass input here, only identifiers from the catalog and fragments of this code.
    #[must_use]
    pub fn push(mut self, sql: &str) -> Self {
        self.sql.to_mut().push_str(sql);
        self
    }

    /// Puts SQL before and after the statement.
    #[must_use]
    pub fn within(mut self, before: &str, after: &str) -> Self {
        self.sql = Cow::Owned(format!("{before}{}{after}", self.sql));
        self
    }

    /// Appends a placeholder and sets its parameter.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(arg.into());
        let number = self.args.len();
        let _infallible = write!(self.sql.to_mut(), "${number}");
        self
    }

    /// Appends a set of rows as a table `alias(names...)`, for use after `FROM` or `JOIN`. All columns must have the
    /// same length. Takes one parameter per column on PostgreSQL (`unnest`), and one in all on SQLite (`json_each`),
    /// however many rows there are.
    #[must_use]
    pub fn rows<const N: usize>(
        mut self,
        dialect: Dialect,
        alias: &str,
        columns: [(&str, Column); N],
    ) -> Self {
        let first = self.args.len() + 1;
        let sql = self.sql.to_mut();
        match dialect {
            Dialect::Postgres => {
                let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
                let lists: Vec<String> = columns
                    .iter()
                    .enumerate()
                    .map(|(index, (_, column))| format!("${}::{}", first + index, column.postgres_type()))
                    .collect();
                let _infallible =
                    write!(sql, "unnest({}) AS {alias}({})", lists.join(", "), names.join(", "));
                self.args.extend(columns.into_iter().map(|(_, column)| Arg::Column(column)));
            }
            Dialect::Sqlite => {
                // A list of rows and not one list per column: json_each has no index over its position, so joining
                // lists would be quadratic. LIMIT -1 is no limit, but makes SQLite build the rows once, before any
                // join. Otherwise it may scan all of them for each row of another table.
                let fields: Vec<String> = columns
                    .iter()
                    .enumerate()
                    .map(|(index, (name, _))| format!("json_extract(value, '$[{index}]') AS {name}"))
                    .collect();
                let _infallible = write!(
                    sql,
                    "(SELECT {} FROM json_each(${first}) LIMIT -1) AS {alias}",
                    fields.join(", ")
                );
                self.args.push(Arg::Text(Some(transpose(&columns))));
            }
        }
        self
    }

    pub(super) fn into_postgres(self) -> Result<(String, PgArguments), DbError> {
        let mut args = PgArguments::default();
        for arg in self.args {
            let added = match arg {
                Arg::Bool(value) => args.add(value),
                Arg::Int(value) => args.add(value),
                Arg::Text(value) => args.add(value),
                Arg::Bytes(value) => args.add(value),
                Arg::Time(value) => args.add(value),
                Arg::Uuid(value) => args.add(value),
                Arg::Column(Column::Ints(values)) => args.add(values),
                Arg::Column(Column::OptInts(values)) => args.add(values),
                Arg::Column(Column::Texts(values)) => args.add(values),
                Arg::Column(Column::OptTexts(values)) => args.add(values),
                Arg::Column(Column::Bools(values)) => args.add(values),
            };
            added.map_err(|error| DbError::inconsistent(format!("a parameter cannot be sent: {error}")))?;
        }
        Ok((self.sql.into_owned(), args))
    }

    pub(super) fn into_sqlite(self) -> Result<(String, SqliteArguments), DbError> {
        let mut args = SqliteArguments::default();
        for arg in self.args {
            let added = match arg {
                Arg::Bool(value) => args.add(value),
                Arg::Int(value) => args.add(value),
                Arg::Text(value) => args.add(value),
                Arg::Bytes(value) => args.add(value),
                Arg::Time(value) => args.add(value.map(time_text)),
                Arg::Uuid(value) => args.add(value.map(|uuid| uuid.to_string())),
                Arg::Column(_) => Err("a column stands only in a set of rows".into()),
            };
            added.map_err(|error| DbError::inconsistent(format!("a parameter cannot be sent: {error}")))?;
        }
        Ok((self.sql.into_owned(), args))
    }
}

/// The rows of these columns as a JSON list of lists.
fn transpose(columns: &[(&str, Column)]) -> String {
    let length = columns.iter().map(|(_, column)| column.len()).max().unwrap_or(0);
    let mut json = String::from("[");
    for row in 0..length {
        json.push_str(if row == 0 { "[" } else { ",[" });
        for (index, (_, column)) in columns.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            let _infallible = write!(json, "{}", column.json(row));
        }
        json.push(']');
    }
    json.push(']');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_one_parameter_a_column_or_one_for_all() {
        let columns =
            || [("id", Column::Ints(vec![1, 2])), ("slug", Column::OptTexts(vec![Some("a".into()), None]))];
        let statement =
            Statement::new("SELECT x FROM t WHERE y = ").arg(5_i64).push(" AND z IN (SELECT id FROM ");
        let postgres = statement.clone().rows(Dialect::Postgres, "r", columns()).push(")");
        assert_eq!(
            postgres.sql,
            "SELECT x FROM t WHERE y = $1 AND z IN (SELECT id FROM unnest($2::bigint[], $3::text[]) AS r(id, slug))"
        );
        assert_eq!(postgres.args.len(), 3);
        let sqlite = statement.rows(Dialect::Sqlite, "r", columns()).push(")");
        assert_eq!(
            sqlite.sql,
            "SELECT x FROM t WHERE y = $1 AND z IN (SELECT id FROM (SELECT json_extract(value, '$[0]') AS id, \
             json_extract(value, '$[1]') AS slug FROM json_each($2) LIMIT -1) AS r)"
        );
        assert!(matches!(&sqlite.args[1], Arg::Text(Some(json)) if json == r#"[[1,"a"],[2,null]]"#));
    }
}
