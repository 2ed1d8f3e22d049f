//! The instructions that come with the answer to a report: decodes them and has them carried out, and encodes what became of
//! them.

use causeway_proto::control::v1 as control;
use uuid::Uuid;

use crate::{
    error::Error,
    import::{Answer, Imports, Instruction, InstructionKind},
};

/// An instruction of control; `None` if an id is not a UUID, so that no answer could name it.
fn from_proto(instruction: control::Instruction) -> Option<Instruction> {
    Some(Instruction {
        id: Uuid::try_parse(&instruction.instruction_id).ok()?,
        import_id: Uuid::try_parse(&instruction.import_id).ok()?,
        kind: match instruction.kind() {
            control::InstructionKind::Resume => InstructionKind::Resume,
            control::InstructionKind::Revert => InstructionKind::Revert,
            control::InstructionKind::Unspecified => InstructionKind::Unknown,
        },
        asked_by: instruction.asked_by,
    })
}

/// An answer for control.
pub(crate) fn to_proto(answer: Answer) -> control::InstructionAnswer {
    control::InstructionAnswer {
        instruction_id: answer.id.to_string(),
        refusal: answer.refusal.map(|refusal| control::InstructionRefusal {
            reason: refusal.reason.into(),
            message: refusal.message,
        }),
    }
}

/// Carries out instructions, one after the other. Control hands out again what fails.
///
/// # Errors
/// [`Error::Stopping`].
pub(crate) async fn carry_out(imports: &Imports, waiting: Vec<control::Instruction>) -> Result<(), Error> {
    for instruction in waiting {
        let Some(instruction) = from_proto(instruction) else {
            tracing::warn!("control has sent an instruction without ids; it is left alone");
            continue;
        };
        let Instruction { id, import_id, .. } = instruction;
        let carried_out = tokio::select! {
            carried_out = imports.carry_out(&instruction) => carried_out,
            () = imports.context().lifecycle.stopping() => return Err(Error::Stopping),
        };
        match carried_out {
            Ok(()) => {
                tracing::debug!(instruction_id = %id, %import_id, "an instruction of control was looked at")
            }
            Err(error) if error.is_stop() => return Err(error),
            Err(error) => tracing::warn!(
                instruction_id = %id, %import_id, %error,
                "an instruction of control cannot be carried out now; control repeats it"
            ),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_instruction_is_left_alone_and_an_unknown_kind_is_known_as_such() {
        let id = Uuid::from_u128(7).to_string();
        let sent = |instruction_id: &str, import_id: &str, kind: i32| control::Instruction {
            instruction_id: instruction_id.to_owned(),
            import_id: import_id.to_owned(),
            kind,
            asked_by: "ann".to_owned(),
        };
        assert_eq!(from_proto(sent("x", &id, 1)), None);
        assert_eq!(from_proto(sent(&id, "", 1)), None);
        let kinds = [0, 1, 2, 99].map(|kind| from_proto(sent(&id, &id, kind)).map(|it| it.kind));
        let [unknown, resume, revert] =
            [InstructionKind::Unknown, InstructionKind::Resume, InstructionKind::Revert];
        assert_eq!(kinds, [Some(unknown), Some(resume), Some(revert), Some(unknown)]);
    }
}
