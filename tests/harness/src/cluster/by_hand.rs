//! What a test does beside the services, or in their place.

use std::time::Duration;

use anyhow::ensure;
use causeway_proto::control::v1::{
    BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest,
    ConfirmOrganizationSlugReservationsRequest, OrganizationSlugRequest, OrganizationSlugRequestBatch,
    bulk_create_organization_slug_reservations_request::Part,
};
use causeway_relocation::{
    db::{DbError, Statement},
    transact,
};
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::{Cluster, ControlApi, Silo};

/// How long a change may be kept from being made, by locks or faults.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

impl Cluster {
    /// Changes something in the database of a silo, beside its service, in one transaction.
    ///
    /// # Errors
    /// If that cannot be done, again and again.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn change(&self, silo: Silo, statements: &[Statement]) -> anyhow::Result<()> {
        let db = self.db(silo).await?;
        let until = Instant::now() + PATIENCE;
        loop {
            let done = transact!(DbError, db, |tx| {
                for statement in statements {
                    tx.execute(statement.clone()).await?;
                }
            });
            match done {
                Ok(()) => break,
                Err(error) => {
                    ensure!(Instant::now() < until, "{silo:?} is not changed after {PATIENCE:?}: {error}")
                }
            }
            sleep(PAUSE).await;
        }
        db.close().await;
        Ok(())
    }
}

impl ControlApi {
    /// Reserves a slug as a region does, and says which one the organization got.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn reserve(
        &self,
        region: &str,
        operation_id: &str,
        organization_id: i64,
        slug: &str,
    ) -> Result<String, Status> {
        let header = BulkCreateHeader { region: region.to_owned(), operation_id: operation_id.to_owned() };
        let request =
            OrganizationSlugRequest { organization_id, slug: slug.to_owned(), ..Default::default() };
        let batch = OrganizationSlugRequestBatch { requests: vec![request] };
        let parts = [Part::Header(header), Part::Batch(batch)]
            .map(|part| BulkCreateOrganizationSlugReservationsRequest { part: Some(part) });
        let mut reservations = self.reservations();
        let answer = reservations.bulk_create_organization_slug_reservations(tokio_stream::iter(parts));
        let (mut answers, mut given) = (answer.await?.into_inner(), None);
        while let Some(answer) = answers.message().await? {
            given = answer.slugs.into_iter().next().map(|slug| slug.slug).or(given);
        }
        given.ok_or_else(|| Status::internal("no slug in the answer"))
    }

    /// Confirms all that an operation has reserved.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn confirm(&self, region: &str, operation_id: &str) -> Result<(), Status> {
        let request = ConfirmOrganizationSlugReservationsRequest {
            region: region.to_owned(),
            operation_id: operation_id.to_owned(),
        };
        self.reservations().confirm_organization_slug_reservations(request).await?;
        Ok(())
    }
}
