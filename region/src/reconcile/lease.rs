//! One comparison at a time for each region: a mutex in this process, and a lease in the database among processes.
//!
//! Two repairs at the same time do no harm. But two comparisons that repair would each find what the other has begun.

use causeway_silo::{db::DbError, transact};
use tokio::{
    sync::MutexGuard,
    time::{Instant, timeout},
};

use super::Reconciler;
use crate::{error::Error, store::reconciliation};

impl Reconciler {
    /// Waits until no other comparison runs.
    pub(super) async fn take_turn(&self) -> Result<MutexGuard<'_, ()>, Error> {
        let patience = self.context().comparison_wait;
        let until = Instant::now() + patience;
        let here = || Error::ReconciliationUnderWay(self.context().holder.place.clone());
        let turn = tokio::select! {
            turn = timeout(patience, self.0.turn.lock()) => turn.map_err(|_| here())?,
            () = self.context().lifecycle.stopping() => return Err(Error::Stopping),
        };
        let mut attempts = 0;
        loop {
            match self.lease().await? {
                None => return Ok(turn),
                Some(place) if Instant::now() >= until => return Err(Error::ReconciliationUnderWay(place)),
                Some(_) => {}
            }
            attempts += 1;
            self.context().pause(attempts).await?;
        }
    }

    /// Renews the lease. A page that took longer than the lease lasts may have lost it; then this comparison ends.
    pub(super) async fn renew(&self) -> Result<(), Error> {
        match self.lease().await? {
            None => Ok(()),
            Some(place) => Err(Error::ReconciliationUnderWay(place)),
        }
    }

    async fn lease(&self) -> Result<Option<String>, Error> {
        let context = self.context();
        let now = context.env.now();
        transact!(Error, context.db, |tx| { reconciliation::lease(tx, &context.holder, now).await? })
    }

    /// Lets the next comparison begin.
    pub(super) async fn give_turn_back(&self, turn: MutexGuard<'_, ()>) {
        let context = self.context();
        let given = transact!(DbError, context.db, |tx| {
            reconciliation::give_back(tx, &context.holder).await?;
        });
        if let Err(error) = given {
            tracing::warn!(%error, "the lease of a comparison with control was not given back; it stays until it expires");
        }
        drop(turn);
    }
}
