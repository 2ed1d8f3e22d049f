//! Pauses of imports, in `causeway_import`. A pause takes the lease away, and nobody can take it until the pause ends. So
//! whatever a process still wants to commit for the import is refused.

use causeway_silo::db::{Db, DbError, Statement, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{import::no_waiting, lease::no_lease};
use crate::import::ImportState;

/// Which imports a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The import with this id.
    One(Uuid),
    /// All that the call can change.
    All,
}

impl Which {
    fn of(self, statement: Statement) -> Statement {
        match self {
            Self::One(id) => statement.push(" AND import_id = ").arg(id),
            Self::All => statement,
        }
    }
}

/// Adds that the import is in a state in which a process works on it, which is when it can be paused.
fn unfinished(statement: Statement) -> Statement {
    let mut states = ImportState::ALL.iter().filter(|state| state.is_unfinished());
    let first = states.next().map_or("", |state| state.name());
    states
        .fold(statement.push("state IN (").arg(first), |it, state| it.push(", ").arg(state.name()))
        .push(")")
}

async fn ids(tx: &mut Tx, statement: Statement) -> Result<Vec<Uuid>, DbError> {
    let mut ids: Vec<Uuid> =
        tx.fetch_all(statement).await?.iter().map(|row| row.uuid("import_id")).collect::<Result<_, _>>()?;
    ids.sort_unstable();
    Ok(ids)
}

/// Pauses imports that have not ended and are not paused. Frees their leases, and forgets what they waited for. Returns
/// those that it has paused.
pub(crate) async fn pause(
    tx: &mut Tx,
    which: Which,
    by: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Vec<Uuid>, DbError> {
    let statement = Statement::new("UPDATE causeway_import SET paused_at = ")
        .arg(now)
        .push(", updated_at = ")
        .arg(now)
        .push(", paused_by = ")
        .arg(by)
        .push(", unpaused = ")
        .arg(false)
        .push(concat!(", ", no_waiting!(), ", ", no_lease!(), " WHERE paused_at IS NULL AND "));
    ids(tx, which.of(unfinished(statement)).push(" RETURNING import_id")).await
}

/// Ends the pause of imports, and marks them for the process that has their file. Returns those that were paused.
pub(crate) async fn unpause(tx: &mut Tx, which: Which, now: DateTime<Utc>) -> Result<Vec<Uuid>, DbError> {
    let statement =
        Statement::new("UPDATE causeway_import SET paused_at = NULL, paused_by = NULL, updated_at = ")
            .arg(now)
            .push(", unpaused = ")
            .arg(true)
            .push(" WHERE paused_at IS NOT NULL");
    ids(tx, which.of(statement).push(" RETURNING import_id")).await
}

/// The imports of these that are paused.
pub(crate) async fn paused(tx: &mut Tx, which: Which) -> Result<Vec<Uuid>, DbError> {
    let statement = Statement::new("SELECT import_id FROM causeway_import WHERE paused_at IS NOT NULL");
    ids(tx, which.of(statement)).await
}

/// The imports whose pause has ended and that no process has taken up since.
pub(crate) async fn unpaused(db: &Db) -> Result<Vec<Uuid>, DbError> {
    // By the index of these imports, as they are looked for all the time.
    let statement = Statement::new("SELECT import_id FROM causeway_import WHERE unpaused");
    db.fetch_all(statement).await?.iter().map(|row| row.uuid("import_id")).collect()
}
