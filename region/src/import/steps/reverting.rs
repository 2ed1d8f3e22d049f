//! REVERTING: undoes an import in both silos, and leaves rows that something else has come to need.
//!
//! | died after | what is left | what the restarted region does |
//! | --- | --- | --- |
//! | the request's commit | all rows; if very many, not all hidden yet | hides the rest, closes the import at control |
//! | closing it | the same; control writes nothing more of it | closes it again, which changes nothing |
//! | adopting chunks that only control knew | chunk entries of those too | has none to adopt |
//! | some chunks | the others, and their entries | continues with the last one that is not marked |
//! | a chunk at control, unmarked here | its mark at control | asks again, same answer |
//! | reporting what the region needs | users, and a list of those who stay | reports it again |
//! | releasing the slugs | users, and what stays | releases again, which changes nothing |

use std::collections::HashMap;

use causeway_audit::Subject;
use causeway_proto::{
    control::v1::{NeededRow, ReportedOrganization},
    relocation::v1::{ErrorReason, OrganizationStatus},
};
use causeway_relocation::{
    catalog::{Model, ORGANIZATION, Silo},
    chunk::{Chunk, Reverted},
    finding::{Finding, FindingKind},
    revert::{self, References, RowsToDelete},
    writer::is_placeholder,
};
use causeway_silo::{db::count, transact};
use tracing::Instrument as _;

use crate::{
    error::Error,
    import::{
        Import, ImportState, ModelCounts,
        chunks::keys_from_proto,
        context::ImportContext,
        copied_columns::forget_returned,
        run::ImportRun,
        steps::resolving_slugs::operation_id,
        traced::{self, reverted_chunk_span},
    },
    store::{self, lease_transaction::LeaseTransaction},
    throttle::Cost,
};

/// How many organizations control releases in one call.
const RELEASED: i64 = 5_000;
/// How many chunks are read at once.
const CHUNKS: i64 = 100;

/// Undoes all that an import has written, in reverse order.
pub(crate) async fn run(context: &ImportContext, import: &Import, run: &mut ImportRun) -> Result<(), Error> {
    run.running_import.begin(0);
    // The request has taken the lease away, also from this process. Without the lease, what the revert
    // waits for would not be stored if it begins with a call that fails.
    transact!(Error, context.db, |tx| {
        context.assert_lease(tx, import).await?;
    })?;
    hide_organizations(context, import, run).await?;
    context.register().await?;
    context.ask(context.control.revert_import(import.id, Vec::new())).await?;
    context.env.failpoint("region.revert.closed").await?;
    adopt_chunks(context, import, run).await?;
    context.env.failpoint("region.revert.adopted").await?;
    run.running_import.begin(rows_left(context, import).await?);
    let models = |silo, deferred| -> Vec<String> {
        let of = |model: &&Model| model.silo == silo && model.rules.deferred == deferred;
        context.catalog.written().filter(of).map(|model| model.name.clone()).collect()
    };
    revert_chunks(context, import, run, models(Silo::Control, true)).await?;
    let here = [models(Silo::Region, false), models(Silo::Region, true)].concat();
    revert_chunks(context, import, run, here).await?;
    report_needed_rows(context, import, run).await?;
    context.env.failpoint("region.revert.reported").await?;
    // Before the users: in a database of the product, memberships that its workers have noted at control go with the
    // organizations, and would keep the users.
    release_organizations(context, import, run).await?;
    context.env.failpoint("region.revert.released").await?;
    revert_chunks(context, import, run, models(Silo::Control, false)).await?;
    forget_returned(context, import).await?;
    transact_leased!(context, import, |lease| {
        store::import::advance(lease, ImportState::Reverting, ImportState::Reverted, context.env.now())
            .await?;
        causeway_audit::append(lease, &Subject::import(import.id), context.env.now()).await?;
    })?;
    tracing::info!(import_id = %import.id, "an import has been reverted");
    context.remove_spool(import.id).await;
    Ok(context.env.failpoint("region.revert.ended").await?)
}

/// How many rows the revert has yet to look at. It may have begun before.
async fn rows_left(context: &ImportContext, import: &Import) -> Result<i64, Error> {
    let counts = store::model_counts::list(&context.db, import.id).await?;
    let left = |counts: &ModelCounts| counts.inserted + counts.added - counts.deleted - counts.kept;
    Ok(counts.iter().map(left).sum::<i64>().max(0))
}

/// Hides the organizations of an import that is being reverted.
async fn hide_organizations(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
) -> Result<(), Error> {
    let mut after = 0;
    while let Some((last, _)) = context.organizations_after(import.id, after).await? {
        transact_leased!(context, import, |lease| {
            let hidden = store::organization::hide(lease, after, last).await?;
            context.announce_organizations(lease, hidden).await?;
        })?;
        after = last;
        run.pass_turn(context, import.id).await?;
    }
    Ok(())
}

/// Records chunks that control has written and this region has not recorded.
async fn adopt_chunks(context: &ImportContext, import: &Import, run: &mut ImportRun) -> Result<(), Error> {
    let planned = store::model_counts::list(&context.db, import.id).await?;
    let seen: HashMap<String, i64> = planned.into_iter().map(|counts| (counts.model, counts.seen)).collect();
    let mut page_token = String::new();
    loop {
        let page = context.ask(context.control.list_import_chunks(import.id, page_token, true)).await?;
        for theirs in page.chunks {
            let known =
                Chunk::find(&context.db, &context.region, import.id, &theirs.model, theirs.min_ordinal);
            if known.await?.is_some() {
                continue;
            }
            let position = context.catalog.position(&theirs.model).ok_or_else(|| {
                Error::Internal(format!("control has a chunk of {}, which is not a model", theirs.model))
            })?;
            // A model without records has no counts yet.
            let is_added = theirs.min_ordinal > seen.get(&theirs.model).copied().unwrap_or(0);
            let keys = keys_from_proto(&theirs.keys)?;
            let chunk = Chunk {
                region: context.region.to_owned(),
                import_id: import.id,
                model: theirs.model,
                position: count(position)?,
                min_ordinal: theirs.min_ordinal,
                max_ordinal: theirs.max_ordinal,
                keys: if is_added { keys.into_added() } else { keys },
                dropped: theirs.dropped,
                digest: Vec::new(),
                findings: Vec::new(),
                created_at: context.env.now(),
                reverted: None,
            };
            let model = chunk.model.clone();
            let counts = match is_added {
                true => ModelCounts { model, added: theirs.inserted, ..ModelCounts::default() },
                false => ModelCounts {
                    model,
                    inserted: theirs.inserted,
                    existing: theirs.existing,
                    dropped: theirs.dropped,
                    ..ModelCounts::default()
                },
            };
            transact_leased!(context, import, |lease| {
                if chunk.insert(lease).await? {
                    store::model_counts::ensure(lease, &chunk.model, chunk.position).await?;
                    store::model_counts::add(lease, &counts).await?;
                }
            })?;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
        run.pass_turn(context, import.id).await?;
    }
}

/// Reverts the chunks of these models that are left, the last one first.
async fn revert_chunks(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
    models: Vec<String>,
) -> Result<(), Error> {
    let catalog = context.fitted_here().await?;
    let references = References::load(&context.db, &catalog, Silo::Region).await?;
    loop {
        let chunk = Chunk::last_to_revert(&context.db, &context.region, import.id, models.clone()).await?;
        let Some(chunk) = chunk else { return Ok(()) };
        if context.lifecycle.is_stopping() {
            return Err(Error::Stopping);
        }
        let model = catalog.model(&chunk.model).ok_or_else(|| {
            Error::Internal(format!("a chunk is of {}, which the catalog no longer knows", chunk.model))
        })?;
        run.running_import.model(&model.name);
        let span = reverted_chunk_span(&model.name, model.silo, chunk.min_ordinal, chunk.max_ordinal);
        traced::rows(&span, &chunk.keys);
        let rows = u64::try_from(chunk.keys.inserted.len()).unwrap_or(u64::MAX);
        let pass = run.pass_throttle(context, import.id, Cost { rows, bytes: 0 }).await?;
        let reverting = async {
            match model.silo {
                Silo::Region if !model.has_table => note_gone(context, import, &chunk).await,
                Silo::Region => revert_here(context, import, model, &chunk, &references).await,
                Silo::Control => revert_at_control(context, import, &chunk).await,
            }
        };
        reverting.instrument(span).await?;
        pass.written();
        run.running_import.add(count(chunk.keys.inserted.len())?);
        run.note_progress(context, import.id).await;
        run.pass_turn(context, import.id).await?;
    }
}

/// Deletes those rows of a chunk that nothing needs.
async fn revert_here(
    context: &ImportContext,
    import: &Import,
    model: &Model,
    chunk: &Chunk,
    references: &References,
) -> Result<(), Error> {
    let ids: Vec<i64> = chunk.keys.inserted.iter().map(|(_, new)| *new).collect();
    context.env.failpoint("region.revert_chunk.ready").await?;
    transact_leased!(context, import, |lease| {
        // Rows of the import that refer to these rows have been deleted before, or stay.
        let needed = references.needed(lease, &model.table, &ids, &RowsToDelete::new()).await?;
        let deleting: Vec<i64> = ids.iter().copied().filter(|id| !needed.contains_key(id)).collect();
        if let Some(product_db) = &context.product_db {
            product_db.announce_rows(lease, &model.name, deleting.clone()).await?;
            if model.name == ORGANIZATION {
                product_db.forget(lease, &deleting).await?;
            }
        }
        let deleted = revert::delete(lease, model, deleting).await?;
        let findings: Vec<Finding> = chunk
            .keys
            .inserted
            .iter()
            .filter_map(|(source, new)| {
                let reason = format!("row {new} of {} stays: {}", model.table, needed.get(new)?);
                Some(Finding {
                    source_pk: Some(*source),
                    ..Finding::new(FindingKind::RowKept, reason).model(&model.name)
                })
            })
            .collect();
        let reverted = Reverted { deleted: count(deleted)?, kept: count(needed.len())?, findings };
        note_reverted(context, lease, chunk, reverted).await?;
        context.env.failpoint("region.revert_chunk.recorded").await?;
    })?;
    Ok(context.env.failpoint("region.revert_chunk.committed").await?)
}

/// Marks a chunk whose rows went with their table.
async fn note_gone(context: &ImportContext, import: &Import, chunk: &Chunk) -> Result<(), Error> {
    let deleted = count(chunk.keys.inserted.len())?;
    transact_leased!(context, import, |lease| {
        note_reverted(context, lease, chunk, Reverted { deleted, ..Reverted::default() }).await?;
    })
}

async fn revert_at_control(context: &ImportContext, import: &Import, chunk: &Chunk) -> Result<(), Error> {
    // A row that the chunk only found is no longer in use either, and control has to know.
    let reverted = if chunk.keys.inserted.is_empty() && chunk.keys.existing.is_empty() {
        Reverted::default()
    } else {
        let asked = context.control.revert_import_chunk(import.id, &chunk.model, chunk.min_ordinal);
        let answer = context.ask(asked).await?;
        // Rows that control does not have any more, because it was put back from an older copy, are gone too.
        let gone = count(chunk.keys.inserted.len())? - answer.kept;
        Reverted { deleted: answer.deleted.max(gone), ..answer }
    };
    context.env.failpoint("region.revert_control_chunk.answered").await?;
    transact_leased!(context, import, |lease| {
        note_reverted(context, lease, chunk, reverted.clone()).await?;
    })?;
    Ok(context.env.failpoint("region.revert_control_chunk.noted").await?)
}

/// Marks a chunk as reverted, and adds its counts and findings.
async fn note_reverted(
    context: &ImportContext,
    lease: &mut LeaseTransaction<'_>,
    chunk: &Chunk,
    reverted: Reverted,
) -> Result<(), Error> {
    let mut findings = reverted.findings;
    if chunk.keys.are_added() {
        // The file has no records for these rows.
        findings.iter_mut().for_each(|finding| finding.source_pk = None);
    }
    let reverted = Reverted { findings: Vec::new(), ..reverted };
    if !chunk.set_reverted(lease, &reverted, context.env.now()).await? {
        return Err(Error::Superseded(lease.import_id()));
    }
    let counts = ModelCounts {
        model: chunk.model.clone(),
        deleted: reverted.deleted,
        kept: reverted.kept,
        ..ModelCounts::default()
    };
    store::model_counts::add(lease, &counts).await?;
    context.add_findings(lease, ImportState::Reverting, &findings).await?;
    Ok(())
}

/// Reports to control which of its rows this region still refers to, now that the import's rows here are gone.
async fn report_needed_rows(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
) -> Result<(), Error> {
    let references = References::across(&context.fitted_here().await?, Silo::Region);
    let mut after = (-1, 0);
    loop {
        let chunks = Chunk::list(&context.db, &context.region, import.id, after, CHUNKS).await?;
        let Some(last) = chunks.last() else { return Ok(()) };
        after = (last.position, last.min_ordinal);
        for chunk in chunks.iter().filter(|chunk| chunk.reverted.is_none()) {
            let model = context.catalog.model(&chunk.model).ok_or_else(|| {
                Error::Internal(format!("a chunk is of {}, which the catalog no longer knows", chunk.model))
            })?;
            let ids: Vec<i64> = chunk.keys.inserted.iter().map(|(_, new)| *new).collect();
            let needed = transact!(Error, context.db, |tx| {
                references.needed(tx, &model.table, &ids, &RowsToDelete::new()).await?
            })?;
            let needed: Vec<NeededRow> = needed
                .into_iter()
                .map(|(pk, why)| NeededRow {
                    model: model.name.clone(),
                    pk,
                    needed_by: format!("{why} of region {}", &context.region),
                })
                .collect();
            if !needed.is_empty() {
                context.ask(context.control.revert_import(import.id, needed)).await?;
            }
        }
        run.pass_turn(context, import.id).await?;
    }
}

/// Releases the slugs of the organizations that are gone, which removes these from control's directory. Those that
/// stay are hidden there too.
async fn release_organizations(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
) -> Result<(), Error> {
    let mut after = 0;
    loop {
        let gone = store::imported::gone(&context.db, import.id, after, RELEASED).await?;
        let Some(last) = gone.last() else { break };
        after = *last;
        context.ask(context.control.release_organizations(gone)).await?;
        run.pass_turn(context, import.id).await?;
    }
    let mut number = context.next_report_number().await?;
    let mut kept = store::imported::still_there(&context.db, import.id, 0).await?;
    if kept.is_empty() {
        // So that a call that is still on its way can no longer reserve anything.
        for attempt in 1..=import.slug_attempt {
            let released = context.ask(context.control.release_slugs(operation_id(import.id, attempt)));
            match run.without_turn(context, import.id, released).await {
                Err(Error::Control(error)) if error.reason() == Some(ErrorReason::OperationNotFound) => {}
                released => released?,
            }
        }
        return Ok(());
    }
    while let Some(last) = kept.last() {
        let after = last.id;
        let report = kept
            .into_iter()
            .map(|organization| ReportedOrganization {
                organization_id: organization.id,
                slug: organization.slug,
                name: organization.name,
                status: OrganizationStatus::Hidden.into(),
            })
            // An organization that never got a slug is in no directory.
            .filter(|organization| !is_placeholder(&organization.slug))
            .collect();
        // An organization that the directory refuses is not in it, and is hidden here.
        context.report_organizations(number, report, false).await?;
        number = context.next_report_number().await?;
        kept = store::imported::still_there(&context.db, import.id, after).await?;
        run.pass_turn(context, import.id).await?;
    }
    Ok(())
}
