//! Which slug belongs to which organization: bulk creation, confirmation, release, lists.

use std::collections::HashMap;

use causeway_relocation::{
    ambient::Ambient,
    db::{Db, DbErrorKind, HasDbError as _},
    transact,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use crate::slug_operation::Incoming;
use crate::{
    Error, Page, PageRequest, regions,
    slug_operation::{MAX_BATCH, Rounds, SlugOperation},
    store::{
        directory,
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

/// The slug that an organization got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedSlug {
    /// The organization.
    pub organization_id: i64,
    /// The slug that it wanted.
    pub wanted_slug: String,
    /// The slug that it got.
    pub slug: String,
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
    db: Db,
    ambient: Ambient,
}

/// What a bulk creation came to.
enum Created {
    /// These slugs, one for each organization.
    Now(Vec<Box<str>>),
    /// What the same operation was answered before.
    Before(Vec<ResolvedSlug>),
}

impl SlugReservations {
    pub(crate) fn new(db: Db, ambient: Ambient) -> Self {
        Self { db, ambient }
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
    /// again has the same answer.
    ///
    /// # Errors
    /// If an organization stands twice in the operation or has a slug by another one, or the operation was used for
    /// something else or released.
    pub async fn bulk_create(&self, incoming: Incoming) -> Result<Vec<ResolvedSlug>, Error> {
        let operation = incoming.complete()?;
        let now = self.ambient.now();
        let mut restarts = 0;
        let created = loop {
            match self.create(&operation, now).await {
                // Another operation took a slug for one of the organizations after the check for that. The next check
                // finds it, and says so properly.
                Err(error) if is_unique(&error) && restarts < MAX_RESTARTS => restarts += 1,
                outcome => break outcome?,
            }
        };
        Ok(match created {
            Created::Now(slugs) => operation.answers(slugs),
            Created::Before(answers) => answers,
        })
    }

    async fn create(&self, operation: &SlugOperation, now: DateTime<Utc>) -> Result<Created, Error> {
        let key = operation.key();
        transact!(Error, self.db, |tx| {
            if store::insert_operation(tx, key, operation.digest(), operation.len(), now).await? {
                refuse_conflict(store::conflict(tx, key, operation.organization_ids()).await?)?;
                let mut rounds = Rounds::new(operation);
                while let Some(candidates) = rounds.next(&self.ambient)? {
                    rounds.won(store::take_free(tx, key, candidates, now).await?);
                }
                // Another operation that was confirmed after the first look breaks no unique set, but is seen now.
                refuse_conflict(store::conflict(tx, key, operation.organization_ids()).await?)?;
                Created::Now(rounds.finish())
            } else {
                let before = locked(store::lock_operation(tx, key).await?, key)?;
                if before.digest != operation.digest() {
                    return Err(Error::OperationContentDiffers { operation_id: key.operation_id });
                }
                if before.state == OperationState::Released {
                    return Err(Error::OperationReleased { operation_id: key.operation_id });
                }
                Created::Before(store::answers(tx, key).await?)
            }
        })
    }

    /// Makes an operation's reservations primary, and says how many it has. Confirming again changes nothing.
    ///
    /// # Errors
    /// If the region has not registered, never began the operation, or released it.
    pub async fn confirm(&self, region: &str, operation_id: Uuid) -> Result<i64, Error> {
        let region = regions::registered(&self.db, "region", region).await?.name;
        let key = OperationKey { region: &region, operation_id };
        let now = self.ambient.now();
        transact!(Error, self.db, |tx| {
            let operation = locked(store::lock_operation(tx, key).await?, key)?;
            match operation.state {
                OperationState::Reserved => {
                    store::make_primary(tx, key, now).await?;
                    store::set_state(tx, key, OperationState::Confirmed, now).await?;
                }
                OperationState::Confirmed => {}
                OperationState::Released => return Err(Error::OperationReleased { operation_id }),
            }
            operation.organization_count
        })
    }

    /// Frees an operation's slugs, confirmed or not, and says how many this call freed. Releasing again changes nothing.
    ///
    /// # Errors
    /// If the region has not registered, or never began the operation.
    pub async fn release(&self, region: &str, operation_id: Uuid) -> Result<u64, Error> {
        let region = regions::registered(&self.db, "region", region).await?.name;
        let key = OperationKey { region: &region, operation_id };
        let now = self.ambient.now();
        transact!(Error, self.db, |tx| {
            match locked(store::lock_operation(tx, key).await?, key)?.state {
                OperationState::Reserved | OperationState::Confirmed => {
                    store::set_state(tx, key, OperationState::Released, now).await?;
                    store::delete(tx, key).await?
                }
                OperationState::Released => 0,
            }
        })
    }

    /// Frees all that is held for organizations that the region has no more, and says how many reservations that were.
    ///
    /// # Errors
    /// If the region has not registered, or too many organizations are named.
    pub async fn release_organizations(
        &self,
        region: &str,
        organization_ids: Vec<i64>,
    ) -> Result<u64, Error> {
        if organization_ids.len() > MAX_BATCH {
            return Err(Error::invalid("organization_ids", "at most 10,000 in one call"));
        }
        let region = regions::registered(&self.db, "region", region).await?.name;
        transact!(Error, self.db, |tx| {
            directory::delete(tx, &region, &organization_ids).await?;
            store::delete_of_organizations(tx, &region, &organization_ids).await?
        })
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
