//! Compares what imports have written at control, or have had deleted there, with what control has.

use causeway_audit::Subject;
use causeway_relocation::catalog::Silo;
use causeway_silo::transact;
use chrono::TimeDelta;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Difference, DifferenceKind, Mode, Reconciler, Summary, difference::DO_REPAIR, last::First};
use crate::{
    error::Error,
    import::{ImportState, at_control},
    store::{self, compared_import},
};

/// A region that compares by itself looks only at imports that have ended since then. An older one was compared before, and
/// a copy of a database that is put back is rarely older.
const RECENT: TimeDelta = TimeDelta::days(30);
/// How many imports are read at once.
const PAGE: i64 = 1_000;

impl Reconciler {
    /// Compares all imports that have succeeded or were reverted, or the recent ones if nobody has asked for the
    /// comparison. `false` if the receiver is gone.
    pub(super) async fn compare_imports(
        &self,
        mode: Mode,
        summary: &mut Summary,
        told: &mpsc::Sender<Vec<Difference>>,
        first: &mut First,
    ) -> Result<bool, Error> {
        let db = &self.context().db;
        let since = (mode == Mode::SafeRepairs).then(|| self.context().env.now() - RECENT);
        let mut after = None;
        loop {
            let imports = compared_import::ended(db, since, after, PAGE).await?;
            let Some(last) = imports.last() else { return Ok(true) };
            after = Some(last.0);
            for (import_id, state) in imports {
                // Each asks control for all its chunks, which may take long.
                self.renew().await?;
                let Some(found) = self.compare_import(import_id, state, mode).await? else { continue };
                let found = vec![found];
                first.keep(&found);
                if !summary.add(found, told).await? {
                    return Ok(false);
                }
            }
        }
    }

    async fn compare_import(
        &self,
        import_id: Uuid,
        state: ImportState,
        mode: Mode,
    ) -> Result<Option<Difference>, Error> {
        let context = self.context();
        let (message, mut remedy) = if state == ImportState::Succeeded {
            let lacking = at_control::lacking(context, import_id).await?;
            if lacking.is_nothing() {
                return Ok(None);
            }
            (
                format!("control does not have rows that import {import_id} has written there: {lacking}"),
                format!(
                    "if a database is an old copy, put a newer one back; otherwise revert the import, and import its \
                     file again under a new id: `causeway imports revert {import_id}`"
                ),
            )
        } else {
            let left = at_control::left(context, import_id).await?;
            if left.is_nothing() {
                return Ok(None);
            }
            (
                format!("control has rows of import {import_id} again, which was reverted: {left}"),
                format!("have it reverted again: {DO_REPAIR}"),
            )
        };
        // A revert may have begun since, or ended.
        let now = store::import::get(&context.db, import_id).await?.map(|import| import.state);
        if now != Some(state) {
            return Ok(None);
        }
        if state == ImportState::Reverted && mode != Mode::Check {
            self.revert_again(import_id).await?;
            "it is being reverted again; compare again later".clone_into(&mut remedy);
        }
        let organization = compared_import::first_organization(&context.db, import_id).await?;
        Ok(Some(Difference {
            kind: DifferenceKind::ImportDiffers,
            organization_id: organization.unwrap_or(0),
            slug: None,
            control_slug: None,
            message,
            remedy,
            repaired: false,
            repair: None,
        }))
    }

    /// Has the parts of a reverted import at control reverted again, in the background.
    async fn revert_again(&self, import_id: Uuid) -> Result<(), Error> {
        let context = self.context();
        let of_control = context.catalog.models().iter().filter(|model| model.silo == Silo::Control);
        let models: Vec<String> = of_control.map(|model| model.name.clone()).collect();
        let begun = transact!(Error, context.db, |tx| {
            let now = context.env.now();
            let begun = store::revert_again::begin(tx, import_id, &models, now).await?;
            if begun {
                causeway_audit::append(tx, &Subject::import(import_id), now).await?;
            }
            begun
        })?;
        if begun {
            tracing::warn!(%import_id, "control has rows of an import again that was reverted, and it is reverted again");
            self.engine().spawn(import_id);
        }
        Ok(())
    }
}
