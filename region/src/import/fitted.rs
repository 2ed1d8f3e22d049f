//! What the databases of the region and of control take of the catalog. They may belong to an application, which
//! somebody upgrades between two imports, and even during one.

use std::sync::Arc;

use causeway_relocation::{
    catalog::{Catalog, Silo},
    schema::Tables,
};

use super::{Engine, Import, ImportState, engine::Run};
use crate::error::Error;

/// The catalog as far as the databases take it.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    /// The models with what the databases have of them.
    pub(super) catalog: Arc<Catalog>,
    /// Identifies the tables of both databases.
    pub(super) fingerprint: String,
}

impl Engine {
    /// The catalog as far as the databases take it. Both are asked once in each run of an import.
    ///
    /// # Errors
    /// [`Error::SchemaChanged`] if the import was planned for other tables; [`Error::ControlNotOfProduct`]; or if a database or control cannot be reached.
    pub(super) async fn fitted(&self, import: &Import, run: &mut Run) -> Result<Fitted, Error> {
        if let Some(fitted) = &run.fitted {
            return Ok(fitted.clone());
        }
        let catalog = &self.context.catalog;
        let theirs = self.context.ask(self.context.control.describe_tables()).await?;
        let ours = Tables::load(&self.context.db, catalog, Silo::Region).await?;
        if ours.of_product && !theirs.of_product {
            return Err(Error::ControlNotOfProduct);
        }
        let fitted = Fitted {
            catalog: Arc::new(catalog.fitted(Silo::Region, &ours).fitted(Silo::Control, &theirs)),
            fingerprint: format!("{} {}", ours.fingerprint(), theirs.fingerprint()),
        };
        let is_planned = import.state != ImportState::Planning;
        if is_planned && import.planned_for.as_ref().is_some_and(|planned| *planned != fitted.fingerprint) {
            return Err(Error::SchemaChanged);
        }
        run.fitted = Some(fitted.clone());
        Ok(fitted)
    }
}
