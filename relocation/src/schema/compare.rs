//! Compares the tables of a database with the catalog.

use std::collections::BTreeMap;

use causeway_silo::db::{self, Db, DbError, Dialect, Statement};

use crate::catalog::{Catalog, Column, Silo};

/// A column as it is in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Actual {
    sql: String,
    null: bool,
    has_default: bool,
}

/// Where existing tables differ from the catalog in a way that would break an import, one sentence for each difference.
/// An absent table is not a difference: see [`super::create_missing_tables`]. Nor is a column that the catalog does not
/// know, as long as it needs no value.
///
/// # Errors
/// If the database cannot be queried.
pub async fn differences(db: &Db, catalog: &Catalog, silo: Silo) -> Result<Vec<String>, DbError> {
    let tables: Vec<String> =
        catalog.written().filter(|model| model.silo == silo).map(|model| model.table.clone()).collect();
    let actual = columns(db, tables).await?;
    let mut wrong = Vec::new();
    for model in catalog.written().filter(|model| model.silo == silo) {
        let Some(table) = actual.get(&model.table) else { continue };
        match table.get("id") {
            None => wrong.push(format!("table {} has no column id", model.table)),
            Some(id) if db.dialect() == Dialect::Postgres && id.sql != "bigint" => {
                wrong.push(format!("column {}.id is {} and not bigint", model.table, id.sql));
            }
            Some(id) if db.dialect() == Dialect::Postgres && !model.leases_ids() && !id.has_default => {
                wrong.push(format!("column {}.id has no sequence of its own", model.table));
            }
            Some(_) => {}
        }
        for column in &model.columns {
            let Some(found) = table.get(&column.column) else {
                wrong.push(format!("table {} has no column {}", model.table, column.column));
                continue;
            };
            let expected = column_type(column, db.dialect());
            if found.sql != expected {
                wrong.push(format!(
                    "column {}.{} is {} and not {expected}",
                    model.table, column.column, found.sql
                ));
            }
            if column.null && !found.null {
                wrong.push(format!("column {}.{} cannot be null", model.table, column.column));
            }
        }
        for (name, found) in table {
            let known = name == "id" || model.columns.iter().any(|column| &column.column == name);
            if !known && !found.null && !found.has_default {
                wrong.push(format!(
                    "column {}.{name} needs a value and the catalog does not know it",
                    model.table
                ));
            }
        }
    }
    Ok(wrong)
}

/// The type of a column, as the database names it.
pub(super) fn column_type(column: &Column, dialect: Dialect) -> String {
    let sql = column.sql.as_str();
    match dialect {
        // PostgreSQL does not report how many dimensions an array was declared with, and does not enforce it.
        Dialect::Postgres => sql.replace("[][]", "[]"),
        Dialect::Sqlite => match sql {
            "timestamp with time zone" | "uuid" | "inet" | "citext" => "text".to_owned(),
            _ if sql.ends_with("[]") => "text".to_owned(),
            _ => sql.to_owned(),
        },
    }
}

/// All columns of these tables, by table and name.
async fn columns(
    db: &Db,
    tables: Vec<String>,
) -> Result<BTreeMap<String, BTreeMap<String, Actual>>, DbError> {
    let names = [("name", db::Column::Texts(tables))];
    let statement = match db.dialect() {
        Dialect::Postgres => Statement::new(
            "SELECT c.relname::text AS table_name, a.attname::text AS column_name, format_type(a.atttypid, a.atttypmod) AS sql, \
             NOT a.attnotnull AS nullable, (a.atthasdef OR a.attidentity <> '') AS has_default \
             FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN ",
        )
        .rows(db.dialect(), "t", names)
        .push(" ON c.oid = to_regclass(quote_ident(t.name)) WHERE a.attnum > 0 AND NOT a.attisdropped"),
        Dialect::Sqlite => Statement::new(
            "SELECT t.name AS table_name, p.name AS column_name, lower(p.type) AS sql, p.\"notnull\" = 0 AND p.pk = 0 AS nullable, \
             p.dflt_value IS NOT NULL AS has_default FROM ",
        )
        .rows(db.dialect(), "t", names)
        .push(" JOIN pragma_table_info(t.name) p"),
    };
    let mut found: BTreeMap<String, BTreeMap<String, Actual>> = BTreeMap::new();
    for row in db.fetch_all(statement).await? {
        let sql = row.text("sql")?;
        // PostgreSQL spells out `varchar`.
        let sql = match sql.strip_prefix("character varying") {
            Some(rest) => format!("varchar{rest}"),
            None => sql,
        };
        let actual = Actual { sql, null: row.bool("nullable")?, has_default: row.bool("has_default")? };
        found.entry(row.text("table_name")?).or_default().insert(row.text("column_name")?, actual);
    }
    Ok(found)
}
