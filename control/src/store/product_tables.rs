//! Whether a database is the product's, and which of its own tables it has.

use std::collections::HashSet;

use causeway_relocation::schema::is_of_product;
use causeway_silo::db::{Column, Db, DbError, Dialect, Row, Statement};

/// Tables with a column `organization_id` that the workers fill.
const WORKER_TABLES: [&str; 4] = [
    "sentry_organizationmembermapping",
    "sentry_organizationmapping",
    "sentry_teamreplica",
    "sentry_organizationmember_teamsreplica",
];

/// The product's own tables in a database that is the product's. It remembers nothing of them: an upgrade of the product
/// may alter them at any time.
#[derive(Debug, Clone)]
pub(crate) struct ProductDb(());

impl ProductDb {
    /// The product's own tables, if the database is the product's. That it has those that are written was checked at the
    /// start, and is checked again when an import begins.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn find(db: &Db) -> Result<Option<Self>, DbError> {
        Ok(is_of_product(db).await?.then_some(Self(())))
    }
}

/// The query for those of [`WORKER_TABLES`] that the database has. [`existing`] reads its rows.
pub(super) fn worker_tables() -> Statement {
    let names = WORKER_TABLES.map(str::to_owned).to_vec();
    Statement::new("SELECT t.name AS name FROM ")
        .rows(Dialect::Postgres, "t", [("name", Column::Texts(names))])
        .push(" WHERE to_regclass(t.name) IS NOT NULL")
}

/// The tables that rows of [`worker_tables`] name.
pub(super) fn existing(rows: &[Row]) -> Result<Vec<&'static str>, DbError> {
    let found = texts(rows, "name")?;
    Ok(WORKER_TABLES.into_iter().filter(|name| found.contains(*name)).collect())
}

/// A column of texts.
pub(super) fn texts(rows: &[Row], column: &str) -> Result<HashSet<String>, DbError> {
    rows.iter().map(|row| row.text(column)).collect()
}
