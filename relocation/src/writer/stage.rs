//! Inserts rows into a table of PostgreSQL that may break its unique sets and checks, from a stage: a temporary table with
//! the same columns and no constraint, dropped with the transaction. COPY itself has no ON CONFLICT.

use std::ops::{Range, RangeInclusive};

use causeway_silo::db::{DbError, Parts, is_refusal, outside};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{
    Row, WriteError,
    bisect::{CheckViolation, Inserted, Rows, insert_bisecting},
    copy,
};
use crate::catalog::{Model, UniqueSet};

/// Inserts the rows that break neither a unique set nor a check. `names` are the columns that are written.
pub(super) async fn insert_free(
    connection: &mut PgConnection,
    model: &Model,
    names: &str,
    rows: &[Row],
) -> Result<Inserted, WriteError> {
    let stage = format!("causeway_stage_{}", model.table);
    let make = format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DROP AS SELECT {names} FROM \"{}\" WITH NO DATA",
        model.table
    );
    sqlx::query(AssertSqlSafe(make)).execute(&mut *connection).await.map_err(DbError::from)?;
    sqlx::query(AssertSqlSafe(format!("TRUNCATE {stage}")))
        .execute(&mut *connection)
        .await
        .map_err(DbError::from)?;
    copy::copy(connection, model, &stage, names, rows).await?;
    let mut inserted = Inserted::default();
    let ids = &mut inserted.ids;
    let is_done = model.has_deferred_index && insert_different(connection, model, names, &stage, ids).await?;
    if !is_done {
        inserted.breaking = insert_each(connection, model, names, &stage, rows, ids).await?;
    }
    Ok(inserted)
}

/// Inserts the staged rows that are the same to no other row in a unique set: the first of those that are the same to each
/// other. PostgreSQL refuses ON CONFLICT for a table of which it checks an index at the end of the transaction only.
/// Returns `false` if some of them break something that the catalog does not know: a unique index with a condition or an
/// expression, or a check. Those and the rest are in the stage then.
async fn insert_different(
    connection: &mut PgConnection,
    model: &Model,
    names: &str,
    stage: &str,
    all: &mut Vec<i64>,
) -> Result<bool, WriteError> {
    let sets = || model.unique.iter().filter(|set| set.condition.is_none());
    let same = |set: &UniqueSet| {
        let columns = set.columns.iter().filter_map(|column| model.columns.get(*column));
        let equal: Vec<String> =
            columns.map(|column| format!("o.\"{0}\" = s.\"{0}\"", column.column)).collect();
        equal.join(" AND ")
    };
    let exists =
        |condition: String| format!("EXISTS (SELECT 1 FROM \"{}\" o WHERE {condition})", model.table);
    let mut taken = vec![exists("o.id = s.id".to_owned())];
    taken.extend(sets().map(|set| exists(same(set))));
    let clear = format!("DELETE FROM {stage} s WHERE {}", taken.join(" OR "));
    let earlier =
        |set| format!(" AND NOT EXISTS (SELECT 1 FROM {stage} o WHERE {} AND o.id < s.id)", same(set));
    let condition = sets().map(earlier).collect::<String>();
    // A row that is the same to an earlier one is free if that one is not inserted itself.
    loop {
        sqlx::query(AssertSqlSafe(clear.clone())).execute(&mut *connection).await.map_err(DbError::from)?;
        connection.execute("SAVEPOINT causeway_stage").await.map_err(DbError::from)?;
        match insert(connection, model, names, stage, i64::MIN..=i64::MAX, &condition).await {
            Ok(ids) => {
                connection.execute("RELEASE SAVEPOINT causeway_stage").await.map_err(DbError::from)?;
                if ids.is_empty() {
                    return Ok(true);
                }
                all.extend(ids);
            }
            Err(error) if is_refusal(&error) => {
                connection.execute("ROLLBACK TO SAVEPOINT causeway_stage").await.map_err(DbError::from)?;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Inserts the staged rows that have one of these ids and meet a condition, and returns their ids.
async fn insert(
    connection: &mut PgConnection,
    model: &Model,
    names: &str,
    stage: &str,
    ids: RangeInclusive<i64>,
    condition: &str,
) -> Result<Vec<i64>, DbError> {
    let ending = match model.has_deferred_index {
        true => "",
        false => " ON CONFLICT DO NOTHING",
    };
    let insert = format!(
        "INSERT INTO \"{}\" ({names}) SELECT {names} FROM {stage} s WHERE id BETWEEN $1 AND $2{condition} ORDER BY id{ending} RETURNING CAST(id AS bigint)",
        model.table
    );
    let insert = sqlx::query_scalar(AssertSqlSafe(insert)).bind(*ids.start()).bind(*ids.end());
    let ids = insert.fetch_all(&mut *connection).await?;
    if model.has_deferred_index {
        // What is checked at the end of the transaction would fail there, when it is too late to leave a row out.
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
    }
    Ok(ids)
}

/// Inserts each staged row that breaks nothing together with those before it. `rows` are those that were staged.
async fn insert_each(
    connection: &mut PgConnection,
    model: &Model,
    names: &str,
    stage: &str,
    rows: &[Row],
    inserted: &mut Vec<i64>,
) -> Result<Vec<CheckViolation>, WriteError> {
    let mut ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    ids.sort_unstable();
    let mut rows = StagedRows { connection, model, names, stage, ids: &ids, inserted };
    insert_bisecting(&mut rows, ids.len()).await
}

/// The rows of the stage.
struct StagedRows<'a> {
    connection: &'a mut PgConnection,
    model: &'a Model,
    names: &'a str,
    stage: &'a str,
    /// The ids of all of them, in ascending order. Some may be missing in the stage.
    ids: &'a [i64],
    /// The ids of those that have been inserted.
    inserted: &'a mut Vec<i64>,
}

impl Parts for StagedRows<'_> {
    type Error = WriteError;

    async fn write(&mut self, part: Range<usize>) -> Result<(), WriteError> {
        let ids = self.ids.get(part).ok_or_else(outside)?;
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(()) };
        let ids = insert(self.connection, self.model, self.names, self.stage, *first..=*last, "").await?;
        self.inserted.extend(ids);
        Ok(())
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), DbError> {
        self.connection.execute(sql).await?;
        Ok(())
    }
}

impl Rows for StagedRows<'_> {
    fn id(&self, index: usize) -> Option<i64> {
        self.ids.get(index).copied()
    }
}
