//! What the careful way of writing asks of a table: the table itself answers, or what a dry run knows of it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{Row, WriteError, bulk};
use crate::{
    catalog::{Column, Model, Rule},
    db::{self, Db, DbError, Dialect, Statement, Tx},
};

/// Where the rows of a chunk go.
pub(super) trait Table: Send {
    /// What it fails with.
    type Error: From<WriteError> + Send;

    /// Refuses ids that rows have already: no rule may take such a row for one of ours.
    fn check_ids(
        &mut self,
        model: &Model,
        rows: &[Row],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Keeps other writers away: two that look and then write could both take a name in different case.
    fn lock(
        &mut self,
        model: &Model,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Which of these values rows have, and the ids of those rows.
    fn rows_with(
        &mut self,
        model: &Model,
        column: &Column,
        values: Vec<String>,
    ) -> impl Future<Output = Result<HashMap<String, i64>, Self::Error>> + Send;

    /// Inserts the rows that break no unique set, in their order, and says which, by id.
    fn insert_free(
        &mut self,
        model: &Model,
        rows: &[Row],
    ) -> impl Future<Output = Result<Vec<i64>, Self::Error>> + Send;
}

impl Table for Tx {
    type Error = WriteError;

    async fn check_ids(&mut self, model: &Model, rows: &[Row]) -> Result<(), WriteError> {
        let ids = db::Column::Ints(rows.iter().map(|row| row.id).collect());
        let statement = Statement::new("SELECT t.id AS id FROM ")
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
        let statement = asks_for(self.dialect(), model, column, values);
        Ok(found(self.fetch_all(statement).await?)?)
    }

    async fn insert_free(&mut self, model: &Model, rows: &[Row]) -> Result<Vec<i64>, WriteError> {
        bulk::insert_free(self, model, rows).await
    }
}

/// Which of these values rows of a model have, and the ids of those rows. Compared as the rules of the model compare
/// them. Only looks.
///
/// # Errors
/// If the database cannot be asked.
pub async fn find_rows(
    db: &Db,
    model: &Model,
    column: &Column,
    values: Vec<String>,
) -> Result<HashMap<String, i64>, DbError> {
    if values.is_empty() {
        return Ok(HashMap::new());
    }
    found(db.fetch_all(asks_for(db.dialect(), model, column, values)).await?)
}

/// Whether a rule compares the values of a column without regard to case.
pub(super) fn folds(model: &Model, column: &Column) -> bool {
    model.rules.iter().any(|rule| {
        matches!(rule, Rule::MergeOrSuffix { column: of, .. }
            if model.columns.get(*of).is_some_and(|it| it.column == column.column))
    })
}

/// Without regard to case where the column or the rule has none: on SQLite that means ASCII letters.
fn asks_for(dialect: Dialect, model: &Model, column: &Column, values: Vec<String>) -> Statement {
    let name = &column.column;
    let same = match (column.sql.as_str(), dialect) {
        _ if folds(model, column) => format!("lower(t.\"{name}\") = lower(r.value)"),
        ("citext", Dialect::Postgres) => format!("t.\"{name}\" = r.value::citext"),
        _ => format!("t.\"{name}\" = r.value"),
    };
    // A look-up for each, whatever the database thinks of the table: of a table that it has not analyzed, PostgreSQL
    // takes one row in two hundred to have a given name, and a join would read all of them for every chunk. The sum keeps
    // it from looking for the least id along the primary key.
    let least = format!("(SELECT MIN(t.id + 0) FROM \"{}\" t WHERE {same})", model.table);
    Statement::new("SELECT value, id FROM (SELECT r.value AS value, ")
        .push(&least)
        .push(" AS id FROM ")
        .rows(dialect, "r", [("value", db::Column::Texts(values))])
        .push(") f WHERE id IS NOT NULL")
}

fn found(rows: Vec<db::Row>) -> Result<HashMap<String, i64>, DbError> {
    rows.into_iter().map(|row| Ok((row.text("value")?, row.int("id")?))).collect()
}
