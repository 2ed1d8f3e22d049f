//! `causeway.region.v1.ImportService`.

use std::pin::Pin;

use causeway_audit::Subject;
use causeway_proto::{
    limits::{
        DEFAULT_IMPORTS_PAGE, DEFAULT_KEYS_PAGE, MAX_BATCH, MAX_FILTER_BYTES, MAX_KEYS_PAGE, MAX_TEXT_BYTES,
    },
    page::{List, PageKey, fitting},
    region::v1::{
        GetImportRequest, GetImportResponse, GetPublicKeyRequest, GetPublicKeyResponse, ImportHeader,
        ImportOrganizationsRequest, ImportOrganizationsResponse, ListFindingsRequest, ListFindingsResponse,
        ListImportsRequest, ListImportsResponse, ListMappedKeysRequest, ListMappedKeysResponse,
        PauseImportsRequest, PauseImportsResponse, ResumeImportRequest, ResumeImportResponse,
        RevertImportRequest, RevertImportResponse, UnpauseImportsRequest, UnpauseImportsResponse,
        WatchImportRequest, WatchImportResponse, import_organizations_request::Part,
        import_service_server::ImportService,
    },
    relocation::v1::{FindingKind, Scope, Severity},
};
use causeway_silo::page::PageRequest;
use chrono::{DateTime, Utc};
use futures::Stream;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{
    convert::{import_to_proto, key_to_proto, view_to_proto},
    requester::requester,
    watch::Watches,
};
use crate::{
    convert::{finding_to_proto, kind_from_proto, severity_from_proto},
    error::Error,
    import::{Announced, Import, Imports, Pace, Parameters, Upload},
    store::pause::Which,
};

/// Handles the calls of the service.
#[derive(Debug)]
pub(super) struct Handler {
    imports: Imports,
    watches: Watches,
    page_key: PageKey,
}

impl Handler {
    pub(super) fn new(imports: Imports, page_key: PageKey) -> Self {
        Self { imports, watches: Watches::default(), page_key }
    }

    /// The next message of an upload. A client that stalls must not delay the stop of a region, and must not keep its
    /// place from others.
    async fn next_part(
        &self,
        parts: &mut Streaming<ImportOrganizationsRequest>,
        pace: &mut Pace,
    ) -> Result<Option<ImportOrganizationsRequest>, Status> {
        loop {
            let began = Instant::now();
            let message = tokio::select! {
                message = timeout(pace.patience(), parts.message()) => message,
                () = self.imports.context().lifecycle.uploads_over() => return Err(Error::Stopping.into()),
            };
            let bytes = match &message {
                Ok(Ok(Some(ImportOrganizationsRequest { part: Some(Part::Data(bytes)) }))) => bytes.len(),
                // Header and end come only once, so each counts as a byte.
                Ok(Ok(Some(ImportOrganizationsRequest { part: Some(Part::Header(_) | Part::End(_)) }))) => 1,
                _ => 0,
            };
            pace.went_on(began.elapsed(), bytes)?;
            if let Ok(message) = message {
                return message;
            }
        }
    }

    /// The next part of an upload that must not be over yet: a stream that was cut off looks like one that has ended.
    async fn part(
        &self,
        parts: &mut Streaming<ImportOrganizationsRequest>,
        pace: &mut Pace,
    ) -> Result<Option<Part>, Status> {
        match self.next_part(parts, pace).await? {
            Some(message) => Ok(message.part),
            None => Err(Error::StreamIncomplete.into()),
        }
    }

    /// Receives the file of an upload up to its end.
    async fn file(
        &self,
        upload: &mut Upload,
        parts: &mut Streaming<ImportOrganizationsRequest>,
        pace: &mut Pace,
    ) -> Result<(), Status> {
        loop {
            match self.part(parts, pace).await? {
                Some(Part::Data(bytes)) => upload.write(&bytes).await?,
                Some(Part::End(end)) => {
                    upload.ended(end.size_bytes, &end.sha256)?;
                    break;
                }
                Some(Part::Header(_)) | None => {
                    return Err(unordered("a message between the header and the end is not data"));
                }
            }
        }
        match self.next_part(parts, pace).await? {
            None => Ok(()),
            Some(_) => Err(unordered("there is a message after the end")),
        }
    }
}

fn unordered(what: &str) -> Status {
    Error::UploadInvalid(what.to_owned()).into()
}

pub(super) fn import_id(text: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(text).map_err(|_| Error::invalid("import_id", "must be a UUID"))
}

/// The content of a header.
struct Asked {
    import_id: Uuid,
    parameters: Parameters,
    announced: Announced,
}

/// A SHA-256 in a header; `None` if it is empty.
fn sha256(field: &'static str, text: String) -> Result<Option<String>, Error> {
    let hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match text.as_str() {
        "" => Ok(None),
        _ if text.len() == 64 && text.bytes().all(hex) => Ok(Some(text)),
        _ => Err(Error::invalid(field, "must be 64 lowercase hex digits")),
    }
}

fn asked(header: ImportHeader) -> Result<Asked, Error> {
    let scope = header.scope();
    if !matches!(scope, Scope::Unspecified | Scope::Organization) || Scope::try_from(header.scope).is_err() {
        return Err(Error::invalid("header.scope", "must be SCOPE_ORGANIZATION"));
    }
    if header.size_bytes.is_some_and(|size| size < 0) {
        return Err(Error::invalid("header.size_bytes", "must not be negative"));
    }
    let slugs = header.filter.as_ref().map_or(&[][..], |filter| &filter.slugs);
    if slugs.len() > MAX_BATCH {
        return Err(Error::invalid("header.filter.slugs", format!("must be at most {MAX_BATCH}")));
    }
    if slugs.iter().any(|slug| slug.len() > MAX_TEXT_BYTES || slug.chars().any(char::is_control)) {
        return Err(Error::invalid(
            "header.filter.slugs",
            format!("must have at most {MAX_TEXT_BYTES} bytes and no control characters"),
        ));
    }
    if slugs.iter().map(String::len).sum::<usize>() > MAX_FILTER_BYTES {
        let most = format!("must have at most {MAX_FILTER_BYTES} bytes together");
        return Err(Error::invalid("header.filter.slugs", most));
    }
    let flags = header.flags.unwrap_or_default();
    Ok(Asked {
        import_id: Uuid::try_parse(&header.import_id)
            .map_err(|_| Error::invalid("header.import_id", "must be a UUID"))?,
        parameters: Parameters {
            filter: header.filter.map(|filter| filter.slugs.into_iter().collect()),
            merge_users: flags.merge_users,
            hide_organizations: flags.hide_organizations,
            dry_run: header.dry_run,
        },
        announced: Announced {
            size_bytes: header.size_bytes,
            sha256: sha256("header.sha256", header.sha256)?,
            export_sha256: sha256("header.export_sha256", header.export_sha256)?,
        },
    })
}

/// The page key of a list of imports, as text: creation time and id.
struct ImportKey(DateTime<Utc>, Uuid);

impl std::fmt::Display for ImportKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0.timestamp_micros(), self.1)
    }
}

impl std::str::FromStr for ImportKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (micros, id) = text.split_once(' ').ok_or(())?;
        let time = DateTime::from_timestamp_micros(micros.parse().map_err(|_| ())?).ok_or(())?;
        Ok(Self(time, Uuid::try_parse(id).map_err(|_| ())?))
    }
}

/// The page key of the primary key map, as text: position and first ordinal of a chunk, and lines of it that came
/// before.
struct LineKey(i64, i64, usize);

impl std::fmt::Display for LineKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.0, self.1, self.2)
    }
}

impl std::str::FromStr for LineKey {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, ' ');
        let mut next = || parts.next().unwrap_or_default();
        Ok(Self(next().parse()?, next().parse()?, next().parse()?))
    }
}

/// The imports that a request to pause them, or to end that, is about.
fn which(id: &str, all: bool) -> Result<Which, Error> {
    match (id.is_empty(), all) {
        (true, true) => Ok(Which::All),
        (false, false) => Ok(Which::One(import_id(id)?)),
        (false, true) => Err(Error::invalid("import_id", "must be empty with `all`")),
        (true, false) => Err(Error::invalid("import_id", "must be the id of an import, or empty with `all`")),
    }
}

fn texts(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}

type Watched = Pin<Box<dyn Stream<Item = Result<WatchImportResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ImportService for Handler {
    async fn import_organizations(
        &self,
        request: Request<Streaming<ImportOrganizationsRequest>>,
    ) -> Result<Response<ImportOrganizationsResponse>, Status> {
        // Before the header, so that a caller that sends none counts too.
        let place = self.imports.permits().upload(request.remote_addr().map(|address| address.ip()))?;
        let limits = &self.imports.context().limits;
        let mut pace = Pace::new(limits.upload_idle, limits.upload_rate);
        let requester = requester(&request);
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = self.part(&mut parts, &mut pace).await? else {
            return Err(unordered("the first message is not a header"));
        };
        let asked = asked(header)?;
        causeway_audit::about(Subject::import(asked.import_id));
        let imports = &self.imports;
        if asked.parameters.merge_users && requester.only_own && !imports.context().allow_merge {
            return Err(Error::MergeNotAllowed.into());
        }
        let Asked { import_id, parameters, announced } = asked;
        if let Some(import) = imports.join(import_id, &parameters, &requester, &announced).await? {
            let view = imports.view(import.id).await?;
            return Ok(Response::new(ImportOrganizationsResponse {
                import: Some(view_to_proto(view, imports.context())),
                joined: true,
            }));
        }
        let mut upload = imports.receive(place, import_id, parameters, requester, announced).await?;
        self.file(&mut upload, &mut parts, &mut pace).await?;
        let (id, joined) = upload.finish().await?;
        let view = imports.view(id).await?;
        Ok(Response::new(ImportOrganizationsResponse {
            import: Some(view_to_proto(view, imports.context())),
            joined,
        }))
    }

    async fn get_public_key(
        &self,
        _: Request<GetPublicKeyRequest>,
    ) -> Result<Response<GetPublicKeyResponse>, Status> {
        let key = self.imports.context().keys().ok_or(Error::DecryptionKeyMissing)?;
        Ok(Response::new(GetPublicKeyResponse { pem: key.public_pem.clone() }))
    }

    async fn get_import(
        &self,
        request: Request<GetImportRequest>,
    ) -> Result<Response<GetImportResponse>, Status> {
        let requester = requester(&request);
        let view = self.imports.view(import_id(&request.into_inner().import_id)?).await?;
        requester.may_see(view.import.begun_by.as_deref())?;
        Ok(Response::new(GetImportResponse { import: Some(view_to_proto(view, self.imports.context())) }))
    }

    async fn list_imports(
        &self,
        request: Request<ListImportsRequest>,
    ) -> Result<Response<ListImportsResponse>, Status> {
        let requester = requester(&request);
        let ListImportsRequest { page_size, page_token } = request.into_inner();
        let filters = requester.own().map(|own| [own]);
        let filters = filters.as_ref().map_or(&[][..], |own| own);
        let list =
            List { default_size: DEFAULT_IMPORTS_PAGE, ..List::new(&self.page_key, "ListImports", filters) };
        let after = list.after::<ImportKey>(&page_token)?.map(|key| (key.0, key.1));
        let page =
            self.imports.list(&requester, &PageRequest { limit: list.limit(page_size)?, after }).await?;
        let key = |import: &Import| (import.created_at, import.id);
        let encode = |import| import_to_proto(import, self.imports.context());
        let (imports, next) = fitting(page.items, page.next, key, encode);
        Ok(Response::new(ListImportsResponse {
            imports,
            next_page_token: list.token(next.map(|(time, id)| ImportKey(time, id))),
        }))
    }

    type WatchImportStream = Watched;

    async fn watch_import(&self, request: Request<WatchImportRequest>) -> Result<Response<Watched>, Status> {
        let requester = requester(&request);
        let id = import_id(&request.into_inner().import_id)?;
        self.imports.check_seen(id, &requester).await?;
        let place = self.imports.permits().watch()?;
        let receiver = self.watches.watch(&self.imports, id, place).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn resume_import(
        &self,
        request: Request<ResumeImportRequest>,
    ) -> Result<Response<ResumeImportResponse>, Status> {
        let requester = requester(&request);
        let id = import_id(&request.into_inner().import_id)?;
        self.imports.check_seen(id, &requester).await?;
        self.imports.resume_import(id, None).await?;
        let view = self.imports.view(id).await?;
        Ok(Response::new(ResumeImportResponse { import: Some(view_to_proto(view, self.imports.context())) }))
    }

    async fn revert_import(
        &self,
        request: Request<RevertImportRequest>,
    ) -> Result<Response<RevertImportResponse>, Status> {
        let requester = requester(&request);
        let id = import_id(&request.into_inner().import_id)?;
        self.imports.check_seen(id, &requester).await?;
        self.imports.revert_import(id, None).await?;
        let view = self.imports.view(id).await?;
        Ok(Response::new(RevertImportResponse { import: Some(view_to_proto(view, self.imports.context())) }))
    }

    async fn pause_imports(
        &self,
        request: Request<PauseImportsRequest>,
    ) -> Result<Response<PauseImportsResponse>, Status> {
        let requester = requester(&request);
        let PauseImportsRequest { import_id, all } = request.into_inner();
        let paused = self.imports.pause(which(&import_id, all)?, &requester).await?;
        Ok(Response::new(PauseImportsResponse {
            paused_import_ids: texts(&paused.changed),
            already_paused_import_ids: texts(&paused.unchanged),
        }))
    }

    async fn unpause_imports(
        &self,
        request: Request<UnpauseImportsRequest>,
    ) -> Result<Response<UnpauseImportsResponse>, Status> {
        let UnpauseImportsRequest { import_id, all } = request.into_inner();
        let unpaused = self.imports.unpause(which(&import_id, all)?, None).await?;
        Ok(Response::new(UnpauseImportsResponse {
            unpaused_import_ids: texts(&unpaused.changed),
            not_paused_import_ids: texts(&unpaused.unchanged),
        }))
    }

    async fn list_findings(
        &self,
        request: Request<ListFindingsRequest>,
    ) -> Result<Response<ListFindingsResponse>, Status> {
        let requester = requester(&request);
        let request = request.into_inner();
        let id = import_id(&request.import_id)?;
        self.imports.check_seen(id, &requester).await?;
        let kind = match FindingKind::try_from(request.kind) {
            Ok(FindingKind::Unspecified) => None,
            Ok(kind) => {
                let known = kind_from_proto(kind);
                Some(known.ok_or_else(|| Error::invalid("kind", "is not a finding kind of this region"))?)
            }
            Err(_) => return Err(Error::invalid("kind", "is not a finding kind").into()),
        };
        let severity = Severity::try_from(request.severity)
            .map_err(|_| Error::invalid("severity", "is not a severity"))?;
        let filters =
            [request.import_id.as_str(), kind.map_or("", |kind| kind.name()), severity.as_str_name()];
        let severity = severity_from_proto(severity);
        let list = List::new(&self.page_key, "ListFindings", &filters);
        let page =
            PageRequest { limit: list.limit(request.page_size)?, after: list.after(&request.page_token)? };
        let (page, tense) = self.imports.findings(id, kind, severity, &page).await?;
        let encode = |(_, finding)| finding_to_proto(finding, tense);
        let (findings, next) = fitting(page.items, page.next, |(key, _)| *key, encode);
        Ok(Response::new(ListFindingsResponse { findings, next_page_token: list.token(next) }))
    }

    async fn list_mapped_keys(
        &self,
        request: Request<ListMappedKeysRequest>,
    ) -> Result<Response<ListMappedKeysResponse>, Status> {
        let requester = requester(&request);
        let request = request.into_inner();
        let id = import_id(&request.import_id)?;
        self.imports.check_seen(id, &requester).await?;
        let filters = [request.import_id.as_str(), request.model.as_str()];
        let list = List::new(&self.page_key, "ListMappedKeys", &filters);
        let list = List { default_size: DEFAULT_KEYS_PAGE, max_size: MAX_KEYS_PAGE, ..list };
        let after = list.after::<LineKey>(&request.page_token)?.map(|key| (key.0, key.1, key.2));
        let page = PageRequest { limit: list.limit(request.page_size)?, after };
        let model = Some(request.model.as_str()).filter(|model| !model.is_empty());
        let page = self.imports.mapped_keys(id, model, &page).await?;
        let (keys, next) = fitting(page.items, page.next, |key| key.place, key_to_proto);
        let next = next.map(|(position, ordinal, line)| LineKey(position, ordinal, line));
        Ok(Response::new(ListMappedKeysResponse { keys, next_page_token: list.token(next) }))
    }
}
