//! What [`prepare`](super::prepare) would meet in a database, without changing anything, for `causeway doctor`.

use causeway_silo::db::{Db, LackingRights, Migrations, OwnTables, SequenceBehind, ServerFacts};

use super::{SchemaError, Tables, is_of_product, models, version::check_version};
use crate::catalog::Catalog;

/// What was found in a database.
#[derive(Debug)]
pub struct Examination {
    /// What the server says about itself; `None` on SQLite.
    pub server: Option<ServerFacts>,
    /// Whether the database is the product's.
    pub of_product: bool,
    /// Whether the next start has to create the schema for Causeway's own tables.
    pub needs_schema: bool,
    /// The number of the last migration that was applied; `None` if the service has never started on the database.
    pub migration: Option<i64>,
    /// The number of the last migration of this release.
    pub newest_migration: i64,
    /// Why the service would not start on these tables: a sentence for each reason.
    pub differences: Vec<String>,
    /// Models whose records are not imported into this database although it has their tables, each with the reason.
    pub left_out: Vec<(String, String)>,
    /// Rights that the user lacks.
    pub lacking_rights: Vec<LackingRights>,
    /// Tables whose next id by default exists already.
    pub sequences_behind: Vec<SequenceBehind>,
    /// Extensions that the service needs and the server cannot install.
    pub unavailable_extensions: Vec<String>,
    /// Damage in the file of a SQLite database.
    pub damage: Option<String>,
}

/// Examines the database of a silo. Returns the database with the schema that the service would use.
///
/// # Errors
/// If the database is that of another service or of a newer release, or cannot be queried.
pub async fn examine(
    db: Db,
    catalog: &Catalog,
    migrations: Migrations,
    extensions: &[&str],
) -> Result<(Db, Examination), SchemaError> {
    let silo = migrations.silo;
    let damage = db.damage().await?;
    let (db, is_first, needs_schema) = match db.own_tables(silo).await? {
        OwnTables::OwnSchema => (db.in_own_schema(silo).await?, false, false),
        OwnTables::Shared => (db, false, false),
        OwnTables::Absent if !is_of_product(&db).await? => (db, false, false),
        OwnTables::Absent if db.has_own_schema(silo).await? => (db.in_own_schema(silo).await?, true, false),
        OwnTables::Absent => (db, true, true),
    };
    // What the user may do in the schema where the tables are, or where they will be.
    let server = db.server_facts().await?;
    // Whatever the other service has there, it does not concern one that is about to get its own schema.
    let migration = if is_first { None } else { db.check_migrations(migrations).await? };
    if migration.is_some() {
        check_version(&db, catalog).await?;
    }
    let tables = Tables::load(&db, catalog, silo).await?;
    let fitted = catalog.fitted(silo, &tables);
    let left_out = models(&fitted, silo)
        .into_iter()
        .filter(|model| model.has_table)
        .filter_map(|model| Some((model.name.clone(), model.not_importable.clone()?)))
        .collect();
    let names: Vec<String> = models(catalog, silo).into_iter().map(|model| model.table.clone()).collect();
    let examination = Examination {
        server,
        of_product: tables.of_product,
        needs_schema,
        migration,
        newest_migration: migrations.newest(db.dialect()),
        differences: tables.differences(catalog, silo, db.dialect()),
        left_out,
        lacking_rights: db.lacking_rights(&names).await?,
        sequences_behind: db.sequences_behind(&names).await?,
        unavailable_extensions: db.unavailable_extensions(extensions).await?,
        damage,
    };
    Ok((db, examination))
}
