//! Writes chunks of the models of the control silo for the imports of regions.
//!
//! Rows, chunk entry and answer are committed together. A region that did not receive the answer sends the chunk again
//! and gets the same answer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use causeway_audit::Subject;
use causeway_proto::limits::{MAX_CHUNK_RECORDS, MAX_FIND_BYTES, MAX_FIND_VALUES};
use causeway_relocation::{
    catalog::{Catalog, Column, Model, ORGANIZATION, Silo},
    chunk::{Chunk, ListedChunk},
    export::{Decoder, MAX_PK},
    finding::{Finding, FindingKind, Tense},
    generate::TokenOwner,
    keys::ChunkKeys,
    plan::Record,
    schema::Tables,
    value::Value,
    writer::{ChunkSilo, Row, Writer, Written, find_rows, write_chunk},
};
use causeway_silo::{
    db::{Db, DbError, Tx, count},
    env::Environment,
    page::{Page, PageRequest},
};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{fitted::Fitted, searches::Searches};
use crate::{
    Error,
    model::import::{ImportModels, ImportRecord, ImportedModels},
    regions::{self, Regions, admission, ids},
    slug::reservations::SlugReservations,
    store::{self, product_tables::ProductDb},
};

/// The model of auth tokens, which the product's workers copy into the region.
pub(super) const AUTH_TOKEN: &str = "sentry.orgauthtoken";

/// The use cases of imports: writes and reverts chunks for regions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControlImports {
    db: Db,
    env: Environment,
    fitted: Fitted,
    regions: Regions,
    slug_reservations: SlugReservations,
    address: String,
    searches: Searches,
}

/// A chunk that is being written.
struct Writing<'a> {
    env: &'a Environment,
    request: &'a ImportModels,
    digest: Vec<u8>,
    /// The product's own tables, if the database is the product's.
    product_db: Option<&'a ProductDb>,
    /// The organizations to which the records belong. They must not be of another region.
    organizations: Vec<i64>,
}

impl ChunkSilo for Writing<'_> {
    type Error = Error;

    async fn leased_ids(&self, _model: &Model, _count: usize) -> Result<Option<Vec<i64>>, Error> {
        Ok(None)
    }

    async fn record(
        &self,
        tx: &mut Tx,
        model: &Model,
        _rows: &[Row],
        written: &Written,
    ) -> Result<(), Error> {
        let chunk = Chunk {
            region: self.request.region.clone(),
            import_id: self.request.import_id,
            model: model.name.clone(),
            position: count(model.position)?,
            min_ordinal: self.request.min_ordinal,
            max_ordinal: self.request.max_ordinal,
            keys: written.keys.clone(),
            dropped: written.dropped,
            digest: self.digest.clone(),
            findings: written.findings.clone(),
            created_at: self.env.now(),
            reverted: None,
        };
        admission::may_write(tx, &chunk.region).await?;
        // A region that could write tokens for organizations of others would have access to them.
        ids::check_not_of_others(tx, &chunk.region, &self.organizations).await?;
        if !store::import::lock_if_open(tx, &chunk.region, chunk.import_id).await? {
            return Err(Error::ImportBeingReverted { import_id: chunk.import_id });
        }
        // Another call has written the same chunk at the same time: this one gives up.
        if !chunk.insert(tx).await? {
            return Err(Error::ChunkExists);
        }
        if let Some(product_db) = self.product_db
            && model.name == AUTH_TOKEN
        {
            let ids = chunk.keys.inserted.iter().map(|(_, new)| *new).collect();
            product_db.announce_tokens(tx, &chunk.region, ids).await?;
        }
        causeway_audit::append(tx, &Subject::import(chunk.import_id), chunk.created_at).await?;
        Ok(self.env.failpoint("control.import_models.recorded").await?)
    }
}

impl ControlImports {
    /// The most bytes that the organizations of one bulk creation may take.
    pub(crate) fn most_operation_bytes(&self) -> usize {
        self.slug_reservations.intake.most_bytes()
    }

    pub(crate) fn new(
        db: Db,
        env: Environment,
        fitted: Fitted,
        regions: Regions,
        slug_reservations: SlugReservations,
        address: String,
    ) -> Self {
        Self { db, env, fitted, regions, slug_reservations, address, searches: Searches::default() }
    }

    /// The product's own tables, if the database is the product's.
    pub(crate) fn product_db(&self) -> Option<&ProductDb> {
        self.slug_reservations.feeds.product_db()
    }

    /// Where the search for rows that an import has brought begins.
    pub(super) fn searches(&self) -> &Searches {
        &self.searches
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    pub(crate) fn env(&self) -> &Environment {
        &self.env
    }

    /// The catalog as far as the database takes it now.
    pub(crate) async fn catalog(&self) -> Result<Arc<Catalog>, Error> {
        self.fitted.catalog().await
    }

    /// Control's tables of models, as they are now.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub async fn describe_tables(&self) -> Result<Tables, Error> {
        Ok(self.fitted.tables().await?)
    }

    /// Writes a chunk in one transaction, or returns the former answer if it was written before.
    ///
    /// # Errors
    /// If the region is not registered or is suspended, control does not write the model, a record cannot be written or
    /// refers to what the import has not brought, the import is closed, or a chunk with the same first ordinal has other content.
    pub async fn import_models(&self, request: ImportModels) -> Result<ImportedModels, Error> {
        causeway_audit::about(Subject::import(request.import_id));
        regions::writing(&self.db, "region", &request.region).await?;
        let catalog = self.fitted.catalog_for(&request.model, &request.tables_fingerprint).await?;
        let model = importable(&catalog, &request.model)?;
        check_ordinals(&request)?;
        let digest = digest(&request);
        if let Some(answer) = self.answered(&request, model, &digest).await? {
            return Ok(answer);
        }
        let now = self.env.now();
        let decoder = Decoder::new(&self.env, now);
        let records: Vec<Record> =
            request.records.iter().map(|record| decode(&decoder, model, record)).collect::<Result<_, _>>()?;
        self.check_own_rows(&catalog, &request, model, &records).await?;
        let writer = Writer {
            env: &self.env,
            now,
            merge_users: request.merge_users,
            tense: Tense::Happened,
            emails: catalog.emails(),
            token_owners: self.token_owners(&request.region, model, &records).await?,
        };
        let product_db = self.product_db();
        let organizations = organizations_of(model, &records);
        let writing =
            Writing { env: &self.env, request: &request, digest: digest.clone(), product_db, organizations };
        match write_chunk(&self.db, &writer, model, records, &writing).await {
            Ok(written) => {
                self.env.failpoint("control.import_models.committed").await?;
                self.answer(model, written.keys, written.findings, written.returned).await
            }
            Err(Error::ChunkExists) => {
                self.answered(&request, model, &digest).await?.ok_or(Error::ChunkExists)
            }
            Err(error) => Err(error),
        }
    }

    /// The rows of a model that have one of these values: value and row id, sorted by value.
    ///
    /// # Errors
    /// If control does not write the model, no rule looks up the field, there are too many values, or the database
    /// fails.
    pub async fn find_rows(
        &self,
        model: &str,
        field: &str,
        values: Vec<String>,
    ) -> Result<Vec<(String, i64)>, Error> {
        let catalog = self.catalog().await?;
        let model = importable(&catalog, model)?;
        let column = model
            .looked_up_columns()
            .filter_map(|column| model.columns.get(column))
            .find(|column| column.field == field)
            .ok_or_else(|| Error::invalid("field", "is not one that a rule of the model looks up"))?;
        if values.len() > MAX_FIND_VALUES {
            return Err(Error::invalid("values", format!("at most {MAX_FIND_VALUES} in one call")));
        }
        if values.iter().map(String::len).sum::<usize>() > MAX_FIND_BYTES {
            return Err(Error::invalid("values", format!("at most {MAX_FIND_BYTES} bytes together")));
        }
        let mut found: Vec<(String, i64)> =
            find_rows(&self.db, model, column, values).await?.into_iter().collect();
        found.sort_unstable();
        Ok(found)
    }

    /// A page of an import's chunks, in the order of writing, with their primary keys if wanted. The key is the model's
    /// position and the first ordinal.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list_chunks(
        &self,
        region: &str,
        import_id: Uuid,
        with_keys: bool,
        request: &PageRequest<(i64, i64)>,
    ) -> Result<Page<ListedChunk, (i64, i64)>, Error> {
        let after = request.after.unwrap_or((-1, 0));
        let chunks =
            Chunk::list_summaries(&self.db, region, import_id, after, with_keys, request.rows()).await?;
        Ok(Page::cut(chunks, request, |chunk| (chunk.position, chunk.min_ordinal)))
    }

    async fn answered(
        &self,
        request: &ImportModels,
        model: &Model,
        digest: &[u8],
    ) -> Result<Option<ImportedModels>, Error> {
        let found =
            Chunk::find(&self.db, &request.region, request.import_id, &model.name, request.min_ordinal)
                .await?;
        let Some(chunk) = found else { return Ok(None) };
        if chunk.digest != digest {
            return Err(Error::ChunkContentDiffers {
                model: model.name.clone(),
                min_ordinal: request.min_ordinal,
            });
        }
        self.answer(model, chunk.keys, chunk.findings, Vec::new()).await.map(Some)
    }

    /// Builds the answer for a chunk. Reads the returned values from the database, except those of rows in `inserted`.
    async fn answer(
        &self,
        model: &Model,
        keys: ChunkKeys,
        findings: Vec<Finding>,
        inserted: Vec<(i64, Vec<Value>)>,
    ) -> Result<ImportedModels, Error> {
        let mut returned: BTreeMap<i64, String> = inserted
            .into_iter()
            .map(|(id, values)| Ok((id, returned_text(model, values)?)))
            .collect::<Result<_, DbError>>()?;
        if !model.returned_columns.is_empty() {
            let others: HashSet<i64> =
                keys.mapped().map(|(_, _, new)| new).filter(|id| !returned.contains_key(id)).collect();
            if !others.is_empty() {
                let others = others.into_iter().collect();
                returned.extend(store::import::returned(&self.db, model, others).await?);
            }
        }
        let returned = returned.into_iter().collect();
        Ok(ImportedModels { keys, findings, returned })
    }

    /// For models with auth tokens: what a new token contains about its organization, by organization id. A
    /// token that another row has gets a new value.
    async fn token_owners(
        &self,
        region: &str,
        model: &Model,
        records: &[Record],
    ) -> Result<HashMap<i64, TokenOwner>, Error> {
        if !model.rules.deferred {
            return Ok(HashMap::new());
        }
        let column =
            model.columns.iter().position(|column| column.references.as_deref() == Some(ORGANIZATION));
        let ids: HashSet<i64> =
            records.iter().filter_map(|record| record.values.get(column?)?.as_int()).collect();
        let region_url = self.regions.region_address(region).await?;
        let slugs = self.slug_reservations.slugs_of(region, ids.into_iter().collect()).await?;
        let owner = |organization_slug| TokenOwner {
            organization_slug,
            region_url: region_url.clone(),
            control_url: self.address.clone(),
        };
        Ok(slugs.into_iter().map(|(id, slug)| (id, owner(slug))).collect())
    }
}

/// The organizations to which records refer, each once.
fn organizations_of(model: &Model, records: &[Record]) -> Vec<i64> {
    let refers = |column: &&Column| column.references.as_deref() == Some(ORGANIZATION);
    let columns: Vec<usize> =
        (0..).zip(&model.columns).filter(|(_, column)| refers(column)).map(|(at, _)| at).collect();
    let values = records.iter().flat_map(|record| columns.iter().filter_map(|at| record.values.get(*at)));
    let ids: BTreeSet<i64> = values.filter_map(Value::as_int).collect();
    ids.into_iter().collect()
}

/// Finds a model by name if control writes it.
pub(crate) fn writable<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Model, Error> {
    catalog
        .model(name)
        .filter(|model| model.silo == Silo::Control && model.in_organization_scope())
        .ok_or_else(|| Error::ModelNotWritable { model: name.to_owned() })
}

/// The same, if the database takes its records.
fn importable<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Model, Error> {
    let model = writable(catalog, name)?;
    if model.not_importable.is_none() {
        Ok(model)
    } else {
        Err(Error::ModelNotWritable { model: name.to_owned() })
    }
}

/// Encodes returned values as the store does: a JSON object by field.
fn returned_text(model: &Model, values: Vec<Value>) -> Result<String, DbError> {
    let columns = model.returned_columns.iter().filter_map(|column| model.columns.get(*column));
    let fields: serde_json::Map<String, serde_json::Value> = columns
        .zip(values)
        .map(|(column, value)| {
            let value = match value {
                Value::Null => serde_json::Value::Null,
                Value::Bool(value) => value.into(),
                Value::Text(value) => value.into(),
                // The catalog has no other returned columns.
                _ => return Err(DbError::inconsistent(format!("{} cannot be returned", column.field))),
            };
            Ok((column.field.clone(), value))
        })
        .collect::<Result<_, DbError>>()?;
    Ok(serde_json::Value::Object(fields).to_string())
}

fn check_ordinals(request: &ImportModels) -> Result<(), Error> {
    if request.min_ordinal < 1 || request.max_ordinal < request.min_ordinal {
        return Err(Error::invalid("min_ordinal", "must be 1 or more, and not above max_ordinal"));
    }
    if request.records.len() > MAX_CHUNK_RECORDS {
        return Err(Error::invalid("records", format!("at most {MAX_CHUNK_RECORDS} in one call")));
    }
    let mut before = request.min_ordinal - 1;
    for (index, record) in request.records.iter().enumerate() {
        if record.ordinal <= before || record.ordinal > request.max_ordinal {
            return Err(Error::invalid(
                format!("records[{index}].ordinal"),
                "must rise, from min_ordinal to max_ordinal",
            ));
        }
        if !(1..=MAX_PK).contains(&record.source_pk) {
            return Err(Error::invalid(
                format!("records[{index}].source_pk"),
                "must be between 1 and 2^53 - 1",
            ));
        }
        before = record.ordinal;
    }
    Ok(())
}

/// The digest of a chunk's content. The same chunk sent again has the same digest.
fn digest(request: &ImportModels) -> Vec<u8> {
    let mut digest = Sha256::new();
    digest.update(request.max_ordinal.to_be_bytes());
    digest.update([u8::from(request.merge_users)]);
    for record in &request.records {
        digest.update(record.ordinal.to_be_bytes());
        digest.update(record.source_pk.to_be_bytes());
        digest.update(record.fields_json.len().to_be_bytes());
        digest.update(record.fields_json.as_bytes());
    }
    digest.finalize().to_vec()
}

fn decode(decoder: &Decoder<'_>, model: &Model, record: &ImportRecord) -> Result<Record, Error> {
    let offset = u64::try_from(record.byte_offset)
        .map_err(|_| Error::invalid("records.byte_offset", "must not be negative"))?;
    let refuse = |finding: Finding| {
        Error::ExportInvalid(Box::new(
            finding.model(&model.name).record(record.ordinal, record.source_pk).at(offset),
        ))
    };
    let fields: &RawValue = serde_json::from_str(&record.fields_json).map_err(|error| {
        refuse(Finding::new(FindingKind::DeserializationFailed, format!("the fields are not JSON: {error}")))
    })?;
    let decoded = decoder.decode(model, fields).map_err(refuse)?;
    Ok(Record {
        ordinal: record.ordinal,
        source_pk: record.source_pk,
        offset,
        length: record.fields_json.len(),
        changed: decoded.is_changed(),
        values: decoded.values,
        actor: None,
        fields: None,
        defect: None,
        added_for: None,
    })
}
