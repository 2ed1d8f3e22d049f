//! Brings tables that an older release of Causeway created to the form of this release's catalog. The product's tables
//! are never altered.
//!
//! From release to release a catalog only widens its tables: columns are added, types grow, values may become null, and
//! unique sets appear with new columns, disappear or get a condition. A condition that changes is not
//! noticed: the index has the same name. PostgreSQL alters a table in place. SQLite writes it again under its name.

use std::collections::BTreeMap;

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
struct Change<'a> {
    model: &'a Model,
    differences: Vec<Difference<'a>>,
    /// Unique constraints that the catalog does not have, by name.
    obsolete: Vec<String>,
    /// Unique constraints that the table lacks, as in `CREATE TABLE`.
    missing: Vec<String>,
    /// The columns whose values are kept.
    columns: Vec<&'a str>,
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
    let unchecked = db.without_foreign_keys().await?;
    let altered = transact!(DbError, unchecked, |tx| { alter_all(tx, catalog, &models).await? });
    unchecked.close().await;
    let altered = altered?;
    if !altered.is_empty() {
        tracing::info!(tables = altered.join(", "), "altered tables that an older release had created");
    }
    Ok(altered)
}

async fn alter_all(tx: &mut Tx, catalog: &Catalog, models: &[&Model]) -> Result<Vec<String>, DbError> {
    let dialect = tx.dialect();
    if dialect == Dialect::Postgres {
        tx.execute(Statement::new("SELECT pg_advisory_xact_lock($1)").with(LOCK)).await?;
    }
    // Another process may have altered them meanwhile.
    let tables = tx.fetch_all(columns_query(models.iter().copied(), dialect)).await?;
    let constraints = tx.fetch_all(constraints_query(models, dialect)).await?;
    let changes = changes(models, dialect, &tables, &constraints)?;
    for change in &changes {
        let statements = match dialect {
            Dialect::Postgres => change.alter(catalog)?,
            Dialect::Sqlite => change.rebuild(catalog)?,
        };
        for statement in statements {
            tx.execute(Statement::new("").push(&statement)).await?;
        }
    }
    if dialect == Dialect::Sqlite {
        let check = Statement::new("SELECT 1 AS one FROM pragma_foreign_key_check LIMIT 1");
        if tx.fetch_optional(check).await?.is_some() {
            return Err(DbError::inconsistent("a table cannot be altered: a foreign key would be broken"));
        }
    }
    Ok(changes.iter().map(|change| change.model.table.clone()).collect())
}

/// What must be altered, by table.
fn changes<'a>(
    models: &[&'a Model],
    dialect: Dialect,
    tables: &[Row],
    constraints: &[Row],
) -> Result<Vec<Change<'a>>, DbError> {
    let tables = Tables::read(tables)?;
    let constraints = read_constraints(constraints)?;
    let mut differences: BTreeMap<&str, Vec<Difference<'a>>> = BTreeMap::new();
    for difference in compare(&tables, models.iter().copied(), dialect) {
        if difference.can_be_altered() {
            differences.entry(&difference.model.table).or_default().push(difference);
        }
    }
    let mut changes = Vec::new();
    for model in models.iter().copied() {
        let differences = differences.remove(model.table.as_str()).unwrap_or_default();
        let mut missing = unique_constraints(model)?;
        let mut obsolete = Vec::new();
        for (name, columns) in constraints.get(&model.table).into_iter().flatten() {
            if missing.remove(columns).is_none() {
                obsolete.push(name.clone());
            }
        }
        if !differences.is_empty() || !obsolete.is_empty() || !missing.is_empty() {
            let (missing, columns) = (missing.into_values().collect(), tables.known_columns(model));
            changes.push(Change { model, differences, obsolete, missing, columns });
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

impl Change<'_> {
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

    /// Creates the table under another name, copies the rows, and puts it in the place of the old one: SQLite cannot
    /// alter a column or a constraint. The old table's indexes go with it.
    fn rebuild(&self, catalog: &Catalog) -> Result<Vec<String>, DbError> {
        let (table, new) = (quoted(&self.model.table), quoted(&format!("{}__new", self.model.table)));
        let columns: Vec<String> = self.columns.iter().map(|column| quoted(column)).collect();
        let columns = columns.join(", ");
        let mut statements = vec![
            create_table(catalog, self.model, &new, Dialect::Sqlite)?,
            format!("INSERT INTO {new} ({columns}) SELECT {columns} FROM {table}"),
            format!("DROP TABLE {table}"),
            format!("ALTER TABLE {new} RENAME TO {table}"),
        ];
        statements.extend(index_statements(self.model)?);
        Ok(statements)
    }
}
