//! The table `causeway_instruction`.

use causeway_silo::db::{Column, Db, DbError, Dialect, Row, Statement, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::instruction::{
    Answered, Instruction, InstructionAnswer, InstructionKind, InstructionRefusal, NewInstruction,
};

const COLUMNS: &str = "instruction_id, region, import_id, kind, asked_by, asked_at, answered_at, refused_reason, \
                       refused_message";

fn read(row: &Row) -> Result<Instruction, DbError> {
    let kind = row.text("kind")?;
    let refusal = match row.opt_text("refused_reason")? {
        None => None,
        Some(reason) => Some(InstructionRefusal { reason, message: row.text("refused_message")? }),
    };
    Ok(Instruction {
        asked: NewInstruction {
            id: row.uuid("instruction_id")?,
            region: row.text("region")?,
            import_id: row.uuid("import_id")?,
            kind: InstructionKind::named(&kind)
                .ok_or_else(|| DbError::inconsistent(format!("an instruction of kind {kind}")))?,
            asked_by: row.text("asked_by")?,
        },
        asked_at: row.time("asked_at")?,
        answer: row.opt_time("answered_at")?.map(|at| Answered { at, refusal }),
    })
}

/// Inserts an instruction. `false` if there is one with this id.
pub(crate) async fn insert(tx: &mut Tx, new: &NewInstruction, now: DateTime<Utc>) -> Result<bool, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_instruction (instruction_id, region, import_id, kind, asked_by, asked_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (instruction_id) DO NOTHING",
    )
    .with(new.id)
    .with(&new.region)
    .with(new.import_id)
    .with(new.kind.name())
    .with(&new.asked_by)
    .with(now);
    Ok(tx.execute(statement).await? == 1)
}

/// The instruction with this id.
pub(crate) async fn get(tx: &mut Tx, id: Uuid) -> Result<Option<Instruction>, DbError> {
    let statement = Statement::new("SELECT ")
        .push(COLUMNS)
        .push(" FROM causeway_instruction WHERE instruction_id = ")
        .arg(id);
    tx.fetch_optional(statement).await?.as_ref().map(read).transpose()
}

/// The instructions of a region that have no answer and were asked for after `after`, the oldest first.
pub(crate) async fn open(
    tx: &mut Tx,
    region: &str,
    after: DateTime<Utc>,
    most: i64,
) -> Result<Vec<Instruction>, DbError> {
    let statement = Statement::new("SELECT ")
        .push(COLUMNS)
        .push(" FROM causeway_instruction WHERE region = ")
        .arg(region)
        .push(" AND answered_at IS NULL AND asked_at > ")
        .arg(after)
        .push(" ORDER BY asked_at, instruction_id LIMIT ")
        .arg(most);
    tx.fetch_all(statement).await?.iter().map(read).collect()
}

/// Stores answers of a region to its own instructions that have none yet.
pub(crate) async fn answer(
    tx: &mut Tx,
    region: &str,
    answers: &[InstructionAnswer],
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let dialect = tx.dialect();
    // Ids come as text, and SQLite stores them so. No reason and no message are an empty text, as lists have no nulls.
    let id = match dialect {
        Dialect::Postgres => "CAST(r.instruction_id AS uuid)",
        Dialect::Sqlite => "r.instruction_id",
    };
    let refusal = |of: fn(&InstructionRefusal) -> &String| {
        let text = |it: &InstructionAnswer| it.refusal.as_ref().map(of).cloned().unwrap_or_default();
        Column::Texts(answers.iter().map(text).collect())
    };
    let ids = Column::Texts(answers.iter().map(|it| it.id.to_string()).collect());
    let statement = Statement::new("UPDATE causeway_instruction SET answered_at = ")
        .arg(now)
        .push(
            ", refused_reason = NULLIF(r.reason, ''), \
             refused_message = CASE WHEN r.reason = '' THEN NULL ELSE r.message END FROM ",
        )
        .rows(
            dialect,
            "r",
            [
                ("instruction_id", ids),
                ("reason", refusal(|it| &it.reason)),
                ("message", refusal(|it| &it.message)),
            ],
        )
        .push(" WHERE causeway_instruction.instruction_id = ")
        .push(id)
        .push(" AND answered_at IS NULL AND region = ")
        .arg(region);
    tx.execute(statement).await.map(|_| ())
}

/// The last instructions about an import, the newest first.
pub(crate) async fn of_import(
    db: &Db,
    region: &str,
    import_id: Uuid,
    most: i64,
) -> Result<Vec<Instruction>, DbError> {
    let statement = Statement::new("SELECT ")
        .push(COLUMNS)
        .push(" FROM causeway_instruction WHERE region = ")
        .arg(region)
        .push(" AND import_id = ")
        .arg(import_id)
        .push(" ORDER BY asked_at DESC, instruction_id DESC LIMIT ")
        .arg(most);
    db.fetch_all(statement).await?.iter().map(read).collect()
}

/// Deletes instructions of a region that were asked for before `horizon`, and all but the last `most`.
pub(crate) async fn forget(
    tx: &mut Tx,
    region: &str,
    horizon: DateTime<Utc>,
    most: i64,
) -> Result<(), DbError> {
    let old = Statement::new("DELETE FROM causeway_instruction WHERE region = $1 AND asked_at < $2");
    tx.execute(old.with(region).with(horizon)).await?;
    let too_many = Statement::new(
        "DELETE FROM causeway_instruction WHERE instruction_id IN \
         (SELECT i.instruction_id FROM causeway_instruction i WHERE i.region = $1 \
         ORDER BY i.asked_at DESC, i.instruction_id DESC LIMIT $3 OFFSET $2)",
    );
    tx.execute(too_many.with(region).with(most).with(i64::MAX)).await.map(|_| ())
}
