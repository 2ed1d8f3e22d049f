//! What an import may refer to at control: rows that it has brought itself. A region that could name any row could give
//! addresses and options to users of other regions.
//!
//! | chunk | what is allowed |
//! | --- | --- |
//! | of a model whose records are left out where a user was here before | users that this import has inserted |
//! | of any other | users that this import has inserted or was given |
//!
//! The region applies the same rule when it rewrites references. It does not know the rule about the week below.
//!
//! An import of another region may have merged into a user since. Two imports at the same time may do so, and then the
//! first one still brings what belongs to its user; an import that began long ago does not add to that user any more.

use std::collections::BTreeSet;

use causeway_relocation::{
    catalog::{Catalog, Model, Silo},
    chunk::{Chunk, Others, SharedChunk},
    keys::KeyKind,
    plan::Record,
    value::Value,
};
use causeway_silo::transact;
use chrono::TimeDelta;

use super::{revert::CHUNKS, searches::BEGINNING, write::ControlImports};
use crate::{Error, model::import::ImportModels};

/// How many chunks are read at first: usually they have all that a chunk of addresses or options refers to.
const FIRST_CHUNKS: i64 = 4;
/// How long after its first chunk an import adds to users whom other regions use by now.
const ADDS_FOR: TimeDelta = TimeDelta::days(7);

impl ControlImports {
    /// Refuses records that refer to rows of control which their import has not brought.
    ///
    /// This is read before the transaction that writes: no chunk is ever changed, and rows go only after their import has
    /// been closed, which that transaction notices.
    ///
    /// # Errors
    /// If there is such a record, or the database fails.
    pub(super) async fn check_own_rows(
        &self,
        catalog: &Catalog,
        request: &ImportModels,
        model: &Model,
        records: &[Record],
    ) -> Result<(), Error> {
        for (index, column) in model.columns.iter().enumerate() {
            let target = column.references.as_deref().and_then(|target| catalog.model(target));
            let Some(target) = target.filter(|target| target.silo == Silo::Control) else { continue };
            let referred = records.iter().filter_map(|record| record.values.get(index));
            let referred: BTreeSet<i64> = referred.filter_map(Value::as_int).collect();
            let must_be_new = model.rules.skip_when_existing.contains(&index);
            let (field, model) = (column.field.clone(), target.name.clone());
            let mut unknown = referred.clone();
            self.remove_own(request, target, must_be_new, &mut unknown).await?;
            if let Some(id) = unknown.first() {
                let import_id = request.import_id;
                let record = record_with(records, index, *id);
                return Err(Error::RowNotOfImport { import_id, record, field, model, id: *id });
            }
            if must_be_new
                && self.is_late(request).await?
                && let Some(id) = self.used_elsewhere(request, target, &referred).await?
            {
                let record = record_with(records, index, id);
                let import_id = request.import_id;
                return Err(Error::RowUsedElsewhere { import_id, record, field, model, id });
            }
        }
        Ok(())
    }

    /// Whether an import began so long ago that it does not add to what others use.
    async fn is_late(&self, request: &ImportModels) -> Result<bool, Error> {
        let (region, import) = (&request.region, request.import_id);
        let first = Chunk::first_written(self.db(), region, import).await?;
        Ok(first.is_some_and(|first| self.env().now() - first > ADDS_FOR))
    }

    /// One of these rows that an import of another region found there and uses, if there is one. Read page by page,
    /// because there may be many such imports.
    async fn used_elsewhere(
        &self,
        request: &ImportModels,
        target: &Model,
        ids: &BTreeSet<i64>,
    ) -> Result<Option<i64>, Error> {
        let region = request.region.as_str();
        let mut page: Vec<SharedChunk> = Vec::new();
        loop {
            let after = page.last().map(|last| (last.region.clone(), last.import_id, last.min_ordinal));
            page = transact!(Error, self.db(), |tx| {
                let after =
                    after.as_ref().map(|(region, import, ordinal)| (region.as_str(), *import, *ordinal));
                Chunk::on_existing(tx, Others::Regions { region }, &target.name, after, CHUNKS).await?
            })?;
            if page.is_empty() {
                return Ok(None);
            }
            let mut found = page.iter().flat_map(|chunk| chunk.keys.mapped());
            let used = found.find(|(kind, _, id)| *kind != KeyKind::Inserted && ids.contains(id));
            if let Some((_, _, id)) = used {
                return Ok(Some(id));
            }
        }
    }

    /// Removes the ids of rows that an import has inserted and, unless they `must_be_new`, of those that it was given.
    async fn remove_own(
        &self,
        request: &ImportModels,
        target: &Model,
        must_be_new: bool,
        ids: &mut BTreeSet<i64>,
    ) -> Result<(), Error> {
        let of = (request.region.clone(), request.import_id, target.name.clone());
        let start = self.searches().start(&of);
        let mut found = self.remove_from(request, target, must_be_new, ids, start).await?;
        if !ids.is_empty() && start != BEGINNING {
            found = self.remove_from(request, target, must_be_new, ids, BEGINNING).await?.or(found);
        }
        if let Some(found) = found {
            self.searches().set_start(of, found);
        }
        Ok(())
    }

    /// The same with the chunks after one of them. Returns where to begin in order to find the first of these ids again.
    async fn remove_from(
        &self,
        request: &ImportModels,
        target: &Model,
        must_be_new: bool,
        ids: &mut BTreeSet<i64>,
        start: (i64, i64),
    ) -> Result<Option<(i64, i64)>, Error> {
        let (mut after, mut found, mut limit) = (start, None, FIRST_CHUNKS);
        while !ids.is_empty() {
            let models = vec![target.name.clone()];
            let (region, import) = (&request.region, request.import_id);
            let chunks = Chunk::keys_of(self.db(), region, import, models, after, limit).await?;
            let Some((_, position, ordinal, _)) = chunks.last() else { break };
            after = (*position, *ordinal);
            for (_, position, ordinal, keys) in &chunks {
                let before = ids.len();
                let given = keys.existing.iter().filter(|_| !must_be_new);
                for (_, new) in keys.inserted.iter().chain(given) {
                    ids.remove(new);
                }
                if ids.len() < before && found.is_none() {
                    found = Some((*position, *ordinal - 1));
                }
            }
            limit = CHUNKS;
        }
        Ok(found)
    }
}

/// The ordinal of the record that refers to a row by the column at `index`; 0 if none does.
fn record_with(records: &[Record], index: usize, id: i64) -> i64 {
    let refers = |record: &&Record| record.values.get(index).and_then(Value::as_int) == Some(id);
    records.iter().find(refers).map_or(0, |record| record.ordinal)
}
