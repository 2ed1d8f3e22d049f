//! The tables of the models in a database.
//!
//! Tables that Causeway created follow the catalog: missing ones are created, and those of an older release are brought
//! to the form of this one. Tables of the product are never altered: there, imports follow the tables.

mod compare;
mod create;
mod examine;
mod fit;
#[cfg(test)]
mod table_list;
mod upgrade;
mod version;
mod workers;

use causeway_silo::db::{ConnectError, Db, DbError, Dialect, MigrateError, Migrations, OwnTables, Statement};

use self::{
    compare::compare,
    version::{check_version, note_version},
};
use crate::catalog::{Catalog, Model, Silo, TablesVersion};

pub use compare::{Actual, Tables, UniqueIndex};
pub use create::create_missing_tables;
pub use examine::{Examination, examine};
pub use upgrade::upgrade_tables;
pub use workers::tables_for_workers;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Tables differ from the catalog: a sentence for each difference. Nothing was changed.
    #[error(
        "tables of the database are not as this release of Causeway needs them: {}. Nothing was changed. Give another \
         --database-url, or start a release that knows these tables", .0.join("; ")
    )]
    Differences(Vec<String>),
    /// A release with a newer catalog has used the database. Nothing in it was changed.
    #[error(
        "{place} has been used by a newer release of Causeway: its tables of models are those of a catalog of {noted}, and \
         this release knows those up to {known}; nothing was changed. Start that release, or put back a copy from before it"
    )]
    NewerCatalog {
        /// The name of the database, without anything secret.
        place: String,
        /// The newest catalog that has used it.
        noted: TablesVersion,
        /// The catalog of this release.
        known: TablesVersion,
    },
    /// The database is of another service or of a newer release, or a migration failed.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The database cannot be reached, or refuses.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The database cannot be reached again.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Makes a database fit for a silo at its start, in an order in which a refusal changes nothing: checks whose it is,
/// compares its tables with the catalog, creates and alters tables of models, and applies the migrations. In a database
/// of the product it creates and alters no table of models, and its own tables are in a schema of their own, unless an
/// older release has put them elsewhere. Returns the database with the right schema. Several processes may do this at
/// once.
///
/// | died after | what is left | what happens then |
/// | --- | --- | --- |
/// | creating the schema | an empty schema | the next start goes on |
/// | creating tables | new tables of models, which no older release uses | the next start goes on |
/// | altering tables | all of them altered; an older release may refuse them by their types | the next start goes on |
/// | a migration | the migrations so far; older releases refuse the database by its number | the next start goes on |
/// | noting the catalog | everything; releases with an older catalog refuse the database | |
///
/// # Errors
/// If the database may not be used, cannot be reached, or refuses.
pub async fn prepare(db: Db, catalog: &Catalog, migrations: Migrations) -> Result<Db, SchemaError> {
    let silo = migrations.silo;
    let (mut db, needs_schema) = match db.own_tables(silo).await? {
        OwnTables::OwnSchema => (db.in_own_schema(silo).await?, false),
        OwnTables::Absent => {
            let of_product = is_of_product(&db).await?;
            (db, of_product)
        }
        OwnTables::Shared => (db, false),
    };
    // Whatever the other service has there, it does not concern one that is about to get its own schema.
    let is_new = needs_schema || db.check_migrations(migrations).await?.is_none();
    if !is_new {
        check_version(&db, catalog).await?;
    }
    let tables = Tables::load(&db, catalog, silo).await?;
    let differences = tables.differences(catalog, silo, db.dialect());
    if !differences.is_empty() {
        return Err(SchemaError::Differences(differences));
    }
    if needs_schema {
        db.create_own_schema(silo).await?;
        db = db.in_own_schema(silo).await?;
    }
    if tables.of_product {
        log_left_out(&catalog.fitted(silo, &tables), silo);
    } else {
        let made = create_missing_tables(&db, catalog, silo).await?;
        if !is_new && !made.is_empty() {
            tracing::info!(tables = made.join(", "), "made tables of models that the database did not have");
        }
        upgrade_tables(&db, catalog, silo).await?;
    }
    // The first one creates no table that is there.
    db.migrate(Migrations { without_models: tables.of_product, ..migrations }).await?;
    note_version(&db, catalog).await?;
    Ok(db)
}

/// Logs which models cannot be imported although the database has their tables.
fn log_left_out(fitted: &Catalog, silo: Silo) {
    for model in models(fitted, silo).into_iter().filter(|model| model.has_table) {
        if let Some(reason) = &model.not_importable {
            tracing::warn!(
                model = model.name,
                reason,
                "records of a model are not imported into this database"
            );
        }
    }
}

/// The models whose tables a silo has.
fn models(catalog: &Catalog, silo: Silo) -> Vec<&Model> {
    catalog.written().filter(|model| model.silo == silo).collect()
}

impl Tables {
    /// Why no import can write into these tables, a sentence for each reason. Tables of the product are not compared but
    /// for what every import needs. An absent table of Causeway's own is not a reason: see [`create_missing_tables`]. Nor is
    /// a column that the catalog does not know, as long as it needs no value, and nothing that [`upgrade_tables`] alters.
    #[must_use]
    pub fn differences(&self, catalog: &Catalog, silo: Silo, dialect: Dialect) -> Vec<String> {
        if self.of_product {
            let mut unfit = catalog.unfit(silo, self);
            unfit.extend(self.unfit_for_workers(silo));
            return unfit;
        }
        let found = compare(self, models(catalog, silo), dialect);
        let blocking = found.iter().filter(|difference| !difference.can_be_altered());
        blocking.map(ToString::to_string).collect()
    }
}

/// Whether the database is the product's: it keeps a list of its migrations there. The product uses only PostgreSQL.
///
/// # Errors
/// If the database cannot be queried.
pub async fn is_of_product(db: &Db) -> Result<bool, DbError> {
    if db.dialect() == Dialect::Sqlite {
        return Ok(false);
    }
    let statement = Statement::new("SELECT 1 AS one WHERE to_regclass('django_migrations') IS NOT NULL");
    Ok(db.fetch_optional(statement).await?.is_some())
}
