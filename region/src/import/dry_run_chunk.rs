//! A chunk of a dry run: goes through its records like a write, looks up the rows that they would match, and notes what
//! would happen.

use std::collections::HashMap;

use causeway_relocation::{
    catalog::{Column, Model, Silo},
    keys::ChunkKeys,
    plan::Record,
    writer::{DryRun, RowLookup, find_rows},
};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    Import,
    chunks::{ChunkDraft, merged, writer},
    context::ImportContext,
};
use crate::{error::Error, store};

/// Looks up rows for a dry run.
struct Lookups<'a> {
    context: &'a ImportContext,
    import_id: Uuid,
}

impl RowLookup for Lookups<'_> {
    type Error = Error;

    async fn rows_with(
        &self,
        model: &Model,
        column: &Column,
        values: Vec<String>,
    ) -> Result<HashMap<String, i64>, Error> {
        match model.silo {
            Silo::Region => Ok(find_rows(&self.context.db, model, column, values).await?),
            Silo::Control => {
                let context = &self.context;
                let rows = context.control.find_rows(self.import_id, &model.name, &column.field, values);
                context.ask(rows).await
            }
        }
    }
}

/// Goes through the records of a chunk and notes what would happen to them. One chunk at a time.
pub(super) async fn dry_run_chunk(
    context: &ImportContext,
    import: &Import,
    model: &Model,
    records: Vec<Record>,
    draft: ChunkDraft,
    emails: Option<&Model>,
    dry_run: &Mutex<Option<DryRun>>,
) -> Result<ChunkKeys, Error> {
    let writer = writer(context, import, emails);
    let mut dry_run = dry_run.lock().await;
    let Some(dry_run) = dry_run.as_mut() else {
        return Err(Error::Internal("a dry run goes on without its beginning".to_owned()));
    };
    let lookups = Lookups { context, import_id: import.id };
    let (rows, written) = writer.dry_run(model, records, dry_run, &lookups).await?;
    let keys = merged(draft.keys.clone(), written.keys.clone());
    let counts = draft.counts(model, &keys, &written)?;
    transact_leased!(context, import, |lease| {
        draft.insert_organizations(lease, &rows, &written).await?;
        store::model_counts::add(lease, &counts).await?;
        context.add_findings(lease, draft.state, &draft.findings_to_store(&written)).await?;
    })?;
    Ok(keys)
}
