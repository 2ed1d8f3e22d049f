//! Writes one chunk, here or at control, and records it.
//!
//! Here, one transaction has rows, chunk entry, counts and findings. Control commits the rows with a chunk entry of its
//! own; then the region records the chunk. If the region dies in between, it sends the same chunk again, and control
//! gives the same answer.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use causeway_metrics::areas::ChunkRecords;
use causeway_proto::{
    control::v1::{ImportModelsRequest, ImportRecord},
    relocation::v1::{self as contract, ImportFlags},
};
use causeway_relocation::{
    catalog::{FromColumn, Hide, Model},
    chunk::Chunk,
    finding::{Finding, FindingKind},
    keys::ChunkKeys,
    plan::Record,
    value::Value,
    writer::{ChunkSilo, Row, Writer, Written, write_chunk},
};
use causeway_silo::{
    db::{Tx, count},
    transact,
};
use tokio::time::Instant;

use super::{
    Import, ImportState, ImportedOrganization, ModelCounts, batches::Batch, context::ImportContext,
    leased_ids::take_leased_ids,
};
use crate::{
    convert,
    error::Error,
    store::{self, lease_transaction::LeaseTransaction},
};

/// What to record of a chunk in addition to its rows.
#[derive(Debug)]
pub(super) struct ChunkDraft {
    pub(super) state: ImportState,
    min_ordinal: i64,
    max_ordinal: i64,
    /// Bytes of all records in the file.
    bytes: u64,
    /// Keys of records that were filtered or are of another scope.
    pub(super) keys: ChunkKeys,
    pub(super) findings: Vec<Finding>,
    pub(super) dropped: i64,
    /// The pks in the export of records that will be written and that differ from the file.
    pub(super) changed: BTreeSet<i64>,
    /// For rows that are added: the record that each one is added for, by the row's ordinal, and the finding about it.
    pub(super) added: HashMap<i64, Added>,
    /// Whether the chunk has rows that are added, and no records.
    pub(super) is_added: bool,
    /// Wanted slug, name and own status of organizations before they are hidden, by their pk in the export.
    organizations: HashMap<i64, (String, String, i64)>,
}

/// A row that is added and that will be written.
#[derive(Debug)]
pub(super) struct Added {
    pub(super) source_pk: i64,
    /// The finding that it was added, at the record that it is added for.
    pub(super) finding: Finding,
}

impl ChunkDraft {
    /// The findings about the records, or about the records that rows are added for. Mapping reports usernames that are e-mail addresses before it is known which
    /// users are new. That finding is dropped for users who are merged or renamed, and for those that the writer has
    /// reported.
    pub(super) fn findings_to_store(&self, written: &Written) -> Vec<Finding> {
        let is_new = |finding: &Finding| {
            let says_more = |it: &Finding| {
                let kinds = [FindingKind::UsernameChanged, FindingKind::UsernameIsAddress];
                kinds.contains(&it.kind) && it.source_pk == finding.source_pk && it.field == finding.field
            };
            written.keys.inserted.iter().any(|(pk, _)| Some(*pk) == finding.source_pk)
                && !written.findings.iter().any(says_more)
        };
        let is_so = |it: &&Finding| it.kind != FindingKind::UsernameIsAddress || is_new(it);
        let mut findings: Vec<Finding> = self.findings.iter().filter(is_so).cloned().collect();
        if !self.is_added {
            findings.extend(written.findings.iter().cloned());
            return findings;
        }
        let inserted: HashSet<i64> = written.keys.inserted.iter().map(|(pk, _)| *pk).collect();
        for (ordinal, added) in &self.added {
            if inserted.contains(&added.source_pk) {
                findings.push(added.finding.clone());
                continue;
            }
            let of_row = written.findings.iter().filter(|finding| finding.ordinal == Some(*ordinal));
            findings.extend(of_row.map(|finding| Finding {
                reason: format!("no row was added: {}", finding.reason),
                kind: finding.kind,
                ..added.finding.clone()
            }));
        }
        findings.sort_by_key(|finding| finding.ordinal);
        findings
    }

    /// What is known of a chunk before its records are mapped.
    ///
    /// # Errors
    /// If an organization has no slug, name or status.
    pub(super) fn new(state: ImportState, model: &Model, batch: &Batch) -> Result<Self, Error> {
        let mut organizations = HashMap::new();
        if let (Some(FromColumn { column: slug, from: name }), Some(Hide { column: status, .. })) =
            (model.rules.global_slug, model.rules.hide)
        {
            let text = |record: &Record, column: usize| {
                record.values.get(column).and_then(Value::as_text).map(str::to_owned)
            };
            // A record that breaks a rule is not written.
            for record in batch.records.iter().filter(|record| record.defect.is_none()) {
                let status = record.values.get(status).and_then(Value::as_int);
                let (Some(slug), Some(name), Some(status)) = (text(record, slug), text(record, name), status)
                else {
                    let pk = record.source_pk;
                    return Err(Error::Internal(format!(
                        "organization {pk} of the file has no slug, name or status"
                    )));
                };
                organizations.insert(record.source_pk, (slug, name, status));
            }
        }
        Ok(Self {
            state,
            min_ordinal: batch.min_ordinal,
            max_ordinal: batch.max_ordinal,
            bytes: batch.records.iter().map(|record| record.length as u64).sum(),
            keys: ChunkKeys::default(),
            findings: Vec::new(),
            dropped: 0,
            changed: BTreeSet::new(),
            added: HashMap::new(),
            is_added: batch.records.iter().any(|record| record.added_for.is_some()),
            organizations,
        })
    }

    /// Stores the organizations among the rows that are written, if the model has some.
    pub(super) async fn insert_organizations(
        &self,
        lease: &mut LeaseTransaction<'_>,
        rows: &[Row],
        written: &Written,
    ) -> Result<(), Error> {
        if self.organizations.is_empty() {
            return Ok(());
        }
        let changed = self.changed_with(written);
        let mut organizations = Vec::with_capacity(rows.len());
        // The database may have refused some.
        let inserted: HashSet<i64> = written.keys.inserted.iter().map(|(_, id)| *id).collect();
        for row in rows.iter().filter(|row| inserted.contains(&row.id)) {
            let (wanted_slug, name, status) =
                self.organizations.get(&row.source_pk).cloned().ok_or_else(|| {
                    Error::Internal(format!("organization {} is not in the file", row.source_pk))
                })?;
            organizations.push(ImportedOrganization {
                id: row.id,
                source_id: row.source_pk,
                ordinal: Some(row.ordinal),
                byte_offset: Some(count(row.offset)?),
                wanted_slug,
                name,
                status,
                taken_in_region: false,
                changed: changed.contains(&row.source_pk),
                taken_from_attempt: None,
                slug_refused_by: None,
                slug_refusals: 0,
                slug: None,
                slug_plan: None,
            });
        }
        Ok(store::imported::insert_organizations(lease, &organizations).await?)
    }

    /// The pks in the export of records that were changed before they were written, or while they were.
    fn changed_with(&self, written: &Written) -> BTreeSet<i64> {
        let by_writing = written.findings.iter().filter(|finding| finding.kind.changes_record());
        self.changed.iter().copied().chain(by_writing.filter_map(|finding| finding.source_pk)).collect()
    }

    /// The counts of the chunk. `keys` must be those of all its records.
    pub(super) fn counts(
        &self,
        model: &Model,
        keys: &ChunkKeys,
        written: &Written,
    ) -> Result<ModelCounts, Error> {
        if self.is_added {
            let added = count(keys.inserted.len())?;
            return Ok(ModelCounts { model: model.name.clone(), added, ..ModelCounts::default() });
        }
        let changed = self.changed_with(written);
        let mut arrived = 0;
        if !changed.is_empty() {
            let mapped: HashSet<i64> = keys.mapped().map(|(_, source_pk, _)| source_pk).collect();
            arrived = changed.iter().filter(|source_pk| mapped.contains(source_pk)).count();
        }
        let dropped = self.dropped + written.dropped;
        Ok(ModelCounts { changed: count(arrived)?, ..counts_of(model, keys, dropped)? })
    }
}

/// A chunk that control has written and the region has yet to record.
#[derive(Debug)]
pub(super) struct ControlChunk {
    draft: ChunkDraft,
    written: Written,
    returned: Vec<(i64, String)>,
}

/// A chunk that is written in this region's own database.
struct RegionChunk<'a> {
    context: &'a ImportContext,
    import: &'a Import,
    draft: ChunkDraft,
    /// When all of it was written, and only the commit was left. Of the last attempt.
    recorded: Mutex<Instant>,
}

impl ChunkSilo for RegionChunk<'_> {
    type Error = Error;

    async fn leased_ids(&self, model: &Model, count: usize) -> Result<Option<Vec<i64>>, Error> {
        if model.leases_ids() {
            take_leased_ids(self.context, model, count).await.map(Some)
        } else {
            Ok(None)
        }
    }

    async fn record(&self, tx: &mut Tx, model: &Model, rows: &[Row], written: &Written) -> Result<(), Error> {
        // Before the lease is asserted, because other chunks then wait for the row of the import.
        tx.check_constraints().await?;
        let lease = &mut record(self.context, tx, self.import, model, &self.draft, written).await?;
        self.draft.insert_organizations(lease, rows, written).await?;
        self.context.env.failpoint("region.chunk.recorded").await?;
        *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(())
    }
}

/// What writes the chunks of an import, or goes through them in a dry run. `emails` is the model of addresses, for users.
pub(super) fn writer<'a>(
    context: &'a ImportContext,
    import: &Import,
    emails: Option<&'a Model>,
) -> Writer<'a> {
    Writer {
        env: &context.env,
        now: import.created_at,
        merge_users: import.parameters.merge_users,
        tense: import.tense(),
        emails,
        token_owners: HashMap::new(),
    }
}

/// Writes a chunk into this region's database.
pub(super) async fn write_here(
    context: &ImportContext,
    import: &Import,
    model: &Model,
    records: Vec<Record>,
    draft: ChunkDraft,
) -> Result<ChunkKeys, Error> {
    // Control writes the users.
    let writer = writer(context, import, None);
    let began = Instant::now();
    let here = RegionChunk { context, import, draft, recorded: Mutex::new(began) };
    context.env.failpoint("region.chunk.ready").await?;
    let written = write_chunk(&context.db, &writer, model, records, &here).await?;
    let commit = here.recorded.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
    context.metrics.imports.wrote_here(began.elapsed(), commit);
    context.env.failpoint("region.chunk.committed").await?;
    Ok(committed(context, model, here.draft, written))
}

/// Lets control write a chunk. The caller must record it then; until it has, control gives the same answer again.
pub(super) async fn write_at_control(
    context: &ImportContext,
    import: &Import,
    tables: &str,
    model: &Model,
    records: Vec<Record>,
    draft: ChunkDraft,
) -> Result<ControlChunk, Error> {
    let sent = records.len();
    let (mut written, mut returned) = (Written::default(), Vec::new());
    if !records.is_empty() {
        let request = ImportModelsRequest {
            region: String::new(),
            import_id: import.id.to_string(),
            model: model.name.clone(),
            flags: Some(ImportFlags {
                merge_users: import.parameters.merge_users,
                hide_organizations: import.parameters.hide_organizations,
            }),
            tables_fingerprint: tables.to_owned(),
            min_ordinal: draft.min_ordinal,
            max_ordinal: draft.max_ordinal,
            records: records.into_iter().map(record_for_control).collect::<Result<_, _>>()?,
        };
        context.register().await?;
        context.env.failpoint("region.control_chunk.ready").await?;
        let began = Instant::now();
        let answer = context.ask(context.control.import_models(request)).await?;
        context.metrics.imports.wrote_at_control(began.elapsed());
        context.env.failpoint("region.control_chunk.answered").await?;
        written.keys = keys_from_proto(&answer.keys)?;
        if draft.is_added {
            written.keys = written.keys.into_added();
        }
        let dropped = sent.checked_sub(answer.keys.len()).ok_or_else(|| {
            Error::Internal(format!("control wrote more records of {} than it was sent", model.name))
        })?;
        written.dropped = count(dropped)?;
        written.findings = answer.findings.iter().map(convert::finding_from_proto).collect();
        returned =
            answer.returned.into_iter().map(|returned| (returned.new_pk, returned.fields_json)).collect();
    }
    Ok(ControlChunk { draft, written, returned })
}

/// Records a chunk that control has written.
pub(super) async fn note_chunk_of_control(
    context: &ImportContext,
    import: &Import,
    model: &Model,
    ControlChunk { draft, written, returned }: ControlChunk,
) -> Result<ChunkKeys, Error> {
    transact!(Error, context.db, |tx| {
        let lease = &mut record(context, tx, import, model, &draft, &written).await?;
        store::imported::insert_returned(lease, &model.name, &returned).await?;
    })?;
    context.env.failpoint("region.control_chunk.noted").await?;
    Ok(committed(context, model, draft, written))
}

/// Counts the records of a chunk that was committed, for the metrics. Returns the keys of all of them.
fn committed(context: &ImportContext, model: &Model, draft: ChunkDraft, written: Written) -> ChunkKeys {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let (dropped, bytes) = (draft.dropped + written.dropped, draft.bytes);
    let keys = merged(draft.keys, written.keys);
    let rows = number(keys.inserted.len());
    if draft.is_added {
        context
            .metrics
            .imports
            .committed(&model.name, ChunkRecords { added: rows, ..ChunkRecords::default() });
        return keys;
    }
    let records = ChunkRecords {
        inserted: rows,
        added: 0,
        existing: number(keys.existing.len()),
        filtered: number(keys.filtered.len()),
        out_of_scope: number(keys.out_of_scope.len()),
        dropped: dropped.unsigned_abs(),
        bytes,
    };
    context.metrics.imports.committed(&model.name, records);
    keys
}

fn record_for_control(record: Record) -> Result<ImportRecord, Error> {
    let fields = record
        .fields
        .ok_or_else(|| Error::Internal("a record for control has lost its fields".to_owned()))?;
    Ok(ImportRecord {
        ordinal: record.ordinal,
        // Those of added rows are negative; control takes positive ones only.
        source_pk: record.source_pk.abs(),
        byte_offset: count(record.offset)?,
        fields_json: fields,
    })
}

/// Records a chunk in the transaction of its rows, and asserts the lease of its import there.
async fn record<'a>(
    context: &ImportContext,
    tx: &'a mut Tx,
    import: &Import,
    model: &Model,
    draft: &ChunkDraft,
    written: &Written,
) -> Result<LeaseTransaction<'a>, Error> {
    let keys = merged(draft.keys.clone(), written.keys.clone());
    let counts = draft.counts(model, &keys, written)?;
    let chunk = Chunk {
        region: context.region.to_owned(),
        import_id: import.id,
        model: model.name.clone(),
        position: count(model.position)?,
        min_ordinal: draft.min_ordinal,
        max_ordinal: draft.max_ordinal,
        keys,
        dropped: counts.dropped,
        digest: Vec::new(),
        findings: Vec::new(),
        created_at: context.env.now(),
        reverted: None,
    };
    if !chunk.insert(tx).await? {
        return Err(Error::ChunkExists { model: model.name.clone(), min_ordinal: draft.min_ordinal });
    }
    // After everything that takes long: from here to the commit, chunks of other models wait.
    let mut lease = context.assert_lease(tx, import).await?;
    if draft.is_added {
        store::model_counts::ensure(&mut lease, &chunk.model, chunk.position).await?;
    }
    store::model_counts::add(&mut lease, &counts).await?;
    context.add_findings(&mut lease, draft.state, &draft.findings_to_store(written)).await?;
    Ok(lease)
}

/// How many records of a chunk were inserted, existed already, or were not imported.
fn counts_of(model: &Model, keys: &ChunkKeys, dropped: i64) -> Result<ModelCounts, Error> {
    Ok(ModelCounts {
        model: model.name.clone(),
        inserted: count(keys.inserted.len())?,
        existing: count(keys.existing.len())?,
        out_of_scope: count(keys.out_of_scope.len())?,
        filtered: count(keys.filtered.len())?,
        dropped,
        ..ModelCounts::default()
    })
}

/// The keys of the records that control has written.
///
/// # Errors
/// If control does not report for each how it came about.
pub(super) fn keys_from_proto(lines: &[contract::MappedKey]) -> Result<ChunkKeys, Error> {
    let mut keys = ChunkKeys::default();
    for line in lines {
        let pair = (line.source_pk, line.new_pk);
        match line.kind() {
            contract::KeyKind::Inserted => keys.inserted.push(pair),
            contract::KeyKind::Existing => keys.existing.push(pair),
            contract::KeyKind::Unspecified => {
                return Err(Error::Internal(format!(
                    "control did not say what became of record {} of {}",
                    line.source_pk, line.model
                )));
            }
        }
    }
    Ok(keys)
}

/// The keys of a chunk: `draft` has those of records that were not to be written, `written` the others.
pub(super) fn merged(draft: ChunkKeys, written: ChunkKeys) -> ChunkKeys {
    ChunkKeys { filtered: draft.filtered, out_of_scope: draft.out_of_scope, ..written }
}
