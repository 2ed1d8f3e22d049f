//! Which slug belongs to which organization. The changes of reservations are in other files: `bulk_creation`,
//! `confirmation` and [`renames`](super::renames).

use std::collections::HashMap;

use causeway_audit::Subject;
use causeway_metrics::areas::SlugMetrics;
use causeway_silo::{
    db::{Db, DbError, Readers},
    env::Environment,
};
use uuid::Uuid;

use super::{
    bulk_intake::{self, BulkIntake},
    operation::Incoming,
    waiting::Waiting,
};
use crate::{
    Error, Page, PageRequest,
    feed::Feeds,
    model::{
        operation::{OperationFilter, OperationPosition, OperationSummary},
        rename::Rename,
        reservation::{ListFilter, Reservation, ReservationType, ResolvedSlug, WantedSlug},
    },
    regions,
    store::{
        slug_operation::{self as operations, OperationKey},
        slug_reservation as store,
    },
};

/// The use cases of slug reservations. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SlugReservations {
    pub(crate) db: Db,
    readers: Readers,
    pub(crate) env: Environment,
    pub(crate) feeds: Feeds,
    pub(crate) intake: BulkIntake,
    /// The callers that wait for the end of renames.
    pub(crate) waiting: Waiting<Rename>,
    /// What bulk creations count.
    pub(crate) metrics: SlugMetrics,
}

impl SlugReservations {
    /// Reservations in these feeds. The confirmation of a rename wakes its callers in `waiting`.
    pub(crate) fn new(
        db: Db,
        readers: Readers,
        env: Environment,
        feeds: Feeds,
        bulk: bulk_intake::Options,
        waiting: Waiting<Rename>,
    ) -> Self {
        let intake = BulkIntake::new(bulk);
        Self { db, readers, env, feeds, intake, waiting, metrics: SlugMetrics::default() }
    }

    /// Begins to receive a bulk creation. [`Incoming::add`] adds the organizations, [`SlugReservations::bulk_create`]
    /// reserves their slugs.
    ///
    /// # Errors
    /// If the region has not registered or is suspended.
    pub async fn begin(&self, region: &str, operation_id: Uuid) -> Result<Incoming, Error> {
        causeway_audit::about(Subject::operation(operation_id));
        let region = regions::writing(&self.db, "header.region", region).await?.name;
        Ok(Incoming::new(region, operation_id))
    }

    /// The region that owns an organization; `None` if control has no slug of it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn region_of(&self, organization_id: i64) -> Result<Option<String>, Error> {
        Ok(store::region_of(&self.db, organization_id).await?)
    }

    /// A page of reservations, sorted by slug.
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
        let rows = self.readers.read(|db| async move {
            store::list(&db, filter, request.after.as_deref(), request.rows()).await
        });
        let rows = rows.await?;
        Ok(Page::cut(rows, request, |reservation| reservation.slug.clone()))
    }

    /// Picks a slug for one organization and reserves it, as [`SlugReservations::bulk_create`] does for many.
    ///
    /// # Errors
    /// As `bulk_create`, and if the region has not registered or is suspended.
    pub async fn create(
        &self,
        region: &str,
        operation_id: Uuid,
        wanted: WantedSlug,
    ) -> Result<ResolvedSlug, Error> {
        causeway_audit::about(Subject::operation(operation_id));
        let region = regions::writing(&self.db, "region", region).await?.name;
        let mut incoming = Incoming::new(region, operation_id);
        incoming.add(vec![wanted])?;
        let mut given = self.bulk_create(incoming).await?;
        given.pop().ok_or_else(|| DbError::inconsistent("a slug operation has no answer").into())
    }

    /// Reads the progress of an operation.
    ///
    /// # Errors
    /// If the region has not registered, or never began it.
    pub async fn operation(&self, region: &str, operation_id: Uuid) -> Result<OperationSummary, Error> {
        let region = regions::registered(&self.db, "region", region).await?.name;
        let key = OperationKey { region: &region, operation_id };
        let found = operations::get(&self.db, key).await?;
        found.ok_or(Error::OperationNotFound { region, operation_id })
    }

    /// A page of operations, sorted by region and id.
    ///
    /// # Errors
    /// If the region of the filter has not registered.
    pub async fn operations(
        &self,
        filter: &OperationFilter,
        request: &PageRequest<OperationPosition>,
    ) -> Result<Page<OperationSummary, OperationPosition>, Error> {
        if let Some(region) = &filter.region {
            regions::registered(&self.db, "region", region).await?;
        }
        let rows = operations::list(&self.db, filter, request.after.as_ref(), request.rows()).await?;
        Ok(Page::cut(rows, request, OperationPosition::of))
    }

    /// The slugs of a region's organizations, by id: the primary slug, or the temporary one if there is no primary one.
    /// Organizations without either are left out.
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

pub(crate) fn locked(
    operation: Option<operations::Operation>,
    key: OperationKey<'_>,
) -> Result<operations::Operation, Error> {
    operation.ok_or_else(|| Error::OperationNotFound {
        region: key.region.to_owned(),
        operation_id: key.operation_id,
    })
}
