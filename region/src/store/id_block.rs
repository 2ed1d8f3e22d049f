//! `causeway_id_block`: what is left of the last block of ids that control leased, by model.

use causeway_proto::{control::v1::IdRange, limits::MAX_ID_RANGES};
use causeway_relocation::{catalog::Model, export::MAX_PK};
use causeway_silo::{
    db::{Db, DbError, Dialect, Statement, Tx, count},
    transact,
};

/// Takes `count` ids out of the block and returns the first one; `None` if the block has fewer left.
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

/// Stores a new block: the ids from `next` up to, but not including, `until`. The rest of the old block is never given
/// out.
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

/// Gives up what is left of all blocks: none of these ids is ever given out.
pub(crate) async fn forget(tx: &mut Tx) -> Result<u64, DbError> {
    tx.execute(Statement::new("DELETE FROM causeway_id_block")).await
}

/// The highest id up to `most` that is in use; 0 if there is none. It is the highest id in the model's table, or the id
/// that the table's own sequence gave last, because the process that got it may be about to write it.
pub(crate) async fn highest(db: &Db, model: &Model, most: i64) -> Result<i64, DbError> {
    let table = &model.table;
    let statement = Statement::new("SELECT MAX(id) AS id FROM (SELECT COALESCE(MAX(id), 0) AS id FROM \"")
        .push(table)
        .push("\" WHERE id BETWEEN 0 AND ")
        .arg(most);
    let statement = match db.dialect() {
        Dialect::Postgres => statement
            .push(" UNION ALL SELECT COALESCE(pg_sequence_last_value(CAST(pg_get_serial_sequence(")
            .arg(format!("\"{table}\""))
            .push(", 'id') AS regclass)), 0)) AS known WHERE id <= ")
            .arg(most),
        Dialect::Sqlite => statement.push(") AS known"),
    };
    number(db, statement, "id").await
}

/// How many rows the model's table has with ids from `first` to `last`.
pub(crate) async fn rows_between(db: &Db, model: &Model, first: i64, last: i64) -> Result<i64, DbError> {
    let statement = Statement::new("SELECT COUNT(*) AS count FROM \"")
        .push(&model.table)
        .push("\" WHERE id BETWEEN ")
        .arg(first)
        .push(" AND ")
        .arg(last);
    number(db, statement, "count").await
}

/// The number that a query without groups returns.
async fn number(db: &Db, statement: Statement, name: &str) -> Result<i64, DbError> {
    let row = db.fetch_optional(statement).await?;
    row.ok_or_else(|| DbError::inconsistent(format!("a query for one {name} returned none")))?.int(name)
}

/// The ids in the model's table as ascending ranges, and whether the table has every id in them. If there would be too
/// many ranges, the smallest gaps count as part of a range.
pub(crate) async fn ids_in_use(db: &Db, model: &Model) -> Result<(Vec<IdRange>, bool), DbError> {
    let gaps = count(MAX_ID_RANGES)?;
    let statement = Statement::new(
        "SELECT g.id AS last_id, g.next AS first_id FROM \
         (SELECT id, LEAD(id) OVER (ORDER BY id) AS next FROM \"",
    )
    .push(&model.table)
    .push("\" WHERE id BETWEEN 1 AND ")
    .arg(MAX_PK)
    .push(") AS g WHERE g.next - g.id > 1 ORDER BY g.next - g.id DESC, g.id LIMIT ")
    .arg(gaps);
    let mut gaps = Vec::new();
    for row in db.fetch_all(statement).await? {
        gaps.push((row.int("last_id")?, row.int("first_id")?));
    }
    let statement = Statement::new("SELECT MIN(id) AS first_id, MAX(id) AS last_id FROM \"")
        .push(&model.table)
        .push("\" WHERE id BETWEEN 1 AND ")
        .arg(MAX_PK);
    let ends = match db.fetch_optional(statement).await? {
        Some(row) => row.opt_int("first_id")?.zip(row.opt_int("last_id")?),
        None => None,
    };
    Ok(ranges(gaps, ends))
}

/// The ranges from the first id to the last one, split at the gaps. The largest gaps come first in `gaps`.
fn ranges(mut gaps: Vec<(i64, i64)>, ends: Option<(i64, i64)>) -> (Vec<IdRange>, bool) {
    let Some((mut first_id, end)) = ends else { return (Vec::new(), true) };
    let is_exact = gaps.len() < MAX_ID_RANGES;
    gaps.truncate(MAX_ID_RANGES - 1);
    gaps.sort_unstable();
    let mut ranges = Vec::with_capacity(gaps.len() + 1);
    for (last_id, next) in gaps {
        // A row may have been inserted or deleted between the two queries.
        if last_id >= first_id && next <= end {
            ranges.push(IdRange { first_id, last_id });
            first_id = next;
        }
    }
    ranges.push(IdRange { first_id, last_id: end });
    (ranges, is_exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first_id: i64, last_id: i64) -> IdRange {
        IdRange { first_id, last_id }
    }

    #[test]
    fn ids_are_reported_in_ranges() {
        assert_eq!(ranges(Vec::new(), None), (Vec::new(), true));
        assert_eq!(ranges(Vec::new(), Some((1, 3))), (vec![range(1, 3)], true));
        let gaps = vec![(10, 4_000), (3, 7)];
        assert_eq!(
            ranges(gaps, Some((1, 4_000))),
            (vec![range(1, 3), range(7, 10), range(4_000, 4_000)], true)
        );
    }

    #[test]
    fn where_there_are_too_many_the_smallest_gaps_are_no_gaps() {
        // The largest gaps come first, as the database sorts them.
        let most = i64::try_from(MAX_ID_RANGES).expect("small");
        let gaps = (0..most).rev().map(|at| (at * 10, at * 10 + 9)).collect();
        let (ranges, is_exact) = ranges(gaps, Some((0, most * 10 - 1)));
        assert!(!is_exact);
        assert_eq!(ranges.len(), MAX_ID_RANGES);
        assert_eq!(ranges.first(), Some(&range(0, 10)));
        assert_eq!(ranges.last(), Some(&range(most * 10 - 1, most * 10 - 1)));
    }
}
