//! Calls to the services of a cluster: the generated clients, and what every test does with them.

use std::time::Duration;

use causeway_proto::{
    control::v1::{
        ListSlugReservationsRequest, SlugReservation,
        control_import_service_client::ControlImportServiceClient,
        directory_service_client::DirectoryServiceClient, region_service_client::RegionServiceClient,
        slug_reservation_service_client::SlugReservationServiceClient,
    },
    region::v1::{
        Import, ImportHeader, ImportOrganizationsResponse, ImportState, ListFindingsRequest,
        ListMappedKeysRequest, ListOrganizationsRequest, Organization, OrganizationFilter, ReconcileMode,
        ReconcileRequest, ReconcileResponse, WatchImportRequest, import_organizations_request::Part,
        import_service_client::ImportServiceClient, organization_service_client::OrganizationServiceClient,
        reconciliation_service_client::ReconciliationServiceClient,
    },
    relocation::v1::{Finding, ImportFlags, MappedKey, Scope},
};
use causeway_silo::env::Environment;
use tokio::time::timeout;
use tonic::{Status, Streaming, transport::Channel};

use super::direct::upload_messages;

/// How long nothing may be seen of an import that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a part of an upload.
const PART: usize = 64 * 1024;

/// What an import is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Slugs of the organizations to take; all if `None`.
    pub filter: Option<Vec<String>>,
    /// Users whose names are taken are those who have them.
    pub merge_users: bool,
    /// Leave the organizations hidden at the end.
    pub hide_organizations: bool,
    /// Write nothing and say what would happen.
    pub dry_run: bool,
    /// The import's id; a fresh one if `None`.
    pub import_id: Option<String>,
}

impl ImportOptions {
    /// Takes only the organizations with these slugs.
    #[must_use]
    pub fn filter(mut self, slugs: &[&str]) -> Self {
        self.filter = Some(slugs.iter().map(|slug| (*slug).to_owned()).collect());
        self
    }

    /// Merges users.
    #[must_use]
    pub fn merge_users(mut self) -> Self {
        self.merge_users = true;
        self
    }

    /// Leaves organizations hidden.
    #[must_use]
    pub fn hide_organizations(mut self) -> Self {
        self.hide_organizations = true;
        self
    }

    /// Makes it a dry run.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Gives the import this id.
    #[must_use]
    pub fn import_id(mut self, id: &str) -> Self {
        self.import_id = Some(id.to_owned());
        self
    }
}

/// Calls to control.
#[derive(Debug, Clone)]
pub struct ControlApi {
    channel: Channel,
}

impl ControlApi {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Regions and id leases.
    #[must_use]
    pub fn regions(&self) -> RegionServiceClient<Channel> {
        RegionServiceClient::new(self.channel.clone())
    }

    /// Slug reservations.
    #[must_use]
    pub fn reservations(&self) -> SlugReservationServiceClient<Channel> {
        SlugReservationServiceClient::new(self.channel.clone())
    }

    /// The directory of organizations.
    #[must_use]
    pub fn directory(&self) -> DirectoryServiceClient<Channel> {
        DirectoryServiceClient::new(self.channel.clone())
    }

    /// What regions have control write.
    #[must_use]
    pub fn imports(&self) -> ControlImportServiceClient<Channel> {
        ControlImportServiceClient::new(self.channel.clone())
    }

    /// All reservations of all regions, by slug.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn all_reservations(&self) -> Result<Vec<SlugReservation>, Status> {
        let mut all = Vec::new();
        let mut request = ListSlugReservationsRequest { page_size: 1_000, ..Default::default() };
        loop {
            let page = self.reservations().list_slug_reservations(request.clone()).await?.into_inner();
            all.extend(page.reservations);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }
}

/// Calls to a region.
#[derive(Debug, Clone)]
pub struct RegionApi {
    name: String,
    url: String,
    channel: Channel,
    env: Environment,
}

impl RegionApi {
    pub(super) fn new(name: &str, url: String, channel: Channel, env: Environment) -> Self {
        Self { name: name.to_owned(), url, channel, env }
    }

    /// The region's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is reached. It stays the same when the region is stopped and started.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Imports.
    #[must_use]
    pub fn imports(&self) -> ImportServiceClient<Channel> {
        ImportServiceClient::new(self.channel.clone())
    }

    /// Organizations.
    #[must_use]
    pub fn organizations(&self) -> OrganizationServiceClient<Channel> {
        OrganizationServiceClient::new(self.channel.clone())
    }

    /// Whether the region and control agree.
    #[must_use]
    pub fn reconciliation(&self) -> ReconciliationServiceClient<Channel> {
        ReconciliationServiceClient::new(self.channel.clone())
    }

    /// Compares the region with control, to the end, as one answer.
    ///
    /// # Errors
    /// If the comparison does not come to its end.
    pub async fn reconcile(&self, mode: ReconcileMode) -> Result<ReconcileResponse, Status> {
        let request = ReconcileRequest { mode: mode.into() };
        let mut parts = self.reconciliation().reconcile(request).await?.into_inner();
        let mut all = ReconcileResponse::default();
        while let Some(part) = parts.message().await? {
            all.differences.extend(part.differences);
            all.summary = part.summary.or(all.summary);
            all.control_addresses.extend(part.control_addresses);
        }
        match all.summary {
            Some(_) => Ok(all),
            None => Err(Status::unavailable("the comparison ended without a summary")),
        }
    }

    /// Sends an export and begins, or joins, its import.
    ///
    /// # Errors
    /// If the region does not take it.
    pub async fn begin(
        &self,
        export: &[u8],
        options: &ImportOptions,
    ) -> Result<ImportOrganizationsResponse, Status> {
        let header = ImportHeader {
            import_id: options.import_id.clone().unwrap_or_else(|| self.env.uuid().to_string()),
            scope: Scope::Organization.into(),
            filter: options.filter.clone().map(|slugs| OrganizationFilter { slugs }),
            flags: Some(ImportFlags {
                merge_users: options.merge_users,
                hide_organizations: options.hide_organizations,
            }),
            size_bytes: i64::try_from(export.len()).ok(),
            dry_run: options.dry_run,
            ..ImportHeader::default()
        };
        let mut parts = vec![Part::Header(header)];
        parts.extend(export.chunks(PART).map(|part| Part::Data(part.to_vec())));
        let messages = tokio_stream::iter(upload_messages(parts));
        Ok(self.imports().import_organizations(messages).await?.into_inner())
    }

    /// Imports an export and waits until the import has ended, well or not.
    ///
    /// # Errors
    /// If the region does not take it, or cannot be watched to the end.
    pub async fn import(&self, export: &[u8], options: &ImportOptions) -> Result<Import, Status> {
        let begun = self.begin(export, options).await?.import.unwrap_or_default();
        self.wait(&begun.import_id).await
    }

    /// Waits until an import has ended, well or not.
    ///
    /// # Errors
    /// If there is none, or it cannot be watched to the end.
    pub async fn wait(&self, import_id: &str) -> Result<Import, Status> {
        self.wait_until(import_id, |import| {
            matches!(
                import.state(),
                ImportState::Succeeded | ImportState::Failed | ImportState::Planned | ImportState::Reverted
            )
        })
        .await
    }

    /// Waits until an import is as `wanted` says.
    ///
    /// # Errors
    /// If there is none, it ends before, or it cannot be watched until then.
    pub async fn wait_until(
        &self,
        import_id: &str,
        wanted: impl Fn(&Import) -> bool,
    ) -> Result<Import, Status> {
        let mut last = None;
        let waiting = async {
            let late = |last: &Option<Import>| {
                Status::deadline_exceeded(format!("nothing has happened for {PATIENCE:?}; at last: {last:?}"))
            };
            let opened = timeout(PATIENCE, self.watch(import_id)).await;
            let mut watch = opened.unwrap_or_else(|_| Err(late(&None)))?;
            loop {
                let message = timeout(PATIENCE, watch.message()).await;
                let Some(message) = message.unwrap_or_else(|_| Err(late(&last)))? else { break };
                let import = message.import.unwrap_or_default();
                if wanted(&import) {
                    return Ok(import);
                }
                last = Some(import);
            }
            Err(Status::aborted("the import ended before it was as wanted"))
        };
        waiting.await
    }

    /// Watches an import.
    ///
    /// # Errors
    /// If there is none.
    pub async fn watch(
        &self,
        import_id: &str,
    ) -> Result<Streaming<causeway_proto::region::v1::WatchImportResponse>, Status> {
        let request = WatchImportRequest { import_id: import_id.to_owned() };
        Ok(self.imports().watch_import(request).await?.into_inner())
    }

    /// All findings of an import.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn findings(&self, import_id: &str) -> Result<Vec<Finding>, Status> {
        let mut all = Vec::new();
        let mut request = ListFindingsRequest {
            import_id: import_id.to_owned(),
            page_size: 1_000,
            ..ListFindingsRequest::default()
        };
        loop {
            let page = self.imports().list_findings(request.clone()).await?.into_inner();
            all.extend(page.findings);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// The whole primary key map of an import.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn mapped_keys(&self, import_id: &str) -> Result<Vec<MappedKey>, Status> {
        let mut all = Vec::new();
        let mut request = ListMappedKeysRequest {
            import_id: import_id.to_owned(),
            page_size: 10_000,
            ..ListMappedKeysRequest::default()
        };
        loop {
            let page = self.imports().list_mapped_keys(request.clone()).await?.into_inner();
            all.extend(page.keys);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// All visible organizations, by id.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn visible_organizations(&self) -> Result<Vec<Organization>, Status> {
        let mut all = Vec::new();
        let mut request = ListOrganizationsRequest { page_size: 1_000, ..Default::default() };
        loop {
            let page = self.organizations().list_organizations(request.clone()).await?.into_inner();
            all.extend(page.organizations);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }
}
