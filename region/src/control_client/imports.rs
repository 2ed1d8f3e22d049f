//! Calls about the models of an import that control stores, and about what control has of them.

use std::collections::{BTreeMap, HashMap};

use causeway_client::CallError;
use causeway_proto::{
    control::v1::{
        DescribeTablesRequest, FindRowsRequest, ImportModelsRequest, ImportModelsResponse,
        ListImportChunksRequest, ListImportChunksResponse, NeededRow, PlanImportRequest,
        RevertImportChunkRequest, RevertImportRequest, TableColumn, UniqueIndex,
        control_import_service_client::ControlImportServiceClient,
    },
    limits::{MAX_FIND_BYTES, MAX_FIND_VALUES, MAX_PAGE},
};
use causeway_relocation::{
    chunk::Reverted,
    schema::{self, Actual, Tables},
};
use tonic::Code;
use uuid::Uuid;

use super::ControlClient;
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

/// Values in as many calls of `FindRows` as its limits ask for.
pub(super) fn batches_of_values(values: Vec<String>) -> Vec<Vec<String>> {
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
        let answer = self
            .call(
                "causeway.control.v1.ControlImportService/PlanImport",
                self.client.timeouts().call,
                request,
                async |channel, request| ControlImportServiceClient::new(channel).plan_import(request).await,
            )
            .await;
        match answer {
            Err(error) if error.code() == Some(Code::Unimplemented) => Ok(()),
            answer => answer.map(|_| ()),
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
}
