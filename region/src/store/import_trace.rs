//! `causeway_import.trace_parent`: the trace that an import belongs to. Only what sends traces reads and writes it.

use causeway_silo::db::{Db, DbError, Statement, Tx};
use causeway_traces::TraceContext;
use uuid::Uuid;

/// Notes the trace of an import that has just been accepted.
pub(crate) async fn set(tx: &mut Tx, id: Uuid, trace: TraceContext) -> Result<(), DbError> {
    let statement = Statement::new("UPDATE causeway_import SET trace_parent = $2 WHERE import_id = $1")
        .with(id)
        .with(trace.to_string());
    match tx.execute(statement).await? {
        1 => Ok(()),
        _ => Err(DbError::inconsistent(format!("import {id} is gone"))),
    }
}

/// The trace of an import; `None` if it has none, or there is no such import.
pub(crate) async fn get(db: &Db, id: Uuid) -> Result<Option<TraceContext>, DbError> {
    let statement = Statement::new("SELECT trace_parent FROM causeway_import WHERE import_id = $1").with(id);
    let Some(row) = db.fetch_optional(statement).await? else { return Ok(None) };
    // A text that is not a trace was written by another release or by hand. It costs the import its place in the trace only.
    Ok(row.opt_text("trace_parent")?.and_then(|text| text.parse().ok()))
}
