//! Clients of the services of a cluster: the generated gRPC clients, and the calls that every test makes.

use std::{ops::Deref, time::Duration};

use causeway_client::{Client, collect_pages};
use causeway_proto::{
    control::v1::{
        ListSlugReservationsRequest, SlugReservation,
        control_import_service_client::ControlImportServiceClient,
    },
    region::v1::{
        Import, ImportHeader, ImportOrganizationsResponse, ListFindingsRequest, ListMappedKeysRequest,
        ListOrganizationsRequest, Organization, OrganizationFilter, ReconcileMode, ReconcileRequest,
        ReconcileResponse, WatchImportRequest, import_organizations_request::Part,
    },
    relocation::v1::{Finding, ImportFlags, MappedKey, Scope},
};
use causeway_silo::env::Environment;
use tokio::time::timeout;
use tonic::{Response, Status, Streaming, transport::Channel};

use super::direct::upload_messages;

/// The longest time without a message about an import that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);
/// The size of one part of an upload, in bytes.
const PART: usize = 64 * 1024;

/// The parameters of an import that a test starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Slugs of the organizations to import; all if `None`.
    pub filter: Option<Vec<String>>,
    /// Merge a user whose name another user has into that user.
    pub merge_users: bool,
    /// Leave the organizations hidden at the end.
    pub hide_organizations: bool,
    /// Write nothing and report what an import would do.
    pub dry_run: bool,
    /// The import's id; a random one if `None`.
    pub import_id: Option<String>,
}

impl ImportOptions {
    /// Imports only the organizations with these slugs.
    #[must_use]
    pub fn filter(mut self, slugs: &[&str]) -> Self {
        self.filter = Some(slugs.iter().map(|slug| (*slug).to_owned()).collect());
        self
    }

    /// Merges each user whose name another user has into that user.
    #[must_use]
    pub fn merge_users(mut self) -> Self {
        self.merge_users = true;
        self
    }

    /// Leaves the imported organizations hidden at the end.
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

/// A client of control. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControlApi {
    client: Client,
}

impl Deref for ControlApi {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl ControlApi {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client with which regions have control write rows of an import.
    #[must_use]
    pub fn imports(&self) -> ControlImportServiceClient<Channel> {
        self.control_imports()
    }

    /// All reservations of all regions, by slug.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn all_reservations(&self) -> Result<Vec<SlugReservation>, Status> {
        let all = collect_pages(async |page_token| {
            let request = ListSlugReservationsRequest { page_size: 1_000, page_token, ..Default::default() };
            self.reservations().list_slug_reservations(request).await.map(Response::into_inner)
        });
        Ok(all.await?.reservations)
    }
}

/// A client of a region. Calls that every client makes come from [`Client`].
#[derive(Debug, Clone)]
pub struct RegionApi {
    name: String,
    client: Client,
    env: Environment,
}

impl Deref for RegionApi {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl RegionApi {
    pub(super) fn new(name: &str, client: Client, env: Environment) -> Self {
        Self { name: name.to_owned(), client, env }
    }

    /// The name of the region, as the cluster's builder got it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL of the region. It stays the same when the region is stopped and started.
    #[must_use]
    pub fn url(&self) -> &str {
        self.urls().first().map_or("", String::as_str)
    }

    /// Compares the region with control, and joins all parts of the streamed answer into one.
    ///
    /// # Errors
    /// If the comparison fails before its end.
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

    /// Uploads an export and starts its import, or joins an import with the same id.
    ///
    /// # Errors
    /// If the region rejects the upload.
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

    /// Imports an export and waits until the import has ended, with success or without.
    ///
    /// # Errors
    /// If the region rejects the upload, or the import cannot be watched to the end.
    pub async fn import(&self, export: &[u8], options: &ImportOptions) -> Result<Import, Status> {
        let begun = self.begin(export, options).await?.import.unwrap_or_default();
        self.wait(&begun.import_id).await
    }

    /// Waits until an import has ended, with success or without.
    ///
    /// # Errors
    /// If there is no such import, or it cannot be watched to the end.
    pub async fn wait(&self, import_id: &str) -> Result<Import, Status> {
        self.wait_until(import_id, |import| import.state().is_final()).await
    }

    /// Waits until `wanted` returns true for the import.
    ///
    /// # Errors
    /// If there is no such import, it ends first, or it cannot be watched until then.
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

    /// Opens the stream of states of an import.
    ///
    /// # Errors
    /// If there is no such import.
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
        let all = collect_pages(async |page_token| {
            let request = ListFindingsRequest {
                import_id: import_id.to_owned(),
                page_size: 1_000,
                page_token,
                ..ListFindingsRequest::default()
            };
            self.imports().list_findings(request).await.map(Response::into_inner)
        });
        Ok(all.await?.findings)
    }

    /// The whole primary key map of an import.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn mapped_keys(&self, import_id: &str) -> Result<Vec<MappedKey>, Status> {
        let all = collect_pages(async |page_token| {
            let request = ListMappedKeysRequest {
                import_id: import_id.to_owned(),
                page_size: 10_000,
                page_token,
                ..ListMappedKeysRequest::default()
            };
            self.imports().list_mapped_keys(request).await.map(Response::into_inner)
        });
        Ok(all.await?.keys)
    }

    /// All visible organizations, by id.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn visible_organizations(&self) -> Result<Vec<Organization>, Status> {
        let all = collect_pages(async |page_token| {
            let request = ListOrganizationsRequest { page_size: 1_000, page_token };
            self.organizations().list_organizations(request).await.map(Response::into_inner)
        });
        Ok(all.await?.organizations)
    }
}
