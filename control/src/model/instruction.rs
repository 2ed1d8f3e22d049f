//! What operators tell regions to do about their imports.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// How long control hands out an instruction that has no answer. After that it has expired.
pub const HANDED_OUT_FOR: TimeDelta = TimeDelta::minutes(10);

/// What an instruction tells a region to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionKind {
    /// Continue an import that is paused or has failed.
    Resume,
    /// Revert an import.
    Revert,
}

impl InstructionKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Resume, Self::Revert];

    /// The name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Revert => "revert",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInstruction {
    /// The id, which the asker chose: the same id again is the same instruction.
    pub id: Uuid,
    /// The name of the region.
    pub region: String,
    /// The id of the import.
    pub import_id: Uuid,
    /// What to do.
    pub kind: InstructionKind,
    /// Who asks, as the URI of an identity; empty if nobody needs one. At most 512 bytes.
    pub asked_by: String,
}

/// An instruction, and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// What was asked for, and by whom.
    pub asked: NewInstruction,
    /// When it was asked for, by control's clock.
    pub asked_at: DateTime<Utc>,
    /// The answer of the region; `None` if there is none yet.
    pub answer: Option<Answered>,
}

/// The answer of a region to an instruction, as control has stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// When the answer came, by control's clock.
    pub at: DateTime<Utc>,
    /// Why the region has refused it; `None` if it has carried it out.
    pub refusal: Option<InstructionRefusal>,
}

/// Why a region has not carried out an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstructionRefusal {
    /// The name of the reason, such as `IMPORT_NOT_FAILED`.
    pub reason: String,
    /// The message, for people.
    pub message: String,
}

/// An answer as it comes with a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstructionAnswer {
    /// The id of the instruction.
    pub id: Uuid,
    /// Why the region has refused it; `None` if it has carried it out.
    pub refusal: Option<InstructionRefusal>,
}

impl Instruction {
    /// Whether it has no answer, and control hands it out.
    #[must_use]
    pub fn waits(&self, now: DateTime<Utc>) -> bool {
        self.answer.is_none() && now.signed_duration_since(self.asked_at) < HANDED_OUT_FOR
    }
}
