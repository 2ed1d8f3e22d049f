//! Which slug belongs to which organization: confirmation, release, lists. For bulk creation see [`crate::bulk_creation`].
//!
//! An operation goes through these states. What is under way is done in parts, each in one transaction that has the lock of
//! the region's feed; whatever ends it half way, the same call goes on with it.
//!
//! | state | under way | what is there | what takes it on |
//! | --- | --- | --- | --- |
//! | reserved | reserving | some temporary reservations, of which nobody has heard | the same bulk creation; a release |
//! | reserved | withdrawing | some of those; the operation goes with the last one | the same bulk creation; a release |
//! | reserved | | a temporary reservation for each organization, and the answer | a confirmation; a release |
//! | reserved | confirming | the first ones are primary, and their events are there | the same confirmation; a release |
//! | confirmed | | all are primary | a release |
//! | released | releasing | some reservations, no answer | the same release |
//! | released | | none | nothing |
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | some slugs were reserved | reserving | the region asks again: each organization keeps the slug that it has, the others get theirs |
//! | all were, and some of the answer was kept | reserving | asked again, the rest is kept |
//! | some were freed again, for an organization had a slug by another operation | withdrawing | asked again, the rest is freed, and it is asked for as if for the first time |
//! | some were confirmed | confirming: no organization of them is visible yet | the region confirms again, and the others become primary |
//! | some were freed | releasing | released again; the comparison of a region releases what nobody works on |

use std::collections::HashMap;

use causeway_proto::relocation::v1::ErrorReason;
use causeway_relocation::{ambient::Ambient, db::Db, transact};
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use crate::slug_operation::Incoming;
use crate::{
    Error, Page, PageRequest,
    bulk_intake::{self, BulkIntake},
    feed::Feeds,
    regions::{self, MAX_ID},
    renames::{self, Refusal, Rename},
    slug_operation::MAX_BATCH,
    store::{
        directory,
        feed::{self, Change, Of},
        rename,
        slug_operation::{self as operations, OperationKey, OperationState, UnderWay},
        slug_reservation as store,
    },
    waiting::Waiting,
};

/// Reservations of an organization, other than the one by which it is known, that it may have: one transaction releases so
/// many organizations fewer than it makes changes.
const ALIASES: i64 = 10;

/// What a reservation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationType {
    /// The slug by which the organization is known.
    Primary,
    /// Taken for an organization whose region has not yet confirmed that it uses it.
    TemporaryRenameAlias,
    /// A slug that the organization had before, and that still leads to it.
    VanityAlias,
}

/// A slug that belongs to an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The slug.
    pub slug: String,
    /// The region that owns the organization.
    pub region: String,
    /// The organization.
    pub organization_id: i64,
    /// What it is for.
    pub kind: ReservationType,
    /// The operation that made it.
    pub operation_id: Uuid,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// One organization that needs a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSlug {
    /// Its id.
    pub organization_id: i64,
    /// The slug that it wants, of any form.
    pub slug: String,
    /// What to make a slug from if `slug` is empty.
    pub name: String,
    /// The region has an organization under this slug that control does not know of.
    pub taken_in_region: bool,
}

/// Why an organization has, or would have, the slug that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlugReason {
    /// It is the one that was wanted.
    Free,
    /// The wanted one is not valid, and became this.
    Normalized,
    /// Somebody else has the wanted one, or what that was normalized to.
    Taken,
    /// The wanted one is a reserved word.
    ReservedWord,
    /// The wanted one has no letter, or nothing is left of it.
    Invalid,
}

/// Who has a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The region.
    pub region: String,
    /// The organization.
    pub organization_id: i64,
}

/// The slug that an organization got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedSlug {
    /// The organization.
    pub organization_id: i64,
    /// The slug that it wanted.
    pub wanted_slug: String,
    /// The slug that it got.
    pub slug: String,
    /// Why it is that one.
    pub reason: SlugReason,
    /// What it would have got without a suffix: the wanted slug, or what that was normalized to.
    pub candidate: String,
    /// Who had the candidate, if it was taken by one that control knew: of another operation, or of the same one.
    pub taken_by: Option<Owner>,
}

/// Which reservations a list is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Only those of this region.
    pub region: Option<String>,
    /// Only those of this type.
    pub kind: Option<ReservationType>,
}

/// The use cases of slug reservations. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SlugReservations {
    pub(crate) db: Db,
    pub(crate) ambient: Ambient,
    pub(crate) feeds: Feeds,
    pub(crate) intake: BulkIntake,
    /// Those who wait for the end of renames.
    pub(crate) waiting: Waiting<Rename>,
}

impl SlugReservations {
    pub(crate) fn new(db: Db, ambient: Ambient, feeds: Feeds, bulk: bulk_intake::Options) -> Self {
        Self { db, ambient, feeds, intake: BulkIntake::new(bulk), waiting: Waiting::default() }
    }

    /// Begins to take in a bulk creation. [`Incoming::add`] takes the organizations, [`SlugReservations::bulk_create`]
    /// does the work.
    ///
    /// # Errors
    /// If the region has not registered.
    pub async fn begin(&self, region: &str, operation_id: Uuid) -> Result<Incoming, Error> {
        let region = regions::registered(&self.db, "header.region", region).await?.name;
        Ok(Incoming::new(region, operation_id))
    }

    /// Makes an operation's reservations primary, and says how many that were. Confirming again changes nothing, and
    /// says the same. Those of many organizations become primary in parts, each with the events that tell of it: if that
    /// ends half way, confirming again goes on with the next part.
    ///
    /// # Errors
    /// If the region has not registered, never began the operation or has no answer to it, or released it.
    pub async fn confirm(&self, region: &str, operation_id: Uuid) -> Result<i64, Error> {
        let region = regions::registered(&self.db, "region", region).await?.name;
        let key = OperationKey { region: &region, operation_id };
        let now = self.ambient.now();
        let most = self.feeds.changes_a_transaction();
        let count = loop {
            let confirmed = transact!(Error, self.db, |tx| {
                let version = feed::lock(tx, &region).await?;
                let operation = answered(operations::lock(tx, key).await?, key)?;
                let count = operation.confirmed_count;
                let confirmed = match operation.state {
                    OperationState::Released => return Err(Error::OperationReleased { operation_id }),
                    OperationState::Confirmed => Some(count),
                    OperationState::Reserved => match rename::of_operation(tx, key).await? {
                        Some(rename) => {
                            let version = renames::confirm(tx, &rename, version, now).await?;
                            feed::advance(tx, &region, version).await?;
                            operations::set_confirmed(tx, key, 1, now).await?;
                            Some(1)
                        }
                        None => {
                            let after = operation.done_through;
                            let page = store::page_end(tx, key, after, most).await?;
                            let (last, found) = page.unwrap_or((after, 0));
                            let part = store::make_primary(tx, key, after, last, now).await?;
                            let of = Of::Operation(operation_id, after, last);
                            let version = feed::append(tx, &region, version, of, Change::Upsert).await?;
                            feed::advance(tx, &region, version).await?;
                            if found < most {
                                operations::set_confirmed(tx, key, part, now).await?;
                                Some(count + part)
                            } else {
                                operations::set_confirming(tx, key, last, part, now).await?;
                                None
                            }
                        }
                    },
                };
                self.ambient.failpoint("control.confirm.prepared").await?;
                confirmed
            })?;
            self.feeds.nudge();
            if let Some(count) = confirmed {
                break count;
            }
            self.ambient.failpoint("control.confirm.part_committed").await?;
        };
        self.waiting.wake(operation_id);
        self.ambient.failpoint("control.confirm.committed").await?;
        Ok(count)
    }

    /// Frees an operation's slugs, and says how many that were. Releasing again changes nothing, and says the same. Those of
    /// many organizations are freed in parts: if that ends half way, releasing again goes on.
    ///
    /// # Errors
    /// If the region has not registered, or never began the operation, or it is a rename that is confirmed.
    pub async fn release(&self, region: &str, operation_id: Uuid) -> Result<i64, Error> {
        self.release_or_refuse(region, operation_id, None).await
    }

    /// The same of a region that says why it does not do what a rename asks of it.
    ///
    /// # Errors
    /// As [`SlugReservations::release`].
    pub async fn release_or_refuse(
        &self,
        region: &str,
        operation_id: Uuid,
        refusal: Option<Refusal>,
    ) -> Result<i64, Error> {
        let region = regions::registered(&self.db, "region", region).await?.name;
        let key = OperationKey { region: &region, operation_id };
        let refusal = refusal.unwrap_or_else(|| Refusal::released(operation_id));
        let now = self.ambient.now();
        let most = self.feeds.changes_a_transaction();
        let released = loop {
            let released = transact!(Error, self.db, |tx| {
                let version = feed::lock(tx, &region).await?;
                let operation = locked(operations::lock(tx, key).await?, key)?;
                let count = operation.released_count;
                let released = match (operation.state, rename::of_operation(tx, key).await?) {
                    (OperationState::Released, _) if operation.under_way.is_none() => return Ok(Some(count)),
                    (OperationState::Confirmed, Some(_)) => {
                        return Err(Error::OperationConfirmed { operation_id });
                    }
                    (OperationState::Reserved, Some(rename)) => {
                        let (version, released) =
                            renames::refuse(tx, &rename, &refusal, version, now).await?;
                        feed::advance(tx, &region, version).await?;
                        operations::set_released(tx, key, released, false, now).await?;
                        Some(released)
                    }
                    (_, _) => {
                        // From the first part on nobody confirms it or is answered any more.
                        let page = store::page_end(tx, key, 0, most).await?;
                        let (last, found) = page.unwrap_or((0, 0));
                        let of = Of::Operation(operation_id, 0, last);
                        let version = feed::append(tx, &region, version, of, Change::Remove).await?;
                        feed::advance(tx, &region, version).await?;
                        directory::delete_of_operation(tx, key, last).await?;
                        let part = store::delete(tx, key, last).await?;
                        operations::set_released(tx, key, part, found == most, now).await?;
                        (found < most).then_some(count + part)
                    }
                };
                self.ambient.failpoint("control.release.prepared").await?;
                released
            })?;
            self.feeds.nudge();
            if let Some(count) = released {
                break count;
            }
            self.ambient.failpoint("control.release.part_committed").await?;
        };
        self.waiting.wake(operation_id);
        self.ambient.failpoint("control.release.committed").await?;
        Ok(released)
    }

    /// Frees all that is held for organizations that their region has no more, renames in flight and the directory
    /// included, and says how many reservations that were. Releasing again changes nothing.
    ///
    /// # Errors
    /// If the region has not registered, or there are too many organizations, or one is malformed.
    pub async fn release_organizations(
        &self,
        region: &str,
        mut organization_ids: Vec<i64>,
    ) -> Result<u64, Error> {
        if organization_ids.len() > MAX_BATCH {
            return Err(Error::invalid("organization_ids", "at most 10,000 in one call"));
        }
        if let Some(index) = organization_ids.iter().position(|id| !(1..=MAX_ID).contains(id)) {
            let field = format!("organization_ids[{index}]");
            return Err(Error::invalid(field, "must be above 0 and below 2^53"));
        }
        organization_ids.sort_unstable();
        organization_ids.dedup();
        let region = regions::registered(&self.db, "region", region).await?.name;
        let refusal = Refusal {
            reason: ErrorReason::OrganizationNotFound,
            message: format!("region {region} has released all that was held for the organization"),
        };
        let now = self.ambient.now();
        let mut released = 0;
        let at_once =
            usize::try_from(self.feeds.changes_a_transaction() / ALIASES).unwrap_or(usize::MAX).max(1);
        for organization_ids in organization_ids.chunks(at_once) {
            let (freed, refused) = transact!(Error, self.db, |tx| {
                let version = feed::lock(tx, &region).await?;
                let refused = rename::refuse_all(tx, &region, organization_ids, &refusal, now).await?;
                let of = Of::Organizations(organization_ids);
                let version = feed::append(tx, &region, version, of, Change::Remove).await?;
                feed::advance(tx, &region, version).await?;
                directory::delete(tx, &region, organization_ids).await?;
                let freed = store::delete_of_organizations(tx, &region, organization_ids).await?;
                self.ambient.failpoint("control.release_organizations.prepared").await?;
                (freed, refused)
            })?;
            released += freed;
            self.feeds.nudge();
            for operation_id in refused {
                self.waiting.wake(operation_id);
            }
        }
        self.ambient.failpoint("control.release_organizations.committed").await?;
        Ok(released)
    }

    /// Reservations by slug.
    ///
    /// # Errors
    /// If the region of the filter has not registered.
    pub async fn list(
        &self,
        filter: &ListFilter,
        request: &PageRequest<String>,
    ) -> Result<Page<Reservation, String>, Error> {
        if let Some(region) = &filter.region {
            regions::registered(&self.db, "region", region).await?;
        }
        let rows = store::list(&self.db, filter, request.after.as_deref(), request.rows()).await?;
        Ok(Page::cut(rows, request, |reservation| reservation.slug.clone()))
    }

    /// The slugs of a region's organizations, confirmed or not yet. One that has none is not in the answer.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn slugs_of(
        &self,
        region: &str,
        organization_ids: Vec<i64>,
    ) -> Result<HashMap<i64, String>, Error> {
        let mut slugs = HashMap::new();
        for (organization_id, kind, slug) in store::slugs_of(&self.db, region, organization_ids).await? {
            match kind {
                ReservationType::Primary => {
                    slugs.insert(organization_id, slug);
                }
                ReservationType::TemporaryRenameAlias => {
                    slugs.entry(organization_id).or_insert(slug);
                }
                ReservationType::VanityAlias => {}
            }
        }
        Ok(slugs)
    }
}

pub(crate) fn refuse_conflict(conflict: Option<store::Conflict>) -> Result<(), Error> {
    conflict.map_or(Ok(()), |store::Conflict { organization_id, slug, operation_id }| {
        Err(Error::OrganizationAlreadyReserved { organization_id, slug, operation_id })
    })
}

/// An operation that has an answer: not one whose slugs are still being reserved, or were and are freed again.
fn answered(
    operation: Option<operations::Operation>,
    key: OperationKey<'_>,
) -> Result<operations::Operation, Error> {
    let has_answer = |it: &operations::Operation| {
        !matches!(it.under_way, Some(UnderWay::Reserving | UnderWay::Withdrawing))
    };
    locked(operation.filter(has_answer), key)
}

pub(crate) fn locked(
    operation: Option<operations::Operation>,
    key: OperationKey<'_>,
) -> Result<operations::Operation, Error> {
    operation.ok_or_else(|| Error::OperationNotFound {
        region: key.region.to_owned(),
        operation_id: key.operation_id,
    })
}
