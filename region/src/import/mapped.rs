//! What becomes of the records of a batch, as far as file and primary key map can tell. Found out by the thread that reads
//! them: nothing that it takes is still to come, for a model is read when all that it refers to has been written, and none
//! refers to itself.

use std::sync::{Arc, PoisonError, RwLock};

use causeway_relocation::{
    catalog::Catalog,
    keys::KeyMap,
    mapping::{Fate, Mapping},
    plan::{Plan, Record},
};

use super::{ImportState, batches::Batch, chunks::ChunkDraft};

/// The primary key map of an import, of which models are read while others are being written.
pub(super) type SharedKeys = Arc<RwLock<KeyMap>>;

/// Which records a batch has, whatever becomes of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Covered {
    pub(super) count: i64,
    pub(super) max_ordinal: i64,
}

/// What a batch comes to.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) covered: Covered,
    /// Those that are to be written.
    pub(super) records: Vec<Record>,
    pub(super) draft: ChunkDraft,
}

/// Maps the batches of one model.
pub(super) struct Mapper {
    pub(super) catalog: Arc<Catalog>,
    pub(super) plan: Arc<Plan>,
    pub(super) keys: SharedKeys,
    /// The position of the model.
    pub(super) position: usize,
    /// The state of the import.
    pub(super) state: ImportState,
}

impl Mapper {
    /// What a batch comes to; nothing if there is no such model.
    pub(super) fn map(&self, batch: Batch) -> Option<Mapped> {
        let model = self.catalog.models().get(self.position)?;
        let mut draft = ChunkDraft::new(self.state, model, &batch);
        let mut records = Vec::with_capacity(batch.records.len());
        for record in batch.records {
            let source_pk = record.source_pk;
            // Held for a record only, for who adds keys of a chunk waits for it.
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            let mapping = Mapping { catalog: &self.catalog, plan: &self.plan, keys: &keys };
            match mapping.map(model, record, &mut draft.findings) {
                Fate::Write(record) => records.push(*record),
                Fate::Filtered => draft.keys.filtered.push(source_pk),
                Fate::OutOfScope => draft.keys.out_of_scope.push(source_pk),
                Fate::Dropped(finding) => {
                    draft.dropped += 1;
                    draft.findings.push(finding);
                }
            }
        }
        let count = batch.max_ordinal - batch.min_ordinal + 1;
        Some(Mapped { covered: Covered { count, max_ordinal: batch.max_ordinal }, records, draft })
    }
}
