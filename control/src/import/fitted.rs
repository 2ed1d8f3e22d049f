//! What control's database takes of the catalog. It may belong to an application that somebody upgrades while control
//! runs, and that other controls use too.

use std::sync::Arc;

use causeway_relocation::{
    catalog::{Catalog, Silo},
    schema::Tables,
};
use causeway_silo::db::{Db, DbError};

use crate::Error;

/// The catalog as far as control's database takes it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Fitted {
    db: Db,
    catalog: Arc<Catalog>,
    /// Whether somebody else may alter the tables.
    of_product: bool,
}

impl Fitted {
    /// Reads the tables and determines whether they are the product's.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn new(db: &Db, catalog: &Arc<Catalog>) -> Result<Self, DbError> {
        let tables = Tables::load(db, catalog, Silo::Control).await?;
        let catalog = match tables.of_product {
            true => Arc::clone(catalog),
            false => Arc::new(catalog.fitted(Silo::Control, &tables)),
        };
        Ok(Self { db: db.clone(), catalog, of_product: tables.of_product })
    }

    /// The tables, as they are now.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn tables(&self) -> Result<Tables, DbError> {
        Tables::load(&self.db, &self.catalog, Silo::Control).await
    }

    /// The catalog as far as the database takes it now. Tables that Causeway created are not read again.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn catalog(&self) -> Result<Arc<Catalog>, Error> {
        self.catalog_if(|_| true).await
    }

    /// The same for a chunk of a model that was planned for tables with this fingerprint, of the model's table or, by a
    /// region of an older release, of all; nothing is compared if it is empty.
    ///
    /// # Errors
    /// If the database cannot be queried, or the tables have another fingerprint.
    pub(crate) async fn catalog_for(&self, model: &str, fingerprint: &str) -> Result<Arc<Catalog>, Error> {
        self.catalog_if(|tables| match self.catalog.model(model) {
            _ if fingerprint.is_empty() => true,
            Some(model) if fingerprint.starts_with(Tables::OF_SOME) => {
                tables.fingerprint_of([model.table.as_str()]) == fingerprint
            }
            _ => tables.fingerprint() == fingerprint,
        })
        .await
    }

    async fn catalog_if(&self, are_right: impl Fn(&Tables) -> bool) -> Result<Arc<Catalog>, Error> {
        if !self.of_product {
            return Ok(Arc::clone(&self.catalog));
        }
        let tables = self.tables().await?;
        if !are_right(&tables) {
            return Err(Error::SchemaChanged);
        }
        Ok(Arc::new(self.catalog.fitted(Silo::Control, &tables)))
    }
}
