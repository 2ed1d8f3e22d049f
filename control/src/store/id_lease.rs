//! The tables `causeway_id_lease_counter` and `causeway_id_lease`.

use std::collections::HashMap;

use causeway_silo::db::{Column, DbError, Row, Statement, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::region::{IdRange, earliest_block};

/// A lease as it was stored, for a call that is repeated.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The model, by its catalog name.
    pub(crate) model: String,
    /// The lowest id of the leased block.
    pub(crate) first_id: i64,
    /// How many ids, 1 to 1,000,000.
    pub(crate) count: i64,
}

/// Locks the counter of a model and returns it: the id above which leases begin, 0 at first. Until the transaction
/// ends, other transactions wait here.
pub(crate) async fn lock_counter(tx: &mut Tx, model: &str) -> Result<i64, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_id_lease_counter (model, last_id) VALUES ($1, 0) \
         ON CONFLICT (model) DO UPDATE SET last_id = causeway_id_lease_counter.last_id RETURNING last_id",
    )
    .with(model);
    tx.fetch_one(statement).await?.int("last_id")
}

/// Sets the counter of a model.
pub(crate) async fn move_counter(tx: &mut Tx, model: &str, last_id: i64) -> Result<(), DbError> {
    let statement = Statement::new("UPDATE causeway_id_lease_counter SET last_id = $2 WHERE model = $1")
        .with(model)
        .with(last_id);
    tx.execute(statement).await.map(|_| ())
}

/// Whether the counter of a model is at this id already, or above.
pub(crate) async fn is_reached(tx: &mut Tx, model: &str, id: i64) -> Result<bool, DbError> {
    let statement =
        Statement::new("SELECT last_id FROM causeway_id_lease_counter WHERE model = $1 AND last_id >= $2")
            .with(model)
            .with(id);
    Ok(tx.fetch_optional(statement).await?.is_some())
}

/// Raises the counter of a model to this id, unless it is above. Until the transaction ends, nobody else leases ids of
/// the model.
pub(crate) async fn raise_counter(tx: &mut Tx, model: &str, id: i64) -> Result<(), DbError> {
    if lock_counter(tx, model).await? < id {
        move_counter(tx, model, id).await?;
    }
    Ok(())
}

/// The blocks of a model that were leased to other regions and overlap this range, sorted by first id: those after
/// the first id `after`, at most `most`.
pub(crate) async fn of_others(
    tx: &mut Tx,
    region: &str,
    model: &str,
    within: IdRange,
    after: i64,
    most: i64,
) -> Result<Vec<(String, IdRange)>, DbError> {
    let statement = Statement::new(
        "SELECT region, first_id, count FROM causeway_id_lease WHERE model = $1 AND first_id > $2 AND first_id <= $3 \
         AND first_id + count > $4 AND region <> $5 ORDER BY first_id LIMIT $6",
    )
    .with(model)
    .with(earliest_block(within).max(after))
    .with(within.last)
    .with(within.first)
    .with(region)
    .with(most);
    let block = |row: &Row| {
        let first = row.int("first_id")?;
        Ok((row.text("region")?, IdRange { first, last: first + row.int("count")? - 1 }))
    };
    tx.fetch_all(statement).await?.iter().map(block).collect()
}

/// Those of these ids that are in a block that was leased to another region, each with that region. Blocks do not
/// overlap, so only the last one that begins at or before an id can have it: the rest of the table is not read, however
/// far apart the ids are.
pub(crate) async fn leased_elsewhere(
    tx: &mut Tx,
    region: &str,
    model: &str,
    ids: Vec<i64>,
) -> Result<HashMap<i64, String>, DbError> {
    let dialect = tx.dialect();
    let statement = Statement::new("SELECT r.id AS id, l.region AS region FROM ")
        .rows(dialect, "r", [("id", Column::Ints(ids))])
        .push(" JOIN causeway_id_lease l ON l.model = ")
        .arg(model)
        // Not `l.model`: a subquery that depends on `l` makes PostgreSQL ignore the index of `l`.
        .push(" AND l.first_id = (SELECT m.first_id FROM causeway_id_lease m WHERE m.model = ")
        .arg(model)
        .push(
            " AND m.first_id <= r.id ORDER BY m.first_id DESC LIMIT 1) AND l.first_id + l.count > r.id WHERE l.region <> ",
        )
        .arg(region);
    tx.fetch_all(statement).await?.iter().map(|row| Ok((row.int("id")?, row.text("region")?))).collect()
}

/// The lease of an operation, if there is one.
pub(crate) async fn get(tx: &mut Tx, region: &str, operation_id: Uuid) -> Result<Option<Lease>, DbError> {
    let statement = Statement::new(
        "SELECT model, first_id, count FROM causeway_id_lease WHERE region = $1 AND operation_id = $2",
    )
    .with(region)
    .with(operation_id);
    let Some(row) = tx.fetch_optional(statement).await? else { return Ok(None) };
    Ok(Some(Lease { model: row.text("model")?, first_id: row.int("first_id")?, count: row.int("count")? }))
}

/// Records a lease. `false` if the operation has one already.
pub(crate) async fn insert(
    tx: &mut Tx,
    region: &str,
    operation_id: Uuid,
    lease: &Lease,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_id_lease (region, operation_id, model, first_id, count, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (region, operation_id) DO NOTHING",
    )
    .with(region)
    .with(operation_id)
    .with(&lease.model)
    .with(lease.first_id)
    .with(lease.count)
    .with(now);
    Ok(tx.execute(statement).await? == 1)
}
