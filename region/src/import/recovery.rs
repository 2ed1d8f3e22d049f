//! Continues the imports that a former process left, and removes files that nothing needs any more.

use causeway_relocation::plan::Checkpoint;
use causeway_silo::transact;
use tokio::fs;
use uuid::Uuid;

use super::engine::Engine;
use crate::{error::Error, store};

impl Engine {
    /// Continues all imports that a former process left.
    pub(crate) async fn recover(&self) -> Result<(), Error> {
        let spool = self.context.holder.spool;
        transact!(Error, self.context.db, |tx| { store::import::forget_receiving(tx, None, spool).await? })?;
        self.clear_spool().await?;
        for import in store::import::unfinished(&self.context.db).await? {
            if import.pause.is_some() {
                tracing::info!(import_id = %import.id, state = import.state.name(), "an import is paused; continue it with `causeway imports resume {}`", import.id);
            } else if self.context.can_run(&import) {
                tracing::info!(import_id = %import.id, state = import.state.name(), "continuing an import");
                self.spawn(import.id);
            } else {
                tracing::warn!(import_id = %import.id, state = import.state.name(), "an import is left to the process that has its file in its spool directory");
            }
        }
        Ok(())
    }

    /// Removes what unfinished uploads have left, and files of imports that no longer need them.
    async fn clear_spool(&self) -> Result<(), Error> {
        let mut entries = fs::read_dir(self.context.spool_dir()).await.map_err(Error::SpoolFailed)?;
        while let Some(entry) = entries.next_entry().await.map_err(Error::SpoolFailed)? {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let endings = [".json"].into_iter().chain(Checkpoint::ENDINGS);
            let id = endings
                .filter_map(|ending| name.strip_suffix(ending))
                .find_map(|id| Uuid::try_parse(id).ok());
            let is_unneeded = match id {
                Some(id) => {
                    !store::import::get(&self.context.db, id).await?.is_some_and(|import| import.keeps_file())
                }
                None => name.ends_with(".part"),
            };
            if is_unneeded {
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
}
