//! What control's database takes of the catalog. It may belong to an application that somebody upgrades while control
//! runs.

use std::sync::{Arc, PoisonError, RwLock};

use causeway_relocation::{
    catalog::{Catalog, Silo},
    schema::Tables,
};
use causeway_silo::db::{Db, DbError};

/// The catalog as far as control's database takes it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Fitted(Arc<RwLock<Arc<Catalog>>>);

impl Fitted {
    /// The catalog as far as the database takes it now.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn read(db: &Db, catalog: &Catalog) -> Result<Self, DbError> {
        let tables = Tables::load(db, catalog, Silo::Control).await?;
        Ok(Self(Arc::new(RwLock::new(Arc::new(catalog.fitted(Silo::Control, &tables))))))
    }

    /// The catalog, as it was read last.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the tables again, and returns them.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn read_again(&self, db: &Db, catalog: &Catalog) -> Result<Tables, DbError> {
        let tables = Tables::load(db, catalog, Silo::Control).await?;
        let fitted = Arc::new(catalog.fitted(Silo::Control, &tables));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fitted;
        Ok(tables)
    }
}
