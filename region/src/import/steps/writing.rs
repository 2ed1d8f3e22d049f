//! WRITING: the models of the organization scope, each after all that it refers to, then a check for organizations that
//! have no owner.
//!
//! | died after | what is left | what the restarted region does |
//! | --- | --- | --- |
//! | a chunk of the region | its rows and its entry | continues after that chunk |
//! | a chunk at control, unrecorded here | its rows and its entry at control | sends it again, same answer |
//! | the last chunk | all rows, hidden, with placeholders for slugs | looks for organizations without an owner |
//! | some pages of these | the findings of these pages | continues after the last page |
//! | the move to the next state | the same | resolves the slugs |

use crate::{
    error::Error,
    import::{
        Import, ImportState, context::ImportContext, owners::check_owners, run::ImportRun, writes::do_writes,
    },
    store,
};

/// Writes all models of the organization scope except the deferred ones.
pub(crate) async fn run(context: &ImportContext, import: &Import, run: &mut ImportRun) -> Result<(), Error> {
    import_in_organization_scope(context, import, run).await?;
    check_owners(context, import, run).await?;
    context.env.failpoint("region.models.written").await?;
    transact_leased!(context, import, |lease| {
        let (from, to) = (ImportState::Writing, ImportState::ResolvingSlugs);
        store::import::advance(lease, from, to, context.env.now()).await?;
    })?;
    Ok(context.env.failpoint("region.models.noted").await?)
}

/// Writes all models of the organization scope except the deferred ones, which need the slugs to be final.
async fn import_in_organization_scope(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
) -> Result<(), Error> {
    do_writes(context, import, run, false).await
}
