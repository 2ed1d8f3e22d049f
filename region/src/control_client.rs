//! Calls to control. Every call is idempotent by an id of ours, so each may be repeated until an answer comes.

use std::{collections::HashMap, time::Duration};

use causeway_proto::{
    control::v1::{
        BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest, CheckSlugsRequest,
        ConfirmOrganizationSlugReservationsRequest, FindRowsRequest, ImportModelsRequest,
        ImportModelsResponse, LeaseIdsRequest, ListImportChunksRequest, ListImportChunksResponse, NeededRow,
        OrganizationSlugRequest, OrganizationSlugRequestBatch, RegisterRegionRequest,
        ReleaseOrganizationSlugReservationsRequest, ReleaseOrganizationsRequest, ReportOrganizationsRequest,
        ReportedOrganization, ResolvedSlug, RevertImportChunkRequest, RevertImportRequest, SlugCheck,
        bulk_create_organization_slug_reservations_request::Part,
        control_import_service_client::ControlImportServiceClient,
        directory_service_client::DirectoryServiceClient, region_service_client::RegionServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    failure,
    relocation::v1::ErrorReason,
};
use causeway_relocation::chunk::Reverted;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

use crate::convert;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a call may take that touches a bounded number of rows.
const CALL: Duration = Duration::from_secs(60);
/// How long one operation over all organizations of an import may take.
const BULK: Duration = Duration::from_secs(600);
/// Organizations in a message: with a slug and name of 255 bytes each, well below 4 MiB.
const BATCH: usize = 5_000;
/// Organizations in a report, which the contract bounds.
const REPORT: usize = 1_000;

/// Why a call to control failed.
#[derive(Debug, thiserror::Error)]
#[error("control: {message}")]
pub struct ControlError {
    reason: Option<ErrorReason>,
    code: Code,
    message: String,
}

impl From<Status> for ControlError {
    fn from(status: Status) -> Self {
        Self {
            reason: failure::reason_of(&status),
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

impl ControlError {
    /// The reason that control gave; that it cannot be reached if it gave none.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        self.reason.unwrap_or(ErrorReason::ControlUnavailable)
    }

    /// Whether the call may succeed when it is repeated.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self.reason {
            Some(reason) => matches!(
                reason,
                ErrorReason::DatabaseUnavailable
                    | ErrorReason::DatabaseContention
                    | ErrorReason::ShuttingDown
                    | ErrorReason::UniqueConflict
                    // Control has lost its memory of us, or somebody took our name: an operator can mend either.
                    | ErrorReason::RegionNotRegistered
                    | ErrorReason::RegionNameTaken
            ),
            // No word of control itself: a broken connection, or a proxy in between while control is being replaced.
            None => !matches!(self.code, Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted),
        }
    }
}

/// A connection to control that is made when it is needed, and made again when it is lost.
#[derive(Debug, Clone)]
pub(crate) struct ControlClient {
    channel: Channel,
    region: String,
}

fn timed<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

impl ControlClient {
    pub(crate) fn new(url: &str, region: &str) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .connect_lazy();
        Ok(Self { channel, region: region.to_owned() })
    }

    pub(crate) async fn register(&self, address: &str, instance_id: Uuid) -> Result<(), ControlError> {
        let request = RegisterRegionRequest {
            name: self.region.clone(),
            address: address.to_owned(),
            instance_id: instance_id.to_string(),
        };
        RegionServiceClient::new(self.channel.clone()).register_region(timed(request, CALL)).await?;
        Ok(())
    }

    /// A block of ids, as its first id and length.
    pub(crate) async fn lease_ids(
        &self,
        operation_id: Uuid,
        model: &str,
        count: i32,
        above: i64,
    ) -> Result<(i64, i64), ControlError> {
        let request = LeaseIdsRequest {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
            model: model.to_owned(),
            count,
            above,
        };
        let block = RegionServiceClient::new(self.channel.clone())
            .lease_ids(timed(request, CALL))
            .await?
            .into_inner();
        Ok((block.first_id, i64::from(block.count)))
    }

    pub(crate) async fn import_models(
        &self,
        mut request: ImportModelsRequest,
    ) -> Result<ImportModelsResponse, ControlError> {
        request.region.clone_from(&self.region);
        Ok(ControlImportServiceClient::new(self.channel.clone())
            .import_models(timed(request, CALL))
            .await?
            .into_inner())
    }

    /// Which rows of a model have one of these values.
    pub(crate) async fn find_rows(
        &self,
        model: &str,
        field: &str,
        values: Vec<String>,
    ) -> Result<HashMap<String, i64>, ControlError> {
        let mut found = HashMap::new();
        for values in values.chunks(BATCH) {
            let request =
                FindRowsRequest { model: model.to_owned(), field: field.to_owned(), values: values.to_vec() };
            let rows = ControlImportServiceClient::new(self.channel.clone())
                .find_rows(timed(request, CALL))
                .await?
                .into_inner()
                .rows;
            found.extend(rows.into_iter().map(|row| (row.value, row.id)));
        }
        Ok(found)
    }

    /// What would become of the slugs of at most 1,000 organizations, in their order.
    pub(crate) async fn check_slugs(
        &self,
        organizations: Vec<OrganizationSlugRequest>,
    ) -> Result<Vec<SlugCheck>, ControlError> {
        let request = CheckSlugsRequest { organizations, ..CheckSlugsRequest::default() };
        let answer =
            DirectoryServiceClient::new(self.channel.clone()).check_slugs(timed(request, CALL)).await?;
        Ok(answer.into_inner().checks)
    }

    /// Asks for a slug for each organization, all in one operation.
    pub(crate) async fn bulk_create_organization_slug_reservations(
        &self,
        operation_id: Uuid,
        organizations: Vec<OrganizationSlugRequest>,
    ) -> Result<Vec<ResolvedSlug>, ControlError> {
        let header = Part::Header(BulkCreateHeader {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
        });
        let mut parts = vec![header];
        let mut organizations = organizations.into_iter().peekable();
        while organizations.peek().is_some() {
            let requests = organizations.by_ref().take(BATCH).collect();
            parts.push(Part::Batch(OrganizationSlugRequestBatch { requests }));
        }
        let parts =
            parts.into_iter().map(|part| BulkCreateOrganizationSlugReservationsRequest { part: Some(part) });
        let request = timed(tokio_stream::iter(parts), BULK);
        let mut client = SlugReservationServiceClient::new(self.channel.clone());
        let mut answers = client.bulk_create_organization_slug_reservations(request).await?.into_inner();
        let mut slugs = Vec::new();
        while let Some(answer) = answers.message().await? {
            slugs.extend(answer.slugs);
        }
        Ok(slugs)
    }

    pub(crate) async fn confirm_slugs(&self, operation_id: Uuid) -> Result<(), ControlError> {
        let request = ConfirmOrganizationSlugReservationsRequest {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
        };
        SlugReservationServiceClient::new(self.channel.clone())
            .confirm_organization_slug_reservations(timed(request, BULK))
            .await?;
        Ok(())
    }

    pub(crate) async fn release_slugs(&self, operation_id: Uuid) -> Result<(), ControlError> {
        let request = ReleaseOrganizationSlugReservationsRequest {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
        };
        SlugReservationServiceClient::new(self.channel.clone())
            .release_organization_slug_reservations(timed(request, BULK))
            .await?;
        Ok(())
    }

    /// Frees the slugs of organizations that this region has no more.
    pub(crate) async fn release_organizations(&self, organization_ids: Vec<i64>) -> Result<(), ControlError> {
        let request = ReleaseOrganizationsRequest { region: self.region.clone(), organization_ids };
        let mut client = SlugReservationServiceClient::new(self.channel.clone());
        client.release_organizations(timed(request, CALL)).await?;
        Ok(())
    }

    /// Closes an import at control, and says which rows of it must stay.
    pub(crate) async fn revert_import(
        &self,
        import_id: Uuid,
        needed: Vec<NeededRow>,
    ) -> Result<(), ControlError> {
        let request =
            RevertImportRequest { region: self.region.clone(), import_id: import_id.to_string(), needed };
        ControlImportServiceClient::new(self.channel.clone()).revert_import(timed(request, CALL)).await?;
        Ok(())
    }

    /// A page of the chunks that control has of an import, with their keys.
    pub(crate) async fn list_import_chunks(
        &self,
        import_id: Uuid,
        page_token: String,
    ) -> Result<ListImportChunksResponse, ControlError> {
        let request = ListImportChunksRequest {
            region: self.region.clone(),
            import_id: import_id.to_string(),
            page_size: 0,
            page_token,
            with_keys: true,
        };
        let mut client = ControlImportServiceClient::new(self.channel.clone());
        Ok(client.list_import_chunks(timed(request, CALL)).await?.into_inner())
    }

    /// Has control take back one of its chunks.
    pub(crate) async fn revert_import_chunk(
        &self,
        import_id: Uuid,
        model: &str,
        min_ordinal: i64,
    ) -> Result<Reverted, ControlError> {
        let request = RevertImportChunkRequest {
            region: self.region.clone(),
            import_id: import_id.to_string(),
            model: model.to_owned(),
            min_ordinal,
        };
        let mut client = ControlImportServiceClient::new(self.channel.clone());
        let answer = client.revert_import_chunk(timed(request, CALL)).await?.into_inner();
        Ok(Reverted {
            deleted: answer.deleted,
            kept: answer.kept,
            findings: answer.findings.iter().map(convert::finding_from_proto).collect(),
        })
    }

    pub(crate) async fn report_organizations(
        &self,
        organizations: Vec<ReportedOrganization>,
    ) -> Result<(), ControlError> {
        let mut client = DirectoryServiceClient::new(self.channel.clone());
        for batch in organizations.chunks(REPORT) {
            let request =
                ReportOrganizationsRequest { region: self.region.clone(), organizations: batch.to_vec() };
            client.report_organizations(timed(request, CALL)).await?;
        }
        Ok(())
    }
}
