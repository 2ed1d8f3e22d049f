//! What of the catalog a database takes. A database of the product may be of an older or newer release than the
//! newest one that the catalog knows: it lacks tables and columns, and its columns have other types, lengths, and null or
//! not. Everything that reads, checks and writes records for it uses the catalog that is made here.

use causeway_silo::db::Dialect;

use super::compare::{Actual, Tables};
use crate::catalog::{ArrayOf, Catalog, Column, Kind, Model, Silo, SqlType};

impl Catalog {
    /// This catalog as far as the tables of a silo take it. Models and columns keep their positions.
    #[must_use]
    pub fn fitted(&self, silo: Silo, tables: &Tables) -> Self {
        let mut catalog = self.clone();
        catalog.change_written(silo, |model| fit(model, tables));
        catalog
    }
}

fn fit(model: &mut Model, tables: &Tables) {
    let Some(columns) = tables.columns_of(&model.table) else {
        model.has_table = false;
        return;
    };
    // Causeway adds no index to a table of the product.
    model.has_folded_index = !tables.of_product;
    if let Some(id) = columns.get("id").and_then(|id| SqlType::parse(&id.sql)) {
        model.id_type = id;
    }
    for column in &mut model.columns {
        match columns.get(&column.column) {
            Some(actual) => narrow(column, actual),
            None => column.is_stored = false,
        }
    }
    let is_stored = |column: usize| model.columns.get(column).is_some_and(|column| column.is_stored);
    // A table that lacks one of the columns does not have the set. Without the column of its condition, it holds for
    // every row.
    model.unique.retain(|set| set.columns.iter().all(|column| is_stored(*column)));
    for set in &mut model.unique {
        set.condition = set.condition.take().filter(|condition| is_stored(condition.column));
    }
    model.rules.if_taken.retain(|taken| is_stored(taken.column));
}

/// Narrows a column to what the database takes.
fn narrow(column: &mut Column, actual: &Actual) {
    column.null &= actual.null;
    let Some(sql) = SqlType::parse(&actual.sql) else { return };
    let shorter = |known: Option<usize>| match (known, sql.max_length()) {
        (Some(known), Some(actual)) => Some(known.min(actual)),
        (known, actual) => known.or(actual),
    };
    column.max_length = shorter(column.max_length);
    if let Kind::Array(ArrayOf::Text(most)) = &mut column.kind {
        *most = shorter(*most);
    }
    // A reference gets a new primary key in any case.
    if let (Kind::BigInt | Kind::Integer, Some(kind), None) = (column.kind, sql.integer(), &column.references)
    {
        column.kind = kind;
    }
    if sql.takes(column.kind) {
        column.sql.clone_from(&actual.sql);
    }
}

/// Why an import cannot write to a table of the product, one sentence for each reason.
pub(super) fn hindrances(tables: &Tables, models: &[&Model], dialect: Dialect) -> Vec<String> {
    let mut found = Vec::new();
    for model in models {
        let table = &model.table;
        let Some(columns) = tables.columns_of(table) else {
            if model.is_essential() {
                found.push(format!("table {table} is missing"));
            }
            continue;
        };
        match columns.get("id") {
            None => found.push(format!("table {table} has no column id")),
            Some(id) if dialect == Dialect::Sqlite || matches!(id.sql.as_str(), "bigint" | "integer") => {}
            Some(id) => found.push(format!("column {table}.id is {} and not bigint or integer", id.sql)),
        }
        for column in &model.columns {
            match columns.get(&column.column) {
                None if model.is_essential() && column.since.is_none() => {
                    found.push(format!("table {table} has no column {}", column.column));
                }
                Some(actual) if dialect == Dialect::Postgres => {
                    let takes = SqlType::parse(&actual.sql).is_some_and(|sql| sql.takes(column.kind));
                    if !takes {
                        found.push(format!(
                            "column {table}.{} is {}, which takes no value of type {}",
                            column.column, actual.sql, column.sql
                        ));
                    }
                }
                _ => {}
            }
        }
        for (name, actual) in columns {
            let known = name == "id" || model.columns.iter().any(|column| &column.column == name);
            if !known && !actual.null && !actual.has_default {
                found.push(format!("column {table}.{name} needs a value and the catalog does not know it"));
            }
        }
    }
    found
}
