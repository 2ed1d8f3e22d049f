//! A fake region that follows a script.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use causeway_proto::{
    failure::Failure,
    region::v1::{
        GetImportRequest, GetImportResponse, GetPublicKeyRequest, GetPublicKeyResponse, Import, ImportHeader,
        ImportOrganizationsRequest, ImportOrganizationsResponse, ImportState, ImportedOrganization,
        ListFindingsRequest, ListFindingsResponse, ListImportsRequest, ListImportsResponse,
        ListMappedKeysRequest, ListMappedKeysResponse, PauseImportsRequest, PauseImportsResponse,
        ResumeImportRequest, ResumeImportResponse, RevertImportRequest, RevertImportResponse,
        UnpauseImportsRequest, UnpauseImportsResponse, WatchImportRequest, WatchImportResponse,
        import_organizations_request::Part,
        import_service_server::{ImportService, ImportServiceServer},
    },
    relocation::v1::{ErrorReason, Finding, FindingCount, FindingKind, Severity},
};
use futures::{StreamExt as _, stream::BoxStream};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use crate::ID;

/// What a watching caller receives on one connection before the connection breaks.
pub(crate) type Told = Vec<Result<Import, Failure>>;

#[derive(Default)]
pub(crate) struct Script {
    /// The refusals of the first uploads. After these, an upload is accepted.
    pub(crate) refusals: VecDeque<Failure>,
    /// Whether the region joins an upload to an existing import, by its header alone.
    pub(crate) joins: bool,
    /// One entry for each call of WatchImport.
    pub(crate) reports: VecDeque<Told>,
    /// Whether WatchImport keeps the stream open after the last message.
    pub(crate) stays_open: bool,
    pub(crate) header: Option<ImportHeader>,
    pub(crate) received: usize,
}

#[derive(Clone, Default)]
pub(crate) struct FakeRegion(Arc<Mutex<Script>>);

impl FakeRegion {
    pub(crate) fn script<T>(&self, with: impl FnOnce(&mut Script) -> T) -> T {
        with(&mut self.0.lock().expect("nobody panics with it"))
    }

    /// Serves it until the test ends.
    pub(crate) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let service = ImportServiceServer::new(self.clone());
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        url
    }
}

pub(crate) fn state(state: ImportState) -> Import {
    Import { import_id: ID.to_owned(), region: "fake".to_owned(), state: state.into(), ..Default::default() }
}

#[tonic::async_trait]
impl ImportService for FakeRegion {
    async fn import_organizations(
        &self,
        request: Request<Streaming<ImportOrganizationsRequest>>,
    ) -> Result<Response<ImportOrganizationsResponse>, Status> {
        if let Some(refusal) = self.script(|script| script.refusals.pop_front()) {
            return Err(refusal.into());
        }
        let mut parts = request.into_inner();
        if self.script(|script| script.joins) {
            parts.message().await?;
            let import = Some(state(ImportState::Succeeded));
            return Ok(Response::new(ImportOrganizationsResponse { import, joined: true }));
        }
        let mut received = 0;
        let mut header = None;
        while let Some(part) = parts.message().await? {
            match part.part {
                Some(Part::Header(first)) => header = Some(first),
                Some(Part::Data(data)) => received += data.len(),
                Some(Part::End(_)) | None => {}
            }
        }
        self.script(|script| (script.header, script.received) = (header, received));
        let import = Some(state(ImportState::Planning));
        Ok(Response::new(ImportOrganizationsResponse { import, joined: false }))
    }

    async fn get_public_key(
        &self,
        _: Request<GetPublicKeyRequest>,
    ) -> Result<Response<GetPublicKeyResponse>, Status> {
        Err(Failure::new(ErrorReason::DecryptionKeyMissing, "there is no key").into())
    }

    async fn get_import(&self, _: Request<GetImportRequest>) -> Result<Response<GetImportResponse>, Status> {
        Err(Failure::new(ErrorReason::ImportNotFound, "there is no import of that id").into())
    }

    async fn list_imports(
        &self,
        request: Request<ListImportsRequest>,
    ) -> Result<Response<ListImportsResponse>, Status> {
        let (next, last) = (request.into_inner().page_token.is_empty(), state(ImportState::Succeeded));
        let next_page_token = if next { "2".to_owned() } else { String::new() };
        Ok(Response::new(ListImportsResponse { imports: vec![last], next_page_token }))
    }

    type WatchImportStream = BoxStream<'static, Result<WatchImportResponse, Status>>;

    async fn watch_import(
        &self,
        _: Request<WatchImportRequest>,
    ) -> Result<Response<Self::WatchImportStream>, Status> {
        let (reports, stays_open) = self.script(|script| (script.reports.pop_front(), script.stays_open));
        let reports = reports.expect("nobody asks more often");
        let reports = reports.into_iter().map(|reports| {
            reports.map(|import| WatchImportResponse { import: Some(import) }).map_err(Status::from)
        });
        let reports = futures::stream::iter(reports.collect::<Vec<_>>());
        let stream =
            if stays_open { reports.chain(futures::stream::pending()).boxed() } else { reports.boxed() };
        Ok(Response::new(stream))
    }

    async fn resume_import(
        &self,
        _: Request<ResumeImportRequest>,
    ) -> Result<Response<ResumeImportResponse>, Status> {
        Ok(Response::new(ResumeImportResponse { import: Some(state(ImportState::Planning)) }))
    }

    async fn revert_import(
        &self,
        _: Request<RevertImportRequest>,
    ) -> Result<Response<RevertImportResponse>, Status> {
        Ok(Response::new(RevertImportResponse { import: Some(state(ImportState::Reverting)) }))
    }

    async fn pause_imports(
        &self,
        _: Request<PauseImportsRequest>,
    ) -> Result<Response<PauseImportsResponse>, Status> {
        Err(Failure::new(ErrorReason::ImportNotFound, "there is no import of that id").into())
    }

    async fn unpause_imports(
        &self,
        _: Request<UnpauseImportsRequest>,
    ) -> Result<Response<UnpauseImportsResponse>, Status> {
        Err(Failure::new(ErrorReason::ImportNotFound, "there is no import of that id").into())
    }

    async fn list_findings(
        &self,
        request: Request<ListFindingsRequest>,
    ) -> Result<Response<ListFindingsResponse>, Status> {
        let request = request.into_inner();
        assert_eq!((request.kind(), request.page_size), (FindingKind::SlugChanged, 5));
        let finding = Finding {
            kind: request.kind,
            model: "sentry.organization".to_owned(),
            reason: "api is a reserved word".to_owned(),
            ..Default::default()
        };
        Ok(Response::new(ListFindingsResponse { findings: vec![finding], ..Default::default() }))
    }

    async fn list_mapped_keys(
        &self,
        _: Request<ListMappedKeysRequest>,
    ) -> Result<Response<ListMappedKeysResponse>, Status> {
        Ok(Response::new(ListMappedKeysResponse::default()))
    }
}

pub(crate) fn succeeded() -> Import {
    Import {
        organization_count: 1,
        organizations: vec![ImportedOrganization {
            source_id: 1,
            id: 4501,
            wanted_slug: "api".to_owned(),
            slug: "api-x7".to_owned(),
            slug_plan: None,
        }],
        finding_counts: vec![FindingCount {
            kind: FindingKind::SlugChanged.into(),
            severity: Severity::Info.into(),
            count: 1,
        }],
        ..state(ImportState::Succeeded)
    }
}
