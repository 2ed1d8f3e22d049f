//! Calls to control. Every call is idempotent by an id of ours, so each may be repeated until an answer comes.

mod imports;
mod reports;
mod slugs;

use std::time::Duration;

use causeway_client::{
    CallError, Client,
    feed::{self, FeedError, RegionFeed},
};
use causeway_proto::{
    control::v1::{
        HeldIds, IdConflict, LeaseIdsRequest, ListHeldOrganizationsRequest, ListHeldOrganizationsResponse,
        RefusedOrganization, RegisterRegionRequest, ReportOrganizationsRequest, ReportedOrganization,
        directory_service_client::DirectoryServiceClient, region_service_client::RegionServiceClient,
    },
    failure::reason_name,
    limits::{MAX_NAMES_PER_CALL, MAX_PAGE},
    relocation::v1::{GetVersionRequest, version_service_client::VersionServiceClient},
};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tracing::Instrument as _;
use uuid::Uuid;

pub(crate) use imports::ControlTables;

/// The revision of the contract that a region needs control to serve: the last one that added something that the region
/// uses. Lower than the newest one as long as it can be, so that a region may be upgraded before its control.
const NEEDED_REVISION: i32 = 3;

/// Calls to control in the name of one region. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ControlClient {
    client: Client,
    region: String,
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
                error.reason().map(reason_name),
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
mod tests;
