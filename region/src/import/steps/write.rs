//! WRITING: the models of the organization scope, each after all that it refers to; and what this needs of earlier
//! chunks.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use causeway_relocation::{
    catalog::{Follow, Kind, Model},
    chunk::Chunk,
    keys::KeyMap,
    plan::Record,
    value::Value,
};

use crate::{
    error::Error,
    import::{Engine, Import, ImportState, engine::Run},
    store,
};

/// How many chunks are read at once when an import continues.
const CHUNKS: i64 = 100;

impl Engine {
    /// Writes all models of the organization scope except the deferred ones. If the process dies in between, this
    /// continues after the last chunk that was committed.
    pub(in crate::import) async fn import_in_organization_scope(
        &self,
        import: &Import,
        run: &mut Run,
    ) -> Result<(), Error> {
        self.do_writes(import, run, false).await?;
        self.check_owners(import).await?;
        self.context.env.failpoint("region.models.written").await?;
        transact_leased!(self, import, |lease| {
            store::import::advance(
                lease,
                ImportState::Writing,
                ImportState::ResolvingSlugs,
                self.context.env.now(),
            )
            .await?;
        })?;
        Ok(self.context.env.failpoint("region.models.noted").await?)
    }

    /// Builds the primary key map from the chunks that have been committed.
    pub(in crate::import) async fn load_keys(&self, import: &Import, run: &mut Run) -> Result<(), Error> {
        if run.keys.is_some() {
            return Ok(());
        }
        let mut keys = KeyMap::new(&self.context.catalog);
        run.done.clear();
        let mut after = (-1, 0);
        loop {
            let chunks =
                Chunk::list(&self.context.db, &self.context.region, import.id, after, CHUNKS).await?;
            let Some(last) = chunks.last() else { break };
            after = (last.position, last.min_ordinal);
            for chunk in chunks {
                let position = self.context.catalog.position(&chunk.model).ok_or_else(|| {
                    Error::Internal(format!(
                        "a chunk is of {}, which the catalog no longer knows",
                        chunk.model
                    ))
                })?;
                keys.absorb(position, &chunk.keys).map_err(|error| Error::Internal(error.to_string()))?;
                let done = run.done.entry(position).or_default();
                *done = chunk.max_ordinal.max(*done);
            }
        }
        run.keys = Some(Arc::new(RwLock::new(keys)));
        Ok(())
    }

    /// Copies returned columns of rows of control into the records that refer to these rows.
    pub(in crate::import) async fn follow(
        &self,
        import: &Import,
        model: &Model,
        records: &mut [Record],
    ) -> Result<(), Error> {
        for Follow { reference, copies } in &model.rules.follow {
            let Some(target) = model.columns.get(*reference).and_then(|column| column.references.as_deref())
            else {
                return Err(Error::Internal(format!("a rule of {} follows no reference", model.name)));
            };
            let ids: Vec<i64> =
                records.iter().filter_map(|record| record.values.get(*reference)?.as_int()).collect();
            if ids.is_empty() {
                continue;
            }
            let returned = store::imported::returned(&self.context.db, import.id, target, ids).await?;
            for record in records.iter_mut() {
                let Some(id) = record.values.get(*reference).and_then(Value::as_int) else { continue };
                let fields = returned.get(&id).ok_or_else(|| {
                    Error::Internal(format!("control did not say what {target} {id} is like"))
                })?;
                let fields: HashMap<String, serde_json::Value> =
                    serde_json::from_str(fields).map_err(|error| Error::Internal(error.to_string()))?;
                for (column, from) in copies {
                    let (Some(slot), Some(kind)) = (
                        record.values.get_mut(*column),
                        model.columns.get(*column).map(|column| column.kind),
                    ) else {
                        return Err(Error::Internal(format!(
                            "a rule of {} is about a column that there is not",
                            model.name
                        )));
                    };
                    *slot = match (fields.get(from), kind) {
                        (Some(serde_json::Value::Bool(value)), Kind::Boolean) => Value::Bool(*value),
                        (Some(serde_json::Value::String(value)), Kind::Text) => Value::Text(value.clone()),
                        (Some(serde_json::Value::Null), _) => Value::Null,
                        _ => {
                            return Err(Error::Internal(format!(
                                "control did not say the {from} of {target} {id}"
                            )));
                        }
                    };
                }
            }
        }
        Ok(())
    }
}
