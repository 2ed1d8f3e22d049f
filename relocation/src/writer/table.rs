//! The operations on a table that resolving conflicts needs: on the real table, or on what a dry run knows of it.

use std::collections::HashMap;

use causeway_silo::db::{self, Db, DbError, Dialect, Refused, Statement, Tx};
use chrono::{DateTime, Utc};

use super::{Row, WriteError, bisect::Inserted, bulk, no_column};
use crate::catalog::{Column, Model};

/// A row that keeps its value, because the database refuses the higher one.
#[derive(Debug)]
pub(super) struct NotRaised {
    /// Its id.
    pub(super) id: i64,
    /// What the higher value breaks.
    pub(super) why: Refused,
}

/// Where the rows of a chunk go.
pub(super) trait Table: Send {
    /// The error of its methods.
    type Error: From<WriteError> + Send;

    /// Refuses ids that existing rows have. Otherwise a rule could take such a row for one of this import.
    fn check_ids(
        &mut self,
        model: &Model,
        rows: &[Row],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Keeps other writers away. Otherwise two writers could look up the same name in different case and then both
    /// insert it.
    fn lock(
        &mut self,
        model: &Model,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Which of these values existing rows have, with the ids of those rows.
    fn rows_with(
        &mut self,
        model: &Model,
        column: &Column,
        values: Vec<String>,
    ) -> impl Future<Output = Result<HashMap<String, i64>, Self::Error>> + Send;

    /// Which of these rows are the same as an existing row in a unique set of references: the id of each, with the id
    /// of the existing row.
    fn alike(
        &mut self,
        model: &Model,
        columns: [usize; 2],
        rows: &[Row],
    ) -> impl Future<Output = Result<HashMap<i64, i64>, Self::Error>> + Send;

    /// Gives existing rows a value of `order`, by its index, unless they have one that comes before it. Returns the rows
    /// that the database refuses with that value.
    fn raise(
        &mut self,
        model: &Model,
        column: usize,
        order: &[String],
        rows: Vec<(i64, usize)>,
    ) -> impl Future<Output = Result<Vec<NotRaised>, Self::Error>> + Send;

    /// Inserts the rows that break neither a unique set nor a check, in their order.
    fn insert_free(
        &mut self,
        model: &Model,
        rows: &[Row],
    ) -> impl Future<Output = Result<Inserted, Self::Error>> + Send;
}

impl Table for Tx {
    type Error = WriteError;

    async fn check_ids(&mut self, model: &Model, rows: &[Row]) -> Result<(), WriteError> {
        let ids = db::Column::Ints(rows.iter().map(|row| row.id).collect());
        let statement = Statement::new("SELECT CAST(t.id AS bigint) AS id FROM ")
            .rows(self.dialect(), "r", [("id", ids)])
            .push(&format!(" JOIN \"{}\" t ON t.id = r.id LIMIT 1", model.table));
        match self.fetch_optional(statement).await? {
            Some(_) => Err(WriteError::IdsTaken { table: model.table.clone() }),
            None => Ok(()),
        }
    }

    async fn lock(&mut self, model: &Model, now: DateTime<Utc>) -> Result<(), WriteError> {
        Ok(crate::revert::lock_table(self, &model.table, now).await?)
    }

    async fn rows_with(
        &mut self,
        model: &Model,
        column: &Column,
        values: Vec<String>,
    ) -> Result<HashMap<String, i64>, WriteError> {
        if values.is_empty() {
            return Ok(HashMap::new());
        }
        let statement = rows_with_query(self.dialect(), model, column, values);
        Ok(found(self.fetch_all(statement).await?)?)
    }

    async fn alike(
        &mut self,
        model: &Model,
        columns: [usize; 2],
        rows: &[Row],
    ) -> Result<HashMap<i64, i64>, WriteError> {
        let (mut ids, mut ones, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let Some((one, other)) = reference_key(columns, row) else { continue };
            ids.push(row.id);
            ones.push(one);
            others.push(other);
        }
        let [Some(one), Some(other)] = columns.map(|column| model.columns.get(column)) else {
            return Err(no_column(model));
        };
        let (one, other) = (&one.column, &other.column);
        let statement = Statement::new("SELECT id, holder FROM (SELECT r.id AS id, ")
            .push(&format!(
                "(SELECT CAST(MIN(t.id + 0) AS bigint) FROM \"{}\" t WHERE t.\"{one}\" = r.one AND t.\"{other}\" = r.other) AS holder FROM ",
                model.table
            ))
            .rows(
                self.dialect(),
                "r",
                [
                    ("id", db::Column::Ints(ids)),
                    ("one", db::Column::Ints(ones)),
                    ("other", db::Column::Ints(others)),
                ],
            )
            .push(") f WHERE holder IS NOT NULL");
        let found = self.fetch_all(statement).await?;
        Ok(found
            .iter()
            .map(|row| Ok((row.int("id")?, row.int("holder")?)))
            .collect::<Result<_, DbError>>()?)
    }

    async fn raise(
        &mut self,
        model: &Model,
        column: usize,
        order: &[String],
        rows: Vec<(i64, usize)>,
    ) -> Result<Vec<NotRaised>, WriteError> {
        let mut known: Vec<(i64, i64, String)> = Vec::with_capacity(rows.len());
        for (id, place) in rows {
            // A value that the order does not name raises nothing.
            if let Some(value) = order.get(place) {
                known.push((id, db::count(place)?, value.clone()));
            }
        }
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let column = model.columns.get(column).ok_or_else(|| no_column(model))?;
        let (table, name) = (&model.table, &column.column);
        let dialect = self.dialect();
        let raise = |known: &[(i64, i64, String)]| {
            let mut statement = Statement::new("UPDATE ")
                .push(&format!("\"{table}\" SET \"{name}\" = r.value FROM "))
                .rows(
                    dialect,
                    "r",
                    [
                        ("id", db::Column::Ints(known.iter().map(|row| row.0).collect())),
                        ("place", db::Column::Ints(known.iter().map(|row| row.1).collect())),
                        ("value", db::Column::Texts(known.iter().map(|row| row.2.clone()).collect())),
                    ],
                )
                .push(&format!(" WHERE \"{table}\".id = r.id AND r.place < CASE \"{table}\".\"{name}\""));
            for (place, value) in order.iter().enumerate() {
                statement = statement.push(" WHEN ").arg(value).push(&format!(" THEN {place}"));
            }
            statement.push(&format!(" ELSE {} END", order.len()))
        };
        let refused = self.execute_bisecting(&known, raise).await?;
        Ok(refused.into_iter().map(|((id, ..), why)| NotRaised { id: *id, why }).collect())
    }

    async fn insert_free(&mut self, model: &Model, rows: &[Row]) -> Result<Inserted, WriteError> {
        bulk::insert_free(self, model, rows).await
    }
}

/// Which of these values rows of a model have, with the ids of those rows. Compares values as the rules of the model
/// do. Only reads.
///
/// # Errors
/// If the database cannot be queried.
pub async fn find_rows(
    db: &Db,
    model: &Model,
    column: &Column,
    values: Vec<String>,
) -> Result<HashMap<String, i64>, DbError> {
    if values.is_empty() {
        return Ok(HashMap::new());
    }
    found(db.fetch_all(rows_with_query(db.dialect(), model, column, values)).await?)
}

/// The key of a row in a set of two references, if both are set.
pub(super) fn reference_key([one, other]: [usize; 2], row: &Row) -> Option<(i64, i64)> {
    row.values.get(one)?.as_int().zip(row.values.get(other)?.as_int())
}

/// Whether a rule compares the values of a column without regard to case.
pub(super) fn folds(model: &Model, column: &Column) -> bool {
    let suffixed = model.rules.taken_name.filter(|name| name.suffix_up_to.is_some()).map(|name| name.column);
    let cleared = model.rules.if_taken.iter().filter(|taken| taken.ignores_case).map(|taken| taken.column);
    let mut folded = suffixed.into_iter().chain(cleared).filter_map(|index| model.columns.get(index));
    folded.any(|folded| folded.column == column.column)
}

/// The query for existing values. Compares without regard to case if the column or the rule does: on SQLite that means
/// ASCII letters.
fn rows_with_query(dialect: Dialect, model: &Model, column: &Column, values: Vec<String>) -> Statement {
    let name = &column.column;
    let same = match (column.sql.as_str(), dialect) {
        _ if folds(model, column) => format!("lower(t.\"{name}\") = lower(r.value)"),
        ("citext", Dialect::Postgres) => format!("t.\"{name}\" = r.value::citext"),
        _ => format!("t.\"{name}\" = r.value"),
    };
    if !model.has_folded_index && folds(model, column) {
        // One pass over the table for all values.
        return Statement::new("SELECT r.value AS value, CAST(MIN(t.id) AS bigint) AS id FROM ")
            .rows(dialect, "r", [("value", db::Column::Texts(values))])
            .push(&format!(" JOIN \"{}\" t ON {same} GROUP BY r.value", model.table));
    }
    // An index search for each value, whatever the planner estimates: for a table that it has not analyzed,
    // PostgreSQL assumes that one row in two hundred has a given name, and a join would read the whole table
    // for every chunk. The sum keeps it from searching for the least id along the primary key.
    let least = format!("(SELECT CAST(MIN(t.id + 0) AS bigint) FROM \"{}\" t WHERE {same})", model.table);
    Statement::new("SELECT value, id FROM (SELECT r.value AS value, ")
        .push(&least)
        .push(" AS id FROM ")
        .rows(dialect, "r", [("value", db::Column::Texts(values))])
        .push(") f WHERE id IS NOT NULL")
}

fn found(rows: Vec<db::Row>) -> Result<HashMap<String, i64>, DbError> {
    rows.into_iter().map(|row| Ok((row.text("value")?, row.int("id")?))).collect()
}
