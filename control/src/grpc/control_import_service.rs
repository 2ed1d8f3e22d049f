//! `causeway.control.v1.ControlImportService`.

use std::collections::BTreeMap;

use causeway_proto::{
    control::v1::{
        DescribeTablesRequest, DescribeTablesResponse, FindRowsRequest, FindRowsResponse, FoundRow,
        ImportChunk, ImportModelsRequest, ImportModelsResponse, ListImportChunksRequest,
        ListImportChunksResponse, PlanImportRequest, PlanImportResponse, ReturnedRecord,
        RevertImportChunkRequest, RevertImportChunkResponse, RevertImportRequest, RevertImportResponse,
        Table, TableColumn, UniqueIndex, control_import_service_server::ControlImportService,
    },
    finding as names,
    limits::MAX_TEXT_BYTES,
    page::{List, PageKey, fitting},
    relocation::v1::{self as contract, KeyKind, MappedKey},
    time,
};
use causeway_relocation::{
    chunk::ListedChunk,
    finding::{Finding, Severity},
    keys::{self, ChunkKeys},
    schema::{self, Actual},
};
use causeway_silo::{db::count, page::PageRequest};
use tonic::{Request, Response, Status};

use super::{bound_caller, planning, uuid};
use crate::{
    Error,
    import::write::ControlImports,
    model::import::{ImportModels, ImportRecord, NeededRow},
    validate,
};

/// The most chunks in a page with keys. Each chunk has keys of up to 5,000 records, about 35 bytes each.
const WITH_KEYS: u16 = 10;

#[derive(Debug)]
pub(super) struct Handler {
    imports: ControlImports,
    page_key: PageKey,
}

impl Handler {
    pub(super) fn new(imports: ControlImports, page_key: PageKey) -> Self {
        Self { imports, page_key }
    }
}

fn encode_finding(finding: Finding) -> contract::Finding {
    let severity = match finding.kind.severity() {
        Severity::Info => contract::Severity::Info,
        Severity::Warning => contract::Severity::Warning,
        Severity::Error => contract::Severity::Error,
    };
    contract::Finding {
        kind: names::kind(finding.kind.name()).into(),
        severity: severity.into(),
        model: finding.model.unwrap_or_default(),
        ordinal: finding.ordinal.unwrap_or(0),
        source_pk: finding.source_pk.unwrap_or(0),
        field: finding.field.unwrap_or_default(),
        byte_offset: finding.byte_offset.unwrap_or(-1),
        reason: finding.reason,
        remedy: finding.kind.remedy().to_owned(),
    }
}

/// Removes the remedy, which the region adds again from the kind. With remedies, the answer for a chunk could be too
/// large for a message.
fn without_remedy(finding: contract::Finding) -> contract::Finding {
    contract::Finding { remedy: String::new(), ..finding }
}

fn encode_key(model: &str, (kind, source_pk, new_pk): (keys::KeyKind, i64, i64)) -> MappedKey {
    let kind = match kind {
        keys::KeyKind::Inserted => KeyKind::Inserted,
        keys::KeyKind::Existing => KeyKind::Existing,
    };
    MappedKey { model: model.to_owned(), source_pk, new_pk, kind: kind.into(), ..MappedKey::default() }
}

fn encode_chunk(chunk: ListedChunk) -> ImportChunk {
    let keys = chunk.keys.iter().flat_map(ChunkKeys::mapped);
    ImportChunk {
        keys: keys.map(|line| encode_key(&chunk.model, line)).collect(),
        inserted: chunk.inserted,
        existing: chunk.existing,
        model: chunk.model,
        min_ordinal: chunk.min_ordinal,
        max_ordinal: chunk.max_ordinal,
        dropped: chunk.dropped,
        create_time: Some(time::to_proto(chunk.created_at)),
        reverted: Some(chunk.reverted),
    }
}

/// The key in page tokens of chunks: the model's position and the chunk's first ordinal, separated by a space.
struct ChunkKey(i64, i64);

impl std::fmt::Display for ChunkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

impl std::str::FromStr for ChunkKey {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (position, ordinal) = text.split_once(' ').unwrap_or((text, ""));
        Ok(Self(position.parse()?, ordinal.parse()?))
    }
}

#[tonic::async_trait]
impl ControlImportService for Handler {
    async fn import_models(
        &self,
        request: Request<ImportModelsRequest>,
    ) -> Result<Response<ImportModelsResponse>, Status> {
        let request = request.into_inner();
        let record = |record: causeway_proto::control::v1::ImportRecord| ImportRecord {
            ordinal: record.ordinal,
            source_pk: record.source_pk,
            byte_offset: record.byte_offset,
            fields_json: record.fields_json,
        };
        let chunk = ImportModels {
            import_id: uuid("import_id", &request.import_id)?,
            region: request.region,
            model: request.model.clone(),
            merge_users: request.flags.unwrap_or_default().merge_users,
            min_ordinal: request.min_ordinal,
            max_ordinal: request.max_ordinal,
            records: request.records.into_iter().map(record).collect(),
            tables_fingerprint: request.tables_fingerprint,
        };
        // A separate task, so that a caller who goes away does not cut off a COPY in the middle, which would leave the
        // connection out of step. The task finishes what it has begun, and the caller gets the answer when it asks
        // again.
        let imports = self.imports.clone();
        let written =
            tokio::spawn(causeway_audit::in_current_call(async move { imports.import_models(chunk).await }))
                .await
                .map_err(|error| Error::TaskFailed(error.to_string()))??;
        Ok(Response::new(ImportModelsResponse {
            keys: written.keys.mapped().map(|line| encode_key(&request.model, line)).collect(),
            findings: written.findings.into_iter().map(encode_finding).map(without_remedy).collect(),
            returned: written
                .returned
                .into_iter()
                .map(|(new_pk, fields_json)| ReturnedRecord { new_pk, fields_json })
                .collect(),
        }))
    }

    async fn plan_import(
        &self,
        request: Request<PlanImportRequest>,
    ) -> Result<Response<PlanImportResponse>, Status> {
        let PlanImportRequest { region, import_id } = request.into_inner();
        self.imports.plan(&region, uuid("import_id", &import_id)?).await?;
        Ok(Response::new(PlanImportResponse {}))
    }

    async fn find_rows(
        &self,
        request: Request<FindRowsRequest>,
    ) -> Result<Response<FindRowsResponse>, Status> {
        let must_say = bound_caller(&request).is_some();
        let FindRowsRequest { model, field, values, region, import_id } = request.into_inner();
        planning::check(&self.imports, must_say, &region, &import_id).await?;
        let rows = self.imports.find_rows(&model, &field, values).await?;
        let rows = rows.into_iter().map(|(value, id)| FoundRow { value, id }).collect();
        Ok(Response::new(FindRowsResponse { rows }))
    }

    async fn describe_tables(
        &self,
        _request: Request<DescribeTablesRequest>,
    ) -> Result<Response<DescribeTablesResponse>, Status> {
        let tables = self.imports.describe_tables().await?;
        let fingerprint = tables.fingerprint();
        let of_table = |name: &String| tables.fingerprint_of([name.as_str()]);
        let fingerprints: Vec<String> = tables.columns.keys().map(of_table).collect();
        let schema::Tables { columns, unique, of_product } = tables;
        let column = |(name, actual)| {
            let Actual { sql, null: nullable, has_default } = actual;
            TableColumn { name, r#type: sql, nullable, has_default }
        };
        let index = |index: &schema::UniqueIndex| UniqueIndex {
            columns: index.columns.clone(),
            conditional: index.conditional,
            deferred: index.deferred,
        };
        let table = |((name, columns), fingerprint): ((String, BTreeMap<_, _>), String)| {
            let unique = unique.as_ref().and_then(|unique| unique.get(&name));
            Table {
                columns: columns.into_iter().map(column).collect(),
                unique_indexes: unique.into_iter().flatten().map(index).collect(),
                fingerprint,
                name,
            }
        };
        Ok(Response::new(DescribeTablesResponse {
            of_product,
            fingerprint,
            has_unique_indexes: unique.is_some(),
            max_operation_bytes: count(self.imports.most_operation_bytes()).map_err(Error::from)?,
            tables: columns.into_iter().zip(fingerprints).map(table).collect(),
        }))
    }

    async fn list_import_chunks(
        &self,
        request: Request<ListImportChunksRequest>,
    ) -> Result<Response<ListImportChunksResponse>, Status> {
        let request = request.into_inner();
        let import_id = uuid("import_id", &request.import_id)?;
        let kind = if request.with_keys { "keys" } else { "" };
        let filters = [request.region.as_str(), request.import_id.as_str(), kind];
        let mut list = List::new(&self.page_key, "ListImportChunks", &filters);
        if request.with_keys {
            (list.default_size, list.max_size) = (WITH_KEYS, WITH_KEYS);
        }
        let after = list.after::<ChunkKey>(&request.page_token)?.map(|key| (key.0, key.1));
        let page = PageRequest { limit: list.limit(request.page_size)?, after };
        let page = self.imports.list_chunks(&request.region, import_id, request.with_keys, &page).await?;
        let key = |chunk: &ListedChunk| (chunk.position, chunk.min_ordinal);
        let (chunks, next) = fitting(page.items, page.next, key, encode_chunk);
        Ok(Response::new(ListImportChunksResponse {
            chunks,
            next_page_token: list.token(next.map(|(position, ordinal)| ChunkKey(position, ordinal))),
        }))
    }

    async fn revert_import(
        &self,
        request: Request<RevertImportRequest>,
    ) -> Result<Response<RevertImportResponse>, Status> {
        let request = request.into_inner();
        let import_id = uuid("import_id", &request.import_id)?;
        let needed: Vec<NeededRow> = request
            .needed
            .into_iter()
            .enumerate()
            .map(|(index, row)| {
                validate::text(|| format!("needed[{index}].needed_by"), &row.needed_by, MAX_TEXT_BYTES)?;
                Ok(NeededRow { model: row.model, id: row.pk, needed_by: row.needed_by })
            })
            .collect::<Result<_, Error>>()?;
        self.imports.revert(&request.region, import_id, &needed).await?;
        Ok(Response::new(RevertImportResponse {}))
    }

    async fn revert_import_chunk(
        &self,
        request: Request<RevertImportChunkRequest>,
    ) -> Result<Response<RevertImportChunkResponse>, Status> {
        let RevertImportChunkRequest { region, import_id, model, min_ordinal } = request.into_inner();
        let import_id = uuid("import_id", &import_id)?;
        let reverted = self.imports.revert_chunk(&region, import_id, &model, min_ordinal).await?;
        Ok(Response::new(RevertImportChunkResponse {
            deleted: reverted.deleted,
            kept: reverted.kept,
            findings: reverted.findings.into_iter().map(encode_finding).collect(),
        }))
    }
}
