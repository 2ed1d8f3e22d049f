//! What operators tell regions to do about their imports. Regions take it with their reports; see
//! `docs/design/instructions.md`.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | the commit of an instruction | its row | any control on the database hands it out |
//! | the commit of an answer, the report not answered | the answer | the region answers again, which changes nothing |

use causeway_audit::Subject;
use causeway_proto::limits::{MAX_ASKED_BY_BYTES, MAX_INSTRUCTIONS, MAX_REPORTED_TEXT_BYTES};
use causeway_silo::{
    db::{Db, DbError, Tx, count},
    env::Environment,
    transact,
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    Error,
    model::instruction::{
        HANDED_OUT_FOR, Instruction, InstructionAnswer, InstructionRefusal, NewInstruction,
    },
    regions::{self, admission},
    store::instruction as store,
    validate,
};

/// How long an instruction is stored, and how many of a region.
const KEPT: TimeDelta = TimeDelta::days(30);
const MOST: i64 = 1_000;
/// How many instructions about one import are shown.
const SHOWN: i64 = 5;

/// What became of the wish for an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It waits for the region, or has done so before.
    Taken(Instruction),
    /// As many wait for the region as may. Nothing was stored.
    TooMany,
}

/// The use cases of instructions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Instructions {
    db: Db,
    env: Environment,
}

fn before(now: DateTime<Utc>, length: TimeDelta) -> Result<DateTime<Utc>, DbError> {
    now.checked_sub_signed(length)
        .ok_or_else(|| DbError::inconsistent("the time of the clock is out of range"))
}

/// Checks the answers of a report.
pub(crate) fn check_answers(answers: &[InstructionAnswer]) -> Result<(), Error> {
    if answers.len() > MAX_INSTRUCTIONS {
        return Err(Error::invalid("instruction_answers", format!("at most {MAX_INSTRUCTIONS}")));
    }
    for (index, answer) in answers.iter().enumerate() {
        if let Some(InstructionRefusal { message, reason: _ }) = &answer.refusal {
            let field = || format!("instruction_answers[{index}].refusal.message");
            validate::text(field, message, MAX_REPORTED_TEXT_BYTES)?;
        }
    }
    Ok(())
}

/// Stores the answers of a region, and returns the instructions that wait for it: a part of each report.
pub(crate) async fn exchange(
    tx: &mut Tx,
    region: &str,
    answers: &[InstructionAnswer],
    now: DateTime<Utc>,
) -> Result<Vec<Instruction>, DbError> {
    if !answers.is_empty() {
        store::answer(tx, region, answers, now).await?;
    }
    store::open(tx, region, before(now, HANDED_OUT_FOR)?, count(MAX_INSTRUCTIONS)?).await
}

impl Instructions {
    pub(crate) fn new(db: Db, env: Environment) -> Self {
        Self { db, env }
    }

    /// Has an instruction wait for its region. The same id again changes nothing.
    ///
    /// # Errors
    /// If the id belongs to another instruction, or the region has not registered or is suspended.
    pub async fn ask(&self, new: &NewInstruction) -> Result<Asked, Error> {
        let subject = causeway_audit::about(Subject::import(new.import_id));
        validate::text(|| "asked_by".to_owned(), &new.asked_by, MAX_ASKED_BY_BYTES)?;
        let region = regions::writing(&self.db, "region", &new.region).await?.name;
        let now = self.env.now();
        let (horizon, handed_out) = (before(now, KEPT)?, before(now, HANDED_OUT_FOR)?);
        transact!(Error, self.db, |tx| {
            admission::may_write(tx, &region).await?;
            if let Some(known) = store::get(tx, new.id).await? {
                return same(known, new);
            }
            store::forget(tx, &region, horizon, MOST).await?;
            // Two who ask at the same time may both take the last place. A report hands out no more than it may, all the
            // same.
            if store::open(tx, &region, handed_out, count(MAX_INSTRUCTIONS)?).await?.len() >= MAX_INSTRUCTIONS
            {
                return Ok(Asked::TooMany);
            }
            if store::insert(tx, new, now).await? {
                causeway_audit::append(tx, &subject, now).await?;
                Asked::Taken(Instruction { asked: new.clone(), asked_at: now, answer: None })
            } else {
                // Asked for at the same time.
                let known = store::get(tx, new.id).await?;
                return same(known.ok_or_else(|| DbError::inconsistent("an instruction is gone"))?, new);
            }
        })
    }

    /// The last instructions about an import, the newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn of_import(&self, region: &str, import_id: Uuid) -> Result<Vec<Instruction>, Error> {
        Ok(store::of_import(&self.db, region, import_id, SHOWN).await?)
    }
}

/// The answer to a wish whose id is known.
fn same(known: Instruction, new: &NewInstruction) -> Result<Asked, Error> {
    let NewInstruction { region, import_id, kind, .. } = &known.asked;
    if (region, *import_id, *kind) == (&new.region, new.import_id, new.kind) {
        Ok(Asked::Taken(known))
    } else {
        Err(Error::invalid("instruction_id", "belongs to another instruction"))
    }
}
