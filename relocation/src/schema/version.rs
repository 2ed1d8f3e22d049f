//! Which catalogs have used a database, so that an older one refuses it: its release would take back what a newer one has
//! changed in the tables of models, such as a unique set that is gone.

use causeway_silo::{
    db::{Db, DbError, Dialect, Row, Statement},
    transact,
};

use super::SchemaError;
use crate::catalog::{Catalog, TablesVersion};

/// The greatest version that is noted; `None` if no release has noted any.
async fn noted(db: &Db) -> Result<Option<TablesVersion>, DbError> {
    let has_table = Statement::new(match db.dialect() {
        // Another schema of the search path may have that of the other service.
        Dialect::Postgres => {
            "SELECT 1 AS one WHERE to_regclass(quote_ident(current_schema()) || '.causeway_catalog') IS NOT NULL"
        }
        Dialect::Sqlite => {
            "SELECT 1 AS one FROM sqlite_master WHERE type = 'table' AND name = 'causeway_catalog'"
        }
    });
    if db.fetch_optional(has_table).await?.is_none() {
        return Ok(None);
    }
    let newest = Statement::new(
        "SELECT year, month, revision FROM causeway_catalog ORDER BY year DESC, month DESC, revision DESC LIMIT 1",
    );
    db.fetch_optional(newest).await?.as_ref().map(read).transpose()
}

fn read(row: &Row) -> Result<TablesVersion, DbError> {
    let number = |name: &str| {
        u32::try_from(row.int(name)?).map_err(|_| {
            DbError::inconsistent(format!("a row of causeway_catalog has a {name} that there is not"))
        })
    };
    Ok(TablesVersion { year: number("year")?, month: number("month")?, revision: number("revision")? })
}

/// Refuses a database that a newer catalog has used.
pub(super) async fn check_version(db: &Db, catalog: &Catalog) -> Result<(), SchemaError> {
    let known = catalog.tables_version();
    match noted(db).await? {
        Some(noted) if noted > known => {
            Err(SchemaError::NewerCatalog { place: db.place().to_owned(), noted, known })
        }
        Some(_) | None => Ok(()),
    }
}

/// Notes that a catalog has used the database. Doing it again changes nothing.
pub(super) async fn note_version(db: &Db, catalog: &Catalog) -> Result<(), DbError> {
    let version = catalog.tables_version();
    // Usually it is noted. Then this needs no write transaction and waits for no writer.
    if noted(db).await?.is_some_and(|noted| noted >= version) {
        return Ok(());
    }
    let TablesVersion { year, month, revision } = version;
    let note = Statement::new(
        "INSERT INTO causeway_catalog (year, month, revision) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .with(year)
    .with(month)
    .with(revision);
    transact!(DbError, db, |tx| {
        tx.execute(note.clone()).await?;
    })
}
