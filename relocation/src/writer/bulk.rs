//! Inserts many rows into a table: binary COPY on PostgreSQL, prepared multi-row inserts on SQLite.

use std::{ops::Range, sync::Arc};

use causeway_silo::db::{Column, DbError, Dialect, Parts, Statement, Tx, is_refusal, outside, time_text};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, SqliteConnection, sqlite::SqliteArguments};

use super::{
    Row, WriteError,
    bisect::{Inserted, Rows, insert_bisecting},
    copy, stage,
};
use crate::{catalog::Model, value::Value};

/// The maximum number of parameters of one SQLite statement. More gain nothing, and the connection that writes keeps
/// its prepared statements, with some 50 bytes for each parameter.
const SQLITE_PARAMETERS: usize = 1_024;

/// The columns that are written, `id` first, quoted.
fn columns(model: &Model) -> String {
    let mut names = String::from("\"id\"");
    for column in model.columns.iter().filter(|column| column.is_stored) {
        names.push_str(", \"");
        names.push_str(&column.column);
        names.push('"');
    }
    names
}

/// Inserts all rows, or fails as a whole.
pub(super) async fn insert(tx: &mut Tx, model: &Model, rows: &[Row]) -> Result<(), WriteError> {
    match tx {
        Tx::Postgres(tx) => {
            let watch = tx.watch();
            let mut work = tx.work()?;
            let columns = columns(model);
            let copied = copy::copy(&mut work, model, &model.table, &columns, rows);
            let copied = watch.during(copied).await;
            work.done(copied)
        }
        Tx::Sqlite(tx) => {
            let mut work = tx.work()?;
            let inserted = insert_sqlite(&mut work, model, rows, "").await;
            work.done(inserted).map(|_| ())
        }
    }
}

/// Inserts the rows that break neither a unique set nor a check.
pub(super) async fn insert_free(tx: &mut Tx, model: &Model, rows: &[Row]) -> Result<Inserted, WriteError> {
    if rows.is_empty() {
        return Ok(Inserted::default());
    }
    match tx {
        Tx::Postgres(tx) => {
            let watch = tx.watch();
            let mut work = tx.work()?;
            let inserted = watch.during(insert_free_postgres(&mut work, model, rows)).await;
            work.done(inserted)
        }
        Tx::Sqlite(begun) => {
            let mut work = begun.work()?;
            let mut sqlite = SqliteRows { connection: &mut work, model, rows, inserted: 0 };
            let breaking = insert_bisecting(&mut sqlite, rows.len()).await;
            let inserted = sqlite.inserted;
            let breaking = work.done(breaking)?;
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            // Usually all rows are inserted, and no query is needed. No other rows have these ids.
            if usize::try_from(inserted).is_ok_and(|inserted| inserted == rows.len()) {
                return Ok(Inserted { ids, breaking });
            }
            let statement = Statement::new("SELECT t.id AS id FROM ")
                .rows(Dialect::Sqlite, "r", [("id", Column::Ints(ids))])
                .push(&format!(" JOIN \"{}\" t ON t.id = r.id", model.table));
            let found = tx.fetch_all(statement).await?;
            let ids = found.iter().map(|row| row.int("id")).collect::<Result<_, _>>()?;
            Ok(Inserted { ids, breaking })
        }
    }
}

/// Rows for a table of SQLite.
struct SqliteRows<'a> {
    connection: &'a mut SqliteConnection,
    model: &'a Model,
    rows: &'a [Row],
    /// How many have been inserted.
    inserted: u64,
}

impl Parts for SqliteRows<'_> {
    type Error = WriteError;

    async fn write(&mut self, part: Range<usize>) -> Result<(), WriteError> {
        let rows = self.rows.get(part).ok_or_else(outside)?;
        self.inserted += insert_sqlite(self.connection, self.model, rows, " ON CONFLICT DO NOTHING").await?;
        Ok(())
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), DbError> {
        self.connection.execute(sql).await?;
        Ok(())
    }
}

impl Rows for SqliteRows<'_> {
    fn id(&self, index: usize) -> Option<i64> {
        self.rows.get(index).map(|row| row.id)
    }
}

async fn insert_free_postgres(
    connection: &mut PgConnection,
    model: &Model,
    rows: &[Row],
) -> Result<Inserted, WriteError> {
    let names = columns(model);
    // Usually all rows are free. Then the stage would write every row a second time.
    if copied(connection, model, &names, rows).await? {
        return Ok(Inserted { ids: rows.iter().map(|row| row.id).collect(), breaking: Vec::new() });
    }
    stage::insert_free(connection, model, &names, rows).await
}

/// Copies all rows into the table. Returns `false`, and copies none, if one breaks a unique set or a check.
async fn copied(
    connection: &mut PgConnection,
    model: &Model,
    names: &str,
    rows: &[Row],
) -> Result<bool, WriteError> {
    connection.execute("SAVEPOINT causeway_copy").await.map_err(DbError::from)?;
    match copy::copy(connection, model, &model.table, names, rows).await {
        Ok(()) if model.has_deferred_index => {
            let checked = connection.execute("SET CONSTRAINTS ALL IMMEDIATE").await.map_err(DbError::from);
            match checked {
                Ok(_) => {
                    connection.execute("RELEASE SAVEPOINT causeway_copy").await.map_err(DbError::from)?;
                    Ok(true)
                }
                Err(error) if is_refusal(&error) => {
                    connection.execute("ROLLBACK TO SAVEPOINT causeway_copy").await.map_err(DbError::from)?;
                    Ok(false)
                }
                Err(error) => Err(error.into()),
            }
        }
        Ok(()) => {
            connection.execute("RELEASE SAVEPOINT causeway_copy").await.map_err(DbError::from)?;
            Ok(true)
        }
        Err(WriteError::Database(error)) if is_refusal(&error) => {
            connection.execute("ROLLBACK TO SAVEPOINT causeway_copy").await.map_err(DbError::from)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Inserts rows and returns how many were inserted.
async fn insert_sqlite(
    connection: &mut SqliteConnection,
    model: &Model,
    rows: &[Row],
    ending: &str,
) -> Result<u64, WriteError> {
    let per_statement = (SQLITE_PARAMETERS / width(model)).max(1);
    let mut statements = rows.chunks(per_statement).map(|rows| statement(model, rows, ending));
    let mut inserted = 0;
    let mut next = statements.next().transpose()?;
    while let Some((sql, args)) = next {
        // The last statement of a chunk has its own number of rows, which hardly any other chunk has, so it
        // does not stay prepared.
        let is_last = statements.len() == 0;
        let execution =
            sqlx::query_with(AssertSqlSafe(sql), args).persistent(!is_last).execute(&mut *connection);
        // While the database's thread executes one statement, this task builds the next.
        let (executed, made) = tokio::join!(execution, async { statements.next().transpose() });
        inserted += executed.map_err(DbError::from)?.rows_affected();
        next = made?;
    }
    Ok(inserted)
}

/// How many values each row has.
fn width(model: &Model) -> usize {
    model.columns.iter().filter(|column| column.is_stored).count() + 1
}

/// An insert of rows into SQLite, with its parameters.
fn statement(model: &Model, rows: &[Row], ending: &str) -> Result<(String, SqliteArguments), WriteError> {
    let width = width(model);
    let places = format!("({})", vec!["?"; width].join(", "));
    let sql = format!(
        "INSERT INTO \"{}\" ({}) VALUES {}{ending}",
        model.table,
        columns(model),
        vec![places.as_str(); rows.len()].join(", ")
    );
    let mut args = SqliteArguments::default();
    sqlx::Arguments::reserve(&mut args, width * rows.len(), 0);
    for row in rows {
        bind(&mut args, &Value::Int(row.id))?;
        for (_, value) in model.columns.iter().zip(&row.values).filter(|(column, _)| column.is_stored) {
            bind(&mut args, value)?;
        }
    }
    Ok((sql, args))
}

/// Binds a value in the form in which SQLite stores it: times, UUIDs and addresses as text that sorts, lists as JSON.
fn bind(args: &mut SqliteArguments, value: &Value) -> Result<(), WriteError> {
    use sqlx::Arguments as _;
    let added = match value {
        Value::Null => args.add(None::<i64>),
        Value::Bool(value) => args.add(*value),
        Value::Int(value) => args.add(*value),
        Value::Float(value) => args.add(*value),
        Value::Text(value) => args.add(Arc::<str>::from(value.as_str())),
        Value::Time(value) => args.add(time_text(*value)),
        Value::Uuid(value) => args.add(value.to_string()),
        Value::Inet(address, bits) if *bits == if address.is_ipv4() { 32 } else { 128 } => {
            args.add(address.to_string())
        }
        Value::Inet(address, bits) => args.add(format!("{address}/{bits}")),
        Value::Texts(values) => args.add(
            serde_json::Value::from(
                values.iter().map(|text| text.as_deref().into()).collect::<Vec<serde_json::Value>>(),
            )
            .to_string(),
        ),
        Value::FloatRows(rows) => args.add(
            serde_json::Value::from(
                rows.iter().map(|row| row.clone().into()).collect::<Vec<serde_json::Value>>(),
            )
            .to_string(),
        ),
    };
    added.map_err(|error| DbError::inconsistent(format!("a value cannot be sent: {error}")).into())
}
