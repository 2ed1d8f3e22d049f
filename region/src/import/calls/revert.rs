//! Begins to revert an import.

use causeway_audit::Subject;
use causeway_silo::transact;
use uuid::Uuid;

use super::Imports;
use crate::{
    error::Error,
    import::{ImportState, Instruction},
    store,
};

impl Imports {
    /// Begins to revert an import: from now on nothing of it is visible, and the rest is done in the background. An
    /// import that is being reverted, or was, is left as it is. `instruction` is the one that asks for it, if one does.
    ///
    /// # Errors
    /// If there is no such import, or it is a dry run.
    pub(crate) async fn revert_import(
        &self,
        id: Uuid,
        instruction: Option<&Instruction>,
    ) -> Result<(), Error> {
        let subject = causeway_audit::about(Subject::import(id));
        let import = self.import(id).await?;
        if import.state == ImportState::Reverted {
            return Ok(());
        }
        if import.parameters.dry_run {
            return Err(Error::ImportIsDryRun(id));
        }
        let (first, more) = self.context.organizations_after(id, 0).await?.unwrap_or((0, false));
        let begun = transact!(Error, self.context.db, |tx| {
            let begun = store::import::begin_revert(tx, id, self.context.env.now()).await?;
            if begun {
                self.note(tx, instruction).await?;
                let hidden = store::organization::hide_for_request(tx, id, 0, first).await?;
                self.context.announce_organizations(tx, hidden).await?;
                causeway_audit::append(tx, &subject, self.context.env.now()).await?;
            }
            begun
        })?;
        // A caller that asks again also gets its answer only when nothing is visible.
        if more {
            let mut after = 0;
            while let Some((last, _)) = self.context.organizations_after(id, after).await? {
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
        if let Some(running_import) = self.engine.running(id) {
            running_import.interrupt();
        }
        self.engine.spawn(id);
        Ok(())
    }
}
