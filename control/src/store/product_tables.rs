//! Whether a database is the product's, and which of its own tables it has.

use std::collections::HashSet;

use causeway_relocation::schema::is_of_product;
use causeway_silo::db::{Column, Db, DbError, Row, Statement};

/// Tables with a column `organization_id` that the workers fill.
const WORKER_TABLES: [&str; 4] = [
    "sentry_organizationmembermapping",
    "sentry_organizationmapping",
    "sentry_teamreplica",
    "sentry_organizationmember_teamsreplica",
];

/// The product's own tables in a database that is the product's.
#[derive(Debug, Clone)]
pub(crate) struct ProductDb {
    /// Those of [`WORKER_TABLES`] that the database has.
    pub(super) worker_tables: Vec<&'static str>,
}

impl ProductDb {
    /// Checks whether the database is the product's and has the tables for this.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn find(db: &Db) -> Result<Option<Self>, DbError> {
        if !is_of_product(db).await? {
            return Ok(None);
        }
        let needed = ["sentry_organizationslugreservation", "sentry_controloutbox"];
        let names = needed.iter().chain(&WORKER_TABLES);
        let asked = names.map(|name| (*name).to_owned()).collect();
        let statement = Statement::new("SELECT t.name AS name FROM ")
            .rows(db.dialect(), "t", [("name", Column::Texts(asked))])
            .push(" WHERE to_regclass(t.name) IS NOT NULL");
        let found = texts(&db.fetch_all(statement).await?, "name")?;
        if !needed.iter().all(|name| found.contains(*name)) {
            return Ok(None);
        }
        let worker_tables = WORKER_TABLES.into_iter().filter(|name| found.contains(*name)).collect();
        Ok(Some(Self { worker_tables }))
    }
}

/// A column of texts.
pub(super) fn texts(rows: &[Row], column: &str) -> Result<HashSet<String>, DbError> {
    rows.iter().map(|row| row.text(column)).collect()
}
