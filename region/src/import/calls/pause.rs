//! Pauses imports, and ends that.

use causeway_audit::{Call, Subject};
use causeway_silo::{db::Tx, transact};
use uuid::Uuid;

use super::{Imports, Requester};
use crate::{
    error::Error,
    import::Instruction,
    store::{self, pause::Which},
};

/// What became of the imports that a call is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paused {
    /// Those that the call has changed.
    pub(crate) changed: Vec<Uuid>,
    /// Those that were so before.
    pub(crate) unchanged: Vec<Uuid>,
}

impl Imports {
    /// Pauses one import, or all that have not ended. A step that is in progress commits nothing any more, and ends.
    ///
    /// # Errors
    /// If there is no such import, or it has ended.
    pub(crate) async fn pause(&self, which: Which, requester: &Requester) -> Result<Paused, Error> {
        self.about(which);
        let paused = transact!(Error, self.context.db, |tx| {
            let now = self.context.env.now();
            let changed = store::pause::pause(tx, which, requester.uri.as_deref(), now).await?;
            // After the change: an import that another call pauses meanwhile is among one or the other.
            let mut unchanged = store::pause::paused(tx, which).await?;
            unchanged.retain(|id| !changed.contains(id));
            self.record(tx, &changed).await?;
            self.context.env.failpoint("region.pause.prepared").await?;
            Paused { changed, unchanged }
        })?;
        self.context.env.failpoint("region.pause.committed").await?;
        for id in &paused.changed {
            tracing::info!(import_id = %id, "an import has been paused; continue it with `causeway imports resume {id}`");
            if let Some(running_import) = self.engine.running(*id) {
                running_import.interrupt();
                running_import.changed();
            }
        }
        if let Which::One(id) = which
            && paused == Paused::default()
        {
            let import = self.import(id).await?;
            // It may have been paused and continued by other calls since.
            if import.state.is_final() {
                return Err(Error::ImportEnded(id, import.state));
            }
        }
        Ok(paused)
    }

    /// Ends the pause of one import, or of all that are paused. Each continues where it was. `instruction` is the one that
    /// asks for it, if one does.
    ///
    /// # Errors
    /// If there is no such import.
    pub(crate) async fn unpause(
        &self,
        which: Which,
        instruction: Option<&Instruction>,
    ) -> Result<Paused, Error> {
        self.about(which);
        let unpaused = transact!(Error, self.context.db, |tx| {
            let changed = store::pause::unpause(tx, which, self.context.env.now()).await?;
            if !changed.is_empty() {
                self.note(tx, instruction).await?;
            }
            self.record(tx, &changed).await?;
            self.context.env.failpoint("region.unpause.prepared").await?;
            Paused { changed, unchanged: Vec::new() }
        })?;
        self.context.env.failpoint("region.unpause.committed").await?;
        for id in &unpaused.changed {
            tracing::info!(import_id = %id, "an import is no longer paused");
        }
        if let Which::One(id) = which
            && unpaused.changed.is_empty()
        {
            self.import(id).await?;
            return Ok(Paused { unchanged: vec![id], ..unpaused });
        }
        // Those whose file another process has are continued there.
        self.engine.continue_unpaused().await?;
        Ok(unpaused)
    }

    fn about(&self, which: Which) -> Subject {
        causeway_audit::about(match which {
            Which::One(id) => Subject::import(id),
            Which::All => Subject::region(&self.context.region),
        })
    }

    /// Records the call in the audit log, once for each import that it has changed.
    async fn record(&self, tx: &mut Tx, changed: &[Uuid]) -> Result<(), Error> {
        let call = Call::current();
        let entries = changed.iter().map(|id| (call.clone(), Subject::import(*id)));
        Ok(causeway_audit::append_each(tx, entries, self.context.env.now()).await?)
    }
}

#[cfg(test)]
mod tests {
    use crate::import::ImportState;

    #[test]
    fn what_has_ended_is_what_cannot_be_paused() {
        for state in ImportState::ALL.iter().filter(|state| **state != ImportState::Receiving) {
            assert_eq!(state.is_unfinished(), !state.is_final(), "{state:?}");
        }
    }
}
