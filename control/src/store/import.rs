//! Values of model tables that regions or a revert need, and the tables `causeway_import` and `causeway_import_needed`.

use causeway_relocation::catalog::{self, ColumnType, Model};
use causeway_silo::db::{Column, Db, DbError, Dialect, Statement, Tx};
use serde_json::Value;
use uuid::Uuid;

use crate::model::import::NeededRow;

/// The values of rows that a region needs: for each row its id, and a JSON object by field.
pub(crate) async fn returned(db: &Db, model: &Model, ids: Vec<i64>) -> Result<Vec<(i64, String)>, DbError> {
    let columns: Vec<_> =
        model.returned_columns.iter().filter_map(|column| model.columns.get(*column)).collect();
    let object = match db.dialect() {
        Dialect::Postgres => "json_build_object",
        Dialect::Sqlite => "json_object",
    };
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        let value = match (column.kind, db.dialect()) {
            // SQLite stores a number, but the JSON must have a boolean.
            (ColumnType::Boolean, Dialect::Sqlite) => {
                format!(
                    "json(CASE t.\"{0}\" WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'null' END)",
                    column.column
                )
            }
            (ColumnType::Boolean | ColumnType::Text, _) => format!("t.\"{}\"", column.column),
            _ => return Err(DbError::inconsistent(format!("{} cannot be returned", column.field))),
        };
        // Field names come from the catalog, not from a request.
        fields.push(format!("'{}', {value}", column.field));
    }
    let statement = Statement::new("SELECT t.id AS id, CAST(")
        .push(&format!("{object}({}) AS text) AS fields FROM ", fields.join(", ")))
        .rows(db.dialect(), "r", [("id", Column::Ints(ids))])
        .push(&format!(" JOIN \"{}\" t ON t.id = r.id", model.table));
    let mut returned = Vec::new();
    let unreadable = || DbError::inconsistent(format!("a row of {} cannot be returned", model.table));
    for row in db.fetch_many(statement, ["id", "fields"]).await? {
        let [Value::Number(id), Value::String(fields)] = row else { return Err(unreadable()) };
        // The databases write JSON with different white space, so it is written again here.
        let fields: Value = serde_json::from_str(&fields).map_err(|_| unreadable())?;
        returned.push((id.as_i64().ok_or_else(unreadable)?, fields.to_string()));
    }
    returned.sort_unstable();
    Ok(returned)
}

/// Locks an import, so that nobody closes it until the transaction ends. `false` if it is closed for a revert.
pub(crate) async fn lock_if_open(tx: &mut Tx, region: &str, import_id: Uuid) -> Result<bool, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_import (region, import_id, reverting) VALUES ($1, $2, $3) \
         ON CONFLICT (region, import_id) DO UPDATE SET reverting = causeway_import.reverting RETURNING reverting",
    )
    .with(region)
    .with(import_id)
    .with(false);
    Ok(!tx.fetch_one(statement).await?.bool("reverting")?)
}

/// Whether control has written something for an import, or closed it.
pub(crate) async fn is_known(tx: &mut Tx, region: &str, import_id: Uuid) -> Result<bool, DbError> {
    let statement =
        Statement::new("SELECT 1 AS one FROM causeway_import WHERE region = $1 AND import_id = $2")
            .with(region)
            .with(import_id);
    Ok(tx.fetch_optional(statement).await?.is_some())
}

/// Closes an import for good: control writes no more chunks of it. `false` if it was closed before.
pub(crate) async fn close(tx: &mut Tx, region: &str, import_id: Uuid) -> Result<bool, DbError> {
    let was_open = lock_if_open(tx, region, import_id).await?;
    if was_open {
        let statement =
            Statement::new("UPDATE causeway_import SET reverting = $3 WHERE region = $1 AND import_id = $2")
                .with(region)
                .with(import_id)
                .with(true);
        tx.execute(statement).await?;
    }
    Ok(was_open)
}

/// Stores which rows of an import its region needs, in addition to those stored before. Returns how many are new.
pub(crate) async fn add_needed(
    tx: &mut Tx,
    region: &str,
    import_id: Uuid,
    rows: &[NeededRow],
) -> Result<u64, DbError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let statement = Statement::new(
        "INSERT INTO causeway_import_needed (region, import_id, model, row_id, needed_by) SELECT $1, ",
    )
    .with(region)
    .arg(import_id)
    .push(", r.model, r.row_id, r.needed_by FROM ")
    .rows(
        tx.dialect(),
        "r",
        [
            ("model", Column::Texts(rows.iter().map(|row| row.model.clone()).collect())),
            ("row_id", Column::Ints(rows.iter().map(|row| row.id).collect())),
            ("needed_by", Column::Texts(rows.iter().map(|row| row.needed_by.clone()).collect())),
        ],
    )
    .push(" WHERE true ON CONFLICT (region, import_id, model, row_id) DO NOTHING");
    tx.execute(statement).await
}

/// Those of these rows that the region of an import needs, each with what needs it.
pub(crate) async fn needed(
    tx: &mut Tx,
    region: &str,
    import_id: Uuid,
    model: &str,
    ids: Vec<i64>,
) -> Result<Vec<(i64, String)>, DbError> {
    let statement = Statement::new("SELECT n.row_id, n.needed_by FROM causeway_import_needed n JOIN ")
        .rows(tx.dialect(), "r", [("id", Column::Ints(ids))])
        .push(" ON r.id = n.row_id WHERE n.region = ")
        .arg(region)
        .push(" AND n.import_id = ")
        .arg(import_id)
        .push(" AND n.model = ")
        .arg(model);
    let found = tx.fetch_all(statement).await?;
    found.iter().map(|row| Ok((row.int("row_id")?, row.text("needed_by")?))).collect()
}

/// The values of a column of references, by row id. Rows with null in the column are left out.
pub(crate) async fn column(
    tx: &mut Tx,
    model: &Model,
    column: &catalog::Column,
    ids: Vec<i64>,
) -> Result<Vec<(i64, i64)>, DbError> {
    let statement = Statement::new("SELECT t.id AS id, CAST(t.\"")
        .push(&column.column)
        .push("\" AS bigint) AS value FROM ")
        .rows(tx.dialect(), "r", [("id", Column::Ints(ids))])
        .push(&format!(
            " JOIN \"{}\" t ON t.id = r.id WHERE t.\"{}\" IS NOT NULL",
            model.table, column.column
        ));
    tx.fetch_all(statement).await?.iter().map(|row| Ok((row.int("id")?, row.int("value")?))).collect()
}

/// Those of these e-mail rows whose address some user has, in upper or lower case.
pub(crate) async fn addresses_in_use(
    tx: &mut Tx,
    emails: &Model,
    of_users: &Model,
    ids: Vec<i64>,
) -> Result<Vec<i64>, DbError> {
    let statement = Statement::new("SELECT DISTINCT e.id AS id FROM ")
        .rows(tx.dialect(), "r", [("id", Column::Ints(ids))])
        .push(&format!(
            " JOIN \"{}\" e ON e.id = r.id JOIN \"{}\" u ON lower(u.email) = lower(CAST(e.email AS text))",
            emails.table, of_users.table
        ));
    tx.fetch_all(statement).await?.iter().map(|row| row.int("id")).collect()
}
