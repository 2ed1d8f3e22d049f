//! Sets of rows into a table: binary COPY on PostgreSQL, prepared multi-row inserts on SQLite.

use std::sync::Arc;

use causeway_silo::db::{Column, DbError, DbErrorKind, Dialect, Statement, Tx, time_text};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, SqliteConnection, sqlite::SqliteArguments};

use super::{Row, WriteError, copy};
use crate::{catalog::Model, value::Value};

/// The most parameters of one SQLite statement. More gain nothing, and the connection that writes keeps the statements
/// that it has prepared, with some 50 bytes for each parameter.
const SQLITE_PARAMETERS: usize = 1_024;

/// The table's columns, `id` first, quoted.
fn columns(model: &Model) -> String {
    let mut names = String::from("\"id\"");
    for column in &model.columns {
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
            let mut work = tx.work()?;
            let copied = copy::copy(&mut work, model, &model.table, &columns(model), rows).await;
            work.done(copied)
        }
        Tx::Sqlite(tx) => {
            let mut work = tx.work()?;
            let inserted = insert_sqlite(&mut work, model, rows, "").await;
            work.done(inserted).map(|_| ())
        }
    }
}

/// Inserts the rows that break no unique set and says which, by id.
pub(super) async fn insert_free(tx: &mut Tx, model: &Model, rows: &[Row]) -> Result<Vec<i64>, WriteError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    match tx {
        Tx::Postgres(tx) => {
            let mut work = tx.work()?;
            let inserted = insert_free_postgres(&mut work, model, rows).await;
            work.done(inserted)
        }
        Tx::Sqlite(begun) => {
            let mut work = begun.work()?;
            let inserted = insert_sqlite(&mut work, model, rows, " ON CONFLICT DO NOTHING").await;
            let inserted = work.done(inserted)?;
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            // Mostly all are: then none need be asked for. Nobody else has rows with these ids.
            if usize::try_from(inserted).is_ok_and(|inserted| inserted == rows.len()) {
                return Ok(ids);
            }
            let statement = Statement::new("SELECT t.id AS id FROM ")
                .rows(Dialect::Sqlite, "r", [("id", Column::Ints(ids))])
                .push(&format!(" JOIN \"{}\" t ON t.id = r.id", model.table));
            Ok(tx.fetch_all(statement).await?.iter().map(|row| row.int("id")).collect::<Result<_, _>>()?)
        }
    }
}

async fn insert_free_postgres(
    connection: &mut PgConnection,
    model: &Model,
    rows: &[Row],
) -> Result<Vec<i64>, WriteError> {
    let names = columns(model);
    // Mostly all are free: then the stage below would be a second writing of every row.
    if copied(connection, model, &names, rows).await? {
        return Ok(rows.iter().map(|row| row.id).collect());
    }
    // A stage with the columns that are written and no constraint, gone with the transaction: COPY itself knows no
    // ON CONFLICT.
    let make = format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS causeway_stage_{0} ON COMMIT DROP AS SELECT {names} FROM \"{0}\" WITH NO DATA",
        model.table
    );
    sqlx::query(AssertSqlSafe(make)).execute(&mut *connection).await.map_err(DbError::from)?;
    let stage = format!("causeway_stage_{}", model.table);
    sqlx::query(AssertSqlSafe(format!("TRUNCATE {stage}")))
        .execute(&mut *connection)
        .await
        .map_err(DbError::from)?;
    copy::copy(connection, model, &stage, &names, rows).await?;
    let insert = format!(
        "INSERT INTO \"{}\" ({names}) SELECT {names} FROM {stage} ORDER BY id ON CONFLICT DO NOTHING RETURNING id",
        model.table
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(insert)).fetch_all(&mut *connection).await.map_err(DbError::from)?)
}

/// Copies all rows into the table, or none of them if one breaks a unique set. Says which.
async fn copied(
    connection: &mut PgConnection,
    model: &Model,
    names: &str,
    rows: &[Row],
) -> Result<bool, WriteError> {
    connection.execute("SAVEPOINT causeway_copy").await.map_err(DbError::from)?;
    match copy::copy(connection, model, &model.table, names, rows).await {
        Ok(()) => {
            connection.execute("RELEASE SAVEPOINT causeway_copy").await.map_err(DbError::from)?;
            Ok(true)
        }
        Err(WriteError::Database(error)) if error.kind() == DbErrorKind::Unique => {
            connection.execute("ROLLBACK TO SAVEPOINT causeway_copy").await.map_err(DbError::from)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Inserts rows, and says how many of them.
async fn insert_sqlite(
    connection: &mut SqliteConnection,
    model: &Model,
    rows: &[Row],
    ending: &str,
) -> Result<u64, WriteError> {
    let per_statement = (SQLITE_PARAMETERS / (model.columns.len() + 1)).max(1);
    let mut statements = rows.chunks(per_statement).map(|rows| statement(model, rows, ending));
    let mut inserted = 0;
    let mut next = statements.next().transpose()?;
    while let Some((sql, args)) = next {
        // The last one of a chunk has a length of its own, which hardly any other chunk has.
        let is_last = statements.len() == 0;
        let execution =
            sqlx::query_with(AssertSqlSafe(sql), args).persistent(!is_last).execute(&mut *connection);
        // While the database's thread has one statement, this one makes the next.
        let (executed, made) = tokio::join!(execution, async { statements.next().transpose() });
        inserted += executed.map_err(DbError::from)?.rows_affected();
        next = made?;
    }
    Ok(inserted)
}

/// An insert of rows into SQLite, with its parameters.
fn statement(model: &Model, rows: &[Row], ending: &str) -> Result<(String, SqliteArguments), WriteError> {
    let width = model.columns.len() + 1;
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
        for value in &row.values {
            bind(&mut args, value)?;
        }
    }
    Ok((sql, args))
}

/// How a value is kept in SQLite: times, UUIDs and addresses as text that sorts, lists as JSON.
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
