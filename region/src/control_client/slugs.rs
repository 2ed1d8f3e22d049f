//! Calls about slugs: what would become of them, and operations that reserve, confirm and release them.

use std::sync::Arc;

use causeway_client::CallError;
use causeway_proto::{
    control::v1::{
        BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest, CheckSlugsRequest,
        ConfirmOrganizationSlugReservationsRequest, OrganizationSlugRequest, OrganizationSlugRequestBatch,
        ReleaseOrganizationSlugReservationsRequest, ReleaseOrganizationsRequest, ResolvedSlug, SlugCheck,
        SlugRefusal, bulk_create_organization_slug_reservations_request::Part,
        directory_service_client::DirectoryServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    whole::OrganizationDigest,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::ControlClient;

impl ControlClient {
    /// What would become of the slugs of at most 1,000 organizations, in their order, and whether their ids are this
    /// region's, of those that have one. For an import that plans or, with `None`, for organizations that exist.
    pub(crate) async fn check_slugs(
        &self,
        import_id: Option<Uuid>,
        organizations: Vec<OrganizationSlugRequest>,
    ) -> Result<Vec<SlugCheck>, CallError> {
        let request = CheckSlugsRequest {
            organizations,
            region: self.region.clone(),
            import_id: import_id.map(|id| id.to_string()).unwrap_or_default(),
            ..CheckSlugsRequest::default()
        };
        let answer = self
            .call(
                "causeway.control.v1.DirectoryService/CheckSlugs",
                self.client.timeouts().call,
                request,
                async |channel, request| DirectoryServiceClient::new(channel).check_slugs(request).await,
            )
            .await?;
        Ok(answer.checks)
    }

    /// Asks for a slug for each organization, all in one operation: a message for each batch.
    pub(crate) async fn bulk_create_organization_slug_reservations(
        &self,
        operation_id: Uuid,
        batches: Vec<OrganizationSlugRequestBatch>,
    ) -> Result<Vec<ResolvedSlug>, CallError> {
        let header = Part::Header(BulkCreateHeader {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
        });
        let mut sent = OrganizationDigest::default();
        for batch in &batches {
            sent.add(&batch.requests);
        }
        let parts: Arc<[Part]> = [header]
            .into_iter()
            .chain(batches.into_iter().map(Part::Batch))
            .chain([Part::End(sent.end())])
            .collect();
        let call = async |channel, request: Request<Arc<[Part]>>| {
            // Copied one by one as they are sent: there may be as many as organizations in a large export.
            let request = request.map(|parts| {
                tokio_stream::iter((0..parts.len()).map(move |at| {
                    BulkCreateOrganizationSlugReservationsRequest { part: parts.get(at).cloned() }
                }))
            });
            let mut client = SlugReservationServiceClient::new(channel);
            let mut answers = client.bulk_create_organization_slug_reservations(request).await?.into_inner();
            let mut slugs = Vec::new();
            while let Some(answer) = answers.message().await? {
                slugs.extend(answer.slugs);
                if let Some(summary) = answer.summary
                    && i64::try_from(slugs.len()) == Ok(summary.organization_count)
                {
                    return Ok(Response::new(slugs));
                }
            }
            Err(Status::unavailable("the answer ended before its last message"))
        };
        self.call(
            "causeway.control.v1.SlugReservationService/BulkCreateOrganizationSlugReservations",
            self.client.timeouts().bulk,
            parts,
            call,
        )
        .await
    }

    /// Confirms an operation, and returns how many reservations that made primary.
    pub(crate) async fn confirm_slugs(&self, operation_id: Uuid) -> Result<i64, CallError> {
        let request = ConfirmOrganizationSlugReservationsRequest {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
        };
        let answer = self
            .call(
                "causeway.control.v1.SlugReservationService/ConfirmOrganizationSlugReservations",
                self.client.timeouts().bulk,
                request,
                async |channel, request| {
                    SlugReservationServiceClient::new(channel)
                        .confirm_organization_slug_reservations(request)
                        .await
                },
            )
            .await?;
        Ok(answer.reservation_count)
    }

    pub(crate) async fn release_slugs(&self, operation_id: Uuid) -> Result<(), CallError> {
        self.release(operation_id, None).await
    }

    /// Reports to control that the region refuses a rename, and why.
    pub(crate) async fn refuse_slug(
        &self,
        operation_id: Uuid,
        refusal: SlugRefusal,
    ) -> Result<(), CallError> {
        self.release(operation_id, Some(refusal)).await
    }

    async fn release(&self, operation_id: Uuid, refusal: Option<SlugRefusal>) -> Result<(), CallError> {
        let request = ReleaseOrganizationSlugReservationsRequest {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
            refusal,
            only_unconfirmed: false,
        };
        self.call(
            "causeway.control.v1.SlugReservationService/ReleaseOrganizationSlugReservations",
            self.client.timeouts().bulk,
            request,
            async |channel, request| {
                SlugReservationServiceClient::new(channel)
                    .release_organization_slug_reservations(request)
                    .await
            },
        )
        .await?;
        Ok(())
    }

    /// Frees the slugs of organizations that this region has no more.
    pub(crate) async fn release_organizations(&self, organization_ids: Vec<i64>) -> Result<(), CallError> {
        let request = ReleaseOrganizationsRequest { region: self.region.clone(), organization_ids };
        self.call(
            "causeway.control.v1.SlugReservationService/ReleaseOrganizations",
            self.client.timeouts().call,
            request,
            async |channel, request| {
                SlugReservationServiceClient::new(channel).release_organizations(request).await
            },
        )
        .await?;
        Ok(())
    }
}
