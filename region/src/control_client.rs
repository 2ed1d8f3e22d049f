//! Calls to control. Every call is idempotent by an id of ours, so each may be repeated until an answer comes.

use std::{collections::HashMap, error::Error as _, sync::Arc, time::Duration};

use causeway_proto::{
    control::v1::{
        BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest, CheckSlugsRequest,
        ConfirmOrganizationSlugReservationsRequest, FindRowsRequest, HeldIds, IdConflict,
        ImportModelsRequest, ImportModelsResponse, LeaseIdsRequest, ListHeldOrganizationsRequest,
        ListHeldOrganizationsResponse, ListImportChunksRequest, ListImportChunksResponse, NeededRow,
        OrganizationSlugRequest, OrganizationSlugRequestBatch, RefusedOrganization, RegisterRegionRequest,
        ReleaseOrganizationSlugReservationsRequest, ReleaseOrganizationsRequest, ReportOrganizationsRequest,
        ReportedOrganization, ResolvedSlug, RevertImportChunkRequest, RevertImportRequest, SlugCheck,
        SlugRefusal, WatchSlugReservationsRequest, WatchSlugReservationsResponse,
        bulk_create_organization_slug_reservations_request::Part,
        control_import_service_client::ControlImportServiceClient,
        directory_service_client::DirectoryServiceClient, region_service_client::RegionServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    endpoints::Endpoints,
    failure,
    limits::{MAX_FIND_BYTES, MAX_FIND_VALUES, MAX_NAMED},
    relocation::v1::{ErrorReason, GetVersionRequest, version_service_client::VersionServiceClient},
    version::CONTRACT_REVISION,
    whole::SentOrganizations,
};
use causeway_relocation::chunk::Reverted;
use tonic::{Code, Request, Response, Status, Streaming, transport::Channel};
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

/// Why a call to control failed.
#[derive(Debug, thiserror::Error)]
#[error("control: {message}")]
pub struct ControlError {
    reason: Option<ErrorReason>,
    code: Code,
    message: String,
}

/// What is at the bottom of an error.
fn root(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

impl From<Status> for ControlError {
    fn from(status: Status) -> Self {
        Self {
            reason: failure::reason_of(&status),
            code: status.code(),
            // A connection that cannot be made has its cause below: refused, no such host, no way there.
            message: match status.source() {
                Some(source) => format!("it cannot be reached: {}", root(source)),
                None => status.message().to_owned(),
            },
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
    pub fn is_transient(&self) -> bool {
        match self.reason {
            // Control has lost its memory of us, somebody took our name, or control is of another release: an operator can
            // mend each of them.
            Some(
                ErrorReason::RegionNotRegistered
                | ErrorReason::RegionNameTaken
                | ErrorReason::ContractNotSupported,
            ) => true,
            Some(reason) => failure::retry_after(reason).is_some(),
            // No word of control itself: a broken connection, or a proxy in between while control is being replaced.
            None => !matches!(self.code, Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted),
        }
    }
}

/// Connections to the controls that are made when they are needed, and made again when they are lost. A call that one
/// cannot take goes to the next.
#[derive(Debug, Clone)]
pub(crate) struct ControlClient {
    endpoints: Endpoints,
    /// Where control is, as it was told.
    urls: Arc<[String]>,
    region: String,
    timeouts: ControlTimeouts,
}

/// A call with its limit, which control is told too. gRPC's own ends with the headers of the answer; this one is for the
/// whole of it.
async fn within<M, T, F: Future<Output = Result<T, Status>>>(
    limit: Duration,
    message: M,
    call: impl FnOnce(Request<M>) -> F,
) -> Result<T, Status> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    match tokio::time::timeout(limit, call(request)).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))),
    }
}

/// Values in as many calls of `FindRows` as its limits ask for.
fn batches_of_values(values: Vec<String>) -> Vec<Vec<String>> {
    let mut batches: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for value in values {
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_FIND_VALUES && bytes + value.len() <= MAX_FIND_BYTES => {
                bytes += value.len();
                batch.push(value);
            }
            _ => {
                bytes = value.len();
                batches.push(vec![value]);
            }
        }
    }
    batches
}

impl ControlClient {
    /// A client of the controls at these URLs.
    ///
    /// # Errors
    /// If one is no URL, with its text.
    pub(crate) fn new(urls: &[String], region: &str, timeouts: ControlTimeouts) -> Result<Self, String> {
        let endpoints = Endpoints::new(urls, |endpoint| {
            endpoint
                .connect_timeout(timeouts.connect)
                .http2_keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(10))
        })?;
        Ok(Self { endpoints, urls: urls.into(), region: region.to_owned(), timeouts })
    }

    /// Where control is, for people who have to go there.
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// One call with one answer.
    async fn ask<R: Clone, T, F>(
        &self,
        request: R,
        limit: Duration,
        call: impl Fn(Channel, Request<R>) -> F,
    ) -> Result<T, ControlError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let answer = self
            .endpoints
            .call(|channel| within(limit, request.clone(), |request| call(channel, request)))
            .await?;
        Ok(answer.into_inner())
    }

    /// Registers this region with the ids that its tables hold, and says which of them are not its own.
    pub(crate) async fn register(
        &self,
        address: &str,
        instance_id: Uuid,
        held_ids: Vec<HeldIds>,
    ) -> Result<Vec<IdConflict>, ControlError> {
        let request = RegisterRegionRequest {
            name: self.region.clone(),
            address: address.to_owned(),
            instance_id: instance_id.to_string(),
            held_ids,
        };
        // One that serves another contract would take the rest for something else.
        let ours = GetVersionRequest { contract_revision: CONTRACT_REVISION, ..GetVersionRequest::default() };
        self.ask(ours, self.timeouts.call, async |channel, request| {
            VersionServiceClient::new(channel).get_version(request).await
        })
        .await?;
        let answer = self
            .ask(request, self.timeouts.call, async |channel, request| {
                RegionServiceClient::new(channel).register_region(request).await
            })
            .await?;
        Ok(answer.conflicts)
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
        let block = self
            .ask(request, self.timeouts.call, async |channel, request| {
                RegionServiceClient::new(channel).lease_ids(request).await
            })
            .await?;
        Ok((block.first_id, i64::from(block.count)))
    }

    pub(crate) async fn import_models(
        &self,
        mut request: ImportModelsRequest,
    ) -> Result<ImportModelsResponse, ControlError> {
        request.region.clone_from(&self.region);
        self.ask(request, self.timeouts.call, async |channel, request| {
            ControlImportServiceClient::new(channel).import_models(request).await
        })
        .await
    }

    /// Which rows of a model have one of these values.
    pub(crate) async fn find_rows(
        &self,
        model: &str,
        field: &str,
        values: Vec<String>,
    ) -> Result<HashMap<String, i64>, ControlError> {
        let mut found = HashMap::new();
        for values in batches_of_values(values) {
            let request = FindRowsRequest { model: model.to_owned(), field: field.to_owned(), values };
            let rows = self
                .ask(request, self.timeouts.call, async |channel, request| {
                    ControlImportServiceClient::new(channel).find_rows(request).await
                })
                .await?
                .rows;
            found.extend(rows.into_iter().map(|row| (row.value, row.id)));
        }
        Ok(found)
    }

    /// What would become of the slugs of at most 1,000 organizations, in their order, and whether their ids are this
    /// region's, of those that have one.
    pub(crate) async fn check_slugs(
        &self,
        organizations: Vec<OrganizationSlugRequest>,
    ) -> Result<Vec<SlugCheck>, ControlError> {
        let request =
            CheckSlugsRequest { organizations, region: self.region.clone(), ..CheckSlugsRequest::default() };
        let answer = self
            .ask(request, self.timeouts.call, async |channel, request| {
                DirectoryServiceClient::new(channel).check_slugs(request).await
            })
            .await?;
        Ok(answer.checks)
    }

    /// Asks for a slug for each organization, all in one operation: a message for each batch.
    pub(crate) async fn bulk_create_organization_slug_reservations(
        &self,
        operation_id: Uuid,
        batches: Vec<OrganizationSlugRequestBatch>,
    ) -> Result<Vec<ResolvedSlug>, ControlError> {
        let header = Part::Header(BulkCreateHeader {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
        });
        let mut sent = SentOrganizations::default();
        for batch in &batches {
            sent.add(&batch.requests);
        }
        let parts: Arc<[Part]> = [header]
            .into_iter()
            .chain(batches.into_iter().map(Part::Batch))
            .chain([Part::End(sent.end())])
            .collect();
        let call = async |channel| {
            // Copied one by one as they are sent: there may be as many as organizations in a large export.
            let parts = Arc::clone(&parts);
            let parts = (0..parts.len()).map(move |at| BulkCreateOrganizationSlugReservationsRequest {
                part: parts.get(at).cloned(),
            });
            within(self.timeouts.bulk, tokio_stream::iter(parts), async |request| {
                let mut client = SlugReservationServiceClient::new(channel);
                let mut answers =
                    client.bulk_create_organization_slug_reservations(request).await?.into_inner();
                let mut slugs = Vec::new();
                while let Some(answer) = answers.message().await? {
                    slugs.extend(answer.slugs);
                    if let Some(summary) = answer.summary
                        && i64::try_from(slugs.len()) == Ok(summary.organization_count)
                    {
                        return Ok(slugs);
                    }
                }
                Err(Status::unavailable("the answer ended before its last message"))
            })
            .await
        };
        Ok(self.endpoints.call(call).await?)
    }

    /// Confirms an operation, and says how many reservations that made primary.
    pub(crate) async fn confirm_slugs(&self, operation_id: Uuid) -> Result<i64, ControlError> {
        let request = ConfirmOrganizationSlugReservationsRequest {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
        };
        let answer = self
            .ask(request, self.timeouts.bulk, async |channel, request| {
                SlugReservationServiceClient::new(channel)
                    .confirm_organization_slug_reservations(request)
                    .await
            })
            .await?;
        Ok(answer.reservation_count)
    }

    pub(crate) async fn release_slugs(&self, operation_id: Uuid) -> Result<(), ControlError> {
        self.release(operation_id, None).await
    }

    /// Says that the region does not do what a rename asks of it.
    pub(crate) async fn refuse_slug(
        &self,
        operation_id: Uuid,
        refusal: SlugRefusal,
    ) -> Result<(), ControlError> {
        self.release(operation_id, Some(refusal)).await
    }

    async fn release(&self, operation_id: Uuid, refusal: Option<SlugRefusal>) -> Result<(), ControlError> {
        let request = ReleaseOrganizationSlugReservationsRequest {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
            refusal,
        };
        self.ask(request, self.timeouts.bulk, async |channel, request| {
            SlugReservationServiceClient::new(channel).release_organization_slug_reservations(request).await
        })
        .await?;
        Ok(())
    }

    /// Frees the slugs of organizations that this region has no more.
    pub(crate) async fn release_organizations(&self, organization_ids: Vec<i64>) -> Result<(), ControlError> {
        let request = ReleaseOrganizationsRequest { region: self.region.clone(), organization_ids };
        self.ask(request, self.timeouts.call, async |channel, request| {
            SlugReservationServiceClient::new(channel).release_organizations(request).await
        })
        .await?;
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
        self.ask(request, self.timeouts.call, async |channel, request| {
            ControlImportServiceClient::new(channel).revert_import(request).await
        })
        .await?;
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
        self.ask(request, self.timeouts.call, async |channel, request| {
            ControlImportServiceClient::new(channel).list_import_chunks(request).await
        })
        .await
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
        let answer = self
            .ask(request, self.timeouts.call, async |channel, request| {
                ControlImportServiceClient::new(channel).revert_import_chunk(request).await
            })
            .await?;
        Ok(Reverted {
            deleted: answer.deleted,
            kept: answer.kept,
            findings: answer.findings.iter().map(convert::finding_from_proto).collect(),
        })
    }

    /// What control holds for organizations of this region: a page of all, or for those of `ids`.
    pub(crate) async fn list_held_organizations(
        &self,
        page_token: String,
        organization_ids: Vec<i64>,
    ) -> Result<ListHeldOrganizationsResponse, ControlError> {
        let request = ListHeldOrganizationsRequest {
            region: self.region.clone(),
            page_size: i32::from(u16::MAX),
            page_token,
            organization_ids,
        };
        self.ask(request, self.timeouts.call, async |channel, request| {
            DirectoryServiceClient::new(channel).list_held_organizations(request).await
        })
        .await
    }

    /// Begins to read the feed of this region. Answers which control is asked, too.
    pub(crate) fn watch_slug_reservations(
        &self,
        after_version: i64,
        instance_id: Uuid,
    ) -> (usize, impl Future<Output = Result<Streaming<WatchSlugReservationsResponse>, ControlError>> + use<>)
    {
        let (number, channel) = self.endpoints.current();
        let request = WatchSlugReservationsRequest {
            region: self.region.clone(),
            after_version,
            instance_id: instance_id.to_string(),
        };
        let opening = async move {
            // No deadline: it never ends by itself.
            let mut client = SlugReservationServiceClient::new(channel);
            Ok(client.watch_slug_reservations(request).await?.into_inner())
        };
        (number, opening)
    }

    /// Asks another control first from now on.
    pub(crate) fn leave(&self, number: usize) {
        self.endpoints.leave(number);
    }

    /// Tells control's directory what organizations are like, and says which ones it does not take.
    pub(crate) async fn report_organizations(
        &self,
        organizations: Vec<ReportedOrganization>,
    ) -> Result<Vec<RefusedOrganization>, ControlError> {
        let mut refused = Vec::new();
        for batch in organizations.chunks(MAX_NAMED) {
            let request =
                ReportOrganizationsRequest { region: self.region.clone(), organizations: batch.to_vec() };
            let answer = self
                .ask(request, self.timeouts.call, async |channel, request| {
                    DirectoryServiceClient::new(channel).report_organizations(request).await
                })
                .await?;
            refused.extend(answer.refused);
        }
        Ok(refused)
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::relocation::v1::{
        GetVersionResponse,
        version_service_server::{VersionService, VersionServiceServer},
    };

    use super::*;

    #[test]
    fn values_are_asked_for_in_calls_that_control_takes() {
        let short: Vec<String> = (0..MAX_FIND_VALUES + 1).map(|number| number.to_string()).collect();
        let sizes =
            |values: &[String]| batches_of_values(values.to_vec()).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(&short), [MAX_FIND_VALUES, 1]);
        assert_eq!(batches_of_values(short.clone()).concat(), short);
        let long = vec!["x".repeat(1_000); MAX_FIND_BYTES / 1_000 + 1];
        assert_eq!(sizes(&long), [MAX_FIND_BYTES / 1_000, 1]);
        assert_eq!(sizes(&[]), [0_usize; 0]);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let limit = Duration::from_millis(1);
        let error = within(limit, (), |_| std::future::pending::<Result<(), Status>>()).await;
        let error = ControlError::from(error.expect_err("there is no answer"));
        assert_eq!(error.reason(), ErrorReason::ControlUnavailable);
        assert!(error.is_transient(), "it is asked again");
    }

    /// A control of another release: it serves another revision of the contract, and nothing else that is known here.
    struct OtherRelease;

    #[tonic::async_trait]
    impl VersionService for OtherRelease {
        async fn get_version(
            &self,
            request: Request<GetVersionRequest>,
        ) -> Result<Response<GetVersionResponse>, Status> {
            assert_eq!(request.get_ref().contract_revision, CONTRACT_REVISION);
            Err(failure::Failure::new(ErrorReason::ContractNotSupported, "of another release").into())
        }
    }

    #[tokio::test]
    async fn a_region_does_not_register_with_a_control_that_does_not_fit() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(VersionServiceServer::new(OtherRelease))
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
        );
        let control = ControlClient::new(&[url], "us", ControlTimeouts::default()).expect("a client");
        let registered = control.register("http://us.example.com", Uuid::nil(), Vec::new()).await;
        let error = registered.expect_err("it does not fit");
        assert_eq!(error.reason(), ErrorReason::ContractNotSupported);
        assert!(error.is_transient(), "an operator can mend it, and until then imports wait");
        serving.abort();
    }
}
