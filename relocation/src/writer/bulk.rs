//! Sets of rows into a table: binary COPY on PostgreSQL, prepared multi-row inserts on SQLite.

use sqlx::{AssertSqlSafe, Sqlite, Transaction, sqlite::SqliteArguments};

use super::{Row, WriteError, copy};
use crate::{
    catalog::Model,
    db::{DbError, Tx, time_text},
    value::Value,
};

/// The most parameters of one SQLite statement. More gain nothing, and each connection keeps the statements that it has
/// prepared, with some 50 bytes for each parameter.
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
        Tx::Postgres(tx) => copy::copy(tx, model, &model.table, &columns(model), rows).await,
        Tx::Sqlite(tx) => {
            insert_sqlite(tx, model, rows, "").await?;
            Ok(())
        }
    }
}

/// Inserts the rows that break no unique set and says which, by id.
pub(super) async fn insert_free(tx: &mut Tx, model: &Model, rows: &[Row]) -> Result<Vec<i64>, WriteError> {
    match tx {
        Tx::Postgres(tx) => {
            let names = columns(model);
            // A stage with the columns that are written and no constraint, gone with the transaction: COPY itself knows
            // no ON CONFLICT.
            let make = format!(
                "CREATE TEMPORARY TABLE IF NOT EXISTS causeway_stage_{0} ON COMMIT DROP AS SELECT {names} FROM \"{0}\" WITH NO DATA",
                model.table
            );
            sqlx::query(AssertSqlSafe(make)).execute(&mut **tx).await.map_err(DbError::from)?;
            let stage = format!("causeway_stage_{}", model.table);
            sqlx::query(AssertSqlSafe(format!("TRUNCATE {stage}")))
                .execute(&mut **tx)
                .await
                .map_err(DbError::from)?;
            copy::copy(tx, model, &stage, &names, rows).await?;
            let insert = format!(
                "INSERT INTO \"{}\" ({names}) SELECT {names} FROM {stage} ORDER BY id ON CONFLICT DO NOTHING RETURNING id",
                model.table
            );
            Ok(sqlx::query_scalar(AssertSqlSafe(insert)).fetch_all(&mut **tx).await.map_err(DbError::from)?)
        }
        Tx::Sqlite(tx) => insert_sqlite(tx, model, rows, " ON CONFLICT DO NOTHING RETURNING id").await,
    }
}

async fn insert_sqlite(
    tx: &mut Transaction<'static, Sqlite>,
    model: &Model,
    rows: &[Row],
    ending: &str,
) -> Result<Vec<i64>, WriteError> {
    let width = model.columns.len() + 1;
    let per_statement = (SQLITE_PARAMETERS / width).max(1);
    let names = columns(model);
    let mut ids = Vec::new();
    for chunk in rows.chunks(per_statement) {
        let places = format!("({})", vec!["?"; width].join(", "));
        let sql = format!(
            "INSERT INTO \"{}\" ({names}) VALUES {}{ending}",
            model.table,
            vec![places.as_str(); chunk.len()].join(", ")
        );
        let mut args = SqliteArguments::default();
        for row in chunk {
            bind(&mut args, &Value::Int(row.id))?;
            for value in &row.values {
                bind(&mut args, value)?;
            }
        }
        // The last one of a chunk has a length of its own, which hardly any other chunk has.
        let query = sqlx::query_scalar_with::<_, i64, _>(AssertSqlSafe(sql), args)
            .persistent(chunk.len() == per_statement);
        if ending.is_empty() {
            query.fetch_optional(&mut **tx).await.map_err(DbError::from)?;
        } else {
            ids.extend(query.fetch_all(&mut **tx).await.map_err(DbError::from)?);
        }
    }
    Ok(ids)
}

/// How a value is kept in SQLite: times, UUIDs and addresses as text that sorts, lists as JSON.
fn bind(args: &mut SqliteArguments, value: &Value) -> Result<(), WriteError> {
    use sqlx::Arguments as _;
    let added = match value {
        Value::Null => args.add(None::<i64>),
        Value::Bool(value) => args.add(*value),
        Value::Int(value) => args.add(*value),
        Value::Float(value) => args.add(*value),
        Value::Text(value) => args.add(value.clone()),
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
