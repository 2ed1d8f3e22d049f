//! One process for each import: a lease in the region's database. Every transaction of an import renews it, and fails
//! with [`Error::Superseded`] if another process has it by now or has moved the import to another state. So two
//! processes on one database never both write, whatever their clocks and spool directories are.

use std::{sync::Arc, time::Duration};

use causeway_silo::{db::Tx, transact};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{Import, Worker, context::ImportContext, running::RunningImport};
use crate::{
    error::Error,
    store::{self, lease_transaction::LeaseTransaction},
};

/// Runs a block in a transaction that has asserted the lease of an import:
/// `transact_leased!(context, import, |lease| { ... })`. Otherwise like [`transact!`].
macro_rules! transact_leased {
    ($context:expr, $import:expr, |$lease:ident| $body:block) => {
        causeway_silo::transact!($crate::error::Error, $context.db, |tx| {
            let $lease = &mut $context.assert_lease(tx, $import).await?;
            $body
        })
    };
}

/// How often a lease is renewed in addition to each transaction: a third of its length.
const RENEWAL: Duration = Duration::from_secs(10);

impl ImportContext {
    /// Waits until this process has the lease of an import. `false` if no process needs to work on the import any more,
    /// or if the service stops.
    pub(super) async fn take_lease(&self, id: Uuid) -> bool {
        let mut attempts = 0;
        loop {
            match self.try_lease(id).await {
                Ok(Some(taken)) => return taken,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(import_id = %id, %error, "the lease of an import cannot be taken yet");
                }
            }
            attempts += 1;
            if self.pause(attempts).await.is_err() {
                return false;
            }
        }
    }

    /// Tries to take the lease of an import: `None` if another process has it, `Some(false)` if the import no longer
    /// needs a process.
    async fn try_lease(&self, id: Uuid) -> Result<Option<bool>, Error> {
        let now = self.env.now();
        let taken = transact!(Error, self.db, |tx| { store::lease::take(tx, id, &self.holder, now).await? })?;
        if taken {
            return Ok(Some(true));
        }
        let import = store::import::get(&self.db, id).await?;
        Ok(import.is_none_or(|import| import.needs_no_process()).then_some(false))
    }

    /// Renews the lease of an import while the guard lives, because a step may take longer than a lease lasts. Ends the
    /// step if the import has been paused, by a call to another process.
    pub(super) fn keep_lease(&self, id: Uuid, running_import: Arc<RunningImport>) -> DropGuard {
        let ended = CancellationToken::new();
        let (context, until) = (self.clone(), ended.clone());
        self.lifecycle.background(async move {
            while until.run_until_cancelled(tokio::time::sleep(RENEWAL)).await.is_some() {
                let now = context.env.now();
                let renewed = transact!(Error, context.db, |tx| {
                    store::lease::renew(tx, id, &context.holder, now).await?
                });
                match renewed {
                    Ok(true) => {}
                    // If another process has the lease, the next transaction finds out. This process may get it again
                    // later.
                    Ok(false) => {
                        if store::import::get(&context.db, id)
                            .await
                            .is_ok_and(|import| import.is_some_and(|import| import.pause.is_some()))
                        {
                            running_import.interrupt();
                        }
                    }
                    Err(error) => {
                        tracing::warn!(import_id = %id, %error, "the lease of an import was not renewed");
                    }
                }
            }
        });
        ended.drop_guard()
    }

    /// Gives back the lease of an import, so that nobody has to wait for it to expire.
    pub(super) async fn give_lease_back(&self, id: Uuid) {
        let given = transact!(Error, self.db, |tx| {
            store::lease::give_back(tx, id, &self.holder).await?;
        });
        if let Err(error) = given {
            tracing::warn!(import_id = %id, %error, "the lease of an import was not given back; it stays until it expires");
        }
    }

    /// Asserts in a transaction that this process has the lease of an import. Every transaction that moves an import
    /// does so.
    ///
    /// # Errors
    /// [`Error::Superseded`] if another process has the lease or has moved the import.
    pub(super) async fn assert_lease<'a>(
        &self,
        tx: &'a mut Tx,
        import: &Import,
    ) -> Result<LeaseTransaction<'a>, Error> {
        LeaseTransaction::assert(tx, import, &self.holder, self.env.now())
            .await?
            .ok_or(Error::Superseded(import.id))
    }

    /// Whether this process can run an import: if the import still needs its file, that is in this process's spool
    /// directory.
    pub(super) fn can_run(&self, import: &Import) -> bool {
        let has_file = import.spool_id.is_none_or(|spool| spool == self.holder.spool);
        match import.state.worker() {
            Worker::WithoutFile | Worker::UntilReported => true,
            Worker::WithFile | Worker::Nobody => has_file,
        }
    }
}
