//! Which slug belongs to which organization: bulk creation, confirmation, release, lists.

use std::collections::HashMap;

use causeway_proto::relocation::v1::ErrorReason;
use causeway_relocation::{
    ambient::Ambient,
    db::{Db, DbErrorKind, HasDbError as _},
    transact,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use crate::slug_operation::Incoming;
use crate::{
    Error, Page, PageRequest,
    bulk_intake::{self, BulkIntake},
    feed::Feeds,
    region_ids,
    regions::{self, MAX_ID},
    renames::{self, Refusal},
    slug_operation::{Given, MAX_BATCH, Rounds, SlugOperation},
    store::{
        directory,
        feed::{self, Change, Of},
        rename,
        slug_reservation::{self as store, OperationKey, OperationState},
    },
};

/// How often a bulk creation is begun anew because another operation took a slug for one of its organizations meanwhile.
const MAX_RESTARTS: usize = 3;

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
}

impl SlugReservations {
    pub(crate) fn new(db: Db, ambient: Ambient, feeds: Feeds, bulk: bulk_intake::Options) -> Self {
        Self { db, ambient, feeds, intake: BulkIntake::new(bulk) }
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

    /// Picks a slug for each organization and reserves it until the operation is confirmed or released. Either each
    /// one has got a slug then, or none. The answers are in the order of the organizations' ids. The same operation
    /// again has the same answer, whatever has become of its reservations, until it is released.
    ///
    /// # Errors
    /// If an organization stands twice in the operation or has a slug by another one, or the operation was used for
    /// something else or released.
    pub async fn bulk_create(&self, incoming: Incoming) -> Result<Vec<ResolvedSlug>, Error> {
        let operation = incoming.complete()?;
        let now = self.ambient.now();
        let mut restarts = 0;
        let given = loop {
            match self.create(&operation, now).await {
                // Another operation took a slug for one of the organizations after the check for that. The next check
                // finds it, and says so properly.
                Err(error) if is_unique(&error) && restarts < MAX_RESTARTS => restarts += 1,
                outcome => break outcome?,
            }
        };
        self.ambient.failpoint("control.bulk_create.committed").await?;
        Ok(operation.answers(given))
    }

    async fn create(&self, operation: &SlugOperation, now: DateTime<Utc>) -> Result<Vec<Given>, Error> {
        let key = operation.key();
        transact!(Error, self.db, |tx| {
            if store::insert_operation(tx, key, operation.digest(), operation.len(), now).await? {
                region_ids::refuse_of_others(tx, key.region, &operation.organization_ids()).await?;
                refuse_conflict(store::conflict(tx, key, operation.organization_ids()).await?)?;
                let mut rounds = Rounds::new(operation);
                while let Some(candidates) = rounds.next(&self.ambient)? {
                    rounds.won(store::take_free(tx, key, candidates, now).await?);
                }
                // Another operation that was confirmed after the first look breaks no unique set, but is seen now.
                refuse_conflict(store::conflict(tx, key, operation.organization_ids()).await?)?;
                let mut given = rounds.finish();
                let owners = store::owners(tx, operation.taken(&given)).await?;
                operation.note_owners(&mut given, &owners);
                store::keep_answer(tx, key, operation.kept(&given)?).await?;
                self.ambient.failpoint("control.bulk_create.prepared").await?;
                given
            } else {
                let before = locked(store::lock_operation(tx, key).await?, key)?;
                if before.digest != operation.digest() {
                    return Err(Error::OperationContentDiffers { operation_id: key.operation_id });
                }
                if before.state == OperationState::Released {
                    return Err(Error::OperationReleased { operation_id: key.operation_id });
                }
                // One of a release that kept no answers is asked anew, under another id.
                let kept = operation.given(&store::kept_answer(tx, key).await?)?;
                kept.ok_or(Error::OperationReleased { operation_id: key.operation_id })?
            }
        })
    }

    /// Makes an operation's reservations primary, and says how many that were. Confirming again changes nothing, and
    /// says the same.
    ///
    /// # Errors
    /// If the region has not registered, never began the operation, or released it.
    pub async fn confirm(&self, region: &str, operation_id: Uuid) -> Result<i64, Error> {
        let region = regions::registered(&self.db, "region", region).await?.name;
        let key = OperationKey { region: &region, operation_id };
        let now = self.ambient.now();
        let count = transact!(Error, self.db, |tx| {
            let version = feed::lock(tx, &region).await?;
            let operation = locked(store::lock_operation(tx, key).await?, key)?;
            let mut count = operation.confirmed_count;
            match operation.state {
                OperationState::Reserved => {
                    let version = match rename::of_operation(tx, key).await? {
                        Some(rename) => {
                            count = 1;
                            renames::confirm(tx, &rename, version, now).await?
                        }
                        None => {
                            count = store::make_primary(tx, key, now).await?;
                            feed::append(tx, &region, version, Of::Operation(operation_id), Change::Upsert)
                                .await?
                        }
                    };
                    feed::advance(tx, &region, version).await?;
                    store::set_confirmed(tx, key, count, now).await?;
                }
                OperationState::Confirmed => {}
                OperationState::Released => return Err(Error::OperationReleased { operation_id }),
            }
            self.ambient.failpoint("control.confirm.prepared").await?;
            count
        })?;
        self.feeds.nudge();
        self.ambient.failpoint("control.confirm.committed").await?;
        Ok(count)
    }

    /// Frees an operation's slugs, and says how many that were. Releasing again changes nothing, and says the same.
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
        let released = transact!(Error, self.db, |tx| {
            let version = feed::lock(tx, &region).await?;
            let operation = locked(store::lock_operation(tx, key).await?, key)?;
            let released = match (operation.state, rename::of_operation(tx, key).await?) {
                (OperationState::Released, _) => return Ok(operation.released_count),
                (OperationState::Confirmed, Some(_)) => {
                    return Err(Error::OperationConfirmed { operation_id });
                }
                (OperationState::Reserved, Some(rename)) => {
                    let (version, released) = renames::refuse(tx, &rename, &refusal, version, now).await?;
                    feed::advance(tx, &region, version).await?;
                    released
                }
                (OperationState::Reserved | OperationState::Confirmed, None) => {
                    let of = Of::Operation(operation_id);
                    let version = feed::append(tx, &region, version, of, Change::Remove).await?;
                    feed::advance(tx, &region, version).await?;
                    directory::delete_of_operation(tx, key).await?;
                    store::delete(tx, key).await?
                }
            };
            store::set_released(tx, key, released, now).await?;
            self.ambient.failpoint("control.release.prepared").await?;
            released
        })?;
        self.feeds.nudge();
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
        let released = transact!(Error, self.db, |tx| {
            let version = feed::lock(tx, &region).await?;
            rename::refuse_all(tx, &region, &organization_ids, &refusal, now).await?;
            let of = Of::Organizations(&organization_ids);
            let version = feed::append(tx, &region, version, of, Change::Remove).await?;
            feed::advance(tx, &region, version).await?;
            directory::delete(tx, &region, &organization_ids).await?;
            let released = store::delete_of_organizations(tx, &region, &organization_ids).await?;
            self.ambient.failpoint("control.release_organizations.prepared").await?;
            released
        })?;
        self.feeds.nudge();
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

fn is_unique(error: &Error) -> bool {
    error.db_error().is_some_and(|error| error.kind() == DbErrorKind::Unique)
}

fn refuse_conflict(conflict: Option<store::Conflict>) -> Result<(), Error> {
    conflict.map_or(Ok(()), |store::Conflict { organization_id, slug, operation_id }| {
        Err(Error::OrganizationAlreadyReserved { organization_id, slug, operation_id })
    })
}

fn locked(operation: Option<store::Operation>, key: OperationKey<'_>) -> Result<store::Operation, Error> {
    operation.ok_or_else(|| Error::OperationNotFound {
        region: key.region.to_owned(),
        operation_id: key.operation_id,
    })
}
