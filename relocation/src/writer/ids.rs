//! New primary keys that a silo gives out itself, for a whole chunk at once.

use crate::{
    catalog::Model,
    db::{Db, DbError, Statement, Tx},
};

/// Takes `count` new primary keys of a model on PostgreSQL, in ascending order, from the table's own sequence, so that an
/// application can go on inserting beside Causeway. They are gone even if nothing is written with them.
///
/// # Errors
/// If the database cannot be asked, or the table has no sequence.
pub(super) async fn own_postgres(db: &Db, model: &Model, count: usize) -> Result<Vec<i64>, DbError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let statement = Statement::new("SELECT nextval(pg_get_serial_sequence(")
        .arg(format!("\"{}\"", model.table))
        .push(", 'id')) AS id FROM generate_series(1, ")
        .arg(i64::try_from(count).unwrap_or(i64::MAX))
        .push(")");
    let mut ids: Vec<i64> =
        db.fetch_all(statement).await?.iter().map(|row| row.int("id")).collect::<Result<_, _>>()?;
    ids.sort_unstable();
    Ok(ids)
}

/// Takes `count` new primary keys of a model on SQLite, in ascending order, from a counter that never falls behind the
/// table. They are taken if the transaction is committed.
///
/// # Errors
/// If the database refuses.
pub(super) async fn own_within(
    tx: &mut Tx,
    model: &Model,
    count: usize,
) -> Result<impl Iterator<Item = i64> + use<>, DbError> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if count == 0 {
        return Ok(0..0);
    }
    let highest = format!("(SELECT COALESCE(MAX(id), 0) + 1 FROM \"{}\")", model.table);
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
    Ok(next - count..next)
}
