//! The table `causeway_added_region`: the regions that may register, and which of them are suspended.
//!
//! A transaction that writes for a region locks its row here for reading ([`lock_to_write`]). A suspension locks it for
//! writing. So it waits for the transactions that are open, and those that begin later see it.

use causeway_silo::db::{DbError, Dialect, Row, Statement, Tx};
use chrono::{DateTime, Utc};

use crate::model::region::Suspension;

/// Why a transaction that writes for a region does not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The region is suspended.
    #[error("region {region} is suspended")]
    Suspended {
        /// The name of the suspended region.
        region: String,
        /// Since when, and why.
        suspension: Suspension,
    },
    /// The database failed, so nothing is known of a suspension.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Decodes the suspension of a row; `None` if the region is not suspended.
pub(super) fn suspension(row: &Row) -> Result<Option<Suspension>, DbError> {
    let Some(suspended_at) = row.opt_time("suspended_at")? else { return Ok(None) };
    Ok(Some(Suspension {
        suspended_at,
        suspended_by: row.opt_text("suspended_by")?,
        text: row.opt_text("suspension_text")?,
    }))
}

/// Locks a region for reading: until this transaction ends, nobody suspends or removes it. Returns its suspension, if
/// it is suspended; `None` if nobody has added it.
pub(crate) async fn lock_shared(tx: &mut Tx, name: &str) -> Result<Option<Option<Suspension>>, DbError> {
    let select =
        "SELECT suspended_at, suspended_by, suspension_text FROM causeway_added_region WHERE name = $1";
    let statement = match tx.dialect() {
        Dialect::Postgres => Statement::new(select).push(" FOR SHARE"),
        // A transaction is the only one that writes.
        Dialect::Sqlite => Statement::new(select),
    };
    tx.fetch_optional(statement.with(name)).await?.as_ref().map(suspension).transpose()
}

/// Begins what a transaction writes for a region that has registered: locks the region for reading.
///
/// # Errors
/// If the region is suspended.
pub(crate) async fn lock_to_write(tx: &mut Tx, name: &str) -> Result<(), BeginError> {
    match lock_shared(tx, name).await? {
        Some(None) => Ok(()),
        Some(Some(suspension)) => Err(BeginError::Suspended { region: name.to_owned(), suspension }),
        None => {
            Err(DbError::inconsistent(format!("region {name} has registered without being added")).into())
        }
    }
}

/// Adds a region. `false` if it was added before.
pub(crate) async fn insert(
    tx: &mut Tx,
    name: &str,
    by: Option<&str>,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_added_region (name, added_at, added_by) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO NOTHING",
    )
    .with(name)
    .with(now)
    .with(by.map(str::to_owned));
    Ok(tx.execute(statement).await? == 1)
}

/// Locks a region for writing: waits for the open transactions that write for it. `false` if nobody has added it.
pub(crate) async fn lock(tx: &mut Tx, name: &str) -> Result<bool, DbError> {
    // An update that changes nothing is a lock in both databases.
    let statement = Statement::new("UPDATE causeway_added_region SET name = name WHERE name = $1").with(name);
    Ok(tx.execute(statement).await? == 1)
}

/// Forgets a region, which this transaction has locked for writing.
pub(crate) async fn delete(tx: &mut Tx, name: &str) -> Result<(), DbError> {
    let statement = Statement::new("DELETE FROM causeway_added_region WHERE name = $1").with(name);
    tx.execute(statement).await.map(|_| ())
}

/// Suspends a region. `false` if it is suspended already, or nobody has added it.
pub(crate) async fn suspend(tx: &mut Tx, name: &str, suspension: &Suspension) -> Result<bool, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_added_region SET suspended_at = $2, suspended_by = $3, suspension_text = $4 \
         WHERE name = $1 AND suspended_at IS NULL",
    )
    .with(name)
    .with(suspension.suspended_at)
    .with(suspension.suspended_by.clone())
    .with(suspension.text.clone());
    Ok(tx.execute(statement).await? == 1)
}

/// Ends the suspension of a region. `false` if it is not suspended, or nobody has added it.
pub(crate) async fn resume(tx: &mut Tx, name: &str) -> Result<bool, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_added_region SET suspended_at = NULL, suspended_by = NULL, suspension_text = NULL \
         WHERE name = $1 AND suspended_at IS NOT NULL",
    )
    .with(name);
    Ok(tx.execute(statement).await? == 1)
}
