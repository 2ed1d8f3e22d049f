//! Continues imports: those that a former process left, and those that failed, once the cause is gone.

use causeway_audit::Subject;
use causeway_proto::relocation::v1::ErrorReason;
use causeway_relocation::plan::Checkpoint;
use causeway_silo::transact;
use tokio::fs;
use uuid::Uuid;

use super::{Engine, Import, ImportState, Worker, spool::spool_path};
use crate::{error::Error, store};

impl Import {
    /// Whether its file may still be needed.
    pub(super) fn keeps_file(&self) -> bool {
        match self.state {
            // A dry run is not resumed but made again from the start.
            ImportState::Failed if self.parameters.dry_run => false,
            // A file that breaks a rule would break it the next time too.
            ImportState::Failed => self.failure.as_ref().is_none_or(|failure| {
                !matches!(failure.reason, ErrorReason::ExportInvalid | ErrorReason::FilterMatchesNothing)
            }),
            state => state.worker() == Worker::WithFile,
        }
    }
}

impl Engine {
    /// Continues all imports that a former process left, and begins to register with control.
    pub(crate) async fn resume(&self) -> Result<(), Error> {
        let spool = self.context.holder.spool;
        transact!(Error, self.context.db, |tx| { store::import::forget_receiving(tx, None, spool).await? })?;
        self.clear_spool().await?;
        for import in store::import::unfinished(&self.context.db).await? {
            if self.can_run(&import) {
                tracing::info!(import_id = %import.id, state = import.state.name(), "continuing an import");
                self.spawn(import.id);
            } else {
                tracing::warn!(import_id = %import.id, state = import.state.name(), "an import is left to the process that has its file in its spool directory");
            }
        }
        let engine = self.clone();
        self.context.lifecycle.background(async move {
            let mut attempts = 0;
            while engine.context.register().await.is_err() {
                attempts += 1;
                if engine.context.pause(attempts).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Removes what unfinished uploads have left, and files of imports that no longer need them.
    async fn clear_spool(&self) -> Result<(), Error> {
        let mut entries = fs::read_dir(self.spool_dir()).await.map_err(Error::SpoolFailed)?;
        while let Some(entry) = entries.next_entry().await.map_err(Error::SpoolFailed)? {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let endings = [".json"].into_iter().chain(Checkpoint::ENDINGS);
            let id = endings
                .filter_map(|ending| name.strip_suffix(ending))
                .find_map(|id| Uuid::try_parse(id).ok());
            let leftover = match id {
                Some(id) => {
                    !store::import::get(&self.context.db, id).await?.is_some_and(|import| import.keeps_file())
                }
                None => name.ends_with(".part"),
            };
            if leftover {
                match fs::remove_file(entry.path()).await {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::SpoolFailed(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Resumes a failed import in the state in which it failed: all that was committed before is still there. An import
    /// that has already been resumed is left as it is.
    ///
    /// # Errors
    /// If there is no such import, it has not failed, it is being reverted, or its file is not here.
    pub(crate) async fn resume_import(&self, id: Uuid) -> Result<(), Error> {
        let subject = causeway_audit::about(Subject::import(id));
        let import = self.import(id).await?;
        if matches!(import.state, ImportState::Reverting | ImportState::Reverted) {
            return Err(Error::ImportBeingReverted(id));
        }
        if import.state != ImportState::Failed {
            if import.resumes == 0 {
                return Err(Error::ImportNotFailed(id, import.state));
            }
            // A caller that did not get the answer asks again. Another process may have resumed the import, so run it
            // here too.
            self.take_up(&import);
            return Ok(());
        }
        if !import.keeps_file() {
            return Err(Error::ImportFileNotKept(id));
        }
        let path = spool_path(self.spool_dir(), id);
        if !self.can_run(&import) || !fs::try_exists(path).await.map_err(Error::SpoolFailed)? {
            return Err(Error::ImportFileGone(id));
        }
        let resumed = transact!(Error, self.context.db, |tx| {
            let resumed = store::import::resume(tx, &import, self.context.env.now()).await?;
            if resumed {
                store::finding::forget_failure(tx, id).await?;
                causeway_audit::append(tx, &subject, self.context.env.now()).await?;
            }
            resumed
        })?;
        self.context.env.failpoint("region.resume.taken_up").await?;
        if resumed {
            tracing::info!(import_id = %id, "a failed import has been resumed");
        }
        self.spawn(id);
        Ok(())
    }
}
