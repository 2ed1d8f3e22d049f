//! Calls to control. Every call is idempotent by an id of ours, so each may be repeated until an answer comes.

mod reports;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use causeway_client::{
    CallError, Client,
    feed::{self, FeedError, RegionFeed},
};
use causeway_proto::{
    control::v1::{
        BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest, CheckSlugsRequest,
        ConfirmOrganizationSlugReservationsRequest, DescribeTablesRequest, FindRowsRequest, HeldIds,
        IdConflict, ImportModelsRequest, ImportModelsResponse, LeaseIdsRequest, ListHeldOrganizationsRequest,
        ListHeldOrganizationsResponse, ListImportChunksRequest, ListImportChunksResponse, NeededRow,
        OrganizationSlugRequest, OrganizationSlugRequestBatch, PlanImportRequest, RefusedOrganization,
        RegisterRegionRequest, ReleaseOrganizationSlugReservationsRequest, ReleaseOrganizationsRequest,
        ReportOrganizationsRequest, ReportedOrganization, ResolvedSlug, RevertImportChunkRequest,
        RevertImportRequest, SlugCheck, SlugRefusal, TableColumn, UniqueIndex,
        bulk_create_organization_slug_reservations_request::Part,
        control_import_service_client::ControlImportServiceClient,
        directory_service_client::DirectoryServiceClient, region_service_client::RegionServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    limits::{MAX_FIND_BYTES, MAX_FIND_VALUES, MAX_NAMES_PER_CALL, MAX_PAGE},
    relocation::v1::{GetVersionRequest, version_service_client::VersionServiceClient},
    whole::OrganizationDigest,
};
use causeway_relocation::{
    chunk::Reverted,
    schema::{self, Actual, Tables},
};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::convert;

/// Control's tables of models, as it describes them.
#[derive(Debug)]
pub(crate) struct ControlTables {
    pub(crate) tables: Tables,
    /// Identifies all of them, those too that the catalog of this release does not know.
    pub(crate) fingerprint: String,
    /// Identifies each of them, by name. Empty if control is of a release that compares all of them with a chunk.
    by_table: BTreeMap<String, String>,
    /// The most bytes that the organizations of one bulk creation may take; `None` if control is of a release that does
    /// not say it.
    pub(crate) most_operation_bytes: Option<usize>,
}

impl ControlTables {
    /// What control compares its tables with before it writes a chunk into one of them.
    pub(crate) fn fingerprint_for(&self, table: &str) -> &str {
        self.by_table.get(table).unwrap_or(&self.fingerprint)
    }
}

/// The revision of the contract that a region needs control to serve: the last one that added something that the region
/// uses. Lower than the newest one as long as it can be, so that a region may be upgraded before its control.
const NEEDED_REVISION: i32 = 3;

/// Calls to control in the name of one region. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ControlClient {
    client: Client,
    region: String,
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
    /// Calls control in the name of `region`.
    pub(crate) fn new(client: Client, region: &str) -> Self {
        Self { client, region: region.to_owned() }
    }

    /// Makes a call to the rpc of that full name, as a span of the current trace.
    async fn call<M: Clone, T, F>(
        &self,
        rpc: &'static str,
        limit: Duration,
        message: M,
        call: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let span = causeway_traces::client_call(rpc);
        let answer = self.client.call(limit, message, call).instrument(span.clone()).await;
        match &answer {
            Ok(_) => causeway_traces::ended(&span, Code::Ok, None),
            // Without a connection, there is no code.
            Err(error) => causeway_traces::ended(
                &span,
                error.code().unwrap_or(Code::Unavailable),
                error.reason().map(|reason| reason.as_str_name()),
            ),
        }
        answer
    }

    /// Where control is, for people who have to go there.
    pub(crate) fn urls(&self) -> &[String] {
        self.client.urls()
    }

    /// Registers this region with the product's name for it, empty if that is its own, and with the ids that its tables
    /// hold. Returns those of them that are not its own.
    pub(crate) async fn register(
        &self,
        address: &str,
        instance_id: Uuid,
        product_name: String,
        held_ids: Vec<HeldIds>,
    ) -> Result<Vec<IdConflict>, CallError> {
        let request = RegisterRegionRequest {
            name: self.region.clone(),
            address: address.to_owned(),
            instance_id: instance_id.to_string(),
            held_ids,
            product_name,
        };
        // One that serves another contract would take the rest for something else.
        let ours = GetVersionRequest { contract_revision: NEEDED_REVISION, ..GetVersionRequest::default() };
        self.call(
            "causeway.relocation.v1.VersionService/GetVersion",
            self.client.timeouts().call,
            ours,
            async |channel, request| VersionServiceClient::new(channel).get_version(request).await,
        )
        .await?;
        let answer = self
            .call(
                "causeway.control.v1.RegionService/RegisterRegion",
                self.client.timeouts().call,
                request,
                async |channel, request| RegionServiceClient::new(channel).register_region(request).await,
            )
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
    ) -> Result<(i64, i64), CallError> {
        let request = LeaseIdsRequest {
            region: self.region.clone(),
            operation_id: operation_id.to_string(),
            model: model.to_owned(),
            count,
            above,
        };
        let block = self
            .call(
                "causeway.control.v1.RegionService/LeaseIds",
                self.client.timeouts().call,
                request,
                async |channel, request| RegionServiceClient::new(channel).lease_ids(request).await,
            )
            .await?;
        Ok((block.first_id, i64::from(block.count)))
    }

    pub(crate) async fn import_models(
        &self,
        mut request: ImportModelsRequest,
    ) -> Result<ImportModelsResponse, CallError> {
        request.region.clone_from(&self.region);
        self.call(
            "causeway.control.v1.ControlImportService/ImportModels",
            self.client.timeouts().call,
            request,
            async |channel, request| ControlImportServiceClient::new(channel).import_models(request).await,
        )
        .await
    }

    /// Control's tables of models.
    pub(crate) async fn describe_tables(&self) -> Result<ControlTables, CallError> {
        let answer = self
            .call(
                "causeway.control.v1.ControlImportService/DescribeTables",
                self.client.timeouts().call,
                DescribeTablesRequest {},
                async |channel, request| {
                    ControlImportServiceClient::new(channel).describe_tables(request).await
                },
            )
            .await?;
        let column = |column: TableColumn| {
            let TableColumn { name, r#type: sql, nullable: null, has_default } = column;
            (name, Actual { sql, null, has_default })
        };
        let index = |index: UniqueIndex| schema::UniqueIndex {
            columns: index.columns,
            conditional: index.conditional,
            deferred: index.deferred,
        };
        let mut tables = Tables {
            columns: BTreeMap::new(),
            unique: answer.has_unique_indexes.then(BTreeMap::new),
            of_product: answer.of_product,
        };
        let mut by_table = BTreeMap::new();
        for table in answer.tables {
            if !table.fingerprint.is_empty() {
                by_table.insert(table.name.clone(), table.fingerprint);
            }
            if let Some(unique) = &mut tables.unique {
                let indexes = table.unique_indexes.into_iter().map(index).collect();
                unique.insert(table.name.clone(), indexes);
            }
            tables.columns.insert(table.name, table.columns.into_iter().map(column).collect());
        }
        let most_operation_bytes = usize::try_from(answer.max_operation_bytes).ok().filter(|most| *most > 0);
        Ok(ControlTables { tables, fingerprint: answer.fingerprint, by_table, most_operation_bytes })
    }

    /// Says that the region plans an import, so that it may ask about rows and slugs for it. A control of contract
    /// revision 6 and before does not want to know.
    pub(crate) async fn plan_import(&self, import_id: Uuid) -> Result<(), CallError> {
        let request = PlanImportRequest { region: self.region.clone(), import_id: import_id.to_string() };
        let told = self
            .call(
                "causeway.control.v1.ControlImportService/PlanImport",
                self.client.timeouts().call,
                request,
                async |channel, request| ControlImportServiceClient::new(channel).plan_import(request).await,
            )
            .await;
        match told {
            Err(error) if error.code() == Some(Code::Unimplemented) => Ok(()),
            told => told.map(|_| ()),
        }
    }

    /// Which rows of a model have one of these values, for an import that plans.
    pub(crate) async fn find_rows(
        &self,
        import_id: Uuid,
        model: &str,
        field: &str,
        values: Vec<String>,
    ) -> Result<HashMap<String, i64>, CallError> {
        let mut found = HashMap::new();
        for values in batches_of_values(values) {
            let request = FindRowsRequest {
                model: model.to_owned(),
                field: field.to_owned(),
                values,
                region: self.region.clone(),
                import_id: import_id.to_string(),
            };
            let rows = self
                .call(
                    "causeway.control.v1.ControlImportService/FindRows",
                    self.client.timeouts().call,
                    request,
                    async |channel, request| {
                        ControlImportServiceClient::new(channel).find_rows(request).await
                    },
                )
                .await?
                .rows;
            found.extend(rows.into_iter().map(|row| (row.value, row.id)));
        }
        Ok(found)
    }

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

    /// Closes an import at control, and reports which of its rows must stay.
    pub(crate) async fn revert_import(
        &self,
        import_id: Uuid,
        needed: Vec<NeededRow>,
    ) -> Result<(), CallError> {
        let request =
            RevertImportRequest { region: self.region.clone(), import_id: import_id.to_string(), needed };
        self.call(
            "causeway.control.v1.ControlImportService/RevertImport",
            self.client.timeouts().call,
            request,
            async |channel, request| ControlImportServiceClient::new(channel).revert_import(request).await,
        )
        .await?;
        Ok(())
    }

    /// A page of the chunks that control has of an import, with their keys if wanted.
    pub(crate) async fn list_import_chunks(
        &self,
        import_id: Uuid,
        page_token: String,
        with_keys: bool,
    ) -> Result<ListImportChunksResponse, CallError> {
        let request = ListImportChunksRequest {
            region: self.region.clone(),
            import_id: import_id.to_string(),
            page_size: if with_keys { 0 } else { i32::from(MAX_PAGE) },
            page_token,
            with_keys,
        };
        self.call(
            "causeway.control.v1.ControlImportService/ListImportChunks",
            self.client.timeouts().call,
            request,
            async |channel, request| {
                ControlImportServiceClient::new(channel).list_import_chunks(request).await
            },
        )
        .await
    }

    /// Has control take back one of its chunks.
    pub(crate) async fn revert_import_chunk(
        &self,
        import_id: Uuid,
        model: &str,
        min_ordinal: i64,
    ) -> Result<Reverted, CallError> {
        let request = RevertImportChunkRequest {
            region: self.region.clone(),
            import_id: import_id.to_string(),
            model: model.to_owned(),
            min_ordinal,
        };
        let answer = self
            .call(
                "causeway.control.v1.ControlImportService/RevertImportChunk",
                self.client.timeouts().call,
                request,
                async |channel, request| {
                    ControlImportServiceClient::new(channel).revert_import_chunk(request).await
                },
            )
            .await?;
        Ok(Reverted {
            deleted: answer.deleted,
            kept: answer.kept,
            findings: answer.findings.iter().map(convert::finding_from_proto).collect(),
        })
    }

    /// What control stores for organizations of this region: a page of all, or for those of `ids`.
    pub(crate) async fn list_held_organizations(
        &self,
        page_token: String,
        organization_ids: Vec<i64>,
    ) -> Result<ListHeldOrganizationsResponse, CallError> {
        let request = ListHeldOrganizationsRequest {
            region: self.region.clone(),
            page_size: MAX_PAGE.into(),
            page_token,
            organization_ids,
        };
        // In a database of the product, control reads all members of these organizations.
        self.call(
            "causeway.control.v1.DirectoryService/ListHeldOrganizations",
            self.client.timeouts().bulk,
            request,
            async |channel, request| {
                DirectoryServiceClient::new(channel).list_held_organizations(request).await
            },
        )
        .await
    }

    /// Opens the feed of this region after the version up to which it has been read; 0 for a snapshot.
    pub(crate) async fn open_feed(
        &self,
        after_version: i64,
        instance_id: Uuid,
    ) -> Result<RegionFeed, FeedError> {
        RegionFeed::open(&self.client, &self.region, after_version, instance_id, feed::SILENCE).await
    }

    /// Reports organizations to control's directory, and returns those that it does not accept. `number` is larger than
    /// that of each report before.
    pub(crate) async fn report_organizations(
        &self,
        number: i64,
        organizations: Vec<ReportedOrganization>,
        restore_product: bool,
    ) -> Result<Vec<RefusedOrganization>, CallError> {
        let mut refused = Vec::new();
        for batch in organizations.chunks(MAX_NAMES_PER_CALL) {
            let request = ReportOrganizationsRequest {
                region: self.region.clone(),
                organizations: batch.to_vec(),
                restore_product,
                number,
            };
            let answer = self
                .call(
                    "causeway.control.v1.DirectoryService/ReportOrganizations",
                    self.client.timeouts().call,
                    request,
                    async |channel, request| {
                        DirectoryServiceClient::new(channel).report_organizations(request).await
                    },
                )
                .await?;
            refused.extend(answer.refused);
        }
        Ok(refused)
    }
}

#[cfg(test)]
mod tests {
    use causeway_client::{Service, Timeouts};
    use causeway_proto::{
        failure::Failure,
        relocation::v1::{
            ErrorReason, GetVersionResponse,
            version_service_server::{VersionService, VersionServiceServer},
        },
    };

    use super::*;
    use crate::error::Error;

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

    /// A control of another release: it serves another revision of the contract, and nothing else that is known here.
    struct OtherRelease;

    #[tonic::async_trait]
    impl VersionService for OtherRelease {
        async fn get_version(
            &self,
            request: Request<GetVersionRequest>,
        ) -> Result<Response<GetVersionResponse>, Status> {
            assert_eq!(request.get_ref().contract_revision, NEEDED_REVISION);
            Err(Failure::new(ErrorReason::ContractNotSupported, "of another release").into())
        }
    }

    #[tokio::test]
    async fn an_older_control_need_not_know_of_a_plan() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let older = tonic::transport::Server::builder()
            .add_service(VersionServiceServer::new(OtherRelease))
            .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener));
        let serving = tokio::spawn(older);
        let client = Client::new(Service::Control, &[url], Timeouts::default()).unwrap();
        ControlClient::new(client, "us").plan_import(Uuid::from_u128(1)).await.unwrap();
        serving.abort();
    }

    #[tokio::test]
    async fn imports_wait_while_control_does_not_know_who_the_region_is() {
        let urls = ["https://127.0.0.1:1".to_owned()];
        let client = Client::new(Service::Control, &urls, Timeouts::default()).expect("a client");
        let refused = Failure::new(ErrorReason::IdentityInvalid, "the certificate names nobody");
        assert!(Error::Control(client.failed(refused.into())).is_transient());
        let refused = Failure::new(ErrorReason::ChunkContentDiffers, "it is another one");
        assert!(!Error::Control(client.failed(refused.into())).is_transient());
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
        let client = Client::new(Service::Control, &[url], Timeouts::default()).expect("a client");
        let control = ControlClient::new(client, "us");
        let registered =
            control.register("http://us.example.com", Uuid::nil(), String::new(), Vec::new()).await;
        let error = registered.expect_err("it does not fit");
        assert_eq!(error.reason(), Some(ErrorReason::ContractNotSupported));
        assert!(Error::Control(error).is_transient(), "an operator can mend it, and until then imports wait");
        serving.abort();
    }
}
