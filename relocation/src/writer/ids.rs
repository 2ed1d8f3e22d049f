//! New primary keys that a silo gives out itself, for a whole chunk at once.

use crate::{
    catalog::Model,
    db::{Db, DbError, Dialect, Statement},
    transact,
};

/// Takes `count` new primary keys of a model, in ascending order. They are gone even if nothing is written with them.
///
/// On PostgreSQL they come from the table's own sequence, so an application can go on inserting beside Causeway; on
/// SQLite from a counter that never falls behind the table.
///
/// # Errors
/// If the database cannot be asked, or the table has no sequence.
pub async fn take_own_ids(db: &Db, model: &Model, count: usize) -> Result<Vec<i64>, DbError> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if count == 0 {
        return Ok(Vec::new());
    }
    let quoted = format!("\"{}\"", model.table);
    match db.dialect() {
        Dialect::Postgres => {
            let statement = Statement::new("SELECT nextval(pg_get_serial_sequence(")
                .arg(quoted)
                .push(", 'id')) AS id FROM generate_series(1, ")
                .arg(count)
                .push(")");
            let mut ids: Vec<i64> =
                db.fetch_all(statement).await?.iter().map(|row| row.int("id")).collect::<Result<_, _>>()?;
            ids.sort_unstable();
            Ok(ids)
        }
        Dialect::Sqlite => {
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
            let next = transact!(DbError, db, |tx| { tx.fetch_one(statement.clone()).await?.int("next")? })?;
            Ok((next - count..next).collect())
        }
    }
}
