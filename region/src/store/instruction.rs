//! `causeway_instruction`: the instructions of control that the region has carried out or refused. Each is inserted in the
//! transaction of its change, so none is carried out twice.

use causeway_proto::{failure::reason_name, relocation::v1::ErrorReason};
use causeway_silo::db::{Column, Db, DbError, Dialect, Row, Statement, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::import::{Answer, Instruction, Refusal};

/// Inserts an instruction that is carried out or refused. `false` if that has happened before.
pub(crate) async fn insert(
    tx: &mut Tx,
    instruction: &Instruction,
    refusal: Option<&Refusal>,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_instruction (instruction_id, import_id, kind, asked_by, noted_at, refused_reason, \
         refused_message) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (instruction_id) DO NOTHING",
    )
    .with(instruction.id)
    .with(instruction.import_id)
    .with(instruction.kind.name())
    .with(&instruction.asked_by)
    .with(now)
    .with(refusal.map(|refusal| reason_name(refusal.reason).to_owned()))
    .with(refusal.map(|refusal| refusal.message.clone()));
    Ok(tx.execute(statement).await? == 1)
}

/// Has an instruction answered again, because control has not got its answer. `false` if it is not known.
pub(crate) async fn answer_again(tx: &mut Tx, id: Uuid) -> Result<bool, DbError> {
    let statement = Statement::new("UPDATE causeway_instruction SET answered = $2 WHERE instruction_id = $1")
        .with(id)
        .with(false);
    Ok(tx.execute(statement).await? == 1)
}

fn read(row: &Row) -> Result<Answer, DbError> {
    let refusal = match row.opt_text("refused_reason")? {
        None => None,
        Some(name) => Some(Refusal {
            reason: ErrorReason::from_str_name(&format!("ERROR_REASON_{name}"))
                .ok_or_else(|| DbError::inconsistent(format!("an instruction was refused for {name}")))?,
            message: row.text("refused_message")?,
        }),
    };
    Ok(Answer { id: row.uuid("instruction_id")?, refusal })
}

/// The answers that control has not got, the oldest first.
pub(crate) async fn unanswered(db: &Db, most: i64) -> Result<Vec<Answer>, DbError> {
    let statement = Statement::new(
        "SELECT instruction_id, refused_reason, refused_message FROM causeway_instruction WHERE NOT answered \
         ORDER BY noted_at, instruction_id LIMIT ",
    )
    .arg(most);
    db.fetch_all(statement).await?.iter().map(read).collect()
}

/// Notes that control has these answers, and deletes those that it has got and that were noted before `horizon`.
pub(crate) async fn answered(tx: &mut Tx, ids: &[Uuid], horizon: DateTime<Utc>) -> Result<(), DbError> {
    let dialect = tx.dialect();
    // Ids come as text, and SQLite stores them so.
    let id = match dialect {
        Dialect::Postgres => "CAST(r.instruction_id AS uuid)",
        Dialect::Sqlite => "r.instruction_id",
    };
    let texts = Column::Texts(ids.iter().map(Uuid::to_string).collect());
    let statement = Statement::new("UPDATE causeway_instruction SET answered = ")
        .arg(true)
        .push(&format!(" WHERE instruction_id IN (SELECT {id} FROM "))
        .rows(dialect, "r", [("instruction_id", texts)])
        .push(")");
    tx.execute(statement).await?;
    let old = Statement::new("DELETE FROM causeway_instruction WHERE answered AND noted_at < ").arg(horizon);
    tx.execute(old).await.map(|_| ())
}
