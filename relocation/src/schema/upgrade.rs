//! Brings tables that an older release of Causeway created to the form of this release's catalog. The product's tables
//! are never altered.
//!
//! From release to release a catalog only widens its tables: columns are added, types grow, values may become null, and
//! unique sets appear with new columns, disappear or get a condition. A condition that changes is not noticed, because
//! its index keeps the name.
//!
//! PostgreSQL alters a table in place. SQLite cannot alter a column, so the table is written again under its name, with
//! everything that somebody has added to it: columns, indexes and triggers. Both do all tables in one transaction: after
//! a crash the tables are as they were.

use std::collections::{BTreeMap, BTreeSet};

use causeway_silo::{
    db::{self, Db, DbError, Dialect, Row, Statement, Tx},
    transact,
};

use super::{
    compare::{Difference, DifferenceKind, Tables, columns_query, compare},
    create::{LOCK, create_table, definition, index_statements, quoted, unique_constraints},
    is_of_product, models,
};
use crate::catalog::{Catalog, Model, Silo};

/// The unique constraints of tables: the sorted columns of each constraint, by table and name of the constraint.
type Constraints = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// What must be altered in one table.
struct TableChange<'a> {
    model: &'a Model,
    differences: Vec<Difference<'a>>,
    /// Unique constraints that the catalog does not have, by name.
    obsolete: Vec<String>,
    /// Unique constraints that are missing in the table, as in `CREATE TABLE`.
    missing: Vec<String>,
}

/// Alters the tables of a silo's models that differ from the catalog, all of them or none, and returns their names.
/// Several processes may call this at once.
///
/// # Errors
/// If the database cannot be reached or refuses.
pub async fn upgrade_tables(db: &Db, catalog: &Catalog, silo: Silo) -> Result<Vec<String>, DbError> {
    let models = models(catalog, silo);
    if is_of_product(db).await? {
        return Ok(Vec::new());
    }
    // Usually nothing differs. Then this needs no write transaction and waits for no writer.
    let tables = db.fetch_all(columns_query(models.iter().copied(), db.dialect())).await?;
    let constraints = db.fetch_all(constraints_query(&models, db.dialect())).await?;
    if changes(&models, db.dialect(), &tables, &constraints)?.is_empty() {
        return Ok(Vec::new());
    }
    let altered = match db.for_rebuilding().await? {
        None => transact!(DbError, db, |tx| { alter_all(tx, catalog, &models).await? }),
        Some(db) => {
            let altered = transact!(DbError, db, |tx| { alter_all(tx, catalog, &models).await? });
            db.close().await;
            altered
        }
    }?;
    if !altered.is_empty() {
        tracing::info!(tables = altered.join(", "), "altered tables that an older release had created");
    }
    Ok(altered)
}

/// What a transaction that alters tables of PostgreSQL begins with. It must see what another process has
/// committed while it waited. It waits only briefly for other users of a table, because all that come after
/// them wait for it. Writing an index may take longer than other statements may.
const BEGIN: [&str; 4] = [
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET LOCAL lock_timeout = '3s'",
    "SET LOCAL statement_timeout = 0",
    // No notices that an index is there.
    "SET LOCAL client_min_messages = warning",
];

async fn alter_all(tx: &mut Tx, catalog: &Catalog, models: &[&Model]) -> Result<Vec<String>, DbError> {
    let dialect = tx.dialect();
    if dialect == Dialect::Postgres {
        for statement in BEGIN {
            tx.execute(Statement::new(statement)).await?;
        }
        tx.execute(Statement::new("SELECT pg_advisory_xact_lock($1)").with(LOCK)).await?;
    }
    // Another process may have altered them meanwhile.
    let tables = tx.fetch_all(columns_query(models.iter().copied(), dialect)).await?;
    let constraints = tx.fetch_all(constraints_query(models, dialect)).await?;
    let changes = changes(models, dialect, &tables, &constraints)?;
    let broken = broken_references(tx).await?;
    for change in &changes {
        let statements = match dialect {
            Dialect::Postgres => change.alter(catalog)?,
            Dialect::Sqlite => rebuild(tx, catalog, change.model).await?,
        };
        for statement in statements {
            let done = tx.execute(Statement::new("").push(&statement)).await;
            done.map_err(|error| error.doing(cannot_be_altered(&change.model.table)))?;
        }
    }
    // Somebody may have broken others before, in a program that checks none.
    if let Some(table) = broken_references(tx).await?.difference(&broken).next() {
        return Err(DbError::inconsistent(format!(
            "{}: it would lose a reference",
            cannot_be_altered(table)
        )));
    }
    Ok(changes.iter().map(|change| change.model.table.clone()).collect())
}

fn cannot_be_altered(table: &str) -> String {
    format!(
        "table {table} cannot be altered to what this release needs, and nothing was changed. If a view or a rule uses \
         it, drop that and create it again after the start; the service must own the table"
    )
}

/// The tables of an SQLite database that have references to rows that there are not. None on PostgreSQL, which always
/// checks them.
async fn broken_references(tx: &mut Tx) -> Result<BTreeSet<String>, DbError> {
    if tx.dialect() == Dialect::Postgres {
        return Ok(BTreeSet::new());
    }
    let check = Statement::new("SELECT DISTINCT \"table\" AS name FROM pragma_foreign_key_check");
    tx.fetch_all(check).await?.iter().map(|row| row.text("name")).collect()
}

/// What must be altered, by table.
fn changes<'a>(
    models: &[&'a Model],
    dialect: Dialect,
    tables: &[Row],
    constraints: &[Row],
) -> Result<Vec<TableChange<'a>>, DbError> {
    let tables = Tables::read(tables, false)?;
    let constraints = read_constraints(constraints)?;
    let mut differences: BTreeMap<&str, Vec<Difference<'a>>> = BTreeMap::new();
    for difference in compare(&tables, models.iter().copied(), dialect) {
        if difference.can_be_altered() {
            differences.entry(&difference.model.table).or_default().push(difference);
        }
    }
    let mut changes = Vec::new();
    for model in models.iter().copied().filter(|model| tables.contains(model)) {
        let differences = differences.remove(model.table.as_str()).unwrap_or_default();
        let mut missing = unique_constraints(model)?;
        let mut obsolete = Vec::new();
        for (name, columns) in constraints.get(&model.table).into_iter().flatten() {
            // A constraint of another name is somebody else's.
            if missing.remove(columns).is_none() && (dialect == Dialect::Sqlite || name.ends_with("_uniq")) {
                obsolete.push(name.clone());
            }
        }
        if !differences.is_empty() || !obsolete.is_empty() || !missing.is_empty() {
            let missing = missing.into_values().collect();
            changes.push(TableChange { model, differences, obsolete, missing });
        }
    }
    Ok(changes)
}

/// The query for the unique constraints of the tables of these models.
fn constraints_query(models: &[&Model], dialect: Dialect) -> Statement {
    let tables = models.iter().map(|model| model.table.clone()).collect();
    let names = [("name", db::Column::Texts(tables))];
    match dialect {
        Dialect::Postgres => Statement::new(
            "SELECT t.name AS table_name, k.conname::text AS constraint_name, a.attname::text AS column_name \
             FROM pg_constraint k CROSS JOIN LATERAL unnest(k.conkey) AS n (number) \
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = n.number JOIN ",
        )
        .rows(dialect, "t", names)
        .push(" ON k.conrelid = to_regclass(quote_ident(t.name)) WHERE k.contype = 'u'"),
        Dialect::Sqlite => Statement::new(
            "SELECT t.name AS table_name, i.name AS constraint_name, c.name AS column_name FROM ",
        )
        .rows(dialect, "t", names)
        .push(" JOIN pragma_index_list(t.name) i JOIN pragma_index_info(i.name) c WHERE i.origin = 'u'"),
    }
}

fn read_constraints(rows: &[Row]) -> Result<Constraints, DbError> {
    let mut constraints = Constraints::new();
    for row in rows {
        let table = constraints.entry(row.text("table_name")?).or_default();
        table.entry(row.text("constraint_name")?).or_default().push(row.text("column_name")?);
    }
    for columns in constraints.values_mut().flat_map(BTreeMap::values_mut) {
        columns.sort_unstable();
    }
    Ok(constraints)
}

impl TableChange<'_> {
    /// Alters the table in place, as PostgreSQL can.
    fn alter(&self, catalog: &Catalog) -> Result<Vec<String>, DbError> {
        let Self { model, .. } = self;
        let mut actions: Vec<String> =
            self.obsolete.iter().map(|name| format!("DROP CONSTRAINT {}", quoted(name))).collect();
        for difference in &self.differences {
            match &difference.kind {
                DifferenceKind::Missing { column } => {
                    let definition = definition(catalog, model, column, Dialect::Postgres)?;
                    actions.push(format!("ADD COLUMN {definition}"));
                }
                DifferenceKind::Type { column, expected, .. } => {
                    actions.push(format!("ALTER COLUMN {} TYPE {expected}", quoted(&column.column)));
                }
                DifferenceKind::NotNull { column } => {
                    actions.push(format!("ALTER COLUMN {} DROP NOT NULL", quoted(&column.column)));
                }
                DifferenceKind::NoId
                | DifferenceKind::IdType { .. }
                | DifferenceKind::NoSequence
                | DifferenceKind::NeedsValue { .. } => {
                    return Err(DbError::inconsistent(format!("{difference}, which cannot be altered")));
                }
            }
        }
        actions.extend(self.missing.iter().map(|constraint| format!("ADD {constraint}")));
        let mut statements = vec![format!("ALTER TABLE {} {}", quoted(&model.table), actions.join(", "))];
        statements.extend(index_statements(model)?);
        Ok(statements)
    }
}

/// The statements that write a table of SQLite again under its name.
async fn rebuild(tx: &mut Tx, catalog: &Catalog, model: &Model) -> Result<Vec<String>, DbError> {
    let (table, new) = (quoted(&model.table), quoted(&format!("{}__new", model.table)));
    let find = Statement::new(
        "SELECT name, type, \"notnull\" AS not_null, dflt_value, hidden FROM pragma_table_xinfo(",
    );
    let mut columns = Vec::new();
    let mut added = Vec::new();
    for row in tx.fetch_all(find.arg(model.table.as_str()).push(")")).await? {
        let name = row.text("name")?;
        let is_known = name == "id" || model.columns.iter().any(|column| column.column == name);
        columns.push(quoted(&name));
        if is_known {
            continue;
        }
        if row.int("hidden")? != 0 {
            let what = format!("its column {name} is computed, and this release does not know it; drop it");
            return Err(DbError::inconsistent(what).doing(cannot_be_altered(&model.table)));
        }
        let not_null = if row.bool("not_null")? { " NOT NULL" } else { "" };
        let default =
            row.opt_text("dflt_value")?.map(|text| format!(" DEFAULT ({text})")).unwrap_or_default();
        added.push(format!("{} {}{not_null}{default}", quoted(&name), row.text("type")?));
    }
    let find = Statement::new(
        "SELECT sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL AND tbl_name = ",
    );
    let kept = tx.fetch_all(find.arg(model.table.as_str())).await?;
    let columns = columns.join(", ");
    let mut statements = vec![create_table(catalog, model, &new, Dialect::Sqlite)?];
    statements.extend(added.iter().map(|column| format!("ALTER TABLE {new} ADD COLUMN {column}")));
    statements.extend([
        format!("INSERT INTO {new} ({columns}) SELECT {columns} FROM {table}"),
        format!("DROP TABLE {table}"),
        format!("ALTER TABLE {new} RENAME TO {table}"),
    ]);
    for row in kept {
        statements.push(row.text("sql")?);
    }
    statements.extend(index_statements(model)?);
    Ok(statements)
}
