//! `causeway_era` and `causeway_lost_ids`: that control was put back from an old copy of its database, and what may have
//! been given out meanwhile.

use causeway_proto::era::first_version;
use causeway_silo::db::{Column, DbError, Dialect, Row, Statement, Tx, count};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::region::{IdRange, MAX_COUNTER_FROM_IDS_IN_USE};

/// A query for the version with which feeds of the current era begin.
pub(super) const EMPTY_FEED_VERSION: &str = "(SELECT era * 4294967296 + 1 FROM causeway_era)";

/// Locks the era and returns it. Until the transaction ends, nobody else begins one.
pub(crate) async fn lock(tx: &mut Tx) -> Result<i64, DbError> {
    tx.fetch_one(Statement::new("UPDATE causeway_era SET era = era RETURNING era")).await?.int("era")
}

/// Sets the era. The caller has locked it.
pub(crate) async fn set(tx: &mut Tx, era: i64) -> Result<(), DbError> {
    match tx.execute(Statement::new("UPDATE causeway_era SET era = $1").with(era)).await? {
        1 => Ok(()),
        _ => Err(DbError::inconsistent("causeway_era has not one row")),
    }
}

/// Moves all feeds to the beginning of an era. No stored event leads there, so every reader gets a snapshot.
pub(crate) async fn move_feeds(tx: &mut Tx, era: i64) -> Result<u64, DbError> {
    let statement = Statement::new("UPDATE causeway_feed SET version = $1, oldest = $1 WHERE version < $1")
        .with(first_version(era));
    tx.execute(statement).await
}

/// Notes that ids of a model above its counter may have been leased, `most` of them, and returns the last one; `None` if
/// the counter is as high as ids in use may raise it. The caller has locked the counter.
pub(crate) async fn note_lost_ids(
    tx: &mut Tx,
    model: &str,
    counter: i64,
    most: i64,
) -> Result<Option<i64>, DbError> {
    let last = counter.saturating_add(most).min(MAX_COUNTER_FROM_IDS_IN_USE);
    if last <= counter {
        return Ok(None);
    }
    let statement =
        Statement::new("INSERT INTO causeway_lost_ids (model, first_id, last_id) VALUES ($1, $2, $3)")
            .with(model)
            .with(counter + 1)
            .with(last);
    tx.execute(statement).await?;
    Ok(Some(last))
}

/// The ranges of ids of a model that may have been leased in times that control has forgotten, in ascending order.
pub(crate) async fn lost_ids(tx: &mut Tx, model: &str) -> Result<Vec<IdRange>, DbError> {
    let statement =
        Statement::new("SELECT first_id, last_id FROM causeway_lost_ids WHERE model = $1 ORDER BY first_id")
            .with(model);
    let range = |row: &Row| Ok(IdRange { first: row.int("first_id")?, last: row.int("last_id")? });
    tx.fetch_all(statement).await?.iter().map(range).collect()
}

/// The blocks of a model that begin in a range, whichever region has them, in ascending order: those that begin after
/// `after`, at most `most`.
pub(crate) async fn blocks(
    tx: &mut Tx,
    model: &str,
    within: IdRange,
    after: i64,
    most: i64,
) -> Result<Vec<IdRange>, DbError> {
    let statement = Statement::new(
        "SELECT first_id, count FROM causeway_id_lease WHERE model = $1 AND first_id > $2 AND first_id <= $3 \
         ORDER BY first_id LIMIT $4",
    )
    .with(model)
    .with(after.max(within.first - 1))
    .with(within.last)
    .with(most);
    let block = |row: &Row| {
        let first = row.int("first_id")?;
        Ok(IdRange { first, last: first + row.int("count")? - 1 })
    };
    tx.fetch_all(statement).await?.iter().map(block).collect()
}

/// Stores leases of a region, each under an operation of its own, in place of those that control has forgotten.
pub(crate) async fn put_leases_back(
    tx: &mut Tx,
    region: &str,
    model: &str,
    leases: &[(Uuid, IdRange)],
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    if leases.is_empty() {
        return Ok(());
    }
    let dialect = tx.dialect();
    let operation = match dialect {
        Dialect::Postgres => "CAST(r.operation_id AS uuid)",
        Dialect::Sqlite => "r.operation_id",
    };
    let statement = Statement::new(
        "INSERT INTO causeway_id_lease (region, operation_id, model, first_id, count, created_at) SELECT ",
    )
    .arg(region)
    .push(", ")
    .push(operation)
    .push(", ")
    .arg(model)
    .push(", r.first_id, r.ids, ")
    .arg(now)
    .push(" FROM ")
    .rows(
        dialect,
        "r",
        [
            ("operation_id", Column::Texts(leases.iter().map(|(id, _)| id.to_string()).collect())),
            ("first_id", Column::Ints(leases.iter().map(|(_, ids)| ids.first).collect())),
            ("ids", Column::Ints(leases.iter().map(|(_, ids)| ids.last - ids.first + 1).collect())),
        ],
    );
    match tx.execute(statement).await? == count(leases.len())?.unsigned_abs() {
        true => Ok(()),
        false => Err(DbError::inconsistent("leases that were to be put back are not all stored")),
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::era::VERSIONS_OF_AN_ERA;

    use super::*;

    #[test]
    fn a_new_feed_begins_where_its_era_does() {
        assert_eq!(EMPTY_FEED_VERSION, format!("(SELECT era * {VERSIONS_OF_AN_ERA} + 1 FROM causeway_era)"));
    }
}
