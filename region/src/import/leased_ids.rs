//! Ids that control leases to the region, for the models whose ids are unique across regions.

use causeway_relocation::{catalog::Model, writer::WriteError};
use causeway_silo::db;

use super::context::ImportContext;
use crate::{error::Error, store};

/// How many blocks are leased before giving up because rows have ids of each of them.
const MAX_BLOCK_ATTEMPTS: usize = 3;

/// Leased blocks begin above the highest id in use up to this one. Control avoids higher ids, so that one absurd id
/// does not use up the rest.
const HIGHEST_COUNTED_ID: i64 = 1 << 52;

/// How many ids to lease from control at least, so that small chunks do not need a call each.
const MIN_BLOCK: i64 = 1_000;

/// Ids that no other region and no row of this region has, from the current block or a new one. If the process dies
/// in between, the rest of a block is never given out, which does no harm.
pub(super) async fn take_leased_ids(
    context: &ImportContext,
    model: &Model,
    count: usize,
) -> Result<Vec<i64>, Error> {
    let count = db::count(count)?;
    let in_hand = store::id_block::take(&context.db, &model.name, count).await?;
    // The table's own sequence may have reached the block, because the application writes rows with ids from it.
    if let Some(first) = in_hand
        && store::id_block::highest(&context.db, model, HIGHEST_COUNTED_ID).await? < first
        && are_free(context, model, first, count).await?
    {
        return Ok((first..first + count).collect());
    }
    // There is no current block, or something else has ids of it.
    let wanted = i32::try_from(count.max(MIN_BLOCK)).map_err(|_| {
        Error::Internal(format!("a chunk of {} needs more ids than a block can have", model.name))
    })?;
    for _ in 0..MAX_BLOCK_ATTEMPTS {
        context.register().await?;
        let highest = store::id_block::highest(&context.db, model, HIGHEST_COUNTED_ID).await?;
        let (first, leased) =
            context.ask(context.control.lease_ids(context.env.uuid(), &model.name, wanted, highest)).await?;
        context.env.failpoint("region.ids.leased").await?;
        store::id_block::put(&context.db, &model.name, first + count, first + leased).await?;
        context.env.failpoint("region.ids.noted").await?;
        if are_free(context, model, first, count).await? {
            return Ok((first..first + count).collect());
        }
        // Control does not know these rows. The next registration reports all ids, and control avoids them.
        context.registration.report_ids_again();
    }
    Err(Error::Write(WriteError::IdsTaken { table: model.table.clone() }))
}

/// Whether no row has one of these ids.
async fn are_free(context: &ImportContext, model: &Model, first: i64, count: i64) -> Result<bool, Error> {
    Ok(store::id_block::rows_between(&context.db, model, first, first + count - 1).await? == 0)
}
