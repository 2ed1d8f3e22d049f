//! What an import may refer to at control: rows that it has brought itself. A region that could name any row could give
//! addresses and options to users of other regions.
//!
//! | chunk | what is allowed |
//! | --- | --- |
//! | of a model whose records are left out where a user was here before | users that this import has inserted |
//! | of any other | users that this import has inserted or was given |
//!
//! The region applies the same rule when it rewrites references, so it never sends what is refused here.

use std::collections::BTreeSet;

use causeway_relocation::{
    catalog::{Catalog, Model, Silo},
    chunk::Chunk,
    plan::Record,
    value::Value,
};

use super::{revert::CHUNKS, write::ControlImports};
use crate::{Error, model::import::ImportModels};

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
            let mut unknown: BTreeSet<i64> = referred.filter_map(Value::as_int).collect();
            let must_be_new = model.rules.skip_when_existing.contains(&index);
            self.remove_own(request, target, must_be_new, &mut unknown).await?;
            if let Some(id) = unknown.first() {
                return Err(Error::RowNotOfImport {
                    import_id: request.import_id,
                    field: column.field.clone(),
                    model: target.name.clone(),
                    id: *id,
                });
            }
        }
        Ok(())
    }

    /// Removes the ids of rows that an import has inserted and, unless they `must_be_new`, of those that it was given.
    async fn remove_own(
        &self,
        request: &ImportModels,
        target: &Model,
        must_be_new: bool,
        ids: &mut BTreeSet<i64>,
    ) -> Result<(), Error> {
        let mut after = (-1, 0);
        while !ids.is_empty() {
            let models = vec![target.name.clone()];
            let (region, import) = (&request.region, request.import_id);
            let chunks = Chunk::keys_to_revert(self.db(), region, import, models, after, CHUNKS).await?;
            let Some((_, position, ordinal, _)) = chunks.last() else { return Ok(()) };
            after = (*position, *ordinal);
            for (_, _, _, keys) in &chunks {
                let given = keys.existing.iter().filter(|_| !must_be_new);
                for (_, new) in keys.inserted.iter().chain(given) {
                    ids.remove(new);
                }
            }
        }
        Ok(())
    }
}
