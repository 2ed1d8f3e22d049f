//! Decides what happens to the records of a batch, as far as the file and the primary key map decide it. The
//! thread that reads the records does this. Everything that it needs is there already: a model is read when
//! all models that it refers to have been written, and no model refers to itself.

use std::sync::{Arc, PoisonError, RwLock};

use causeway_relocation::{
    catalog::{Catalog, Hide, Model},
    finding::{Finding, FindingKind, Tense},
    keys::KeyMap,
    mapping::{Decision, Mapping},
    plan::{Plan, Record},
    value::Value,
};

use super::{
    ImportState,
    batches::Batch,
    chunks::{Added, ChunkDraft},
};
use crate::{error::Error, throttle::Cost};

/// The primary key map of an import. Some models are read with it while others are being written.
pub(super) type SharedKeys = Arc<RwLock<KeyMap>>;

/// Which records a batch has, whatever happens to them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Covered {
    pub(super) count: i64,
    pub(super) max_ordinal: i64,
    /// What those of them write that are to be written.
    pub(super) cost: Cost,
}

/// A batch after mapping.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) covered: Covered,
    /// The records to write.
    pub(super) records: Vec<Record>,
    pub(super) draft: ChunkDraft,
}

/// Maps the batches of one model.
pub(super) struct Mapper {
    pub(super) catalog: Arc<Catalog>,
    pub(super) plan: Arc<Plan>,
    pub(super) keys: SharedKeys,
    /// The position of the model in the catalog.
    pub(super) position: usize,
    pub(super) state: ImportState,
    /// Whether organizations stay hidden at the end.
    pub(super) hides: bool,
    /// Whether the records are written, or would be.
    pub(super) tense: Tense,
}

impl Mapper {
    /// The finding that an organization was not visible to everybody in the file, if the import leaves it hidden, so
    /// that nobody sees that status for now.
    fn hidden_status(&self, model: &Model, record: &Record) -> Option<Finding> {
        let Hide { column, shown, .. } = model.rules.hide?;
        let status = record.values.get(column).and_then(Value::as_int).filter(|status| *status != shown)?;
        let field = &model.columns.get(column)?.field;
        let name = match status {
            1 => " (pending deletion)",
            2 => " (deletion in progress)",
            3 => " (hidden)",
            _ => "",
        };
        let reason = format!("is {status}{name} in the file, and the import leaves the organization hidden");
        let finding = Finding::new(FindingKind::HiddenStatus, reason).model(&model.name).field(field);
        self.hides.then(|| finding.record(record.ordinal, record.source_pk).at(record.offset))
    }

    /// Maps a batch.
    ///
    /// # Errors
    /// If there is no such model, or the catalog or the plan contradicts itself.
    pub(super) fn map(&self, batch: Batch) -> Result<Mapped, Error> {
        let model = self.catalog.models().get(self.position);
        let model = model.ok_or_else(|| Error::Internal("a batch is of an unknown model".to_owned()))?;
        let mut draft = ChunkDraft::new(self.state, model, &batch)?;
        let mut records = Vec::with_capacity(batch.records.len());
        let mut cost = Cost::default();
        let chunk_begins = batch.records.first().map_or(0, |record| record.offset);
        for record in batch.records {
            let (source_pk, length) = (record.source_pk, record.length);
            let (ordinal, offset, added_for) = (record.ordinal, record.offset, record.added_for);
            // Locked for one record only, because a task that adds the keys of a chunk waits for the lock.
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            let mapping = Mapping {
                catalog: &self.catalog,
                plan: &self.plan,
                keys: &keys,
                tense: self.tense,
                chunk_begins,
            };
            let (noted, changed) = (draft.findings.len(), record.changed);
            match mapping.map(model, record, &mut draft.findings)? {
                Decision::NotAdded => {}
                Decision::Write(record) => {
                    if let Some(added_for) = added_for {
                        let finding = mapping.row_added(model, added_for, offset);
                        draft.added.insert(ordinal, Added { source_pk, finding });
                    }
                    draft.findings.extend(self.hidden_status(model, &record));
                    let mut made = draft.findings.iter().skip(noted);
                    if changed || made.any(|finding| finding.kind.changes_record()) {
                        draft.changed.insert(source_pk);
                    }
                    cost.rows = cost.rows.saturating_add(1);
                    cost.bytes = cost.bytes.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
                    records.push(*record);
                }
                Decision::Filtered => draft.keys.filtered.push(source_pk),
                Decision::OutOfScope => draft.keys.out_of_scope.push(source_pk),
                Decision::NotInDatabase => draft.dropped += 1,
                Decision::Dropped(finding) => {
                    draft.dropped += 1;
                    draft.findings.push(finding);
                }
            }
        }
        let count = batch.max_ordinal - batch.min_ordinal + 1;
        Ok(Mapped { covered: Covered { count, max_ordinal: batch.max_ordinal, cost }, records, draft })
    }
}
