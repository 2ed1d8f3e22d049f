//! The primary key map of an import, built again from the chunks that have been committed.

use std::sync::{Arc, RwLock};

use causeway_relocation::{chunk::Chunk, keys::KeyMap};

use super::{Import, context::ImportContext, run::ImportRun};
use crate::error::Error;

/// How many chunks are read at once when an import continues.
const CHUNKS: i64 = 100;

/// Builds the primary key map from the chunks that have been committed.
pub(super) async fn load_keys(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
) -> Result<(), Error> {
    if run.keys.is_some() {
        return Ok(());
    }
    let mut keys = KeyMap::new(&context.catalog);
    run.done.clear();
    let mut after = (-1, 0);
    loop {
        let chunks = Chunk::list(&context.db, &context.region, import.id, after, CHUNKS).await?;
        let Some(last) = chunks.last() else { break };
        after = (last.position, last.min_ordinal);
        for chunk in chunks {
            let position = context.catalog.position(&chunk.model).ok_or_else(|| {
                Error::Internal(format!("a chunk is of {}, which the catalog no longer knows", chunk.model))
            })?;
            keys.add_chunk(position, &chunk.keys).map_err(|error| Error::Internal(error.to_string()))?;
            let done = run.done.entry(position).or_default();
            *done = chunk.max_ordinal.max(*done);
        }
    }
    run.keys = Some(Arc::new(RwLock::new(keys)));
    Ok(())
}
