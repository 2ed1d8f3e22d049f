//! What the parts of an import share, besides what all parts of the region share: the spool directory, the keys of
//! encrypted exports, and control's tables.

use std::{
    fs::File,
    ops::Deref,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use crate::{
    context::Context, control_client::ControlTables, decryption_key::DecryptionKeys, error::Error, store,
};

/// How many organizations one transaction changes at most in a database of the product, where it also announces them to
/// the workers.
const ANNOUNCED: i64 = 1_000;

/// What the parts of an import share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ImportContext {
    shared: Context,
    files: Arc<Files>,
}

#[derive(Debug)]
struct Files {
    spool_dir: PathBuf,
    keys: Option<DecryptionKeys>,
    /// Control's tables as it has described them last.
    control_tables: Mutex<Option<Arc<ControlTables>>>,
    /// Places of imports that ask control for their slugs. Requests and answers of all their organizations are in memory.
    slug_calls: Semaphore,
    /// Locked as long as this process may write into the spool directory.
    lock: File,
}

/// How many imports ask control for slugs at once: they have no turn meanwhile, which would bound that.
const SLUG_CALLS: usize = 4;

impl Deref for ImportContext {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.shared
    }
}

impl ImportContext {
    /// Stores files in `spool_dir`, which this process has locked with `lock`. `keys` open encrypted exports.
    pub(crate) fn new(
        shared: &Context,
        spool_dir: PathBuf,
        lock: File,
        keys: Option<DecryptionKeys>,
    ) -> Self {
        let files = Files {
            spool_dir,
            keys,
            control_tables: Mutex::default(),
            slug_calls: Semaphore::new(SLUG_CALLS),
            lock,
        };
        Self { shared: shared.clone(), files: Arc::new(files) }
    }

    /// Waits for a place to ask control for the slugs of an import.
    ///
    /// # Errors
    /// Never: nothing closes the semaphore.
    pub(super) async fn slug_call(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.files.slug_calls.acquire().await.map_err(|_| Error::Stopping)
    }

    /// The directory with the files of imports that need them.
    pub(crate) fn spool_dir(&self) -> &Path {
        &self.files.spool_dir
    }

    /// The keys that open encrypted exports; `None` if this region has none.
    pub(crate) fn keys(&self) -> Option<&DecryptionKeys> {
        self.files.keys.as_ref()
    }

    /// Control's tables as it has described them last to this process.
    pub(super) fn known_control_tables(&self) -> Option<Arc<ControlTables>> {
        self.files.control_tables.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores how control has described its tables.
    pub(super) fn set_control_tables(&self, tables: Arc<ControlTables>) {
        *self.files.control_tables.lock().unwrap_or_else(PoisonError::into_inner) = Some(tables);
    }

    /// Unlocks the spool directory for the next process.
    pub(super) fn unlock_spool(&self) {
        if let Err(error) = self.files.lock.unlock() {
            tracing::warn!(%error, "the spool directory stays locked until the process ends");
        }
    }

    /// The id of the last of the next organizations of an import that one transaction may change, and whether there may
    /// be more; `None` if there are none.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(super) async fn organizations_after(
        &self,
        id: Uuid,
        after: i64,
    ) -> Result<Option<(i64, bool)>, Error> {
        let mut most = i64::from(self.limits.organizations_a_transaction.max(1));
        if self.product_db.is_some() {
            most = most.min(ANNOUNCED);
        }
        Ok(store::imported::page_end(&self.db, id, after, most)
            .await?
            .map(|(last, count)| (last, count == most)))
    }
}
