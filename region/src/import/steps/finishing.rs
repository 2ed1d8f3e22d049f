//! FINISHING: the region writes the deferred models, then makes all organizations visible.
//!
//! Organizations become visible in the transaction that ends the import. If there are more than one transaction may
//! change (20,000, or 1,000 in a database of the product), the first ones become visible in parts right before it, when
//! nothing can fail any more:
//!
//! | died after | what is left | what the restarted region does |
//! | --- | --- | --- |
//! | adding up, or deleting returned columns | everything, hidden | adds up again, deletes the rest, shows all |
//! | announcing some of the rows | these are; all is hidden | announces the others |
//! | making some of many visible | those are visible, and all is confirmed | makes the others visible |
//! | the import's end | everything is visible | reports to the directory |
//!
//! In a database of the product, they are announced to its workers in these transactions, and before that, chunk by
//! chunk, all that belongs to them. Which chunk was the last is stored with its messages.
//!
//! An import that is reverted in between is hidden again before anything else.

use std::sync::PoisonError;

use causeway_audit::Subject;
use causeway_proto::control::v1::SlugVerdict;
use causeway_relocation::{
    catalog::ORGANIZATION,
    chunk::Chunk,
    finding::{Finding, FindingKind},
};
use causeway_silo::db::Refused;

use crate::{
    error::Error,
    import::{
        Import, ImportState, ModelCounts, at_control, context::ImportContext,
        copied_columns::forget_returned, counts::check_counts, mapped::SharedKeys, run::ImportRun,
        writes::do_writes,
    },
    store::{self, lease_transaction::LeaseTransaction, organization::constraint, product_db::ProductDb},
};

/// Writes the deferred models, checks that every record is accounted for, and makes the organizations visible.
pub(crate) async fn run(context: &ImportContext, import: &Import, run: &mut ImportRun) -> Result<(), Error> {
    context.register().await?;
    check_control(context, import).await?;
    do_writes(context, import, run, true).await?;
    check_counts(context, import.id).await?;
    check_control(context, import).await?;
    context.env.failpoint("region.finish.counted").await?;
    forget_returned(context, import).await?;
    announce_rows(context, import, run).await?;
    let mut after = 0;
    loop {
        let (hides, product_db) = (import.parameters.hide_organizations, context.product_db.as_ref());
        let part = match hides && product_db.is_none() {
            true => None,
            false => context.organizations_after(import.id, after).await?,
        };
        let (last, more) = part.unwrap_or((after, false));
        transact_leased!(context, import, |lease| {
            if !hides {
                let refused = store::organization::restore_status(lease, after, last).await?;
                note_still_hidden(context, lease, import, refused).await?;
            }
            if let Some(product_db) = product_db {
                // Also of hidden ones: the product keeps them in its tables with their status.
                product_db.announce_import(lease, import.id, after, last).await?;
            }
            if !more {
                let (from, to) = (ImportState::Finishing, ImportState::Succeeded);
                store::import::advance(lease, from, to, context.env.now()).await?;
                causeway_audit::append(lease, &Subject::import(import.id), context.env.now()).await?;
            }
        })?;
        if !more {
            break;
        }
        context.env.failpoint("region.finish.part_shown").await?;
        after = last;
        run.pass_turn(context, import.id).await?;
    }
    let bytes = |keys: &SharedKeys| keys.read().unwrap_or_else(PoisonError::into_inner).bytes();
    let key_map_bytes = run.keys.as_ref().map_or(0, bytes);
    tracing::info!(import_id = %import.id, key_map_bytes, "an import has succeeded");
    Ok(context.env.failpoint("region.finish.visible").await?)
}

/// Checks that control has what the import has written there. It may have been put back from an older copy since, and
/// members without users must not become visible.
async fn check_control(context: &ImportContext, import: &Import) -> Result<(), Error> {
    let lacking = at_control::lacking(context, import.id).await?;
    match lacking.is_nothing() {
        true => Ok(()),
        false => Err(Error::ControlLostRows(lacking.to_string())),
    }
}

/// Announces what belongs to the organizations to the product's workers, chunk by chunk as it was written, because one
/// organization may have very many members.
async fn announce_rows(context: &ImportContext, import: &Import, run: &mut ImportRun) -> Result<(), Error> {
    let Some(product_db) = &context.product_db else { return Ok(()) };
    let mut after = store::import::announced(&context.db, import.id).await?;
    loop {
        if context.lifecycle.is_stopping() {
            return Err(Error::Stopping);
        }
        let (db, region) = (&context.db, &context.region);
        let next =
            Chunk::keys_of(db, region, import.id, ProductDb::models_of_organizations(), after, 1).await?;
        let Some((model, position, min_ordinal, keys)) = next.into_iter().next() else { return Ok(()) };
        let ids: Vec<i64> = keys.inserted.iter().map(|(_, id)| *id).collect();
        transact_leased!(context, import, |lease| {
            product_db.announce_rows(lease, &model, ids.clone()).await?;
            store::import::set_announced(lease, (position, min_ordinal)).await?;
        })?;
        context.env.failpoint("region.finish.rows_announced").await?;
        after = (position, min_ordinal);
        run.note_progress(context, import.id).await;
        run.pass_turn(context, import.id).await?;
    }
}

/// Reports organizations that stay hidden because the database refuses their status.
async fn note_still_hidden(
    context: &ImportContext,
    lease: &mut LeaseTransaction<'_>,
    import: &Import,
    refused: Vec<(i64, Refused)>,
) -> Result<(), Error> {
    if refused.is_empty() {
        return Ok(());
    }
    // If the process has died between two parts, this part is tried again.
    let ids: Vec<i64> = refused.iter().map(|(id, _)| *id).collect();
    let new = store::imported::note_status_refused(lease, ids).await?;
    let refused: Vec<(i64, Refused)> = refused.into_iter().filter(|(id, _)| new.contains(id)).collect();
    let ids = refused.iter().map(|(id, _)| *id).collect();
    let organizations = store::imported::own_organizations_by_id(lease, ids).await?;
    let (mut findings, mut unchanged) = (Vec::with_capacity(refused.len()), 0);
    for (id, why) in refused {
        let organization = organizations
            .get(&id)
            .ok_or_else(|| Error::Internal(format!("import {} has no organization {id}", import.id)))?;
        let is_free = organization.slug_plan.as_ref().is_none_or(|plan| plan.verdict == SlugVerdict::Free);
        unchanged += i64::from(!organization.changed && is_free);
        let reason = format!(
            "the status {} breaks {}; the organization stays hidden",
            organization.status,
            constraint(&why)
        );
        let finding = Finding::new(FindingKind::NotInDatabase, reason).model(ORGANIZATION).field("status");
        findings.push(organization.place(finding));
    }
    let model = ORGANIZATION.to_owned();
    let counts = ModelCounts { model, changed: unchanged, ..ModelCounts::default() };
    store::model_counts::add(lease, &counts).await?;
    Ok(context.add_findings(lease, ImportState::Finishing, &findings).await?)
}
