//! The lease of an import, in `causeway_import`: which process runs it. Times come from the holder's clock. A wrong
//! clock costs work but does no harm, because each transaction of an import checks that its process still has the
//! lease.

use causeway_silo::db::{DbError, Statement, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{holder::Holder, import::Import};

/// Assignments that take a lease away.
macro_rules! no_lease {
    () => {
        "lease_holder = NULL, lease_place = NULL, lease_spool = NULL, lease_acquired_at = NULL, lease_renewed_at = NULL, \
         lease_until = NULL"
    };
}
pub(super) use no_lease;

/// How long a lease lasts if it is not renewed.
pub(super) const LENGTH: TimeDelta = TimeDelta::seconds(30);

/// Takes the lease if no other process has it: it is free, has expired, is this process's own, or belongs to a process
/// that used this process's spool directory before and so is dead. Nobody can have the lease of a paused import.
pub(crate) async fn take(
    tx: &mut Tx,
    id: Uuid,
    holder: &Holder,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_import SET lease_holder = $2, lease_place = $3, lease_spool = $4, lease_renewed_at = $5, lease_until = $6, \
         lease_acquired_at = CASE WHEN lease_holder = $2 THEN lease_acquired_at ELSE $5 END, unpaused = $7 WHERE import_id = $1 \
         AND paused_at IS NULL AND (lease_holder IS NULL OR lease_holder = $2 OR lease_spool = $4 OR lease_until <= $5)",
    )
    .with(id)
    .with(holder.id)
    .with(&holder.place)
    .with(holder.spool)
    .with(now)
    .with(now + LENGTH)
    .with(false);
    Ok(tx.execute(statement).await? == 1)
}

/// Renews the lease; `false` if this process does not have it.
pub(crate) async fn renew(
    tx: &mut Tx,
    id: Uuid,
    holder: &Holder,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_import SET lease_renewed_at = $3, lease_until = $4 WHERE import_id = $1 AND lease_holder = $2",
    )
    .with(id)
    .with(holder.id)
    .with(now)
    .with(now + LENGTH);
    Ok(tx.execute(statement).await? == 1)
}

/// Renews the lease, and locks the import's row until the transaction ends. `false` if this process does not have the
/// lease, or if the import is no longer in that state.
pub(super) async fn assert(
    tx: &mut Tx,
    import: &Import,
    holder: &Holder,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_import SET lease_renewed_at = $3, lease_until = $4 WHERE import_id = $1 AND lease_holder = $2 AND state = $5",
    )
    .with(import.id)
    .with(holder.id)
    .with(now)
    .with(now + LENGTH)
    .with(import.state.name());
    Ok(tx.execute(statement).await? == 1)
}

/// Gives the lease back, if this process has it.
pub(crate) async fn give_back(tx: &mut Tx, id: Uuid, holder: &Holder) -> Result<(), DbError> {
    let statement = Statement::new(concat!(
        "UPDATE causeway_import SET ",
        no_lease!(),
        " WHERE import_id = $1 AND lease_holder = $2"
    ))
    .with(id)
    .with(holder.id);
    tx.execute(statement).await?;
    Ok(())
}
