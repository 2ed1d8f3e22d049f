//! Sets what holds the imports of the region back.

use causeway_audit::Subject;
use causeway_silo::transact;

use super::{Imports, Requester};
use crate::{
    error::Error,
    store,
    throttle::{Change, ThrottleStatus},
};

impl Imports {
    /// Sets limits, for all processes of the region and until they are set again. They hold here at once, and at other
    /// processes when these look next.
    ///
    /// # Errors
    /// If the database cannot be written to.
    pub(crate) async fn set_throttle(
        &self,
        change: Change,
        requester: &Requester,
    ) -> Result<ThrottleStatus, Error> {
        let subject = causeway_audit::about(Subject::region(&self.context.region));
        let _alone = self.context.throttle.choosing().await;
        let chosen = transact!(Error, self.context.db, |tx| {
            let now = self.context.env.now();
            let chosen = store::throttle::set(tx, change, requester.uri.as_deref(), now).await?;
            causeway_audit::append(tx, &subject, now).await?;
            self.context.env.failpoint("region.throttle.prepared").await?;
            chosen
        })?;
        self.context.env.failpoint("region.throttle.committed").await?;
        self.context.throttle.choose(chosen);
        let status = self.throttle();
        tracing::info!(limits = ?status.limits, "the limits on writing were set");
        Ok(status)
    }

    /// What holds the imports of this process back.
    pub(crate) fn throttle(&self) -> ThrottleStatus {
        self.context.throttle.status()
    }
}
