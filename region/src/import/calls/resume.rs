//! Resumes an import that failed, once the cause is gone.

use causeway_audit::Subject;
use causeway_silo::transact;
use tokio::fs;
use uuid::Uuid;

use super::Imports;
use crate::{
    error::Error,
    import::{ImportState, Instruction, spool::spool_path},
    store,
};

impl Imports {
    /// Resumes a failed import in the state in which it failed: all that was committed before is still there. An import
    /// that has already been resumed is left as it is. `instruction` is the one that asks for it, if one does.
    ///
    /// # Errors
    /// If there is no such import, it has not failed, it is paused or being reverted, or its file is not here.
    pub(crate) async fn resume_import(
        &self,
        id: Uuid,
        instruction: Option<&Instruction>,
    ) -> Result<(), Error> {
        let subject = causeway_audit::about(Subject::import(id));
        let import = self.import(id).await?;
        if matches!(import.state, ImportState::Reverting | ImportState::Reverted) {
            return Err(Error::ImportBeingReverted(id));
        }
        if let Some(pause) = import.pause {
            return Err(Error::ImportPaused { id, pause });
        }
        if import.state != ImportState::Failed {
            if import.resumes == 0 {
                return Err(Error::ImportNotFailed(id, import.state));
            }
            // A caller that did not get the answer asks again. Another process may have resumed the import, so run it
            // here too.
            self.engine.continue_import(&import);
            return Ok(());
        }
        if !import.keeps_file() {
            return Err(Error::ImportFileNotKept(id));
        }
        let path = spool_path(self.context.spool_dir(), id);
        if !self.context.can_run(&import) || !fs::try_exists(path).await.map_err(Error::SpoolFailed)? {
            return Err(Error::ImportFileGone(id));
        }
        let resumed = transact!(Error, self.context.db, |tx| {
            let resumed = store::import::resume(tx, &import, self.context.env.now()).await?;
            if resumed {
                self.note(tx, instruction).await?;
                store::finding::forget_failure(tx, id).await?;
                causeway_audit::append(tx, &subject, self.context.env.now()).await?;
            }
            resumed
        })?;
        self.context.env.failpoint("region.resume.resumed").await?;
        if resumed {
            tracing::info!(import_id = %id, "a failed import has been resumed");
        }
        self.engine.spawn(id);
        Ok(())
    }
}
