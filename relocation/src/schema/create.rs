//! Creates the tables that are missing in a database. Their columns, unique sets, foreign keys and indexes
//! follow from the model's entry in the catalog. An import supplies every value, so the only defaults are
//! those of columns that were added later.

use std::collections::BTreeMap;

use causeway_silo::{
    db::{self, Db, DbError, Dialect, Row, Statement},
    transact,
};
use sha1::{Digest as _, Sha1};

use super::{compare::column_type, models};
use crate::catalog::{self, Catalog, Column, ColumnType, Condition, Model, Silo, UniqueSet};

/// The maximum length of a name in PostgreSQL, in bytes.
const LONGEST_NAME: usize = 63;

/// The key of the PostgreSQL advisory lock under which tables are created; "causeway" in ASCII.
pub(super) const LOCK: i64 = 0x6361_7573_6577_6179;

/// Creates the absent tables of a silo's models, all of them or none, and returns their names. Several processes may
/// call this at once.
///
/// # Errors
/// If the database cannot be reached or refuses to create tables.
pub async fn create_missing_tables(db: &Db, catalog: &Catalog, silo: Silo) -> Result<Vec<String>, DbError> {
    let models = models(catalog, silo);
    // Usually nothing is missing. Then this needs no write transaction and waits for no writer.
    let absent = names(&db.fetch_all(absent(&models, db.dialect())).await?)?;
    if absent.is_empty() {
        return Ok(absent);
    }
    transact!(DbError, db, |tx| {
        if tx.dialect() == Dialect::Postgres {
            // A process that waited for this lock may not yet see what the other process created: hence IF NOT EXISTS
            // below.
            tx.execute(Statement::new("SELECT pg_advisory_xact_lock($1)").with(LOCK)).await?;
        }
        let absent = names(&tx.fetch_all(self::absent(&models, tx.dialect())).await?)?;
        // In the order of writing: each table comes after those that its foreign keys refer to.
        let to_make: Vec<&Model> =
            models.iter().copied().filter(|model| absent.contains(&model.table)).collect();
        let has_citext = |model: &&Model| model.columns.iter().any(|column| column.sql == "citext");
        if tx.dialect() == Dialect::Postgres && to_make.iter().any(has_citext) {
            tx.execute(Statement::new("CREATE EXTENSION IF NOT EXISTS citext")).await?;
        }
        for model in &to_make {
            for statement in statements(catalog, model, tx.dialect())? {
                tx.execute(Statement::new("").push(&statement)).await?;
            }
        }
        to_make.iter().map(|model| model.table.clone()).collect::<Vec<_>>()
    })
}

/// The query for the models that have no table.
fn absent(models: &[&Model], dialect: Dialect) -> Statement {
    let tables = models.iter().map(|model| model.table.clone()).collect();
    Statement::new("SELECT t.name AS name FROM ")
        .rows(dialect, "t", [("name", db::Column::Texts(tables))])
        .push(match dialect {
            Dialect::Postgres => " WHERE to_regclass(quote_ident(t.name)) IS NULL",
            Dialect::Sqlite => " WHERE NOT EXISTS (SELECT 1 FROM sqlite_master m WHERE m.name = t.name)",
        })
}

fn names(rows: &[Row]) -> Result<Vec<String>, DbError> {
    rows.iter().map(|row| row.text("name")).collect()
}

/// The column at a position of the catalog.
fn column_name(model: &Model, column: usize) -> Result<&str, DbError> {
    let column = model.columns.get(column).map(|column| column.column.as_str());
    column.ok_or_else(|| {
        DbError::inconsistent(format!("a unique set of {} has a column that there is not", model.name))
    })
}

/// The statements that create the table of a model.
pub(super) fn statements(catalog: &Catalog, model: &Model, dialect: Dialect) -> Result<Vec<String>, DbError> {
    let mut statements = vec![create_table(catalog, model, &quoted(&model.table), dialect)?];
    statements.extend(index_statements(model)?);
    Ok(statements)
}

/// The columns of a unique set.
fn columns_of<'a>(model: &'a Model, set: &UniqueSet) -> Result<Vec<&'a str>, DbError> {
    set.columns.iter().map(|column| column_name(model, *column)).collect()
}

/// The constraint of each unique set that has no condition, as in `CREATE TABLE`, by the set's sorted columns.
pub(super) fn unique_constraints(model: &Model) -> Result<BTreeMap<Vec<String>, String>, DbError> {
    let constraint = |set| {
        let columns = columns_of(model, set)?;
        let name = quoted(&index_name(&model.table, &columns, "uniq"));
        let constraint = format!("CONSTRAINT {name} UNIQUE ({})", quoted_list(&columns));
        let mut columns: Vec<String> = columns.into_iter().map(str::to_owned).collect();
        columns.sort_unstable();
        Ok((columns, constraint))
    };
    model.unique.iter().filter(|set| set.condition.is_none()).map(constraint).collect()
}

fn quoted_list(columns: &[&str]) -> String {
    columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ")
}

/// The statement that creates the table of a model under a quoted name, with its unconditional unique sets.
pub(super) fn create_table(
    catalog: &Catalog,
    model: &Model,
    name: &str,
    dialect: Dialect,
) -> Result<String, DbError> {
    let mut lines = vec![match dialect {
        Dialect::Postgres => "\"id\" bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY".to_owned(),
        Dialect::Sqlite => "\"id\" INTEGER PRIMARY KEY".to_owned(),
    }];
    for column in &model.columns {
        lines.push(definition(catalog, model, column, dialect)?);
    }
    lines.extend(unique_constraints(model)?.into_values());
    Ok(format!("CREATE TABLE IF NOT EXISTS {name} (\n  {}\n)", lines.join(",\n  ")))
}

/// The statements that create the indexes of a table, as far as they are absent: one for each conditional unique set,
/// and one for each foreign key.
pub(super) fn index_statements(model: &Model) -> Result<Vec<String>, DbError> {
    let table = quoted(&model.table);
    let mut statements = Vec::new();
    for (set, condition) in model.unique.iter().filter_map(|set| Some((set, set.condition.as_ref()?))) {
        let columns = columns_of(model, set)?;
        statements.push(format!(
            "CREATE UNIQUE INDEX IF NOT EXISTS {} ON {table} ({}) WHERE {}",
            quoted(&index_name(&model.table, &columns, "uniq")),
            quoted_list(&columns),
            holds(model, condition)?
        ));
    }
    // When a row is deleted, the database searches for rows that refer to it. The index of a unique set
    // serves such a search only by its first column.
    let mut everywhere = model.unique.iter().filter(|set| set.condition.is_none());
    let firsts: Vec<usize> = everywhere.by_ref().filter_map(|set| set.columns.first().copied()).collect();
    for (index, column) in model.columns.iter().enumerate() {
        if column.references.is_some() && column.has_foreign_key && !firsts.contains(&index) {
            statements.push(format!(
                "CREATE INDEX IF NOT EXISTS {} ON {table} ({})",
                quoted(&index_name(&model.table, &[column.column.as_str()], "idx")),
                quoted(&column.column)
            ));
        }
    }
    Ok(statements)
}

/// A column with its type, default and foreign key. A foreign key can refer only to a table of the same silo.
pub(super) fn definition(
    catalog: &Catalog,
    model: &Model,
    column: &Column,
    dialect: Dialect,
) -> Result<String, DbError> {
    let sql = match dialect {
        Dialect::Postgres => column.sql.clone(),
        Dialect::Sqlite => column_type(column, dialect),
    };
    let mut text = format!("{} {sql}", quoted(&column.column));
    if dialect == Dialect::Sqlite && column.sql == "citext" {
        text.push_str(" COLLATE NOCASE");
    }
    if !column.null {
        text.push_str(" NOT NULL");
        // For rows that an older release wrote, and for its processes that still run.
        if column.since.is_some() {
            text.push_str(" DEFAULT ");
            text.push_str(&default_of(model, column, dialect)?);
        }
    }
    let target = column.target.filter(|_| column.has_foreign_key).and_then(|at| catalog.models().get(at));
    if let Some(target) = target.filter(|target| target.silo == model.silo && target.in_organization_scope())
    {
        text.push_str(" REFERENCES ");
        text.push_str(&quoted(&target.table));
        text.push_str(" (\"id\") DEFERRABLE INITIALLY DEFERRED");
    }
    Ok(text)
}

/// The default of a column as an SQL literal.
fn default_of(model: &Model, column: &Column, dialect: Dialect) -> Result<String, DbError> {
    let unusable = || {
        DbError::inconsistent(format!(
            "{}.{} was added later, cannot be null, and has no default that a table can have",
            model.name, column.field
        ))
    };
    let catalog::Default::Literal(json) = &column.default else { return Err(unusable()) };
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    Ok(match (serde_json::from_str(json), column.kind) {
        (Ok(value), ColumnType::Json) => text(&serde_json::Value::to_string(&value)),
        (Ok(serde_json::Value::Bool(value)), _) => match dialect {
            Dialect::Postgres => value.to_string(),
            Dialect::Sqlite => u8::from(value).to_string(),
        },
        (Ok(serde_json::Value::Number(number)), _) => number.to_string(),
        (Ok(serde_json::Value::String(value)), _) => text(&value),
        (Ok(serde_json::Value::Array(values)), ColumnType::Array(_)) if values.is_empty() => match dialect {
            Dialect::Postgres => "'{}'".to_owned(),
            Dialect::Sqlite => "'[]'".to_owned(),
        },
        _ => return Err(unusable()),
    })
}

/// The condition of a unique set, as SQL. The value comes from the catalog and is written as a literal, because DDL
/// takes no parameters.
fn holds(model: &Model, condition: &Condition) -> Result<String, DbError> {
    let column = quoted(column_name(model, condition.column)?);
    Ok(match &condition.equals {
        None => format!("{column} IS NULL"),
        Some(serde_json::Value::String(text)) => format!("{column} = '{}'", text.replace('\'', "''")),
        Some(value) => format!("{column} = {value}"),
    })
}

/// A name that PostgreSQL does not cut: the end of a name that is too long is replaced by the beginning of its SHA-1,
/// as in the tables that the first migration makes.
fn index_name(table: &str, columns: &[&str], kind: &str) -> String {
    let mut name = format!("{table}_{}_{kind}", columns.join("_"));
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let hash = hex::encode(Sha1::digest(name.as_bytes()));
    let end = format!("_{hash:.8}_{kind}");
    name.truncate(name.floor_char_boundary(LONGEST_NAME - end.len()));
    format!("{}{end}", name.trim_end_matches('_'))
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
