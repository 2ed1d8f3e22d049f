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

/// How long calls to control may take. One that takes longer has failed, and is made again like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlTimeouts {
    /// To get a connection.
    pub connect: Duration,
    /// For a call that touches a bounded number of rows.
    pub call: Duration,
    /// For one operation over all organizations of an import.
    pub bulk: Duration,
}

impl Default for ControlTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(60),
            bulk: Duration::from_secs(600),
        }
    }
}

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
    timeouts: ControlTimeouts,
}

/// A call with its limit, which control is told too. gRPC's own ends with the headers of the answer; this one is for the
/// whole of it.
async fn within<M, T, F: Future<Output = Result<T, Status>>>(
    limit: Duration,
    message: M,
    call: impl FnOnce(Request<M>) -> F,
) -> Result<T, ControlError> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    match tokio::time::timeout(limit, call(request)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:?}")).into()),
    }
}

impl ControlClient {
    pub(crate) fn new(
        url: &str,
        region: &str,
        timeouts: ControlTimeouts,
    ) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(timeouts.connect)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .connect_lazy();
        Ok(Self { channel, region: region.to_owned(), timeouts })
    }

    pub(crate) async fn register(&self, address: &str, instance_id: Uuid) -> Result<(), ControlError> {
        let request = RegisterRegionRequest {
            name: self.region.clone(),
            address: address.to_owned(),
            instance_id: instance_id.to_string(),
        };
        let mut client = RegionServiceClient::new(self.channel.clone());
        within(self.timeouts.call, request, |request| client.register_region(request)).await?;
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
        let mut client = RegionServiceClient::new(self.channel.clone());
        let answer = within(self.timeouts.call, request, |request| client.lease_ids(request)).await?;
        let block = answer.into_inner();
        Ok((block.first_id, i64::from(block.count)))
    }

    pub(crate) async fn import_models(
        &self,
        mut request: ImportModelsRequest,
    ) -> Result<ImportModelsResponse, ControlError> {
        request.region.clone_from(&self.region);
        let mut client = ControlImportServiceClient::new(self.channel.clone());
        Ok(within(self.timeouts.call, request, |request| client.import_models(request)).await?.into_inner())
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
            let mut client = ControlImportServiceClient::new(self.channel.clone());
            let answer = within(self.timeouts.call, request, |request| client.find_rows(request)).await?;
            let rows = answer.into_inner().rows;
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
        let mut client = DirectoryServiceClient::new(self.channel.clone());
        let answer = within(self.timeouts.call, request, |request| client.check_slugs(request)).await?;
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
        let mut client = SlugReservationServiceClient::new(self.channel.clone());
        within(self.timeouts.bulk, tokio_stream::iter(parts), |request| async move {
            let mut answers = client.bulk_create_organization_slug_reservations(request).await?.into_inner();
            let mut slugs = Vec::new();
            while let Some(answer) = answers.message().await? {
                slugs.extend(answer.slugs);
            }
            Ok(slugs)
        })
        .await
    }

    pub(crate) async fn confirm_slugs(&self, operation_id: Uuid) -> Result<(), ControlError> {
        let request = ConfirmOrganizationSlugReservationsRequest {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
        };
        let mut client = SlugReservationServiceClient::new(self.channel.clone());
        within(self.timeouts.bulk, request, |request| client.confirm_organization_slug_reservations(request))
            .await?;
        Ok(())
    }

    pub(crate) async fn release_slugs(&self, operation_id: Uuid) -> Result<(), ControlError> {
        let request = ReleaseOrganizationSlugReservationsRequest {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
        };
        let mut client = SlugReservationServiceClient::new(self.channel.clone());
        within(self.timeouts.bulk, request, |request| client.release_organization_slug_reservations(request))
            .await?;
        Ok(())
    }

    /// Frees the slugs of organizations that this region has no more.
    pub(crate) async fn release_organizations(&self, organization_ids: Vec<i64>) -> Result<(), ControlError> {
        let request = ReleaseOrganizationsRequest { region: self.region.clone(), organization_ids };
        let mut client = SlugReservationServiceClient::new(self.channel.clone());
        within(self.timeouts.call, request, |request| client.release_organizations(request)).await?;
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
        let mut client = ControlImportServiceClient::new(self.channel.clone());
        within(self.timeouts.call, request, |request| client.revert_import(request)).await?;
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
        let answer = within(self.timeouts.call, request, |request| client.list_import_chunks(request));
        Ok(answer.await?.into_inner())
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
        let answer = within(self.timeouts.call, request, |request| client.revert_import_chunk(request));
        let answer = answer.await?.into_inner();
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
            within(self.timeouts.call, request, |request| client.report_organizations(request)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let limit = Duration::from_millis(1);
        let error = within(limit, (), |_| std::future::pending::<Result<(), Status>>()).await;
        let error = error.expect_err("there is no answer");
        assert_eq!(error.reason(), ErrorReason::ControlUnavailable);
        assert!(error.passes(), "it is asked again");
    }
}
