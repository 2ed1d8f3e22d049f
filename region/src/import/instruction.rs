//! What operators tell the region to do about an import, through control.

use causeway_proto::relocation::v1::ErrorReason;
use uuid::Uuid;

/// What an instruction tells the region to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionKind {
    /// Continue an import that is paused or has failed.
    Resume,
    /// Revert an import.
    Revert,
    /// Something that only a later release knows.
    Unknown,
}

impl InstructionKind {
    /// The name in the database.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Resume => "RESUME",
            Self::Revert => "REVERT",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// What carrying it out is called in the audit log.
    pub(super) fn call(self) -> &'static str {
        match self {
            Self::Resume => "control/resume-import",
            Self::Revert => "control/revert-import",
            Self::Unknown => "control/unknown-instruction",
        }
    }
}

/// An instruction of control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Its id, by which it is carried out once.
    pub(crate) id: Uuid,
    /// The import that it is about.
    pub(crate) import_id: Uuid,
    /// What to do.
    pub(crate) kind: InstructionKind,
    /// Who has asked for it, as control says: the URI of an identity, or empty.
    pub(crate) asked_by: String,
}

/// Why an instruction was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The reason of the contract.
    pub(crate) reason: ErrorReason,
    /// The message, for people.
    pub(crate) message: String,
}

/// What became of an instruction, for control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The id of the instruction.
    pub(crate) id: Uuid,
    /// Why it was not carried out; `None` if it was.
    pub(crate) refusal: Option<Refusal>,
}
