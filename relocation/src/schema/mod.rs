//! The tables of the models in a database.
//!
//! Tables that Causeway created follow the catalog: missing ones are created, and those of an older release are brought
//! to the form of this one. A database of the product is never altered: there, every difference refuses the start.

mod compare;
mod create;
mod upgrade;

use causeway_silo::db::{Db, DbError, Dialect, Statement};

use self::compare::{Tables, columns_query, compare};
use crate::catalog::{Catalog, Model, Silo};

pub use create::create_missing_tables;
pub use upgrade::upgrade_tables;

/// The models whose tables a silo has.
fn models(catalog: &Catalog, silo: Silo) -> Vec<&Model> {
    catalog.written().filter(|model| model.silo == silo).collect()
}

/// Where existing tables differ from the catalog in a way that would break an import, one sentence for each difference.
/// An absent table is not a difference: see [`create_missing_tables`]. Nor is a column that the catalog does not know,
/// as long as it needs no value, and nothing that [`upgrade_tables`] will alter.
///
/// # Errors
/// If the database cannot be queried.
pub async fn differences(db: &Db, catalog: &Catalog, silo: Silo) -> Result<Vec<String>, DbError> {
    let models = models(catalog, silo);
    let tables = Tables::read(&db.fetch_all(columns_query(models.iter().copied(), db.dialect())).await?)?;
    let is_of_product = is_of_product(db).await?;
    let found = compare(&tables, models, db.dialect());
    let blocking = found.iter().filter(|difference| is_of_product || !difference.can_be_altered());
    Ok(blocking.map(ToString::to_string).collect())
}

/// Whether the tables are the product's: it keeps a list of its migrations in the database.
async fn is_of_product(db: &Db) -> Result<bool, DbError> {
    let statement = Statement::new(match db.dialect() {
        Dialect::Postgres => "SELECT 1 AS one WHERE to_regclass('django_migrations') IS NOT NULL",
        Dialect::Sqlite => "SELECT 1 AS one FROM sqlite_master WHERE name = 'django_migrations'",
    });
    Ok(db.fetch_optional(statement).await?.is_some())
}
