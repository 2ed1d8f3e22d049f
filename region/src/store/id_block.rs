//! `causeway_id_block`: what is left of the block of ids that control gave last.

use causeway_relocation::{
    catalog::Model,
    db::{Db, DbError, Statement},
    transact,
};

/// Takes `count` ids out of the block, as its first; `None` if it has not so many.
pub(crate) async fn take(db: &Db, model: &str, count: i64) -> Result<Option<i64>, DbError> {
    let statement = Statement::new("UPDATE causeway_id_block SET next = next + $2 WHERE model = $1 AND next + $2 <= until RETURNING next")
        .with(model)
        .with(count);
    transact!(DbError, db, |tx| {
        match tx.fetch_optional(statement.clone()).await? {
            Some(row) => Some(row.int("next")? - count),
            None => None,
        }
    })
}

/// Begins a new block, from `next` up to and without `until`. What was left of the old one is never given out.
pub(crate) async fn put(db: &Db, model: &str, next: i64, until: i64) -> Result<(), DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_id_block (model, next, until) VALUES ($1, $2, $3) \
         ON CONFLICT (model) DO UPDATE SET next = excluded.next, until = excluded.until",
    )
    .with(model)
    .with(next)
    .with(until);
    transact!(DbError, db, |tx| {
        tx.execute(statement.clone()).await?;
    })
}

/// The highest id that the model's table holds; 0 if it is empty.
pub(crate) async fn highest(db: &Db, model: &Model) -> Result<i64, DbError> {
    let statement = Statement::new("SELECT COALESCE(MAX(id), 0) AS id FROM \"").push(&model.table).push("\"");
    db.fetch_optional(statement).await?.map_or(Ok(0), |row| row.int("id"))
}
