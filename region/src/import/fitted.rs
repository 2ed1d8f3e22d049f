//! What the databases of the region and of control take of the catalog. They may belong to an application, which
//! somebody upgrades between two imports, and even during one.

use std::sync::Arc;

use causeway_relocation::{
    catalog::{Catalog, Silo},
    schema::{Tables, tables_for_workers},
};

use super::{Import, ImportState, context::ImportContext};
use crate::{control_client::ControlTables, error::Error};

/// The catalog as far as the databases take it.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    /// The models with what the databases have of them.
    pub(super) catalog: Arc<Catalog>,
    /// Identifies the tables of both databases, and the catalog.
    pub(super) fingerprint: String,
    /// Control's tables; `None` if they are assumed to be Causeway's own.
    pub(super) of_control: Option<Arc<ControlTables>>,
    /// Control did not answer, so its tables are assumed to be those that it described before.
    pub(super) assumed: bool,
}

/// Begins the part of a fingerprint about the tables of control's database that the product's workers read.
const OF_WORKERS: &str = " workers ";

/// Whether a plan was made for the same tables. A control of an older release does not describe those of the workers, so a
/// plan that was made with one says nothing about them.
fn is_same(planned: &str, now: &str) -> bool {
    let parts = |fingerprint| match str::split_once(fingerprint, OF_WORKERS) {
        Some((models, workers)) => (models, Some(workers)),
        None => (fingerprint, None),
    };
    let ((models, workers), (models_now, workers_now)) = (parts(planned), parts(now));
    models == models_now && (workers.is_none() || workers_now.is_none() || workers == workers_now)
}

impl ImportContext {
    /// The catalog as far as the databases take it; `read` has it from then on. Both are asked when a run of an import
    /// begins, and again when one of its steps has failed. While an import is planned, control need not answer if it has
    /// described its tables before, or if this region's are Causeway's own: whether that holds is checked before anything
    /// is written.
    ///
    /// # Errors
    /// [`Error::SchemaChanged`] if the import was planned for other tables; [`Error::TablesUnfit`];
    /// [`Error::ControlNotOfProduct`]; or if a database or control cannot be reached.
    pub(super) async fn fitted(&self, import: &Import, read: &mut Option<Fitted>) -> Result<Fitted, Error> {
        let is_planning = import.state == ImportState::Planning;
        if let Some(fitted) = read.as_ref().filter(|fitted| is_planning || !fitted.assumed) {
            return Ok(fitted.clone());
        }
        let catalog = &self.catalog;
        let ours = Tables::load(&self.db, catalog, Silo::Region).await?;
        // `None` stands for tables that Causeway created, which accept everything.
        let (theirs, assumed) = match self.control_tables().await {
            Ok(theirs) => (Some(theirs), false),
            Err(error) if is_planning && error.is_transient() => match self.known_control_tables() {
                None if ours.of_product => return Err(error),
                known => (known, true),
            },
            Err(error) => return Err(error),
        };
        let mut unfit = catalog.unfit(Silo::Region, &ours);
        unfit.extend(ours.unfit_for_workers(Silo::Region));
        let mut fitted = catalog.fitted(Silo::Region, &ours);
        // Those that this catalog knows: control may know more.
        let mut of_control = Tables::OWN.to_owned();
        let mut of_workers = String::new();
        if let Some(ControlTables { tables: theirs, .. }) = theirs.as_deref() {
            if ours.of_product && !theirs.of_product {
                return Err(Error::ControlNotOfProduct);
            }
            unfit.extend(catalog.unfit(Silo::Control, theirs));
            if theirs.describe_workers(Silo::Control) {
                unfit.extend(theirs.unfit_for_workers(Silo::Control));
                of_workers =
                    format!("{OF_WORKERS}{}", theirs.fingerprint_of(tables_for_workers(Silo::Control)));
            }
            fitted = fitted.fitted(Silo::Control, theirs);
            let known = catalog.written().filter(|model| model.silo == Silo::Control);
            let models = known.map(|model| model.table.as_str());
            of_control = theirs.fingerprint_of(models);
        }
        if !unfit.is_empty() {
            return Err(Error::TablesUnfit(unfit.join("; ")));
        }
        let release = Catalog::identity();
        let fitted = Fitted {
            catalog: Arc::new(fitted.with_copies_that_fit()),
            fingerprint: format!("{release} {} {of_control}{of_workers}", ours.fingerprint()),
            of_control: theirs,
            assumed,
        };
        // Another release of Causeway plans again.
        let planned =
            import.planned_for.as_ref().filter(|planned| !is_planning && planned.starts_with(&release));
        if planned.is_some_and(|planned| !is_same(planned, &fitted.fingerprint)) {
            return Err(Error::SchemaChanged { dry_run: import.parameters.dry_run });
        }
        *read = Some(fitted.clone());
        Ok(fitted)
    }

    /// The catalog as far as this region's database takes it.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(super) async fn fitted_here(&self) -> Result<Catalog, Error> {
        let catalog = &self.catalog;
        Ok(catalog.fitted(Silo::Region, &Tables::load(&self.db, catalog, Silo::Region).await?))
    }

    /// Asks control for its tables of models.
    async fn control_tables(&self) -> Result<Arc<ControlTables>, Error> {
        self.register().await?;
        let tables = Arc::new(self.ask(self.control.describe_tables()).await?);
        self.set_control_tables(Arc::clone(&tables));
        Ok(tables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_that_does_not_describe_the_workers_tables_changes_nothing() {
        assert!(is_same("r own some-1", "r own some-1"));
        assert!(is_same("r own some-1", "r own some-1 workers some-2"));
        assert!(is_same("r own some-1 workers some-2", "r own some-1"));
        assert!(is_same("r own some-1 workers some-2", "r own some-1 workers some-2"));
        assert!(!is_same("r own some-1 workers some-2", "r own some-1 workers some-3"));
        assert!(!is_same("r own some-1 workers some-2", "r own some-4 workers some-2"));
        assert!(!is_same("r own some-1", "r own some-4 workers some-2"));
    }
}
