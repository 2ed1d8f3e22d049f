//! The tables of the models in a database.
//!
//! Tables that Causeway created follow the catalog: missing ones are created, and those of an older release are brought
//! to the form of this one. A database of the product is never altered: there, every difference refuses the start.

mod compare;
mod create;
mod fit;
mod upgrade;

use causeway_silo::db::{Db, DbError, Dialect, MigrateError, Migrations, Statement};

use self::compare::compare;
use crate::catalog::{Catalog, Model, Silo};

pub use compare::{Actual, Tables};
pub use create::create_missing_tables;
pub use upgrade::upgrade_tables;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Tables differ from the catalog: a sentence for each difference. Nothing was changed.
    #[error(
        "tables of the database are not as this release of Causeway knows them: {}. Nothing was changed. Give another \
         --database-url, or start a release that knows these tables", .0.join("; ")
    )]
    Differences(Vec<String>),
    /// The database is of another service or of a newer release, or a migration failed.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The database cannot be reached, or refuses.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Makes a database fit for a silo at its start, in an order in which a refusal changes nothing: checks whose it is,
/// compares its tables with the catalog, creates and alters tables of models, and applies the migrations. Several
/// processes may do this at once.
///
/// | died after | what is left | what happens then |
/// | --- | --- | --- |
/// | creating tables | new tables of models, which no older release looks at | the next start goes on |
/// | altering tables | all of them altered; an older release may refuse them by their types | the next start goes on |
/// | a migration | the migrations so far; older releases refuse the database by its number | the next start goes on |
///
/// # Errors
/// If the database may not be used, cannot be reached, or refuses.
pub async fn prepare(db: &Db, catalog: &Catalog, migrations: Migrations) -> Result<(), SchemaError> {
    let is_new = db.check_migrations(migrations).await?.is_none();
    let differences = differences(db, catalog, migrations.silo).await?;
    if !differences.is_empty() {
        return Err(SchemaError::Differences(differences));
    }
    let migrations = Migrations { without_models: is_of_product(db).await?, ..migrations };
    if !migrations.without_models {
        let made = create_missing_tables(db, catalog, migrations.silo).await?;
        if !is_new && !made.is_empty() {
            tracing::info!(tables = made.join(", "), "made tables of models that the database did not have");
        }
        upgrade_tables(db, catalog, migrations.silo).await?;
    }
    // The first one creates no table that is there.
    db.migrate(migrations).await?;
    Ok(())
}

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
    let tables = Tables::load(db, catalog, silo).await?;
    if tables.of_product {
        return Ok(catalog.unfit(silo, &tables));
    }
    let found = compare(&tables, models, db.dialect());
    let blocking = found.iter().filter(|difference| !difference.can_be_altered());
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
