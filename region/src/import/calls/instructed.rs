//! Carries out what operators ask for through control. See `docs/design/instructions.md`.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | an instruction has arrived | nothing | control hands it out again |
//! | the transaction of the change | the change and the id of the instruction | the next process continues the import, and answers |
//! | the answer, that of control lost | the answer, not marked | it is answered again |

use causeway_audit::{Call, Subject, scope};
use causeway_proto::limits::{MAX_INSTRUCTIONS, MAX_REPORTED_TEXT_BYTES};
use causeway_silo::{
    db::{DbError, Tx, count},
    transact,
};
use chrono::TimeDelta;
use uuid::Uuid;

use super::Imports;
use crate::{
    error::Error,
    import::{Answer, ImportState, Instruction, InstructionKind, Refusal},
    store::{self, instruction as noted, pause::Which},
};

/// How long it is noted which instructions were carried out. Control hands one out for minutes.
const KEPT: TimeDelta = TimeDelta::days(30);

/// Whether an error is the answer to an instruction: it says that the import is not in a state for it. Any other one may
/// pass, and then the instruction arrives again.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::ImportNotFound(_)
            | Error::ImportNotFailed(..)
            | Error::ImportPaused { .. }
            | Error::ImportBeingReverted(_)
            | Error::ImportIsDryRun(_)
            | Error::ImportFileGone(_)
            | Error::ImportFileNotKept(_)
            | Error::InstructionsRefused
            | Error::InstructionUnknown
    )
}

impl Imports {
    /// Carries out an instruction, or refuses it, and notes that for the answer. One that was noted before is only
    /// answered again.
    ///
    /// # Errors
    /// If that is not possible now. Nothing was noted then, and the instruction will arrive again.
    pub(crate) async fn carry_out(&self, instruction: &Instruction) -> Result<(), Error> {
        let call = Call::new(instruction.id, &instruction.asked_by, String::new(), instruction.kind.call());
        scope(call, self.carry_out_once(instruction)).await
    }

    async fn carry_out_once(&self, instruction: &Instruction) -> Result<(), Error> {
        let subject = causeway_audit::about(Subject::import(instruction.import_id));
        let is_known =
            transact!(DbError, self.context.db, |tx| { noted::answer_again(tx, instruction.id).await? })?;
        if is_known {
            // The process that has carried it out may have died before the import ran.
            if let Some(import) = store::import::get(&self.context.db, instruction.import_id).await? {
                self.engine.continue_import(&import);
            }
            return Ok(());
        }
        let refusal = match self.obey(instruction).await {
            Ok(true) => {
                tracing::info!(
                    import_id = %instruction.import_id,
                    instruction_id = %instruction.id,
                    asked_by = instruction.asked_by,
                    kind = instruction.kind.name(),
                    "what an operator has asked for through control was carried out"
                );
                None
            }
            // The process with the file carries it out.
            Ok(false) => return Ok(()),
            Err(error) if is_refusal(&error) => {
                tracing::warn!(import_id = %instruction.import_id, %error, "an instruction of control is refused");
                let message = error.to_string();
                let end = message.floor_char_boundary(MAX_REPORTED_TEXT_BYTES);
                let message = message.get(..end).unwrap_or_default().to_owned();
                Some(Refusal { reason: error.reason(), message })
            }
            // Another process has noted it meanwhile, and answers it.
            Err(Error::InstructionNoted) => return Ok(()),
            Err(error) => return Err(error),
        };
        transact!(Error, self.context.db, |tx| {
            let now = self.context.env.now();
            // It was noted with its change, if it has changed something.
            if noted::insert(tx, instruction, refusal.as_ref(), now).await?
                && let Some(refusal) = &refusal
            {
                causeway_audit::append_failure(tx, &subject, refusal.reason, now).await?;
            }
        })?;
        self.context.env.failpoint("region.instruction.noted").await?;
        Ok(())
    }

    /// Does what an instruction asks for. `false` if another process of the region has to.
    async fn obey(&self, instruction: &Instruction) -> Result<bool, Error> {
        if self.context.refuse_instructions {
            return Err(Error::InstructionsRefused);
        }
        let id = instruction.import_id;
        match instruction.kind {
            InstructionKind::Resume => {
                let import = self.import(id).await?;
                if import.pause.is_some() {
                    self.unpause(Which::One(id), Some(instruction)).await?;
                } else if import.state == ImportState::Failed
                    && import.keeps_file()
                    && !self.context.can_run(&import)
                {
                    return Ok(false);
                } else {
                    self.resume_import(id, Some(instruction)).await?;
                }
            }
            InstructionKind::Revert => self.revert_import(id, Some(instruction)).await?,
            InstructionKind::Unknown => return Err(Error::InstructionUnknown),
        }
        Ok(true)
    }

    /// Notes in the transaction of a change for which instruction it is made, if it is made for one.
    ///
    /// # Errors
    /// [`Error::InstructionNoted`] if that was carried out before, so that the change must not be made.
    pub(super) async fn note(&self, tx: &mut Tx, instruction: Option<&Instruction>) -> Result<(), Error> {
        if let Some(instruction) = instruction {
            if !noted::insert(tx, instruction, None, self.context.env.now()).await? {
                return Err(Error::InstructionNoted);
            }
            self.context.env.failpoint("region.instruction.prepared").await?;
        }
        Ok(())
    }

    /// The answers that control has not got, as many as fit into a report.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn unanswered(&self) -> Result<Vec<Answer>, Error> {
        Ok(noted::unanswered(&self.context.db, count(MAX_INSTRUCTIONS)?).await?)
    }

    /// Notes that control has these answers.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn answered(&self, ids: &[Uuid]) -> Result<(), Error> {
        let now = self.context.env.now();
        let horizon = now
            .checked_sub_signed(KEPT)
            .ok_or_else(|| DbError::inconsistent("the time of the clock is out of range"))?;
        Ok(transact!(DbError, self.context.db, |tx| { noted::answered(tx, ids, horizon).await? })?)
    }
}
