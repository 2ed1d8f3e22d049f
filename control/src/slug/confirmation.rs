//! Ends operations: confirms their reservations, or releases them.

use causeway_audit::Subject;
use causeway_proto::limits::MAX_BATCH;
use causeway_proto::relocation::v1::ErrorReason;
use causeway_silo::transact;
use uuid::Uuid;

use super::{
    renames,
    reservations::{SlugReservations, locked},
};
use crate::{
    Error,
    model::{region::MAX_ID, rename::Refusal, reservation::Selection},
    regions,
    store::{
        directory, rename,
        slug_operation::{self as operations, InProgress, OperationKey, OperationState},
        slug_reservation as store,
    },
};

/// The assumed number of aliases of an organization: a transaction that may make `n` changes releases `n / ASSUMED_ALIASES`
/// organizations.
const ASSUMED_ALIASES: i64 = 10;

/// How many rows of what the product's workers have made one transaction deletes.
const WORKER_ROWS: i64 = 5_000;

impl SlugReservations {
    /// Makes an operation's reservations primary and returns how many. Confirming again changes nothing and returns the
    /// same. A large operation is confirmed in parts, each in one transaction with its events. If that ends half way,
    /// confirming again continues with the next part.
    ///
    /// # Errors
    /// If the region has not registered or is suspended, never began the operation or has no answer to it, or released
    /// it.
    pub async fn confirm(&self, region: &str, operation_id: Uuid) -> Result<i64, Error> {
        let subject = causeway_audit::about(Subject::operation(operation_id));
        let region = regions::writing(&self.db, "region", region).await?.name;
        let key = OperationKey { region: &region, operation_id };
        let now = self.env.now();
        let most = self.feeds.changes_a_transaction();
        let count = loop {
            let confirmed = transact!(Error, self.feeds.of(&region), |feed| {
                let operation = answered(operations::lock(feed, operation_id).await?, key)?;
                let count = operation.confirmed_count;
                // Later parts only continue what this one has begun.
                if operation.state == OperationState::Reserved && operation.in_progress.is_none() {
                    causeway_audit::append(feed, &subject, now).await?;
                }
                let confirmed = match operation.state {
                    OperationState::Released => return Err(Error::OperationReleased { operation_id }),
                    OperationState::Confirmed => Some(count),
                    OperationState::Reserved => match rename::of_operation(feed, operation_id).await? {
                        Some(rename) => {
                            renames::confirm(feed, &rename, now).await?;
                            operations::set_confirmed(feed, operation_id, 1, now).await?;
                            Some(1)
                        }
                        None => {
                            let after = operation.done_through;
                            let page = store::page_end(feed, operation_id, after, most).await?;
                            let (last, found) = page.unwrap_or((after, 0));
                            let part = store::make_primary(feed, operation_id, after, last, now).await?;
                            let of = Selection::Operation(operation_id, after, last);
                            feed.append_upserts(of).await?;
                            if found < most {
                                operations::set_confirmed(feed, operation_id, part, now).await?;
                                Some(count + part)
                            } else {
                                operations::set_confirming(feed, operation_id, last, part, now).await?;
                                None
                            }
                        }
                    },
                };
                self.env.failpoint("control.confirm.prepared").await?;
                confirmed
            })?;
            if let Some(count) = confirmed {
                break count;
            }
            self.env.failpoint("control.confirm.part_committed").await?;
        };
        self.waiting.wake(operation_id);
        self.env.failpoint("control.confirm.committed").await?;
        Ok(count)
    }

    /// Frees an operation's slugs and returns how many. Releasing again changes nothing and returns the same. A large
    /// operation is released in parts. If that ends half way, releasing again continues.
    ///
    /// # Errors
    /// If the region has not registered or is suspended, or never began the operation, or it is a rename that is
    /// confirmed.
    pub async fn release(&self, region: &str, operation_id: Uuid) -> Result<i64, Error> {
        self.release_or_refuse(region, operation_id, None).await
    }

    /// The same, for a region that may give the reason why it refuses a rename.
    ///
    /// # Errors
    /// As [`SlugReservations::release`].
    pub async fn release_or_refuse(
        &self,
        region: &str,
        operation_id: Uuid,
        refusal: Option<Refusal>,
    ) -> Result<i64, Error> {
        self.release_if(region, operation_id, refusal, |_| true).await
    }

    /// Frees the slugs of an operation that is stuck: none of them is that of an organization yet. Releasing again
    /// changes nothing and returns the same.
    ///
    /// # Errors
    /// As [`SlugReservations::release`], and if some of it is confirmed.
    pub async fn release_stuck(&self, region: &str, operation_id: Uuid) -> Result<i64, Error> {
        let is_unconfirmed = |operation: &operations::Operation| {
            operation.state != OperationState::Confirmed
                && operation.in_progress != Some(InProgress::Confirming)
        };
        self.release_if(region, operation_id, None, is_unconfirmed).await
    }

    async fn release_if(
        &self,
        region: &str,
        operation_id: Uuid,
        refusal: Option<Refusal>,
        may: impl Fn(&operations::Operation) -> bool,
    ) -> Result<i64, Error> {
        let subject = causeway_audit::about(Subject::operation(operation_id));
        let region = regions::writing(&self.db, "region", region).await?.name;
        let key = OperationKey { region: &region, operation_id };
        let refusal = refusal.unwrap_or_else(|| Refusal::released(operation_id));
        let now = self.env.now();
        let most = self.feeds.changes_a_transaction();
        let released = loop {
            let released = transact!(Error, self.feeds.of(&region), |feed| {
                let operation = locked(operations::lock(feed, operation_id).await?, key)?;
                if !may(&operation) {
                    return Err(Error::OperationConfirmed { operation_id });
                }
                let count = operation.released_count;
                let released = match (operation.state, rename::of_operation(feed, operation_id).await?) {
                    (OperationState::Released, _) if operation.in_progress.is_none() => {
                        return Ok(Some(count));
                    }
                    (OperationState::Confirmed, Some(_)) => {
                        return Err(Error::OperationConfirmed { operation_id });
                    }
                    (OperationState::Reserved, Some(rename)) => {
                        let released = renames::refuse(feed, &rename, &refusal, now).await?;
                        operations::set_released(feed, operation_id, released, false, now).await?;
                        Some(released)
                    }
                    (_, _) => {
                        // From the first part on, nobody can confirm the operation or get its answer.
                        let page = store::page_end(feed, operation_id, 0, most).await?;
                        let (last, found) = page.unwrap_or((0, 0));
                        let of = Selection::Operation(operation_id, 0, last);
                        feed.append_removals(of).await?;
                        directory::delete_of_operation(feed, operation_id, last).await?;
                        let part = store::delete(feed, operation_id, last).await?;
                        let no_answer = operations::forget_answer(feed, operation_id).await?;
                        let is_last = found < most && no_answer;
                        operations::set_released(feed, operation_id, part, !is_last, now).await?;
                        is_last.then_some(count + part)
                    }
                };
                // Later parts only continue what the first one has decided.
                if operation.state != OperationState::Released {
                    causeway_audit::append(feed, &subject, now).await?;
                }
                self.env.failpoint("control.release.prepared").await?;
                released
            })?;
            if let Some(count) = released {
                break count;
            }
            self.env.failpoint("control.release.part_committed").await?;
        };
        self.waiting.wake(operation_id);
        self.env.failpoint("control.release.committed").await?;
        Ok(released)
    }

    /// Frees all that control stores for organizations that their region no longer has: reservations, renames in flight
    /// and directory entries. Returns how many reservations it freed. Releasing again changes nothing.
    ///
    /// # Errors
    /// If the region has not registered or is suspended, or there are too many organizations, or one is malformed.
    pub async fn release_organizations(
        &self,
        region: &str,
        mut organization_ids: Vec<i64>,
    ) -> Result<u64, Error> {
        let subject = causeway_audit::about(Subject::region(region));
        if organization_ids.len() > MAX_BATCH {
            return Err(Error::invalid("organization_ids", format!("at most {MAX_BATCH} in one call")));
        }
        if let Some(index) = organization_ids.iter().position(|id| !(1..=MAX_ID).contains(id)) {
            let field = format!("organization_ids[{index}]");
            return Err(Error::invalid(field, "must be above 0 and below 2^53"));
        }
        organization_ids.sort_unstable();
        organization_ids.dedup();
        let region = regions::writing(&self.db, "region", region).await?.name;
        let refusal = Refusal {
            reason: ErrorReason::OrganizationNotFound,
            message: format!("region {region} has released all that was held for the organization"),
        };
        let now = self.env.now();
        let mut released = 0;
        let at_once = usize::try_from(self.feeds.changes_a_transaction() / ASSUMED_ALIASES)
            .unwrap_or(usize::MAX)
            .max(1);
        for organization_ids in organization_ids.chunks(at_once) {
            self.delete_worker_rows(&region, organization_ids).await?;
            let (freed, refused) = transact!(Error, self.feeds.of(&region), |feed| {
                let refused = rename::refuse_all(feed, organization_ids, &refusal, now).await?;
                let of = Selection::Organizations(organization_ids);
                feed.append_removals(of).await?;
                let listed = directory::delete(feed, organization_ids).await?;
                let freed = store::delete_of_organizations(feed, organization_ids).await?;
                if freed + listed > 0 || !refused.is_empty() {
                    causeway_audit::append(feed, &subject, now).await?;
                }
                self.env.failpoint("control.release_organizations.prepared").await?;
                (freed, refused)
            })?;
            released += freed;
            for operation_id in refused {
                self.waiting.wake(operation_id);
            }
        }
        self.env.failpoint("control.release_organizations.committed").await?;
        Ok(released)
    }

    /// Deletes in parts what the product's workers have made of organizations that are to be released. If that ends half
    /// way, the release is asked again.
    async fn delete_worker_rows(&self, region: &str, organization_ids: &[i64]) -> Result<(), Error> {
        while self.feeds.product_db().is_some() {
            let deleted = transact!(Error, self.feeds.of(region), |feed| {
                store::delete_worker_rows(feed, organization_ids, WORKER_ROWS).await?
            })?;
            if deleted < WORKER_ROWS.unsigned_abs() {
                break;
            }
            self.env.failpoint("control.release_organizations.part_forgotten").await?;
        }
        Ok(())
    }
}

/// Refuses an operation without an answer as not found: one whose slugs are still being reserved, or are being freed
/// again.
fn answered(
    operation: Option<operations::Operation>,
    key: OperationKey<'_>,
) -> Result<operations::Operation, Error> {
    let has_answer = |it: &operations::Operation| {
        !matches!(it.in_progress, Some(InProgress::Reserving | InProgress::Withdrawing))
    };
    locked(operation.filter(has_answer), key)
}
