//! New primary keys that a silo gives out itself, for a whole chunk at once.

use crate::{
    catalog::Model,
    db::{DbError, Statement, Tx},
};

/// Takes `count` new primary keys of a model, in ascending order, for rows that are written in the same transaction.
///
/// On PostgreSQL they come from the table's own sequence, so that an application can go on inserting beside Causeway; they
/// are gone even if the transaction is not committed. On SQLite they come from a counter that never falls behind the table.
///
/// # Errors
/// If the database refuses, or the table has no sequence.
pub(super) async fn own(tx: &mut Tx, model: &Model, count: usize) -> Result<Vec<i64>, DbError> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if count == 0 {
        return Ok(Vec::new());
    }
    let quoted = format!("\"{}\"", model.table);
    match tx {
        Tx::Postgres(_) => {
            // As a subquery of its own, the sequence is looked up once, and not for each id.
            let statement = Statement::new("SELECT nextval((SELECT pg_get_serial_sequence(")
                .arg(quoted)
                .push(", 'id')::regclass)) AS id FROM generate_series(1, ")
                .arg(count)
                .push(")");
            let rows = tx.fetch_all(statement).await?;
            let mut ids = rows.iter().map(|row| row.int("id")).collect::<Result<Vec<i64>, _>>()?;
            ids.sort_unstable();
            Ok(ids)
        }
        Tx::Sqlite(_) => {
            let highest = format!("(SELECT COALESCE(MAX(id), 0) + 1 FROM {quoted})");
            let statement = Statement::new("INSERT INTO causeway_id_counter (model, next) VALUES (")
                .arg(&model.name)
                .push(", ")
                .push(&highest)
                .push(" + ")
                .arg(count)
                .push(") ON CONFLICT (model) DO UPDATE SET next = MAX(causeway_id_counter.next, ")
                .push(&highest)
                .push(") + ")
                .arg(count)
                .push(" RETURNING next");
            let next = tx.fetch_one(statement).await?.int("next")?;
            Ok((next - count..next).collect())
        }
    }
}
