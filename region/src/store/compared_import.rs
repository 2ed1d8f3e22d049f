//! The imports that are compared with control.

use causeway_silo::db::{Db, DbError, Row, Statement};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::import::ImportState;

/// The imports that have succeeded or were reverted, since `since` if given, sorted by id: those after `after`, at most
/// `most`.
pub(crate) async fn ended(
    db: &Db,
    since: Option<DateTime<Utc>>,
    after: Option<Uuid>,
    most: i64,
) -> Result<Vec<(Uuid, ImportState)>, DbError> {
    let mut statement = Statement::new("SELECT import_id, state FROM causeway_import WHERE state IN (")
        .arg(ImportState::Succeeded.name())
        .push(", ")
        .arg(ImportState::Reverted.name())
        .push(")");
    if let Some(since) = since {
        statement = statement.push(" AND updated_at >= ").arg(since);
    }
    if let Some(after) = after {
        statement = statement.push(" AND import_id > ").arg(after);
    }
    let statement = statement.push(" ORDER BY import_id LIMIT ").arg(most);
    let read = |row: &Row| {
        let state = row.text("state")?;
        let state = ImportState::from_name(&state)
            .ok_or_else(|| DbError::inconsistent(format!("an import is in the unknown state {state}")))?;
        Ok((row.uuid("import_id")?, state))
    };
    db.fetch_all(statement).await?.iter().map(read).collect()
}

/// The organization of an import with the lowest id; `None` if it has none.
pub(crate) async fn first_organization(db: &Db, import_id: Uuid) -> Result<Option<i64>, DbError> {
    let statement = Statement::new(
        "SELECT MIN(organization_id) AS id FROM causeway_import_organization WHERE import_id = $1",
    )
    .with(import_id);
    match db.fetch_optional(statement).await? {
        Some(row) => row.opt_int("id"),
        None => Ok(None),
    }
}
