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

use causeway_audit::Subject;
use causeway_proto::{
    control::v1::{NeededRow, ReportedOrganization},
    relocation::v1::{ErrorReason, OrganizationStatus},
};
use causeway_relocation::{
    catalog::{Model, ORGANIZATION, Silo},
    chunk::{Chunk, Reverted},
    finding::{Finding, FindingKind},
    revert::{self, Going, References},
    writer::is_placeholder,
};
use causeway_silo::{db::count, transact};
use uuid::Uuid;

use crate::{
    error::Error,
    import::{
        Engine, Import, ImportState, ModelCounts, chunks::keys_from_proto, engine::Run,
        steps::resolve_slugs::operation_id,
    },
    store::{self, lease_transaction::LeaseTransaction},
};

/// How many organizations control releases in one call.
const RELEASED: i64 = 5_000;
/// How many chunks are read at once.
const CHUNKS: i64 = 100;

impl Engine {
    /// Begins to revert an import: from now on nothing of it is visible, and the rest is done in the background. An
    /// import that is being reverted, or was, is left as it is.
    ///
    /// # Errors
    /// If there is no such import, or it is a dry run.
    pub(crate) async fn revert_import(&self, id: Uuid) -> Result<(), Error> {
        let subject = causeway_audit::about(Subject::import(id));
        let import = self.import(id).await?;
        if import.state == ImportState::Reverted {
            return Ok(());
        }
        if import.parameters.dry_run {
            return Err(Error::ImportIsDryRun(id));
        }
        let (first, more) = self.organizations_after(id, 0).await?.unwrap_or((0, false));
        let begun = transact!(Error, self.context.db, |tx| {
            let begun = store::import::begin_revert(tx, id, self.context.env.now()).await?;
            if begun {
                let hidden = store::organization::hide_for_request(tx, id, 0, first).await?;
                self.context.announce_organizations(tx, hidden).await?;
                causeway_audit::append(tx, &subject, self.context.env.now()).await?;
            }
            begun
        })?;
        // A caller that asks again also gets its answer only when nothing is visible.
        if more {
            let mut after = 0;
            while let Some((last, _)) = self.organizations_after(id, after).await? {
                transact!(Error, self.context.db, |tx| {
                    let hidden = store::organization::hide_for_request(tx, id, after, last).await?;
                    self.context.announce_organizations(tx, hidden).await?;
                })?;
                after = last;
            }
        }
        self.context.env.failpoint("region.revert.begun").await?;
        if begun {
            tracing::info!(import_id = %id, was = import.state.name(), "an import is being reverted");
        }
        if let Some(live) = self.running(id) {
            live.interrupt();
        }
        self.spawn(id);
        Ok(())
    }

    /// Hides the organizations of an import that is being reverted.
    async fn hide_organizations(&self, import: &Import) -> Result<(), Error> {
        let mut after = 0;
        while let Some((last, _)) = self.organizations_after(import.id, after).await? {
            transact_leased!(self, import, |lease| {
                let hidden = store::organization::hide(lease, after, last).await?;
                self.context.announce_organizations(lease, hidden).await?;
            })?;
            after = last;
        }
        Ok(())
    }

    /// Undoes all that an import has written, in reverse order.
    pub(in crate::import) async fn revert(&self, import: &Import, run: &mut Run) -> Result<(), Error> {
        run.live.begin(0);
        // The request has taken the lease away, also from this process. Without it, nobody would learn what the revert
        // waits for, if it begins with a call that fails.
        transact!(Error, self.context.db, |tx| {
            self.assert_lease(tx, import).await?;
        })?;
        self.hide_organizations(import).await?;
        self.context.register().await?;
        self.context.ask(self.context.control.revert_import(import.id, Vec::new())).await?;
        self.context.env.failpoint("region.revert.closed").await?;
        self.adopt_chunks(import).await?;
        self.context.env.failpoint("region.revert.adopted").await?;
        let models = |silo, deferred| -> Vec<String> {
            let of = |model: &&Model| model.silo == silo && model.rules.deferred == deferred;
            self.context.catalog.written().filter(of).map(|model| model.name.clone()).collect()
        };
        self.revert_chunks(import, run, models(Silo::Control, true)).await?;
        let here = [models(Silo::Region, false), models(Silo::Region, true)].concat();
        self.revert_chunks(import, run, here).await?;
        self.report_needed_rows(import).await?;
        self.context.env.failpoint("region.revert.told").await?;
        // Before the users: in a database of the product, memberships that its workers have noted at control go with the
        // organizations, and would keep the users.
        self.release_organizations(import).await?;
        self.context.env.failpoint("region.revert.released").await?;
        self.revert_chunks(import, run, models(Silo::Control, false)).await?;
        self.forget_returned(import).await?;
        transact_leased!(self, import, |lease| {
            store::import::advance(
                lease,
                ImportState::Reverting,
                ImportState::Reverted,
                self.context.env.now(),
            )
            .await?;
            causeway_audit::append(lease, &Subject::import(import.id), self.context.env.now()).await?;
        })?;
        tracing::info!(import_id = %import.id, "an import has been reverted");
        self.remove_spool(import.id).await;
        Ok(self.context.env.failpoint("region.revert.ended").await?)
    }

    /// Records chunks that control has written and this region has not recorded.
    async fn adopt_chunks(&self, import: &Import) -> Result<(), Error> {
        let mut page_token = String::new();
        loop {
            let page =
                self.context.ask(self.context.control.list_import_chunks(import.id, page_token)).await?;
            for theirs in page.chunks {
                let known = Chunk::find(
                    &self.context.db,
                    &self.context.region,
                    import.id,
                    &theirs.model,
                    theirs.min_ordinal,
                );
                if known.await?.is_some() {
                    continue;
                }
                let position = self.context.catalog.position(&theirs.model).ok_or_else(|| {
                    Error::Internal(format!("control has a chunk of {}, which is no model", theirs.model))
                })?;
                let chunk = Chunk {
                    region: self.context.region.to_owned(),
                    import_id: import.id,
                    model: theirs.model,
                    position: count(position)?,
                    min_ordinal: theirs.min_ordinal,
                    max_ordinal: theirs.max_ordinal,
                    keys: keys_from_proto(&theirs.keys)?,
                    dropped: theirs.dropped,
                    digest: Vec::new(),
                    findings: Vec::new(),
                    created_at: self.context.env.now(),
                    reverted: None,
                };
                let counts = ModelCounts {
                    model: chunk.model.clone(),
                    inserted: theirs.inserted,
                    existing: theirs.existing,
                    dropped: theirs.dropped,
                    ..ModelCounts::default()
                };
                transact_leased!(self, import, |lease| {
                    if chunk.insert(lease).await? {
                        store::model_counts::add(lease, &counts).await?;
                    }
                })?;
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reverts the chunks of these models that are left, the last one first.
    async fn revert_chunks(&self, import: &Import, run: &mut Run, models: Vec<String>) -> Result<(), Error> {
        let catalog = self.fitted_here().await?;
        let references = References::load(&self.context.db, &catalog, Silo::Region).await?;
        loop {
            let chunk =
                Chunk::last_to_revert(&self.context.db, &self.context.region, import.id, models.clone())
                    .await?;
            let Some(chunk) = chunk else { return Ok(()) };
            if self.context.lifecycle.is_stopping() {
                return Err(Error::Stopping);
            }
            let model = catalog.model(&chunk.model).ok_or_else(|| {
                Error::Internal(format!("a chunk is of {}, which the catalog no longer knows", chunk.model))
            })?;
            run.live.model(&model.name);
            match model.silo {
                Silo::Region if !model.has_table => self.note_gone(import, &chunk).await?,
                Silo::Region => self.revert_here(import, model, &chunk, &references).await?,
                Silo::Control => self.revert_at_control(import, &chunk).await?,
            }
            run.live.add(count(chunk.keys.inserted.len())?);
            if run.waiting.take().is_some() {
                self.note_waiting(import.id, None).await;
            }
            run.pass_turn(self).await?;
        }
    }

    /// Deletes those rows of a chunk that nothing needs.
    async fn revert_here(
        &self,
        import: &Import,
        model: &Model,
        chunk: &Chunk,
        references: &References,
    ) -> Result<(), Error> {
        let ids: Vec<i64> = chunk.keys.inserted.iter().map(|(_, new)| *new).collect();
        self.context.env.failpoint("region.revert_chunk.ready").await?;
        transact_leased!(self, import, |lease| {
            // Rows of the import that refer to these rows have been deleted before, or stay.
            let needed = references.needed(lease, &model.table, &ids, &Going::new()).await?;
            let deleting: Vec<i64> = ids.iter().copied().filter(|id| !needed.contains_key(id)).collect();
            if let Some(books) = &self.context.books {
                books.announce_rows(lease, &model.name, deleting.clone()).await?;
                if model.name == ORGANIZATION {
                    books.forget(lease, &deleting).await?;
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
            self.note_reverted(lease, chunk, reverted).await?;
            self.context.env.failpoint("region.revert_chunk.recorded").await?;
        })?;
        Ok(self.context.env.failpoint("region.revert_chunk.committed").await?)
    }

    /// Marks a chunk whose rows went with their table.
    async fn note_gone(&self, import: &Import, chunk: &Chunk) -> Result<(), Error> {
        let deleted = count(chunk.keys.inserted.len())?;
        transact_leased!(self, import, |lease| {
            self.note_reverted(lease, chunk, Reverted { deleted, ..Reverted::default() }).await?;
        })
    }

    async fn revert_at_control(&self, import: &Import, chunk: &Chunk) -> Result<(), Error> {
        // A row that the chunk only found is no longer in use either, and control has to know.
        let reverted = if chunk.keys.inserted.is_empty() && chunk.keys.existing.is_empty() {
            Reverted::default()
        } else {
            self.context
                .ask(self.context.control.revert_import_chunk(import.id, &chunk.model, chunk.min_ordinal))
                .await?
        };
        self.context.env.failpoint("region.revert_control_chunk.answered").await?;
        transact_leased!(self, import, |lease| {
            self.note_reverted(lease, chunk, reverted.clone()).await?;
        })?;
        Ok(self.context.env.failpoint("region.revert_control_chunk.noted").await?)
    }

    /// Marks a chunk as reverted, and adds its counts and findings.
    async fn note_reverted(
        &self,
        lease: &mut LeaseTransaction<'_>,
        chunk: &Chunk,
        reverted: Reverted,
    ) -> Result<(), Error> {
        let findings = reverted.findings;
        let reverted = Reverted { findings: Vec::new(), ..reverted };
        if !chunk.set_reverted(lease, &reverted, self.context.env.now()).await? {
            return Err(Error::Superseded(lease.import_id()));
        }
        let counts = ModelCounts {
            model: chunk.model.clone(),
            deleted: reverted.deleted,
            kept: reverted.kept,
            ..ModelCounts::default()
        };
        store::model_counts::add(lease, &counts).await?;
        self.add_findings(lease, ImportState::Reverting, &findings).await?;
        Ok(())
    }

    /// Reports to control which of its rows this region still refers to, now that the import's rows here are gone.
    async fn report_needed_rows(&self, import: &Import) -> Result<(), Error> {
        let references = References::across(&self.fitted_here().await?, Silo::Region);
        let mut after = (-1, 0);
        loop {
            let chunks =
                Chunk::list(&self.context.db, &self.context.region, import.id, after, CHUNKS).await?;
            let Some(last) = chunks.last() else { return Ok(()) };
            after = (last.position, last.min_ordinal);
            for chunk in chunks.iter().filter(|chunk| chunk.reverted.is_none()) {
                let model = self.context.catalog.model(&chunk.model).ok_or_else(|| {
                    Error::Internal(format!(
                        "a chunk is of {}, which the catalog no longer knows",
                        chunk.model
                    ))
                })?;
                let ids: Vec<i64> = chunk.keys.inserted.iter().map(|(_, new)| *new).collect();
                let needed = transact!(Error, self.context.db, |tx| {
                    references.needed(tx, &model.table, &ids, &Going::new()).await?
                })?;
                let needed: Vec<NeededRow> = needed
                    .into_iter()
                    .map(|(pk, why)| NeededRow {
                        model: model.name.clone(),
                        pk,
                        needed_by: format!("{why} of region {}", &self.context.region),
                    })
                    .collect();
                if !needed.is_empty() {
                    self.context.ask(self.context.control.revert_import(import.id, needed)).await?;
                }
            }
        }
    }

    /// Releases the slugs of the organizations that are gone, which removes these from control's directory. Those that
    /// stay are hidden there too.
    async fn release_organizations(&self, import: &Import) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let gone = store::imported::gone(&self.context.db, import.id, after, RELEASED).await?;
            let Some(last) = gone.last() else { break };
            after = *last;
            self.context.ask(self.context.control.release_organizations(gone)).await?;
        }
        let mut kept = store::imported::still_there(&self.context.db, import.id, 0).await?;
        if kept.is_empty() {
            // So that a call that is still on its way can no longer reserve anything.
            for attempt in 1..=import.slug_attempt {
                match self
                    .context
                    .ask(self.context.control.release_slugs(operation_id(import.id, attempt)))
                    .await
                {
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
            self.context.ask(self.context.control.report_organizations(report, false)).await?;
            kept = store::imported::still_there(&self.context.db, import.id, after).await?;
        }
        Ok(())
    }
}
